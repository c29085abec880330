# Targets that need .venv set it up first, so that each works alone on a fresh clone.
# `python -m stages.X` in dvc.yaml means the `python` that PATH names: here .venv's. In your own shell say
# `. .venv/bin/activate` before you call dvc.

SEEDS ?= 0,1,2
BIN := .venv/bin
# Settings of installation/install.sh, which explains them.
export PYTHON TORCH TORCH_INDEX
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro figures test test-all test-faults coverage test-fresh lint format lock table1 table2 table3 table4 figure4 seeds upper_bound docs clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9_ -]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

setup:  ## build .venv with exact versions; PYTHON=python3.13 and TORCH=cpu choose: docs/installation.md
	@installation/install.sh

repro: setup  ## run the whole pipeline as params.yaml says, then show its metrics
	$(BIN)/dvc repro
	@echo
	@$(BIN)/dvc metrics show
	@echo
	@echo "Report: $(CURDIR)/data/report/index.html"

test: setup  ## run the tests that take seconds, one process for each core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test-all: setup  ## run the slow tests too: the whole pipeline in a clone
	$(BIN)/python -m pytest -m "not faults"

test-faults: setup  ## 2,800 crashes, signals and damaged files, and what came of them; takes 30 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m faults tests/faults

coverage: setup  ## run the fast tests and list the lines that no test runs
	$(BIN)/python -m pytest --cov=cpal --cov=stages --cov-report=term-missing:skip-covered

test-fresh:  ## the two commands of README on bare Debian 12 and 13, in a chroot or container; takes an hour
	installation/test_fresh.sh

lint: setup  ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: setup  ## put imports and layout in order
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs:  ## build the pages of docs/ as a site in site/, with all links checked
	python3 -m venv .cache/docs
	.cache/docs/bin/python -m pip install --quiet 'pip>=25.1'
	.cache/docs/bin/python -m pip install --quiet --group docs
	NO_MKDOCS_2_WARNING=1 .cache/docs/bin/mkdocs build --strict

lock:  ## renew installation/locks where pyproject.toml asks for it; UPGRADE=1 or UPGRADE=torch takes newer versions
	python3 -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet uv packaging
	.cache/lock/bin/python installation/locks/make.py

table1 table2 table3 table4 figure4: setup  ## the paper's tables on what params.yaml describes, in results/; SEEDS=0-2
	$(BIN)/python -m experiments.ablations $@ --seeds $(SEEDS)

seeds: setup  ## what params.yaml describes, every step over random seeds, in results/; SEEDS=0-2
	$(BIN)/python -m experiments.ablations $@ --seeds $(SEEDS)

upper_bound: setup  ## the segmentation model trained on ground-truth masks, in results/; SEEDS=0-2
	$(BIN)/python -m experiments.upper_bound --seeds $(SEEDS)

figures: setup  ## the paper's figures of the present run, each beside its numbers, in results/figures
	$(BIN)/python -m experiments.figures

clean:  ## drop unfinished work and the tools' caches; results and .venv stay
	rm -rf .cache .mypy_cache .pytest_cache .ruff_cache dvc_plots
