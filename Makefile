# Targets with a `##` are listed by `make help`.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

# Tools that the set-ups put outside of the clone.
CACHE := $(or $(TIDEGATE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tidegate)
export PATH := $(CACHE)/bin:$(PATH)

# All that the tests build is built with these features and the dev profile, so only once.
FEATURES := --all-features
TARGET := $(or $(CARGO_TARGET_DIR),target)
CRD := crds/websocketroutes.tidegate.io.yaml

# The cluster to play with, of cluster-up and cluster-down.
STATE ?= /tmp/tidegate-cluster
NODES ?= 2

# What `bench` measures beside what, see benches/side-by-side.
export BENCH PROXIES REPEATS SCENARIOS

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: setup
setup: ## Install what the tests need (Debian packages, tools, the test cluster's programs)
	tests/setup
	tests/chart/setup
	tests/networks/setup
	tests/cluster/setup

.PHONY: build
build: ## Build the program as it is released: target/release/tidegate
	cargo build --release
	@echo "build: $(TARGET)/release/tidegate"

.PHONY: test
test: ## Run everything, from nothing: set-up, lint, unit, fuzz, chart, conformance, clients, import, networks, e2e
	@tests/run

.PHONY: test-unit
test-unit: ## Run the Rust tests that need no cluster: unit, golden, property, sockets, docs
	cargo nextest run --cargo-quiet --profile ci --workspace $(FEATURES) -E 'not binary(=e2e)'
	cargo test --quiet --doc --workspace $(FEATURES)

.PHONY: test-fuzz
test-fuzz: ## Fuzz what reads the bytes of peers, 10 seconds a target (needs a nightly toolchain, else says so)
	tests/fuzz

.PHONY: test-chart
test-chart: ## Test the chart, manifests, dashboard and alerts
	tests/chart/run

.PHONY: test-conformance
test-conformance: debug-binary ## Run the Autobahn cases directly and through Tidegate, and compare
	tests/conformance/run

.PHONY: test-clients
test-clients: debug-binary ## Test real clients and servers (graphql-ws, MQTT, Socket.IO, SignalR) through Tidegate
	tests/clients/run

.PHONY: test-import
test-import: debug-binary ## Send the same requests to a real nginx and to Tidegate with what was imported from it, and compare
	tests/import/run

.PHONY: test-networks
test-networks: debug-binary ## Put firewalls, proxies and load balancers between a client and Tidegate, and ask the doctor (needs root)
	tests/networks/run

.PHONY: test-e2e
test-e2e: ## Run the end-to-end tests on a two-node Kubernetes of their own (needs root)
	tests/cluster/setup
	tests/e2e/run

.PHONY: soak
soak: debug-binary ## Run what takes too long for every run: 1,000 changes under 2,000 sockets, long outages, peers that vanish (needs root)
	tests/soak/vanish
	tests/cluster/setup
	tests/soak/changes

.PHONY: lint
lint: ## Check formats, lints, licences, scripts
	@tests/lint

.PHONY: audit
audit: ## Look for published advisories on the dependencies (needs the network; not part of test)
	cargo deny --all-features check advisories

.PHONY: fmt
fmt: ## Format the Rust sources
	cargo fmt --all

.PHONY: crd
crd: debug-binary ## Write the CRD and the chart's copy of it from the Rust types
	$(TARGET)/debug/tidegate crd > $(CRD).new
	mv $(CRD).new $(CRD)
	cp $(CRD) charts/tidegate/files/
	@echo "crd: wrote $(CRD) and the chart's copy"

.PHONY: cluster-up
cluster-up: ## Start a Kubernetes to play with (STATE=/tmp/tidegate-cluster NODES=2; needs root)
	tests/cluster/setup
	tests/cluster/up $(STATE) $(NODES)
	@echo "cluster-up: a shell in it: tests/cluster/in $(STATE) bash"

.PHONY: cluster-down
cluster-down: ## End it and remove its state
	tests/cluster/down --purge $(STATE)

.PHONY: bench
bench: build ## Run benches/, then side by side with other proxies (BENCH=FOLDER PROXIES= REPEATS= SCENARIOS=)
	cargo bench
	benches/instructions
	benches/side-by-side

# The program as all tests use it.
.PHONY: debug-binary
debug-binary:
	cargo build --quiet $(FEATURES) --bin tidegate
