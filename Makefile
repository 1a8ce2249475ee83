# The commands of every day. `make` alone lists them.

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
SKIPPED := $(TARGET_DIR)/tmp/skipped
# How many tests run at a time. Most of them wait for a server, a deadline or a tool: four for each processor.
TEST_THREADS ?= $(shell expr 4 \* $$(getconf _NPROCESSORS_ONLN))
# One test of `make soak`.
SOAK = $(CARGO) test --quiet $(OPENSSL)
# The counts of instructions are built with what they use only.
INSTRUCTIONS = $(CARGO) bench --quiet --profile instructions --package actix-vitals --no-default-features --features http,database --bench instructions
ARGS ?=
# The duration of the parts of `make soak` that take an hour.
SOAK_TIME ?= 1h
# The duration of the part of `make soak` in which no request may be named as a stall.
FULL_LOAD_TIME ?= 10m
# The duration of the part of `make soak` that runs all attacks at once.
ATTACK_TIME ?= 10m
# Empty, or the feature that builds OpenSSL from source where its headers are missing.
OPENSSL := $(shell scripts/openssl.sh)

# Empty where the C library cannot load a program with packed relocations.
PACKED := $(shell getconf GNU_LIBC_VERSION 2>/dev/null | awk '$$2 >= 2.36 { print "-C link-arg=-Wl,-z,pack-relative-relocs" }')

# Nothing is built twice in CI, and what an incremental build keeps takes a quarter more time.
ifdef CI
export CARGO_INCREMENTAL ?= 0
endif

.DEFAULT_GOAL := help
.PHONY: help run check test dist lint features doc-check deny api api-check tests other-connections load instructions baseline bench original docs accuracy soak screenshots browser page-cost

help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Serve on 127.0.0.1:8000 (ARGS="--help" lists the settings).
	$(CARGO) run --quiet $(OPENSSL) -- $(ARGS)

check: lint ## Format, lints and unit tests: run it after each change.
	$(CARGO) test --quiet --lib --bins $(OPENSSL)

test: ## All checks and tests that a change must pass.
	@mkdir -p "$(dir $(SKIPPED))"; rm -f "$(SKIPPED)"
	@MAKE="$(MAKE)" scripts/parts.sh lint features doc-check tests other-connections deny api-check instructions
	@if [ -s "$(SKIPPED)" ]; then \
		echo; sort -u "$(SKIPPED)"; \
		echo "make test: all that ran passed; the above was skipped"; \
	else \
		echo; echo "make test: everything passed, nothing was skipped"; \
	fi

# Frame pointers: profiles then have all callers. The C parts get them by the same flag.
# The functions that run at rest and in requests lie side by side, and the table of relocations is packed, which needs glibc
# 2.36: less of the file is in memory.
dist: export RUSTFLAGS := $(RUSTFLAGS) -C force-frame-pointers=yes
dist: ## Build the binary for a release: the smallest and fastest, after several minutes of linking (ARGS=--no-default-features: without PostgreSQL and TLS).
	$(CARGO) rustc --profile dist --locked --bin actix-vitals $(OPENSSL) $(ARGS) -- \
		-C link-arg=-Wl,-T,$(CURDIR)/scripts/used-functions.ld $(PACKED)
	@ls -l $(TARGET_DIR)/dist/actix-vitals

lint: ## Format and lints; warnings are errors.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets --quiet $(OPENSSL) -- -D warnings

deny: ## Check the dependencies against deny.toml: licences, bans, sources, and advisories if their database is present.
	@mkdir -p "$(dir $(SKIPPED))"
	@scripts/deny.sh "$(SKIPPED)"

api: ## Rewrite docs/api, the public interface of the libraries. Needs cargo-public-api.
	@CARGO="$(CARGO)" scripts/api.sh write

api-check: ## Compare the public interface of the libraries with docs/api.
	@mkdir -p "$(dir $(SKIPPED))"
	@CARGO="$(CARGO)" scripts/api.sh check "$(SKIPPED)"

features: ## Compile the combinations of features that a user would choose; warnings are errors.
	@CARGO="$(CARGO)" OPENSSL="$(OPENSSL)" scripts/features.sh

doc-check: ## Build the documentation of the libraries; warnings are errors.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --lib --quiet $(OPENSSL)
	JEMALLOC_OVERRIDE=$$(scripts/unlinked-jemalloc.sh) RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --lib --quiet --package vitals-recorder --package actix-vitals --all-features

tests: ## Run the tests only, with the programs that they need, and list the slowest ten.
	@scripts/test-tools.sh
	CARGO="$(CARGO)" RUST_TEST_THREADS=$(TEST_THREADS) scripts/tests.py --no-fail-fast $(OPENSSL)

other-connections: ## Run the tests of connections that need a feature (diesel-async, mysql), unless they passed with the same files.
	@scripts/test-tools.sh
	@CARGO="$(CARGO)" OPENSSL="$(OPENSSL)" scripts/unless-passed.sh other-connections "$(SKIPPED)" \
		Cargo.toml Cargo.lock crates examples 'tests/diesel_async*' 'tests/mysql*' 'tests/attribution*' 'tests/support*' tests/secrets/plant.rs scripts/other-connections.sh -- \
		scripts/other-connections.sh "$(SKIPPED)"

instructions: ## Count the instructions of the hot paths and compare them with the baseline, unless they passed with the same files.
	@scripts/test-tools.sh
	@CARGO="$(CARGO)" scripts/unless-passed.sh instructions "$(SKIPPED)" \
		Cargo.toml Cargo.lock crates tests/support/tools -- \
		$(INSTRUCTIONS) -- check

