# All that a machine needs is make and Python 3.11 or newer; the rest goes into .venv.
# Another Python: make PYTHON=python3.13 test

PYTHON = python3

unexport PYTHONDONTWRITEBYTECODE  # without bytecode each worker and kernel compiles all anew

PY = .venv/bin/python
PYTEST = $(PY) -m pytest -n auto --dist loadfile --no-loadscope-reorder -p no:nbval -p no:anyio
PIP = $(PY) -m pip install --quiet --quiet --disable-pip-version-check
NOTEBOOK = notebooks/quickstart.ipynb
MODEL = smollm2-135m
QUIET = --log-level=WARN --ExecutePreprocessor.extra_arguments=--IPKernelApp.log_level=40
REPLAY = IPYCHAT_REPLAY=replay IPYCHAT_CASSETTE=__chat__
RECORD = IPYCHAT_REPLAY=refresh IPYCHAT_CASSETTE=__chat__ IPYCHAT_MODEL=local:$(MODEL) IPYCHAT_SERVERS=off
UI = ui/node_modules/.package-lock.json
MCP = tests/mcp_servers/node_modules/.package-lock.json
NPM = PATH="$(CURDIR)/.venv/bin:$$PATH" npm
COVERED = ipychat.wire ipychat.store ipychat.providers.provider ipychat.providers

FLOORS = .venv/floors/bin/python
FLOOR_TESTS = magics display terminal panel contract openai anthropic gemini ollama koala autonomous \
	robocoders http store transcripts conversations markup gateway login hostile running

.DELETE_ON_ERROR:
.PHONY: help quick test slow tests notebooks floors demo docs check fix bench wheel record ui
.PHONY: pages pictures clean

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1|\2/p' Makefile | \
	while IFS='|' read -r target what; do printf '%-12s %s\n' "$$target" "$$what"; done

quick: .venv/.test  ## run the tests that start no program: no kernel, no browser; for every save
	@$(PYTEST) --dist worksteal -m "not (kernel or browser or heavy or slow)"

test: tests pages notebooks  ## run all tests but the slow ones, then the notebooks

slow: .venv/.test $(MCP)  ## run the tests that are long by nature
	@$(PYTEST) --slow -m slow

tests: .venv/.test $(MCP)  # with COVER=1 it fails where the rooms in COVERED are tested too little
	@$(PYTEST) $(if $(COVER),$(COVERED:%=--cov=%) --cov-fail-under=95)

pages: $(UI)
	@cd ui && $(NPM) run --silent test

notebooks: .venv/.test
	@$(REPLAY) $(PYTEST) -p nbval --nbval --nbval-current-env notebooks

floors: .venv/.floors  ## run the tests of cells, protocols, panel and store on the lowest versions
	@$(FLOORS) -m pytest -n 2 -k "not 6.31" $(FLOOR_TESTS:%=tests/test_%.py)

demo: .venv/.demo  ## open the quickstart in JupyterLab; HEADLESS=1 prints its answers instead
ifneq ($(MODEL),none)
	@echo "A small model answers in the notebook; make demo MODEL=none leaves it out."
	@$(PY) -m ipychat.local pull $(MODEL) >/dev/null || \
	echo "The model was left out: where a cell asks one, the built-in helper says what is missing."
endif
ifdef HEADLESS
	@$(PY) -m nbconvert $(QUIET) --execute --to markdown --stdout --no-input $(NOTEBOOK)
else  # in a container the user is root, whom JupyterLab asks to confirm it
	@$(PY) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) \
	--LabApp.default_url=/lab/tree/$(NOTEBOOK)
endif

docs: .venv/.docs  ## build the documentation into build/docs
	@$(PY) docs/reference.py
	@$(PY) -m sphinx --quiet --fail-on-warning --keep-going --fresh-env --write-all \
	-c docs -d build/doctrees . build/docs
	@echo "Read it: build/docs/index.html"

check: .venv/.test $(UI)  ## lint, formatting, types
	@$(PY) -m ruff check --quiet
	@$(PY) -m ruff format --check --quiet
	@$(PY) -m mypy --no-error-summary
	@cd ui && $(NPM) run --silent check

