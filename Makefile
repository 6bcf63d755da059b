# Everything here is a script of the same name in scripts/; this file only names them.
#
#   PG=15           another PostgreSQL than 18
#   PG_CONFIG=path  an installed PostgreSQL instead of a private one

.DEFAULT_GOAL := help
.PHONY: help demo psql url start stop status build install test pytest regress lint bench fuzz soak docs clean
SHELL := bash
export PG PG_CONFIG MODEL DB

help: ## this list
	@sed -nE 's/^([a-z]+):.*## (.*)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

demo: ## everything from nothing: install what is missing, build, start a server, store and query a real model (MODEL=path)
	@scripts/demo.sh

psql: ## a shell on that server (DB=name)
	@scripts/server.sh psql

url: ## its connection string for any client: make -s url
	@scripts/server.sh url

start: build ## start that server
	@scripts/server.sh start

stop: ## stop it, and any other the scripts started here
	@scripts/server.sh stop-all

status: ## where it is
	@scripts/server.sh show

build: ## build the extension into the private PostgreSQL
	@scripts/build.sh >/dev/null

install: ## build it into the PostgreSQL of PG_CONFIG (default: the pg_config on the PATH)
	@PG_CONFIG="$${PG_CONFIG:-$$(command -v pg_config)}" && PG_CONFIG="$${PG_CONFIG:?no pg_config on the PATH}" scripts/build.sh

test: ## the whole suite on PostgreSQL 18, on 15 what depends on the version; the last line has the count
	@scripts/test.sh

pytest: build ## some tests against a server: make pytest ARGS="pgrx-tests/server/test_docs.py -k README"
	@scripts/pytest.sh $(ARGS)

regress: build ## golden SQL: make regress, or ARGS="--accept NAME" to write what is expected
	@scripts/regress.sh $(ARGS)

lint: ## formatting and clippy
	@scripts/lint.sh

bench: build ## benchmarks of the crates and of the server
	@scripts/bench.sh

fuzz: ## every fuzz target, SECONDS=600 each
	@SECONDS_PER_TARGET=$(or $(SECONDS),600) scripts/fuzz.sh

soak: build ## the campaigns of pgrx-tests/security at full size, and long turmoils: an hour and a half
	@scripts/soak.sh $(ARGS)

docs: build ## docs/api.md, from the comments of the installed extension
	@scripts/docs.sh

clean: ## stop the servers, remove all that was built and fetched
	@scripts/clean.sh
