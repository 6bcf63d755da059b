#!/usr/bin/env bash
# Runs the benchmarks of the crates without a server (criterion), then those of the server (bench/run.py, on its own server).
#
#   scripts/bench.sh [crates|server] [ARGUMENT…]
#   scripts/bench.sh large --gb 3 --dtype f32 --shards 4     a large model from a client and back, with the memory it takes
#   scripts/bench.sh operations                              the figures of docs/operations.md: dumps, locks
#   scripts/bench.sh backup --gb 6                           how long backups and restores of a large store take
#   scripts/bench.sh curves [--full] [NAME…]                 how costs grow with sizes; --list names the curves
. "$(dirname "$0")/lib.sh"

cd "$ROOT"
what=${1:-all}
shift || true
case $what in
  backup | curves | large | operations)
    # With the settings of scripts/server.sh, not tuned ones; its data is deleted.
    export SERVER=bench-$what
    # Without statistics of tables, whose moment would be a matter of chance.
    [ "$what" != curves ] || export SERVER_CONF='autovacuum = off'
    # What is archived is chosen later, without a restart.
    [ "$what" != backup ] || export SERVER_CONF=$'archive_mode = on\narchive_command = \'/bin/true\''
    scripts/server.sh start
    trap 'scripts/server.sh remove' EXIT
    bindir=$(dirname "$(scripts/server.sh show | sed -n 's/^pg_config=//p')")
    scratch=()
    [ "$what" = large ] || [ "$what" = operations ] || scratch=(--scratch "$(scripts/server.sh show | sed -n 's/^scratch=//p')")
    PYTHONPATH=clients/python/src "$VENV/bin/python" "bench/$what.py" --url "$(scripts/server.sh url postgres)" --bindir "$bindir" "${scratch[@]}" "$@"
    exit
    ;;
esac
if [ "$what" != server ]; then cargo bench --workspace --exclude pg_modelstore "$@"; fi
if [ "$what" != crates ] && [ -f bench/run.py ]; then
  # What any guide to tuning sets first: a sixth of this machine's memory, and no checkpoint in the middle of a round.
  export SERVER=bench SERVER_CONF=$'shared_buffers = 4GB\nmax_wal_size = 16GB\ncheckpoint_timeout = 1h'
  scripts/server.sh start
  bindir=$(dirname "$(scripts/server.sh show | sed -n 's/^pg_config=//p')")
  "$VENV/bin/python" bench/run.py --url "$(scripts/server.sh url postgres)" --bindir "$bindir" "$@"
  scripts/server.sh stop
fi