fix: .venv/.test $(UI)  ## let the linters repair what they can
	@$(PY) -m ruff check --quiet --fix --exit-zero
	@$(PY) -m ruff format --quiet
	@cd ui && $(NPM) run --silent fix

bench: .venv/.test  ## measure everything beside its floor; write docs/performance.md
	@$(PY) -m bench

wheel: .venv/.test  ## build sdist and wheel, and try the wheel with each Python there is
	@$(PY) -m tests.wheel

record: .venv/.test  ## run the notebooks anew, and keep their answers and outputs
	@$(PY) -m ipychat.local list | grep "^$(MODEL) *there" >/dev/null || \
	{ echo "This takes the model: $(PY) -m ipychat.local pull $(MODEL)"; exit 1; }
	@rm -f notebooks/__chat__/*.json
	@models=$$($(PY) -m ipychat.local list | sed -n 's/^kept in //p') && \
	home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && mkdir "$$home/models" && \
	cp -p "$$models"/SmolLM2* "$$models/known.json" "$$home/models" && for path in notebooks/*.ipynb; do \
	$(RECORD) IPYCHAT_HOME="$$home" JPY_SESSION_NAME="$$PWD/$$path" $(PY) -m nbconvert $(QUIET) --execute \
	--ExecutePreprocessor.record_timing=False --ExecutePreprocessor.store_widget_state=False \
	--NotebookExporter.preprocessors=nbconvert.preprocessors.CoalesceStreamsPreprocessor \
	--to notebook --inplace "$$path" || exit; done

ui: $(UI)  ## build the panel's page and the JupyterLab extension, after a change in ui/
	@cd ui && $(NPM) run --silent build
	@$(PIP) --no-deps --editable .

pictures: .venv/.test  ## take the README's pictures anew; needs Chromium
	@$(PY) -m tools.pictures

clean:  ## remove .venv and whatever the tools left behind
	@rm -rf .venv ui/node_modules tests/mcp_servers/node_modules ui/coverage .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	@find . -name __pycache__ -prune -exec rm -rf {} +

# -- the environment: a stamp for each set of packages, made anew when pyproject.toml changes

fit = $(shell { $(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11))'; } 2>/dev/null)

.venv/.pip:
	$(if $(filter True,$(fit)),,$(error ipychat needs Python 3.11 or newer, which $(PYTHON) is not; name one that is: make PYTHON=python3.12 $(MAKECMDGOALS)))
	@echo "Setting up .venv, once"
	@$(PYTHON) -m venv .venv
	@$(PIP) --upgrade pip
	@touch $@

# the magics are tested on two generations of the kernel; the older one lies beside the newest,
# and so do packages that are too old
.venv/.test: .venv/.pip pyproject.toml
	@$(PIP) --editable ".[test]"
	@$(PIP) --no-deps --upgrade --target .venv/ipykernel-6.31 "ipykernel==6.31.0"
	@$(PIP) --no-deps --upgrade --target .venv/older/nh3 "nh3==0.2.18"
	@$(PIP) --no-deps --upgrade --target .venv/older/filelock "filelock==3.16.0"
	@touch $@

# Node comes from PyPI with the test tools, what it runs from npm's registry
$(UI): .venv/.test ui/package-lock.json
	@cd ui && $(NPM) ci --silent
	@touch $@

# the MCP servers that tests talk to
$(MCP): .venv/.test tests/mcp_servers/package-lock.json
	@cd tests/mcp_servers && $(NPM) ci --silent
	@touch $@

# the lowest versions that are allowed, each as pyproject.toml names it, and the newest test tools
FLOOR_TOOLS = pytest pytest-asyncio pytest-timeout pytest-xdist hypothesis nbclient nbconvert pandas \
	pexpect psutil pydantic

.venv/.floors: .venv/.pip pyproject.toml
	@$(PYTHON) -m venv --clear .venv/floors
	@$(PIP:$(PY)=$(FLOORS)) --editable . $(FLOOR_TOOLS) \
	$$($(PY) tools/floors.py keyring socks)
	@touch $@

.venv/.demo: .venv/.pip pyproject.toml
	@$(PIP) --editable ".[demo]"
	@touch $@

.venv/.docs: .venv/.pip pyproject.toml
	@$(PIP) --editable ".[docs]"
	@touch $@
