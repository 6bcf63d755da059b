#!/usr/bin/env bash
# Runs the campaigns at full size, which takes an hour and a half; prints one line for each and a summary. Build first (make soak
# does).
#
#   scripts/soak.sh                    all of them
#   scripts/soak.sh hostile sql …      some: hostile, sql, tamper, turmoil, kill, atoms, memory
#   FUZZ_SECONDS=600 CAMPAIGN_SEED=7 scripts/soak.sh hostile
#
# Without CAMPAIGN_SEED each run chooses a seed and prints it. Logs are in .local/soak.
. "$(dirname "$0")/lib.sh"

cd "$ROOT"
export CAMPAIGN_SEED=${CAMPAIGN_SEED:-$(date +%s)} # the campaigns say it too
export FUZZ_SECONDS=${FUZZ_SECONDS:-3600} FUZZ_FINDINGS=${FUZZ_FINDINGS:-50}
export SQL_CALLS=${SQL_CALLS:-25000} TAMPER_CALLS=${TAMPER_CALLS:-40000} TURMOIL_OPERATIONS=${TURMOIL_OPERATIONS:-10000}
export PUSH_ROUNDS=${PUSH_ROUNDS:-10}
rounds=${KILL_ROUNDS:-5}
logs=$LOCAL/soak
mkdir -p "$logs"
failed=() began=$SECONDS
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=(sql tamper turmoil kill atoms memory hostile)

# campaign NAME TIMES WHAT…: runs tests some times over, each time with another seed.
campaign() {
  local name=$1 times=$2 log=$logs/$1.log start=$SECONDS code=0 i
  shift 2
  : >"$log"
  for ((i = 0; i < times; i++)); do
    CAMPAIGN_SEED=$((CAMPAIGN_SEED + i)) scripts/pytest.sh "$@" -s >>"$log" 2>&1 || code=$?
  done
  grep -oE '(seed [0-9]+: .* calls |outcomes: |killed \{|read committed: |repeatable read: |serializable: ).*' "$log" | cut -c 1-300 >&2 || true
  if [ "$code" = 0 ]; then
    say "$name: passed ($((SECONDS - start)) s)"
  else
    failed+=("$name")
    grep -E '^(--- |FAILED |ERROR |E   )' "$log" | cut -c 1-200 | head -n 40 >&2
    say "$name: FAILED ($((SECONDS - start)) s), see $log"
  fi
}

say "seed $CAMPAIGN_SEED"
for name in "${wanted[@]}"; do
  case $name in
    hostile) campaign hostile 1 pgrx-tests/security/test_hostile_store.py ;;
    sql) campaign sql 1 pgrx-tests/security/test_sql_fuzz.py ;;
    tamper) campaign tamper 1 pgrx-tests/security/test_tampered_chunks.py ;;
    turmoil) campaign turmoil 1 pgrx-tests/security/test_turmoil.py ;;
    kill) campaign kill "$rounds" pgrx-tests -m crash ;;
    atoms) campaign atoms "$rounds" pgrx-tests/atoms/test_atoms_concurrency.py pgrx-tests/server/test_concurrency.py pgrx-tests/atoms/test_atoms_failures.py ;;
    memory) campaign memory 1 pgrx-tests/server/test_memory.py ;;
    *) die "no campaign $name; see the head of scripts/soak.sh" ;;
  esac
done

printf '%s campaigns, %s failed%s, %s s\n' "${#wanted[@]}" "${#failed[@]}" "${failed[*]:+: ${failed[*]}}" "$((SECONDS - began))"
[ ${#failed[@]} = 0 ]
