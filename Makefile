# make demo: what Rowcast does, in a few minutes.  make test: everything the project checks.
# Both create .venv first.  PYTHON chooses the interpreter, PIP_ARGS is passed to pip.

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
STAMP := $(VENV)/.installed

.PHONY: demo test venv clean
.DEFAULT_GOAL := demo

# $(call need,programs): one clear line about all that is missing
need = @missing=""; for tool in $(1); do command -v $$tool >/dev/null 2>&1 || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
	  echo "rowcast: not found:$$missing. Install with your package manager, e.g. apt-get install$$missing" >&2; exit 1; fi

demo: $(STAMP)
	$(call need,g++ perl)
	$(VENV)/bin/python -m sim.demo

test: $(STAMP)
	$(call need,g++ perl iverilog)
	$(VENV)/bin/nox -s lint tests cocotb

venv: $(STAMP)

$(STAMP): pyproject.toml
	$(call need,$(PYTHON) g++ perl)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "rowcast: Python 3.11 or later is needed: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "rowcast: $(PYTHON) has no venv module. Install it, e.g. apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install $(PIP_ARGS) -e '.[all,dev]'
	@touch $@

clean:
	rm -rf $(VENV) .nox .pytest_cache .ruff_cache .hypothesis build prog results
