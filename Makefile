# The commands of daily work. What they do is in scripts/, so that they can be called without make.

.DEFAULT_GOAL := help
.PHONY: help run build test lint format bench replay streams chaos clean-dev release

TRACE ?=
SPEED ?= max
TENANTS ?= 4
PEERS ?= 0
VICTIM ?=

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Install what is missing, build, start everything, say where it is; Ctrl-C stops it
	@scripts/install-missing build servers
	@cargo build --bin weir
	@exec target/debug/weir dev

build: ## Build everything
	@scripts/install-missing build
	@cargo build --workspace --bins

test: ## Run every test on a throw-away Postgres and Redis
	@scripts/install-missing build servers python
	@scripts/test

lint: ## Formatting, clippy, dependencies, protocol
	@scripts/install-missing build checks buf deny
	@cargo fmt --all --check
	@target/buf/node_modules/.bin/buf lint proto
	@cargo deny --workspace check --hide-inclusion-graph bans licenses sources
	@cargo clippy --workspace --all-targets --locked -- -D warnings

format: ## Format the code
	@cargo fmt --all

release:
	@scripts/install-missing build servers
	@cargo build --release --bin weir --bin weir-integration-tests

bench: release ## Measure Weir beside the bare minimum (PEERS=1: beside others); writes target/bench/report.json
	@cargo build --release -p weir-quota --features measure --example engine_rate --example reserve_rate
	@PEERS=$(PEERS) target/release/weir-integration-tests bench

replay: release ## Send a trace through the public API and add up the books: TRACE=file.csv SPEED=1|10|max TENANTS=n
	@target/release/weir-integration-tests replay $(if $(TRACE),--trace "$(TRACE)") --speed $(SPEED) --tenants $(TENANTS)

streams: release ## Hold 5,000 streams open on one broker, and fail if it ever needs more than a gibibyte
	@ulimit -n 8192 && target/release/weir-integration-tests streams

chaos: release ## Kill one thing after another in the middle of a replay, then add up the books (VICTIM=quota: only that one)
	@target/release/weir-integration-tests chaos $(if $(TRACE),--trace "$(TRACE)") $(if $(VICTIM),--victim "$(VICTIM)")

clean-dev: ## Forget the data and the keys of `make run`
	@rm -rf .weir && echo "Removed .weir"
