#!/usr/bin/env bash
# Builds Caddy with UFC by xcaddy, from this checkout: xcaddy.sh OUTPUT
#
# The same outside the project, once it is published:
#     xcaddy build --with github.com/ufc-mesh/ufc/caddyufc --with github.com/ufc-mesh/ufc/caddyufc/embeddedetcd
set -euo pipefail
cd "$(dirname "$0")/.."

output=$1
module=$(go list -m)
caddy=$(go list -m -f '{{.Version}}' github.com/caddyserver/caddy/v2)
packages=(caddyufc caddyufc/embeddedetcd)

# xcaddy asks the module proxy for the versions of what it replaces. The checkout may have none that is published, so a
# proxy made of empty lists stands in front.
proxy=$(mktemp -d)
trap 'rm -rf "$proxy"' EXIT
with=()
for path in "$module" "${packages[@]/#/$module/}"; do
	mkdir -p "$proxy/$path/@v"
	: >"$proxy/$path/@v/list"
done
for package in "${packages[@]}"; do
	with+=(--with "$module/$package")
done

echo "building $output by xcaddy: minutes the first time" >&2
GOPROXY="file://$proxy,$(go env GOPROXY)" GOFLAGS="${GOFLAGS:-} -buildvcs=false" \
	go tool xcaddy build "$caddy" "${with[@]}" --replace "$module=$PWD" --output "$output"
