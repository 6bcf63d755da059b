#!/usr/bin/env bash
# Runs the external tests with pytest; the harness starts its own server. Build first (make pytest does).
#
#   scripts/pytest.sh pgrx-tests/server/test_docs.py -k README
#   PG=15 scripts/pytest.sh pgrx-tests -m 'not slow'
#   PG_VARIANT=pg_test scripts/pytest.sh pgrx-tests/server/test_in_server.py
. "$(dirname "$0")/lib.sh"

cd "$ROOT"
exec "$VENV/bin/python" -B -m pytest -c pgrx-tests/pytest.ini --rootdir "$ROOT" "$@" </dev/null
