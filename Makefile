# `make` lists the targets. Everything is installed into .venv, once.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TESTER := $(VENV)/.installed-for-tests
TEACHER := $(VENV)/.installed-for-teachers
PIP    := $(BIN)/python -m pip --disable-pip-version-check
BOOK   := _build/html/index.html
PORT   ?= 8000

# TORCH=cpu takes PyTorch's build without CUDA, and .venv keeps to it when the pins change. On Linux
# that build is not on PyPI. pip finds it where a mirror or PIP_FIND_LINKS has it; otherwise uv
# fetches it, which knows the address of PyTorch's own index.
TORCH  ?= $(shell cat $(STAMP) 2>/dev/null)
CUDA   := $(filter Linux-,$(shell uname -s)-$(TORCH))
BUILD  := torch==$(shell sed -n 's/^torch==//p' requirements.txt)
UV     := uv==0.13.9
# What a new .venv fetches and then holds, with these pins and Python 3.12, on Linux and x86-64.
WITH_CUDA := 2.9 GB to fetch, 5.6 GB on disk
WITHOUT   := 0.4 GB to fetch, 1.6 GB on disk
$(if $(filter-out cpu,$(TORCH)),$(error TORCH is "$(TORCH)"; it can be cpu, or left out))
ifneq ($(wildcard $(STAMP)),)
ifneq ($(filter-out clean,$(or $(MAKECMDGOALS),help)),)
$(if $(filter-out $(shell cat $(STAMP)),$(TORCH)),$(error .venv has PyTorch as pip chose it. For its CPU build: make clean, then again))
endif
endif

# Several processes share the cores (pytest -n 2, two notebooks at a time), so each uses one
# thread; stored outputs then come from the same arithmetic as the comparison. Progress bars
# are for learners, not for stored outputs.
RUN := OMP_NUM_THREADS=1 TQDM_DISABLE=1
# Chapters to execute again although nothing changed: `make notebooks ALL=1`.
ALL ?=
# What `make nbval` compares: `make nbval NOTEBOOK=notebooks/gating.ipynb`.
NOTEBOOK ?= notebooks
# Where `make colab-test` runs the notebooks: a list in tests/environments.
COLAB ?= colab-2026-08
# SAVE=1 writes the time and memory that it measures into the book; then `make notebooks`.
SAVE ?=
# What `make grade` grades, and how; `make grade` alone says what is wanted.
SUBMISSIONS ?=
OUT ?= grades
ASSIGNMENT ?=
CLASS ?=
DUE ?=
ISOLATION ?= bubblewrap
AGAIN ?=
JOBS ?= 2
# Other limits for `make grade`: LIMITS="--cell 300 --total 1800"; assignments/README.md lists them.
LIMITS ?=
# More for the benchmark: `make bench BENCH="--networks --rounds 5"`, `make bench BENCH=--help`.
BENCH ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install html wheel slides pdf epub repository test quick lint sync unit nbval book-tests elsewhere \
        colab-test notebooks front glance assignments grade classroom-tests bench serve measure format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv and install what book and notebooks need (TORCH=cpu: without CUDA)

