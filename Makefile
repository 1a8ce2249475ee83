# What one does here, day by day. `make` alone lists it.

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
SKIPPED := $(TARGET_DIR)/tmp/skipped
# One test of `make soak`.
SOAK = $(CARGO) test --quiet $(OPENSSL)
ARGS ?=
# How long the last part of `make soak` takes.
SOAK_TIME ?= 1h
# How long all attacks at once take.
ATTACK_TIME ?= 10m
# Nothing, or the feature that builds OpenSSL where its headers are missing.
OPENSSL := $(shell scripts/openssl.sh)

.DEFAULT_GOAL := help
.PHONY: help run test lint features doc-check deny tests load instructions baseline bench docs accuracy soak screenshots browser page-cost

help: ## List what there is.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

screenshots: ## Take docs/images anew: the live page under load, light and dark, wide and narrow.
	@scripts/test-tools.sh
	$(CARGO) build --quiet $(OPENSSL)
	VITALS_BINARY=$(TARGET_DIR)/debug/actix-vitals node tests/dashboard/screenshots.mjs docs/images

run: ## Serve on 127.0.0.1:8000 (ARGS="--help" lists the settings).
	$(CARGO) run --quiet $(OPENSSL) -- $(ARGS)

test: lint features doc-check tests deny instructions ## Everything that must hold before a change is kept.
	@if [ -s "$(SKIPPED)" ]; then \
		echo; sort -u "$(SKIPPED)"; \
		echo "make test: all that ran passed; the above was skipped"; \
	else \
		echo; echo "make test: everything passed, nothing was skipped"; \
	fi

lint: ## Format and lints; warnings are errors.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet $(OPENSSL) -- -D warnings

deny: ## Hold the dependencies to deny.toml: licences, bans, sources, and advisories where their database is.
	@mkdir -p "$(dir $(SKIPPED))"
	@scripts/deny.sh "$(SKIPPED)"

features: ## Every combination of features that makes sense compiles; warnings are errors.
	@CARGO="$(CARGO)" OPENSSL="$(OPENSSL)" scripts/features.sh

doc-check: ## The library's documentation; warnings are errors.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --lib --quiet $(OPENSSL)

tests: ## The tests alone, with the foreign tools they use.
	@scripts/test-tools.sh
	@rm -f "$(SKIPPED)"
	$(CARGO) test --quiet --workspace --lib --bins --tests --examples $(OPENSSL)
	$(CARGO) test --quiet --workspace --doc $(OPENSSL)
	@CARGO="$(CARGO)" OPENSSL="$(OPENSSL)" scripts/mysql.sh "$(SKIPPED)"

instructions: ## Count the instructions of the hot paths, and compare them with the baseline.
	@scripts/test-tools.sh
	$(CARGO) bench --quiet --profile instructions --bench instructions $(OPENSSL) -- check

baseline: ## Count them, and write benches/instructions/baseline.txt anew.
	@scripts/test-tools.sh
	$(CARGO) bench --quiet --profile instructions --bench instructions $(OPENSSL) -- write

load: ## Drive load against a running server (ARGS="--clients 50 --duration 20s").
	$(CARGO) run --quiet --example load $(OPENSSL) -- $(ARGS)

bench: ## Measure what recording, encoding and serving cost, beside the alternatives (docs/PERFORMANCE.md).
	@scripts/test-tools.sh
	$(CARGO) bench --quiet --features prometheus-protobuf $(OPENSSL) -- $(ARGS)

docs: ## Write docs/METRICS.md anew from the registry, and docs/promql-otel.md from docs/promql.md.
	UPDATE_DOCS=1 $(CARGO) test --quiet --test integration $(OPENSSL) -- _md

accuracy: ## Measure the quantiles' accuracy through the real Prometheus, and write docs/ACCURACY.md anew.
	UPDATE_DOCS=1 $(CARGO) test --quiet --test integration $(OPENSSL) -- accuracy::

# What takes long, each part on a line of its own.
soak: ## What takes long, and must hold all the same: a million requests of a chaotic crowd, 200 kills, 50 stops, 100,000 mutants, 500 slow clients, 500 requests of each operation, ten minutes of all attacks at once (ATTACK_TIME=2m), and an hour of everything at once (SOAK_TIME=10m).
	VITALS_CHAOS_REQUESTS=1000000 $(SOAK) --test integration -- --nocapture http::chaos
	VITALS_CRASH_KILLS=200 $(SOAK) --test integration -- --nocapture kill_9
	VITALS_SHUTDOWN_ROUNDS=50 $(SOAK) --test integration -- --nocapture shutdown::load
	VITALS_MUTANTS=100000 $(SOAK) --test integration -- --nocapture limits::mutants
	VITALS_SLOW_RATIO=200 $(SOAK) --release --test exclusive -- --nocapture slow::
	VITALS_DESCRIPTION_EXAMPLES=500 $(SOAK) --test integration -- description::
	VITALS_ATTACK_TIME=$(ATTACK_TIME) $(SOAK) --release --test exclusive -- --nocapture soak::attack::
	VITALS_SOAK_TIME=$(SOAK_TIME) $(SOAK) --release --test exclusive -- --nocapture soak::everything

browser: ## Only the tests of the live page, in a real browser.
	@scripts/test-tools.sh
	$(CARGO) test --quiet --test integration $(OPENSSL) -- dashboard::

page-cost: ## Measure how soon the live page paints, and what twenty of them take of the server's processor.
	@scripts/test-tools.sh
	$(CARGO) build --quiet --release $(OPENSSL)
	VITALS_BINARY=$(TARGET_DIR)/release/actix-vitals node tests/dashboard/cost.mjs
