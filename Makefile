# `make` alone says what there is.
SHELL := /bin/bash
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# The same target for plain cargo and for cargo-lambda, which always names one: so they share what they build.
export CARGO_BUILD_TARGET ?= $(HOST)
export SAM_CLI_TELEMETRY := 0
export WEIR_LOCAL_PORT ?= 4566
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)

# sam asks for one even where it asks nothing of AWS. Not for `deploy` and `delete`: there it is yours that counts.
lint build bench: export AWS_DEFAULT_REGION ?= us-east-1

.PHONY: delete help setup binaries demo local-up kafka-up changes-up search-up engine-up engine-down local-down invoke test bench lint audit fmt build wheel deploy clean
help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.done ## Install the pinned tools into .venv
$(VENV)/.done: tools/requirements.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -r tools/requirements.txt
	@touch $@

binaries:
	cargo build --locked --workspace

demo: local-up ## The main job, end to end, on a local AWS
	@. target/local/env && $(BIN)/python local/demo.py; status=$$?; local/down.sh; exit $$status

local-up: setup binaries ## Start a local AWS, deploy the stack to it, keep it for playing
	@local/up.sh

kafka-up: setup binaries ## A real Kafka beside the local AWS (make local-up), read into tables
	@local/kafka.sh

changes-up: setup binaries ## A real PostgreSQL beside the local AWS (make local-up), its changes into Hudi tables
	@local/changes.sh

search-up: setup ## A real OpenSearch beside the local AWS (make local-up), which gets live statistics
	@$(BIN)/python local/opensearch.py

engine-up: setup ## A Docker engine, for sam local, where none runs (as root; installs Debian's)
	@$(BIN)/python local/engine.py up

engine-down: setup
	@$(BIN)/python local/engine.py down

local-down: ## Stop the local AWS
	@local/down.sh

FN ?= realtime
EVENT ?= events/realtime/copy.json
invoke: ## Run an event through a function: make invoke FN=realtime EVENT=events/realtime/copy.json
	@local/invoke.sh "$(FN)" "$(EVENT)"

test: local-up ## Unit, property, conformance and end-to-end tests, then the demo, on a local AWS
	@. target/local/env && python3 local/kafka.py && export WEIR_KAFKA=127.0.0.1:$$(($$WEIR_LOCAL_PORT + 2)) && \
		python3 local/opensearch.py && export WEIR_SEARCH=http://127.0.0.1:$$(($$WEIR_LOCAL_PORT + 4)) && \
		cargo test --locked --workspace && $(BIN)/python local/demo.py; \
		status=$$?; local/down.sh; exit $$status

# As cargo-lambda builds for Lambda's x86-64.
DEPLOYED_CPU := $(if $(findstring x86_64,$(HOST)),-C target-cpu=haswell)
bench: setup binaries ## Measure Weir beside its peers; takes minutes, most of them to build (WHAT="clean kpl" for some)
	$(BIN)/pip install -q --disable-pip-version-check -r benches/requirements.txt
	sam build --build-dir target/sam-release
	RUSTFLAGS="$(DEPLOYED_CPU)" cargo build --locked --release -p weir-benches --no-default-features --bin bench-convert --bin bench-transform --bin bench-kpl
	# As `make wheel` builds it, but for the linker: for any x86-64.
	cargo build --locked --release -p weir-batch
	$(BIN)/python benches/bench.py $(WHAT)

# Built once, outside the clone: it takes minutes.
TOOLS := $(HOME)/.cache/weir-tools
DENY := $(TOOLS)/bin/cargo-deny
$(DENY):
	env -u CARGO_BUILD_TARGET cargo install -q --locked --root $(TOOLS) --version 0.20.2 cargo-deny

# By itself: it wants other versions of what the SAM CLI has.
CHECKOV := $(TOOLS)/checkov-3.3.30/bin/checkov
$(CHECKOV): tools/checkov.txt
	python3 -m venv $(dir $(CHECKOV))..
	$(dir $(CHECKOV))pip install -q --disable-pip-version-check -r tools/checkov.txt
	@touch $@

audit: $(DENY) ## Known vulnerabilities of what is built in (asks GitHub for the list)
	$(DENY) check advisories

lint: setup $(DENY) $(CHECKOV) ## Formatting, clippy, the template, licences and sources
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	sam validate --lint # cfn-lint
	@mkdir -p target && $(BIN)/python tools/translated.py > target/template.json
	$(CHECKOV) --config-file tools/checkov.yaml --file target/template.json
	cargo fetch --locked --quiet # cargo-deny reads every locked crate, those for other systems, too
	$(DENY) --offline check bans licenses sources

fmt: ## Format the code
	cargo fmt --all

FUNCTION ?=
# As the stack's parameter of that name: code for another does not start.
ARCHITECTURE ?= x86_64
build: setup ## What is deployed: optimised, for Amazon Linux 2023 (FUNCTION=TransformFunction for one)
	sam build $(FUNCTION) --parameter-overrides Architecture=$(ARCHITECTURE)
	$(BIN)/python tools/glibc.py .aws-sam/build/*/bootstrap

# Beside the functions' builds: zig links it for Glue's glibc, and would have cargo build everything again in their folder.
wheel: setup ## The Rust code for Spark, as Glue installs it
	rm -rf target/wheel
	env -u CARGO_BUILD_TARGET CARGO_TARGET_DIR=$(CURDIR)/target/glue batch/wheel.sh release target/wheel

STACK ?= weir
# Without it, that of your environment or profile.
REGION ?=
IN := $(if $(REGION),--region $(REGION))
# What you answered, of each stack in a file of its own.
ANSWERS := $(CURDIR)/samconfig.$(STACK).toml
GUIDED ?= yes
deploy: answers build wheel ## Deploy to your AWS account, guided; STACK=NAME, REGION=NAME, ARCHITECTURE=arm64, GUIDED=no: as you answered last
	@echo "Architecture is $(ARCHITECTURE): what was built is for that one alone"
	sam deploy $(if $(filter no,$(GUIDED)),--no-confirm-changeset,--guided --stack-name $(STACK) $(IN)) --config-file "$(ANSWERS)" --no-fail-on-empty-changeset
	set -e; to=$$($(BIN)/python tools/answers.py bucket "$(ANSWERS)" $(REGION)); batch/upload.sh target/wheel "$$to"

.PHONY: answers
answers: setup
	@$(BIN)/python tools/answers.py ready "$(ANSWERS)" $(STACK) $(ARCHITECTURE) $(GUIDED)

delete: setup ## Delete the stack from your AWS account, but not its data; STACK=NAME, REGION=NAME
	@tools/delete.sh $(STACK) $(IN)

clean: ## Forget what was built
	cargo clean
	rm -rf .aws-sam