$(STAMP): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not found. Name a Python 3.10 to 3.13: make html PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 13) or sys.exit("The course needs Python 3.10 to 3.13; $(PYTHON) is %d.%d. Name another one: make html PYTHON=python3.12" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot create virtual environments (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@test -e $@ || echo "Installing into .venv, once: $(if $(CUDA),up to $(WITH_CUDA),$(WITHOUT))."
	@test -e $@ -o -z "$(CUDA)" || echo "Most of it is CUDA, for NVIDIA's GPUs. To do without: make $(MAKECMDGOALS) TORCH=cpu"
	@test "$(TORCH)" != cpu || $(PIP) install --quiet $(BUILD)+cpu 2>/dev/null || { $(PIP) install --quiet $(UV) && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend cpu $(BUILD); }
	@$(PIP) install --quiet -r requirements.txt
	@$(PIP) install --quiet --no-deps -e .
	@echo "$(TORCH)" > $@

# The tests' packages are added to .venv, and none of the course's may change.
$(TESTER): $(STAMP) requirements-test.txt
	@test -e $@ || echo "Installing what only tests need: 0.1 GB to fetch, 0.5 GB on disk."
	@$(PIP) install --quiet -r requirements-test.txt -c requirements.txt
	@touch $@

html: $(STAMP) wheel ## build the book to _build/html
	$(BIN)/jupyter-book build -W --keep-going --quiet .
	@echo "The book is built: open $(CURDIR)/$(BOOK)"

wheel: $(STAMP) ## build attn_lib with all measured results, and a zip of the notebooks, into dist/
	@rm -rf build dist/attn_lib-*.whl
	@$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@$(BIN)/python -m zipfile -c dist/notebooks.zip notebooks/*.ipynb
	@rm -rf build
	@cd dist && ls -l *.whl notebooks.zip | awk '{printf "dist/%s: %.1f MB\n", $$9, $$5 / 1e6}'

slides: $(STAMP) ## write a reveal.js deck of each chapter into dist/slides
	@$(BIN)/python book/tools/slides.py dist/slides

pdf: html $(TESTER) ## print the book into dist/book.pdf (needs Chromium)
	@$(BIN)/python book/tools/pdf.py dist/book.pdf

epub: html $(TESTER) ## write the book for e-book readers into dist/book.epub (needs Chromium)
	@$(BIN)/python book/tools/epub.py dist/book.epub

measure: html $(TESTER) ## print a table of what the book's pages weigh, break and lack (needs Chromium; PAGES=...)
	@PYTHONPATH=book/tools $(BIN)/python tests/book/measure.py $(PAGES)

repository: $(STAMP) ## write the repository's address everywhere, in one commit (URL=...)
	@$(if $(filter undefined,$(origin URL)),echo "Say which: make repository URL=https://github.com/OWNER/NAME" >&2; exit 1,$(BIN)/python book/tools/repository.py '$(URL)')

test: ## run everything that CI runs
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory sync
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory nbval
	@rm -rf _build
	@$(MAKE) --no-print-directory html
	@$(MAKE) --no-print-directory book-tests
	@$(MAKE) --no-print-directory elsewhere
	@$(MAKE) --no-print-directory classroom-tests
	@echo "All tests passed."

quick: lint sync ## check style and pairs, and run the tests that take seconds
	$(RUN) $(BIN)/python -m pytest -q -n 2 -m "not slow" --ignore tests/book --ignore tests/assignments tests

lint: $(TESTER) ## check the code's style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

sync: $(STAMP) ## check that chapters and notebooks are in step
	$(BIN)/python book/tools/notebooks.py check

unit: $(TESTER) ## test attn_lib
	$(RUN) $(BIN)/python -m pytest -q -n 2 --ignore tests/book --ignore tests/assignments tests

nbval: $(TESTER) ## execute the notebooks again and compare with the stored outputs (NOTEBOOK=...)
	$(RUN) PYTHONPATH=tests $(BIN)/python -m pytest -q -p kernels --nbval --nbval-cell-timeout 600 -n 2 --dist loadfile $(NOTEBOOK)

book-tests: $(TESTER) ## check the built book: links, images, equations, exercises
	$(RUN) $(BIN)/python -m pytest -q -n 2 tests/book

# With the Python that is here and its PyTorch, so that little has to be installed.
elsewhere: $(STAMP) ## run the notebooks among Colab's packages, and among the oldest that are claimed
	$(BIN)/python tests/environments/run.py colab-2026-08 --here
	$(BIN)/python tests/environments/run.py oldest --here

colab-test: $(STAMP) ## run the notebooks in Colab's versions, its Python and PyTorch too (COLAB=...)
	$(BIN)/python tests/environments/run.py $(COLAB) $(if $(SAVE),--save)

notebooks: $(STAMP) ## execute the chapters whose code changed (ALL=1: every chapter)
	$(RUN) $(BIN)/python book/tools/notebooks.py run $(if $(ALL),--all)

front: html $(TESTER) ## draw the first page's picture and photograph README's page again (needs Chromium)
	@$(BIN)/python book/tools/cover.py
	@$(BIN)/python book/tools/screenshot.py

glance: $(STAMP) ## draw the mechanisms side by side again, for their page and to print
	$(BIN)/python book/tools/glance.py

# The teacher's packages are added to .venv, and none of the course's may change.
$(TEACHER): $(STAMP) assignments/requirements.txt
	@$(PIP) install --quiet -r assignments/requirements.txt -c requirements.txt -c requirements-test.txt
	@touch $@

assignments: $(TEACHER) wheel ## write the students' notebooks and a zip to assignments/release
	@$(BIN)/python -m assignments.build

grade: $(TEACHER) ## grade SUBMISSIONS=folder (OUT=, CLASS=, DUE=, ASSIGNMENT=, AGAIN=1, ISOLATION=, LIMITS=)
	@$(if $(SUBMISSIONS),,echo "Say which: make grade SUBMISSIONS=folder-or-zip; assignments/README.md describes the rest" >&2; exit 1)
	@OMP_NUM_THREADS=1 $(BIN)/python -m assignments.grade "$(SUBMISSIONS)" --out "$(OUT)" --jobs $(JOBS) --isolation "$(ISOLATION)" \
	  $(if $(ASSIGNMENT),--assignment "$(ASSIGNMENT)") $(if $(CLASS),--class-list "$(CLASS)") $(if $(DUE),--due "$(DUE)") $(if $(AGAIN),--again) $(LIMITS)

classroom-tests: $(TESTER) $(TEACHER) ## test the assignments and their grading
	$(RUN) $(BIN)/python -m pytest -q -n 2 tests/assignments

bench: $(TESTER) ## time attn_lib's layers beside others (BENCH=--networks, BENCH=--compile)
	$(BIN)/python -m benchmarks $(BENCH)

serve: html ## build the book and serve it on http://127.0.0.1:8000 (PORT=...)
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

format: $(TESTER) ## put the code into the style that lint checks
	$(BIN)/ruff check --fix --exit-zero --extend-exclude '*.ipynb' .
	$(BIN)/ruff format .

clean: ## remove the built book, the caches and .venv
	rm -rf _build $(VENV) .environments build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
