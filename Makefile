# Two commands: `make demo` and `make test`. Both install into .venv first, once.
# `make test-fast` takes two minutes: no servers, programs or training; `make test-long` is what
# `make test` leaves out.
PYTHON ?= python3
VENV ?= .venv
# The theme announces its successor at every build, which the variable silences.
SITE = NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# Two files at a time, with one thread each: more threads than cores wait for one another.
PYTEST = OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-fast test-long bench bench-gpu check docs docs-check detectron2 clean
demo: $(VENV)/installed
	$(VENV)/bin/vea demo

test: check docs-check detectron2
	$(PYTEST) -m "not long"

# Without schemathesis, which tests in tests/integration need and each process imports for a second.
test-fast: detectron2
	$(PYTEST) -p no:schemathesis -m "not integration and not long" --ignore=tests/integration

test-long: detectron2
	$(PYTEST) -m long

# What a photo costs, in about half an hour; options in BENCH, such as BENCH="--only stages".
bench: $(VENV)/installed
	$(VENV)/bin/python -m tests.bench $(BENCH)

# Photos a second on a GPU, and how busy it is; it says so where there is none.
bench-gpu: $(VENV)/installed
	$(VENV)/bin/python -m tests.bench.gpu $(BENCH)

# Style and types alone.
check: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy docs/research/*/*.py
	$(VENV)/bin/mypy -p tests.bench -p tests.trials --follow-imports=silent
	$(VENV)/bin/lint-imports

# The documentation as a site in site/; its generated pages are written anew.
docs: $(VENV)/installed
	$(VENV)/bin/python -m docs.generate
	$(SITE)

# Whether the generated pages are current, and every link leads somewhere.
docs-check: $(VENV)/installed
	$(VENV)/bin/python -m docs.generate --check
	folder=$$(mktemp -d) && $(SITE) --quiet --site-dir $$folder && rm -rf $$folder

# What the Visual Genome objects need; the demo does not.
detectron2: $(VENV)/detectron2
$(VENV)/detectron2: $(VENV)/installed vea/commands/detectron2.py
	PIP_CONSTRAINT=constraints.txt $(VENV)/bin/vea install-detectron2
	touch $@

$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
	  { echo "Python 3.11 or 3.12 is needed: make PYTHON=python3.11 demo" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt -e '.[all,test,docs]'
	touch $@

clean:
	rm -rf $(VENV) demo-output
