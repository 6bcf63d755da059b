# Every target runs a script in scripts/, most of them of the same name.
#
#   PG=15           a PostgreSQL version other than 18: 15, 16 or 17
#   PG_CONFIG=path  an installed PostgreSQL instead of a private one; with FEATURES=neon that of Neon

.DEFAULT_GOAL := help
.PHONY: help demo psql url start stop status build install test test-all pytest regress lint bench curves fuzz soak docs clean
SHELL := bash
export PG PG_CONFIG FEATURES MODEL DB

help: ## lists the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

demo: ## installs missing dependencies, builds, starts a private server, imports and queries a model (MODEL=path)
	@scripts/demo.sh

psql: ## opens psql on the private server (DB=name)
	@scripts/server.sh psql

url: ## prints its connection string for any client: make -s url
	@scripts/server.sh url

start: build ## starts the private server
	@scripts/server.sh start

stop: ## stops it and all other servers that the scripts started here
	@scripts/server.sh stop-all

status: ## shows its directory, port, process and log
	@scripts/server.sh show

build: ## builds the extension and installs it into the private PostgreSQL
	@scripts/build.sh >/dev/null

install: ## builds it and installs it into the PostgreSQL of PG_CONFIG (default: the pg_config on the PATH)
	@PG_CONFIG="$${PG_CONFIG:-$$(command -v pg_config)}" && PG_CONFIG="$${PG_CONFIG:?no pg_config on the PATH}" scripts/build.sh

test: ## runs all tests on PostgreSQL 18, and on 15 those that depend on the version; the last line has the count
	@scripts/test.sh

test-all: ## as test, with the version-dependent tests on 16 and 17 and the build for Neon: three quarters of an hour more
	@scripts/test.sh all

pytest: build ## runs some external tests: make pytest ARGS="pgrx-tests/server/test_docs.py -k README"
	@scripts/pytest.sh $(ARGS)

regress: build ## runs the golden SQL tests; ARGS="--accept NAME" writes the expected output
	@scripts/regress.sh $(ARGS)

lint: ## checks formatting, dependencies between folders, and clippy
	@scripts/lint.sh

bench: build ## runs the benchmarks of the crates and of the server
	@scripts/bench.sh

curves: build ## prints how time, memory and WAL grow with sizes; small ones, FULL=1 for large ones; ARGS="tensors slice" selects
	@scripts/bench.sh curves $(if $(FULL),--full) $(ARGS)

fuzz: ## runs every fuzz target, SECONDS=600 each
	@SECONDS_PER_TARGET=$(or $(SECONDS),600) scripts/fuzz.sh

soak: build ## runs the campaigns of pgrx-tests/security and long concurrency tests at full size: an hour and a half
	@scripts/soak.sh $(ARGS)

docs: build ## generates docs/api.md from the comments of the installed extension
	@scripts/docs.sh

clean: ## stops the servers and removes everything that was built or downloaded
	@scripts/clean.sh
