# Thin targets; the README gives the plain commands behind each.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test lab docs look bench export clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "scoreae needs Python 3.11 to 3.13; set PYTHON=python3.12, say")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## train SAMI and DBAE on digits in minutes; writes runs/demo/report.html
	$(BIN)/scoreae demo

test: $(READY)  ## check notebooks, package and pages
	$(BIN)/python -m pytest

lab: $(READY)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab nbs

docs: $(READY)  ## build the site into _docs (needs Quarto 1.10.18)
	@command -v quarto >/dev/null || { echo "make docs needs Quarto 1.10.18: https://github.com/quarto-dev/quarto-cli/releases/tag/v1.10.18"; exit 1; }
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH="$(CURDIR)/docs" nbdev-docs
	$(BIN)/python docs/rendered.py _docs --offer

look: $(READY)  ## draw the site without Quarto into _look, and measure it (needs Chromium)
	$(BIN)/python docs/look.py --measure

bench: $(READY)  ## time training steps; writes bench/speed/steps.json
	$(BIN)/python -m bench.speed.steps

export: $(READY)  ## notebooks to package, cleaned; README and results from their sources
	PATH="$(CURDIR)/$(BIN):$$PATH" nbdev-export
	PATH="$(CURDIR)/$(BIN):$$PATH" nbdev-clean
	$(BIN)/python docs/written.py
	$(BIN)/python docs/twins.py

clean:  ## remove what can be made again, but not .venv and runs
	rm -rf _proc _docs _look build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
