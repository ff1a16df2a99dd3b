# Everything happens in .venv, which the first command makes. All paths are relative, so that the
# checkout may live in a folder whose name has spaces or accents.

N ?= 1
TIER ?= auto
ARGS ?=

PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --no-compile --disable-pip-version-check
STAMP := .venv/.installed

# A checkout that was moved or copied must be installed anew: the environment remembers its folder.
ifneq ("$(shell cat $(STAMP) 2>/dev/null)","$(CURDIR)")
$(shell rm -f $(STAMP))
endif

.PHONY: help setup chapter lab test peers notebooks bench studies gpu lint clean

help:
	@echo "make chapter     run chapter N (now $(N)) at TIER (now $(TIER)); ARGS=\"-p name value\""
	@echo "make lab         open the chapters in JupyterLab"
	@echo "make test        run every test"
	@echo "make peers       run the tests that need Ray or DeepSpeed, in an environment of its own"
	@echo "make notebooks   run the chapters at tier tiny and clean them for a commit"
	@echo "make bench       measure speed, memory and the quality of the embedded models"
	@echo "make studies     experiments of chapters 4 and 5, the models' choices: hours, can be stopped"
	@echo "make gpu         on a GPU: tests that need one, the chapters, Latte and CogVideoX at full size"
	@echo "make lint        check style, floors, notebooks and generated pages"
	@echo "make clean       remove .venv and caches (runs/ stays)"

setup: $(STAMP)

chapter: $(STAMP)
	@$(PY) -m vidgen_lab chapter "$(N)" --tier "$(TIER)" $(ARGS)

lab: $(STAMP)
	@$(PY) -m jupyterlab --notebook-dir=notebooks $(ARGS)

# Several processes, and each has a stretch of the tests, so that what a file's tests share is mostly
# made once. Not one for every core of a large machine: they compute with threads of their own.
test: $(STAMP)
	@$(PY) -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

# It sees the packages of the first environment; what Ray brings along moves no pin of theirs.
SITE := -c "import sysconfig; print(sysconfig.get_path('purelib'))"
# A version that was seen to pass: 2.60 gives the parts of a node half a minute to find one another,
# whatever it is told, and dies on a machine at work.
# DeepSpeed comes as source and looks for the torch that is there: no isolation, no compiler.
peers: $(STAMP)
	@[ -x .venv-peers/bin/python ] || $(PY) -m venv .venv-peers
	@$(PY) $(SITE) > "$$(.venv-peers/bin/python $(SITE))/first.pth"
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check "ray[data]==2.44.1" \
	  setuptools wheel hjson py-cpuinfo einops msgpack
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --no-build-isolation "deepspeed==0.18.9"
	@PYTHONPATH="$(CURDIR)" .venv-peers/bin/python -m pytest tests/pipeline -k ray $(ARGS)
	@PYTHONPATH="$(CURDIR)" DS_ACCELERATOR=cpu .venv-peers/bin/python -m pytest \
	  tests/finetuning/test_scaling.py $(ARGS)

notebooks: $(STAMP)
	@$(PY) -m tools --execute tiny $(ARGS)

# What trains for hours, and goes on where it was stopped.
STUDIES := benchmarks/short_runs.py benchmarks/adapters.py benchmarks/model_choices.py

bench: $(STAMP)
	@for script in $(filter-out $(STUDIES) benchmarks/full_size.py,$(wildcard benchmarks/*.py)); do \
	  echo "== $$script"; $(PY) $$script $(ARGS) || exit 1; done

studies: $(STAMP)
	@for script in $(STUDIES); do echo "== $$script"; $(PY) $$script $(ARGS) || exit 1; done

gpu: $(STAMP)
	@$(PY) -m pytest -m gpu $(ARGS)
	@for n in 1 2 3 4 5; do $(PY) -m vidgen_lab chapter $$n --tier tiny || exit 1; done
	@$(PY) benchmarks/full_size.py
	@for how in "" --compile; do \
	  $(PY) benchmarks/training_step.py --size XL/2 --batch 8 --rounds 3 $$how || exit 1; \
	  $(PY) benchmarks/training_step.py --size S/2 --batch 32 --rounds 3 $$how || exit 1; done

lint: $(STAMP)
	@$(PY) -m ruff check .
	@$(PY) -m ruff check --preview --select PLW1514 .  # every text file names its encoding
	@$(PY) -m ruff format --check .
	@$(PY) -m pytest -q -s tests/test_floors.py
	@$(PY) -m tools

clean:
	@rm -rf .venv .venv-peers .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The pins first, then the package itself without its dependencies: nothing can move a pin.
# Byte code is left to the first import, which needs a fraction of it: half the processor time.
$(STAMP): requirements.txt pyproject.toml
	@start=$$(date +%s); \
	[ -x $(PY) ] && $(PY) -m pip --version >/dev/null 2>&1 || { \
	  for python in "$$PYTHON" python3 python3.13 python3.12 python3.11 python; do \
	    [ -n "$$python" ] || continue; \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	    python=; \
	  done; \
	  [ -n "$$python" ] || { \
	    echo "error: Python 3.11 or newer is needed and none was found." \
	      "Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }; \
	  echo "Making .venv with $$("$$python" --version)"; \
	  "$$python" -m venv --clear .venv || { rm -rf .venv; \
	    echo "error: $$python cannot make a virtual environment." \
	      "On Debian and Ubuntu: apt install python3-venv"; exit 1; }; }; \
	echo "Installing the pinned packages (a few minutes the first time)"; \
	$(PIP) -r requirements.txt && $(PIP) --no-deps --editable . && \
	printf '%s' "$(CURDIR)" >$(STAMP) && \
	echo "Installed in $$(( $$(date +%s) - start )) s"
