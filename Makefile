# `make` alone says what there is.
SHELL := /bin/bash
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# The same target for plain cargo and for cargo-lambda, which always names one: so they share what they build.
export CARGO_BUILD_TARGET ?= $(HOST)
export SAM_CLI_TELEMETRY := 0
export AWS_DEFAULT_REGION ?= us-east-1
export WEIR_LOCAL_PORT ?= 4566
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)

.PHONY: help setup binaries demo local-up local-down test lint fmt build deploy clean
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

local-down: ## Stop the local AWS
	@local/down.sh

test: local-up ## Unit, property, conformance and end-to-end tests, then the demo, on a local AWS
	@. target/local/env && cargo test --locked --workspace && $(BIN)/python local/demo.py; \
		status=$$?; local/down.sh; exit $$status

lint: setup ## Formatting, clippy, the template
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	sam validate --lint

fmt: ## Format the code
	cargo fmt --all

build: setup ## What is deployed: optimised, for Amazon Linux 2023
	sam build

deploy: build ## Deploy to your AWS account, guided
	sam deploy --guided

clean: ## Forget what was built
	cargo clean
	rm -rf .aws-sam