baseline: ## Count the instructions of the hot paths and rewrite crates/vitals/benches/instructions/baseline.txt.
	@scripts/test-tools.sh
	$(INSTRUCTIONS) -- write

load: ## Send load to a running server (ARGS="--clients 50 --duration 20s").
	$(CARGO) run --quiet --example load $(OPENSSL) -- $(ARGS)

bench: ## Measure the cost of recording, encoding and serving, and of the alternatives (docs/PERFORMANCE.md).
	@scripts/test-tools.sh
	$(CARGO) bench --quiet --profile dist --features prometheus-protobuf $(OPENSSL) -- $(ARGS)
ifdef ORIGINAL
	$(MAKE) original
else
	@echo "make bench: the original is left out; ORIGINAL=/path/to/it has it measured, too (docs/PERFORMANCE.md)"
endif

original: ## Compare GET /data with the original service, whose directory is ORIGINAL, on one PostgreSQL.
	@scripts/test-tools.sh
	$(CARGO) build --quiet --profile dist --bin actix-vitals $(OPENSSL)
	scripts/original.py "$(ORIGINAL)" $(TARGET_DIR)/dist/actix-vitals

docs: ## Rewrite docs/SETTINGS.md from the flags, docs/METRICS.md from the registry, docs/promql-otel.md from docs/promql.md, and the rules for Kubernetes and VictoriaMetrics from those for Prometheus.
	scripts/kubernetes.sh
	UPDATE_DOCS=1 $(CARGO) test --quiet --lib $(OPENSSL) -- _md
	UPDATE_DOCS=1 $(CARGO) test --quiet --test integration $(OPENSSL) -- _md deploy::victoria_metrics::

accuracy: ## Measure the accuracy of quantiles in a real Prometheus and rewrite docs/ACCURACY.md.
	UPDATE_DOCS=1 $(CARGO) test --quiet --test integration $(OPENSSL) -- accuracy::

# Each part is one line.
soak: ## The tests that take hours: a million requests of a chaotic crowd, 200 kills, 50 stops, 100,000 mutants, 500 slow clients, 500 requests of each operation, 100 stalls of 100 ms and more that are named while they last, ten minutes of full load without a stall (FULL_LOAD_TIME=2m), the timelines of 10,000 requests, a minute of load that four scrapers count, the load of fifty clients, ten minutes of all attacks at once (ATTACK_TIME=2m), an hour of everything at once (SOAK_TIME=10m), 10,000 starts of a profile by either way, an hour of profiles of a chaotic service by both ways in turns, and the shares of three functions in a profile of a binary with the flags of make dist.
	VITALS_CHAOS_REQUESTS=1000000 $(SOAK) --test integration -- --nocapture http::chaos
	VITALS_CRASH_KILLS=200 $(SOAK) --test integration -- --nocapture kill_9
	VITALS_SHUTDOWN_ROUNDS=50 $(SOAK) --test integration -- --nocapture shutdown::load
	VITALS_MUTANTS=100000 $(SOAK) --test integration -- --nocapture limits::mutants
	VITALS_SCRAPED_TIME=60s $(SOAK) --test integration -- --nocapture prometheus::ledger
	VITALS_LOAD_TIME=20s $(SOAK) --release --test exclusive -- --nocapture load::
	VITALS_TIMELINES=10000 $(SOAK) --release --test exclusive -- --nocapture timelines::
	VITALS_SLOW_RATIO=200 $(SOAK) --release --test exclusive -- --nocapture slow::
	VITALS_DESCRIPTION_EXAMPLES=500 $(SOAK) --test integration -- description::
	VITALS_NAMED_FROM=100ms VITALS_FULL_LOAD_TIME=$(FULL_LOAD_TIME) $(SOAK) --release --test stalls -- --nocapture
	VITALS_ATTACK_TIME=$(ATTACK_TIME) $(SOAK) --release --test exclusive -- --nocapture soak::attack::
	VITALS_SOAK_TIME=$(SOAK_TIME) $(SOAK) --release --test exclusive -- --nocapture soak::everything
	VITALS_PROFILES=10000 $(SOAK) -p vitals-profiler --features cpu --lib -- --nocapture profiles_start_and_stop
	VITALS_PROFILED_TIME=$(SOAK_TIME) $(SOAK) --test profiles -- chaotic
	RUSTFLAGS="$(RUSTFLAGS) -C force-frame-pointers=yes" $(SOAK) --profile dist --test profiles -- shares

browser: ## Run only the tests of the live page, in a real browser.
	@scripts/test-tools.sh
	$(CARGO) test --quiet --test integration $(OPENSSL) -- dashboard::

page-cost: ## Measure the first paint of the live page, and the processor time that twenty open pages cost the server.
	@scripts/test-tools.sh
	$(CARGO) build --quiet --profile dist $(OPENSSL)
	VITALS_BINARY=$(TARGET_DIR)/dist/actix-vitals node tests/dashboard/cost.mjs

screenshots: ## Retake docs/images: the live page under load, light and dark, wide and narrow, and the pictures of docs/WHY.md.
	@scripts/test-tools.sh
	$(CARGO) build --quiet $(OPENSSL) --bin actix-vitals --example why
	VITALS_BINARY=$(TARGET_DIR)/debug/actix-vitals node tests/dashboard/screenshots.mjs docs/images
	VITALS_WHY=$(TARGET_DIR)/debug/examples/why node tests/dashboard/why.mjs docs/images
