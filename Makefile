# SPDX-FileCopyrightText: 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench soak lint sanity lab clean

python := .build/venv/bin/python

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: ## make this machine ready (bare Debian 12, Ubuntu 22.04 or 24.04, as root); again: only what changed
	@scripts/setup

story_of_router := tests.integration.routers.demo
story_of_proxmox := tests.integration.proxmox.demo

demo: setup ## the story on real guests; BACKEND=router or proxmox: there; POLICY=alteron (asergo, location, metrovps, xtom): its own
	@$(if $(BACKEND),PYTHONPATH=.build/collections:. $(python) -m $(or $(story_of_$(BACKEND)),$(error BACKEND is router or proxmox)),$(python) -m tests.lab.demo $(POLICY))

test: setup ## unit, property, integration and lab tests, sanity and lint
	@scripts/test

bench: ## what it costs: ratios in one run, interleaved, medians
	@scripts/setup --peers
	@scripts/bench

soak: setup ## random actions from controllers that are killed, on both ledgers, against a model
	@scripts/soak

lab: setup ## the demo's provider, up until Ctrl-C, to play with
	@$(python) -m tests.lab up

lint: setup ## what reads the code without running it
	@scripts/lint

sanity: setup ## ansible-test sanity on the tarball's content
	@scripts/sanity

clean: ## remove all that was built here; packages that apt installed stay
	@if [ -x $(python) ]; then $(python) -m tests.lab down; fi
	rm -rf .build .pytest_cache .ruff_cache .hypothesis tests/output
