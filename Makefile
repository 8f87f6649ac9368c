# Everything is done from here: make help

SHELL := /bin/bash
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
CADDY_VERSION = $(shell go list -m -f '{{.Version}}' github.com/caddyserver/caddy/v2)
export LDFLAGS ?= -s -w -X main.version=$(VERSION) \
	-X github.com/coredns/coredns/coremain.GitCommit=$(VERSION) \
	-X github.com/caddyserver/caddy/v2.CustomVersion=$(CADDY_VERSION)+ufc.$(VERSION)

# Databases for Caddy's ACME server, which a mesh has no use for; Caddy's own releases leave them out too.
export TAGS = nobadger,nomysql,nopgx

# The flags of builds/build.sh, so that tests and lint share what it has compiled.
SAME_BUILD = CGO_ENABLED=0 GOFLAGS="$$GOFLAGS -trimpath -buildvcs=false -tags=$(TAGS)"

.PHONY: help build xcaddy run test unit integration fuzz scenarios overload chaos test-tools lint fmt bench scale tier clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

BUILD = builds/build.sh ./builds/caddy ./builds/coredns

build: ## bin/caddy and bin/coredns
	@$(BUILD)

xcaddy: ## bin/xcaddy-caddy: the same Caddy, built by xcaddy from this checkout
	@builds/xcaddy.sh bin/xcaddy-caddy

run: ## the whole mesh on this machine, until Ctrl-C
	@$(BUILD) ./builds/run
	@bin/run

test: unit integration ## all tests

unit: ## tests of the packages, with the race detector
	go test -race -tags=$(TAGS) -timeout 10m $$(go list ./... | grep -v -e '/integration$$' -e '/integration/chaos$$')

integration: test-tools ## tests that start the real binaries and real servers
	@$(BUILD) ./builds/run
	$(SAME_BUILD) go test -count=1 -timeout 20m -p 1 ./integration/...

FUZZTIME ?= 10s

fuzz: ## every fuzz target for FUZZTIME (10s), one after the other
	@grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z]+' shared caddyufc corednsufc | sed 's|/[^/]*:func | |' | sort | while read -r folder target; do \
		$(SAME_BUILD) go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s ./$$folder || exit 1; \
	done

scenarios: ## the rules that ban, in virtual time beside those of others: a table and plots in docs/scenarios
	cd integration/scenarios && $(SAME_BUILD) go test -count=1 -timeout 30m -run TestScenarios . -update

overload: ## the fuse, in virtual time beside those of others: the same, about overload
	cd integration/scenarios && $(SAME_BUILD) go test -count=1 -timeout 30m -run TestOverload . -update

chaos: ## the mesh's parts broken one after another, under load: five to seven minutes, a table in docs/reliability.md
	@$(BUILD)
	cd integration/chaos && $(SAME_BUILD) go test -count=1 -timeout 30m -run TestChaos -update

test-tools:
	@.ci/install-tools

bin/golangci-lint: builds/tools/go.mod
	@echo "building $@: a minute or two, once" >&2
	@CGO_ENABLED=0 go -C builds/tools build -trimpath -buildvcs=false -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

lint: bin/golangci-lint ## golangci-lint, by .golangci.yml
	$(SAME_BUILD) bin/golangci-lint run --allow-parallel-runners --timeout 10m ./...

fmt: bin/golangci-lint ## formats the source
	bin/golangci-lint fmt ./...

bench: ## benchmarks of the packages, then of bin/caddy beside Caddy's own reverse_proxy, then make scale: nine minutes
	go test -run '^$$' -bench . -benchmem -count 1 ./shared/...
	@$(BUILD)
	@$(SAME_BUILD) go run ./integration/bench
	@$(SAME_BUILD) go run ./integration/bench/scale

scale: ## bin/caddy and bin/coredns with 200,000 instances: load, changes, memory: five minutes
	@$(BUILD)
	@$(SAME_BUILD) go run ./integration/bench/scale

tier: ## a thousand simulated agents at etcd, and through its proxies: three minutes
	@$(SAME_BUILD) go run ./integration/bench/scale -part tier

clean: ## removes what was built, and make run's data
	rm -rf bin data
