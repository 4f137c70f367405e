# What contributors run; `make` alone lists it. Everything works in the environment .venv, which `make .venv` makes.
BIN = .venv/bin
PYTEST = $(BIN)/pytest -q --dist loadfile
# Processes for the quick tests: one more than a small machine has processors, because some of them wait.
JOBS ?= 3
BENCH ?= --servers sync,sync-pure,gthread,gevent --scenarios hello,close,conns500,post64k,chunked1000,flask --rounds 3

.PHONY: .venv help quick check live test bench coverage house docs build changes release dist

help:  ## this list
	@sed -n 's/^\([a-z.]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

.venv: $(BIN)/towncrier  ## the environment, with everything that tests and documentation need

# The folder alone says too little: the first line of README.rst makes one without the tests' packages.
$(BIN)/towncrier:
	python3 -m venv .venv && $(BIN)/pip install -e '.[test]'

# Readers need a third of the packages that tests do.
$(BIN)/sphinx-build:
	python3 -m venv .venv && $(BIN)/pip install -e '.[docs]'

build: .venv  ## compile the .pyx files in place, after a change of one
	$(BIN)/python setup.py -q build_ext --inplace

quick: .venv  ## the tests that start no server, without the long generated ones: half a minute, the loop while you write code
	$(PYTEST) -n $(JOBS) --ignore tests/live -m 'not live and not exhaustive'

check: .venv  ## what has to pass before a commit: linters, types, spelling, fragments, quick tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/towncrier build --draft >/dev/null
	$(MAKE) quick

live: .venv  ## the tests that start real servers
	$(PYTEST) -n 3 -m live

test: .venv  ## all tests, with the options that README.rst gives
	$(PYTEST) -n 4

coverage: .venv  ## branch coverage in all processes, compiled and in plain Python, and its gates (a quarter of an hour)
	./tests/coverage.sh

bench: .venv  ## processor time for each request, into build/benchmark/; with BENCH= all servers and scenarios (forty minutes)
	$(BIN)/python benchmarks/run.py --out build/benchmark $(BENCH)

house: .venv  ## how large folders, files, classes and functions are, to be read as symptoms
	$(BIN)/python tests/house.py

docs: $(BIN)/sphinx-build  ## the documentation, as docs/_build/html/index.html
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html

changes: .venv  ## what CHANGES.rst would say of the fragments in changes/, whose names it checks
	$(BIN)/towncrier build --draft

release: .venv  ## with VERSION=1.2.3: version, CHANGES.rst and tag of a release, in a commit that nobody sees until you push it
	BIN=$(BIN) .ci/release $(VERSION)

dist:  ## the files of a release in dist/: sdist, wheels, bill of materials and checksums; the same bytes each time
	.ci/dist
