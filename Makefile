# `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
RUNTIME ?= docker
# Outside the checkout, so that a fresh clone builds on what an earlier one compiled.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/kontiki/target
KONTIKI = $(CARGO_TARGET_DIR)/release/kontiki
PICTURES = $(or $(FOLDER),$(CARGO_TARGET_DIR)/pictures)
PREPARE = deploy/claim-cache.sh && rocksdb="$$(deploy/rocksdb.sh)" && eval "$$rocksdb"

.PHONY: help up down reset status build test fmt lint reference deny bench bench-store bench-scheduler bench-api bench-agents crash sim kube-sim mutants fuzz chaos chaos-ui measure smoke nightly pictures

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' Makefile

up: ## install what is missing, build, start three members and a node agent (RUNTIME=hollow: without Docker)
	@deploy/setup.sh build $(if $(filter docker,$(RUNTIME)),docker)
	@$(MAKE) --no-print-directory build
	@$(KONTIKI) up --members 3 --runtime $(RUNTIME)

down: ## stop the cluster; data and containers are kept
	@$(KONTIKI) down

reset: ## stop the cluster and wipe its data and containers
	@$(KONTIKI) reset

status: ## show the processes of the cluster
	@$(KONTIKI) status

build: ## build the release binary
	@$(PREPARE) && cargo build --release --locked --bin kontiki

test: ## format check, lints and every test, as CI runs them
	@deploy/setup.sh build docker test chaos
	@deploy/test.sh

fmt: ## rewrite the sources in the standard format
	@cargo fmt --all

lint: ## lints only
	@$(PREPARE) && cargo clippy --workspace --all-targets --locked -- -D warnings

reference: ## write the pages in docs/reference that are made from the code
	@$(PREPARE) && KONTIKI_WRITE_REFERENCE=1 cargo test --locked -p kontiki -p resources -p store reference::

deny: ## licences, advisories and banned crates (installs cargo-deny)
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	@cargo deny check
	@cargo deny --manifest-path store/tests/clients/etcd-client/Cargo.toml --config deny.toml check

crash: ## kill a member 200 times under writes and check that nothing acknowledged is lost
	@$(PREPARE) && cargo run --locked -p raft-tests -- crash --kills 200

sim: ## run clusters in virtual time, with faults, one a seed, and judge what their clients saw (SEEDS=1000)
	@$(PREPARE) && cargo run --release --locked -p raft-tests -- sim --seeds $(or $(SEEDS),1000)

mutants: ## plant bugs in the store and the API server, one at a time, and see that the simulations find each (MUTANTS="--only acks-unsynced")
	@$(PREPARE) && cargo run --release --locked -p raft-tests --features mutants -- mutants $(MUTANTS)

fuzz: ## look for inputs that break what reads a stranger's bytes, by coverage (FUZZ="--seconds 600 json apply")
	@deploy/setup.sh build
	@$(PREPARE) && deploy/fuzz.sh $(FUZZ)

kube-sim: ## run control planes in virtual time, with faults, one a seed, and judge what clients of the API saw (SEEDS=300)
	@$(PREPARE) && cargo run --release --locked -p raft-tests -- kube-sim --seeds $(or $(SEEDS),300)

chaos: ## break a real cluster's network, processes and disks under clients, and judge what they saw (root; CHAOS="--minutes 5 --seed 1")
	@deploy/setup.sh build chaos
	@$(PREPARE) && cargo build --release --locked -p kontiki -p raft-tests --bins
	@$(CARGO_TARGET_DIR)/release/raft-tests chaos $(CHAOS)

chaos-ui: ## break a real cluster under clients by hand, on a local page (root; CHAOS="--members 5")
	@deploy/setup.sh build chaos
	@$(PREPARE) && cargo build --release --locked -p kontiki -p raft-tests --bins
	@$(CARGO_TARGET_DIR)/release/raft-tests chaos-ui $(CHAOS)

pictures: ## take the pictures of the report and of the live page that the guides show (FOLDER=...)
	@$(PREPARE) && mkdir -p "$(PICTURES)" && KONTIKI_SCREENSHOTS="$(abspath $(PICTURES))" cargo nextest run --locked -p raft-tests --test report -E 'test(its_pictures) or test(names_are_text)'
	@ls "$(PICTURES)"

measure: ## do one thing to a real cluster many times, and say how it went (root; MEASURE="failover", "kills --times 100")
	@deploy/setup.sh build chaos
	@$(PREPARE) && cargo build --release --locked -p kontiki -p raft-tests --bins
	@$(CARGO_TARGET_DIR)/release/raft-tests measure $(or $(MEASURE),failover)

smoke: ## a hundred runs in virtual time and one of real processes, within half a minute
	@$(PREPARE) && cargo build --release --locked -p kontiki -p raft-tests --bins
	@$(CARGO_TARGET_DIR)/release/raft-tests smoke

nightly: ## every test of reliability for HOURS (8, or `short`), whatever fails, and a page of figures (root)
	@deploy/setup.sh build chaos
	@$(PREPARE) && cargo build --release --locked -p kontiki -p raft-tests --bins && \
	  $(CARGO_TARGET_DIR)/release/raft-tests nightly --hours $(or $(NIGHTLY),$(HOURS),8)

bench: ## measure against Debian's etcd on this machine (about 12 minutes)
	@deploy/setup.sh build docker test bench
	@$(PREPARE) && cargo build --release --locked -p kontiki -p bench --bins
	@$(CARGO_TARGET_DIR)/release/bench all

bench-store: ## measure the store alone against Debian's etcd: 14 workloads, CPU, bytes, memory (about 22 minutes)
	@deploy/setup.sh build bench
	@$(PREPARE) && cargo build --release --locked -p kontiki -p bench --bins
	@$(CARGO_TARGET_DIR)/release/bench store $(BENCH)

bench-scheduler: ## measure decisions of the scheduler alone, at 5,000 to 15,000 nodes (about 3 minutes)
	@cargo bench --locked -p scheduler --bench decide

bench-api: ## measure the API alone: CPU of every verb, watches, memory, custom resources (about 20 minutes; BENCH="--kubeconfig FILE" for any cluster)
	@deploy/setup.sh build
	@$(PREPARE) && cargo build --release --locked -p kontiki -p bench --bins
	@ulimit -n $$(ulimit -Hn) && $(CARGO_TARGET_DIR)/release/bench api $(BENCH)

bench-agents: ## measure the scheduler and the controllers: Kubernetes' own workloads, rollouts, a lost node (BENCH="--scale 0.1 --only 1,3")
	@deploy/setup.sh build
	@$(PREPARE) && cargo build --release --locked -p kontiki -p bench --bins
	@ulimit -n $$(ulimit -Hn) && $(CARGO_TARGET_DIR)/release/bench agents $(BENCH)
