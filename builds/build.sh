#!/usr/bin/env bash
# Builds commands into bin/ and shows how far it is: build.sh PACKAGE...
#
# The first build compiles well over a thousand packages, minutes on a small machine, in which `go build` says nothing.
# `go build -v` names each package that it compiles: they are counted, live on a terminal, every 100 elsewhere.
# Environment: LDFLAGS, flags for the linker; TAGS, build tags.
set -euo pipefail
cd "$(dirname "$0")/.."

export CGO_ENABLED=0
flags=(-trimpath -buildvcs=false -tags="${TAGS:-}")
step=100
[ -t 2 ] && step=1

# Loading the packages also downloads their modules, which the first time takes longer than anything else.
total=$(go list "${flags[@]}" -deps "$@" 2> >(awk -v step="$step" '
	/^go: downloading/ {
		if (++n % step == 0) { printf "%s%d modules downloaded%s", step == 1 ? "\r" : "", n, step == 1 ? "" : "\n"; fflush() }
		next
	}
	{ print }
	END { if (n && step == 1) print "" }
' >&2) | wc -l)

go build -v "${flags[@]}" -ldflags "${LDFLAGS:-}" -o bin/ "$@" 2>&1 | awk -v step="$step" -v total="$total" '
	function show() {
		printf "%s%d packages compiled, at most %d%s", step == 1 ? "\r" : "", n, total, step == 1 ? "" : "\n"
		fflush()
	}
	NF == 1 && /^[a-zA-Z0-9_.~\/-]+$/ { if (++n % step == 0) show(); next }
	{ print; fflush() } # a diagnostic
	END { if (n && step == 1) print "" }
' >&2

for package in "$@"; do
	echo "built bin/$(basename "$package")" >&2
done
