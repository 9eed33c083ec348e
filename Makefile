# Two commands: `make demo` and `make test`. Both install into .venv first, once.
PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test check clean
demo: $(VENV)/installed
	$(VENV)/bin/vea demo

test: check
	$(VENV)/bin/python -m pytest

# Style and types alone.
check: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
	  { echo "Python 3.11 or 3.12 is needed: make PYTHON=python3.11 demo" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[all,test]'
	touch $@

clean:
	rm -rf $(VENV) demo-output
