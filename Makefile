# The house's commands; `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first Python from 3.11 to 3.13 on this machine; `make PYTHON=/path/to/python3.12 …` overrides.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	if $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then echo $$p; break; fi; done)
BIN := .venv/bin
STAMP := .venv/.konomi-installed
WORDS := $(wildcard hatch_build.py clients/python/konomi/locale/*/LC_MESSAGES/konomi.po clients/python/konomi/web/static/i18n/en.json)
WORKERS ?= 2
# Where Python may keep no bytecode as it runs, as in many containers, every service would compile torch at every start.
BYTECODE := $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)
# Told to be quiet, mkdocs counts no warning; so it speaks to a file, which is shown where one came.
MKDOCS = mkdir -p build && { NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict > build/docs.log 2>&1 || { grep -v INFO build/docs.log; exit 1; }; }
PYTEST := $(BIN)/python -m pytest
ARGS ?=

.PHONY: help setup demo up test check lint audit words figures reference docs plugins format bench chaos lock

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything pinned in constraints.txt; does nothing when nothing changed

$(STAMP): pyproject.toml constraints.txt $(wildcard proto/konomi/v1/*.proto) $(WORDS)
	@if [ -z "$(PYTHON)" ]; then \
		echo "make: konomi needs Python 3.11, 3.12 or 3.13 and found none; install one, or say make PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo "make: $(PYTHON) -m venv failed; on Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@sed -n '/^uv==/,/^ *# via/p' constraints.txt > .venv/uv-pin.txt
	@[ -x $(BIN)/uv ] && $(BIN)/uv --version | grep -qF "uv $$(sed -n 's/^uv==\([^ ]*\).*/\1/p' .venv/uv-pin.txt) " \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv-pin.txt
	$(BIN)/uv pip install --python $(BIN)/python $(BYTECODE) --require-hashes -r constraints.txt
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## the main job, start to end, with a simulated person: make demo ARGS='--units 2 --seed 7'
	$(BIN)/konomi demo $(ARGS)

up: setup ## start rater, generator, trainer and the page on this machine; Ctrl-C stops
	$(BIN)/konomi up $(ARGS)

test: lint audit ## exactly what CI runs: the static checks, the audit of the pins, then every test that is no chaos test
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "not chaos" $(ARGS)

check: lint ## the fast half of `make test`: the static checks and the fast tests
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "not slow and not chaos" $(ARGS)

lint: setup ## the static checks alone: ruff, mypy, import-linter, the catalogue of words, the docs, buf
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	PYTHONPATH=. $(BIN)/python .ci/words.py check
	$(BIN)/python .ci/figures.py check
	PYTHONPATH=.:.ci/reference $(BIN)/python .ci/reference check
	@$(MKDOCS)
	$(BIN)/buf lint
	.ci/breaking

audit: setup ## look the pins of constraints.txt up in the package index's advisories; says where it knows nothing
	$(BIN)/python .ci/audit.py

words: setup ## bring locale/*/LC_MESSAGES/konomi.po up to the English of the code, and name what is left to translate
	PYTHONPATH=. $(BIN)/python .ci/words.py update

figures: setup ## make the tables of the README anew from the results that are filed
	$(BIN)/python .ci/figures.py update

reference: setup ## make docs/reference and deploy/konomi.example.toml anew from the code
	PYTHONPATH=.:.ci/reference $(BIN)/python .ci/reference update

docs: setup ## build the docs site in both languages into build/site; a link that leads nowhere fails
	@$(MKDOCS)
	@echo "$$PWD/build/site/index.html"

plugins: ## make the plug-ins for ComfyUI and A1111 ready to publish, in build/plugins
	$(PYTHON) .ci/plugins.py

format: setup ## put imports and layout right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## every benchmark; results in build/bench/NAME.json
	@for file in tests/benchmarks/*/bench_*.py; do echo "== $$file"; name=$${file%.py}; $(BIN)/python -m $${name//\//.}; done

bench-%: setup ## one benchmark: make bench-demo
	$(BIN)/python -m $(subst /,.,$(basename $(or $(wildcard tests/benchmarks/*/bench_$*.py),\
		$(error no tests/benchmarks/*/bench_$*.py)))) $(ARGS)

chaos: setup ## kills, faults and the long forms of tests; takes long, before a release
	$(PYTEST) -m chaos $(ARGS)

lock: setup ## resolve pyproject.toml anew into constraints.txt, for Python 3.11 to 3.13
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --quiet -o constraints.txt
