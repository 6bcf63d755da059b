#!/usr/bin/env bash
# Runs the benchmarks of the crates without a server (criterion), then those of the server (bench/run.py, on its own server).
#
#   scripts/bench.sh [crates|server] [ARGUMENT…]
. "$(dirname "$0")/lib.sh"

cd "$ROOT"
what=${1:-all}
shift || true
if [ "$what" != server ]; then cargo bench --workspace --exclude pg_modelstore "$@"; fi
if [ "$what" != crates ] && [ -f bench/run.py ]; then
  # What any guide to tuning sets first: a sixth of this machine's memory, and no checkpoint in the middle of a round.
  export SERVER=bench SERVER_CONF=$'shared_buffers = 4GB\nmax_wal_size = 16GB\ncheckpoint_timeout = 1h'
  scripts/server.sh start
  bindir=$(dirname "$(scripts/server.sh show | sed -n 's/^pg_config=//p')")
  "$VENV/bin/python" bench/run.py --url "$(scripts/server.sh url postgres)" --bindir "$bindir" "$@"
  scripts/server.sh stop
fi
