#!/usr/bin/env bash
# Runs the golden SQL tests tests/pg_regress/sql/*.sql and compares the output with tests/pg_regress/expected/*.out.
#
#   scripts/regress.sh                  all
#   scripts/regress.sh NAME…            some
#   scripts/regress.sh --accept NAME…   writes the expected output; read it before you commit it
. "$(dirname "$0")/lib.sh"

accept=
if [ "${1:-}" = --accept ]; then
  accept=--accept
  shift
  [ $# -gt 0 ] || die "which file?"
fi
selected=()
for name in "$@"; do selected+=("pgrx-tests/server/test_regress.py::test_golden_sql[$name]"); done
[ $# -gt 0 ] || selected=(pgrx-tests/server/test_regress.py)
exec "$ROOT/scripts/pytest.sh" -q ${accept:+"$accept"} "${selected[@]}"
