# The front door. Each target calls one program; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-long image release deb matrix bench lint lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what twin and tests need, and the suite in .venv (as root)
	@packaging/setup

run: setup ## bake the image, boot it as a box, show its status, open a shell in it (ONESHOT=1: no shell)
	@.venv/bin/tinybox-provision run

demo: setup ## the same without a virtual machine: twin, daemon and live status on this host
	@.venv/bin/tinybox-provision demo

test: setup ## run every test: units, twin, image in a virtual machine
	@.venv/bin/python -m pytest

test-long: setup ## the governor on 200 drawn plants, its result into docs/proof/ (hours)
	@.venv/bin/python -m benchmarks governor --long --write-proof

image: setup ## build the image of PROFILE (sim)
	@.venv/bin/tinybox-provision image build --profile $(or $(PROFILE),sim)

release: setup ## the image of PROFILE (sim) as one signed artefact in dist/ (KEY=secret key)
	@.venv/bin/tinybox-provision release --profile $(or $(PROFILE),sim) --key $(or $(KEY),release.key)

deb: setup ## build the suite's Debian package into dist/
	@packaging/build-deb

matrix: setup ## every fault of the twin against every check of health, into docs/health.md (minutes)
	@.venv/bin/python -m tests.matrix --write

bench: setup ## measure speed and memory against their targets
	@.venv/bin/python -m benchmarks

lint: setup ## ruff and mypy
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

lock: ## pin the dependencies afresh, with hashes and without addresses (needs uv)
	@packaging/lock

clean: ## remove what was built (caches stay in ~/.cache/tinybox)
	@rm -rf build dist
