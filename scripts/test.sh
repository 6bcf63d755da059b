#!/usr/bin/env bash
# Runs the whole suite on PostgreSQL 18, and on 15 the tests that depend on the version (with PG or PG_CONFIG: the whole suite on
# that version only). Every part runs, even if earlier ones failed; the last line summarises them, and the exit code is 0 only if
# all passed.
requested=${PG:-}${PG_CONFIG:-}
. "$(dirname "$0")/lib.sh"

all=${1:-} # with 16, 17 and the build for Neon
[ -z "$all" ] || [ "$all" = all ] || die "unknown argument $all: expected all"
[ -z "$all" ] || [ -z "$requested" ] || die "all tests all versions: unset PG and PG_CONFIG"

cd "$ROOT"
passed=0 failed=0 skipped=0
report=() # what failed
results=$LOCAL/results
rm -rf "$results"
mkdir -p "$results"
began=$SECONDS
export PROFILE=${PROFILE:-ci}

count() { # PASSED FAILED SKIPPED TITLE
  passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
  [ "$2" = 0 ] || report+=("$4: $2 failed")
  say "$4: $1 passed, $2 failed, $3 skipped ($((SECONDS - began)) s since the start)"
}

# A step that counts as one test.
check() {
  local title=$1
  shift
  say "$title"
  if "$@" >&2; then count 1 0 0 "$title"; else count 0 1 0 "$title" && return 1; fi
}

# cargo's own tests; a crate that does not compile counts as one failure.
cargo_tests() {
  local log=$results/cargo.log code=0 sums
  say "crates"
  cargo_as_pgrx test --profile "$PROFILE" --workspace --exclude pg_modelstore --no-fail-fast 2>&1 | tee "$log" >&2 || code=1
  sums=$(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored.*/\1 \2 \3/p' "$log" |
    awk '{p += $1; f += $2; s += $3} END {print p + 0, f + 0, s + 0}')
  # shellcheck disable=SC2086 # three numbers
  set -- $sums
  [ "$code" = 0 ] || [ "$2" -gt 0 ] || set -- "$1" 1 "$3"
  count "$1" "$2" "$3" crates
}

# pytest; its results come as JUnit's XML. A run that ends without one counts as one failure.
python_tests() {
  local title=$1 xml=$results/$2.xml code=0 sums
  shift 2
  say "$title"
  timeout 2400 scripts/pytest.sh -q --junitxml "$xml" "$@" >&2 || code=$?
  sums=$("$VENV/bin/python" - "$xml" <<'PYTHON' || echo 0 1 0
import sys, xml.etree.ElementTree as tree
outcome = {}  # a test whose clean-up fails stands in the file twice
for case in tree.parse(sys.argv[1]).getroot().iter("testcase"):
    name = case.get("classname"), case.get("name")
    kind = next((t for t in ("error", "failure", "skipped") if case.find(t) is not None), "passed")
    outcome.setdefault(name, set()).add(kind)
failed = sum(bool(kinds & {"error", "failure"}) for kinds in outcome.values())
skipped = sum(kinds == {"skipped"} for kinds in outcome.values())
print(len(outcome) - failed - skipped, failed, skipped)
PYTHON
  )
  # shellcheck disable=SC2086 # three numbers
  set -- $sums
  [ "$code" = 0 ] || [ "$2" -gt 0 ] || set -- "$1" 1 "$3"
  count "$1" "$2" "$3" "$title"
}

# Tests from outside, in two workers that have a server each. Those that measure time or memory come after them, alone.
outside() { # TITLE NAME MARKED
  local marked=${3:+ and $3}
  python_tests "$1" "$2" -n 2 --dist worksteal -m "not alone and not builds$marked" pgrx-tests
  python_tests "$1, alone" "$2-alone" -m "alone$marked" pgrx-tests
}

# Everything on one version.
on_postgres() {
  export PG=$1
  if check "build for PostgreSQL $PG" scripts/build.sh; then outside "from outside, PostgreSQL $PG" "outside-$PG" ""; fi
  in_the_server
  # A PostgreSQL of the user's has no copy for the tests: give it the real build back.
  [ -z "$PG_CONFIG" ] || scripts/build.sh >/dev/null
}

in_the_server() {
  if check "build with in-server tests for PostgreSQL $PG" scripts/build.sh pg_test; then
    PG_VARIANT=pg_test python_tests "in the server, PostgreSQL $PG" "inside-$PG" pgrx-tests/server/test_in_server.py
  fi
}

# On another version, what depends on it; one build serves both kinds of tests.
also_on_postgres() {
  export PG=$1
  in_the_server
  PG_VARIANT=pg_test outside "from outside, PostgreSQL $PG" "outside-$PG" versioned
}

scripts/toolchain.sh
check formatting scripts/lint.sh fmt || true
check "arrows between folders" scripts/lint.sh arrows || true
check clippy scripts/lint.sh clippy || true
cargo_tests
scripts/model.sh >/dev/null
if [ -n "$requested" ]; then
  on_postgres "$PG"
else
  on_postgres 18
  also_on_postgres 15
  if [ -n "$all" ]; then
    also_on_postgres 16
    also_on_postgres 17
    # PG is still 17, so that clippy's build for 18 is left as it is.
    python_tests "build for Neon" neon -m builds pgrx-tests
  fi
fi

for line in "${report[@]}"; do printf '%s\n' "$line" >&2; done
if [ "$skipped" = 0 ]; then echo "$passed passed, $failed failed"; else echo "$passed passed, $failed failed, $skipped skipped"; fi
[ "$failed" = 0 ]
