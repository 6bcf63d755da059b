#!/usr/bin/env bash
# Runs the whole demo: installs missing dependencies, builds, starts a private server, imports a model, runs queries on it,
# exports it and compares the bytes.
#
#   scripts/demo.sh         with all-MiniLM-L6-v2
#   MODEL=path scripts/demo.sh
#
# Every run recreates the database `demo`. SKIP_BUILD=yes uses the extension as it is installed.
. "$(dirname "$0")/lib.sh"

began=$(date +%s)
work=$LOCAL/demo
mkdir -p "$work"
log=$work/build.log

server() { "$ROOT/scripts/server.sh" "$@"; }
sql() { server psql -X -q -v ON_ERROR_STOP=1 "$@" </dev/null; }

introduce() {
  local who
  if is_root; then
    who="as root, also missing Debian packages (gcc, make, …) and the user $SERVER_USER, which runs the server"
  else
    who='nothing outside this folder; missing Debian packages are named, for root to install'
  fi
  cat <<END
pg_modelstore: a model goes into PostgreSQL, is queried there, and comes back byte for byte.

  installs   into .local of this folder: PostgreSQL $PG, Python packages, cargo-pgrx, a model of 91 MB; crates into Cargo's cache
             $who
  takes      $1
  undo       make stop stops the server; make clean removes .local and target
END
}

# with_progress TITLE COMMAND…: runs it with its output in the log, and shows on one line what the log says meanwhile.
with_progress() {
  local title=$1 from=$SECONDS watcher= code=0
  shift
  : >"$log"
  if [ -t 1 ]; then
    watch_log "$title" "$from" &
    watcher=$!
    # shellcheck disable=SC2064 # this watcher
    trap "kill $watcher 2>/dev/null || true" EXIT
  else
    printf '  %s … ' "$title"
  fi
  "$@" >>"$log" 2>&1 </dev/null || code=$?
  if [ -n "$watcher" ]; then
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    trap - EXIT
    printf '\r\033[K  %s … ' "$title"
  fi
  if [ "$code" = 0 ]; then
    printf '%d s\n' $((SECONDS - from))
    return
  fi
  printf 'failed\n'
  printf 'The log is %s. Its last lines:\n\n' "$log" >&2
  tail -n 20 "$log" >&2
  die "$title: failed"
}

watch_log() {
  local now
  while sleep 0.5; do
    # The newest line that says what is done: those of cargo begin with a verb, those of the scripts with an arrow.
    now=$(sed -nE 's/\x1b\[[0-9;]*m//g; s/^ *(Compiling|Downloading|Finished|Installing|Building) (.*)/\1 \2/p; s/^==> //p' "$log" | tail -n 1)
    printf '\r\033[K  %s … %d s  %.60s' "$1" $((SECONDS - $2)) "$now"
  done
}

# A condition, where a failure does not end the script by itself.
build() {
  [ -n "${SKIP_BUILD:-}" ] || "$ROOT/scripts/build.sh" >/dev/null || return 1
  server start
}
fetch_model() { "$ROOT/scripts/model.sh"; }
fresh_database() {
  DB=postgres sql -c 'SET client_min_messages = error' -c 'DROP DATABASE IF EXISTS demo WITH (FORCE)' \
    -c 'CREATE DATABASE demo'
}

# What is wrong with MODEL is said now, not after some minutes.
name=minilm
if [ -n "${MODEL:-}" ]; then
  model=$(readlink -f "$MODEL") && [ -f "$model" ] || die "MODEL=$MODEL is not a file"
  # Names of models do not contain these three.
  name=$(basename "$(dirname "$model")" | tr ':@#' '_')
fi

if [ -n "$(find "$LOCAL/installed" -type f -print -quit 2>/dev/null)" ]; then
  introduce 'about half a minute, and minutes more if the sources have changed'
else
  introduce 'ten to twenty minutes and 2.5 GB of disk, most of it for the first build; about half a minute from then on'
fi
echo
with_progress 'tools, build, server' build
if [ -z "${MODEL:-}" ]; then
  with_progress 'model' fetch_model
  model=$("$ROOT/scripts/model.sh")
fi
with_progress 'fresh database' fresh_database

beside() { if [ -f "$(dirname "$model")/$1" ]; then echo "$(dirname "$model")/$1"; fi; }
vocabulary=
if [ -z "${MODEL:-}" ]; then vocabulary=$(beside vocab.txt); fi
sql -v "model=$model" -v "label=$(basename "$model")" -v "config=$(beside config.json)" -v "vocabulary=$vocabulary" \
  -v "name=$name" -v "plot=$work/loss.svg" -f "$ROOT/scripts/demo.sql"

cat <<END

== Export: a client reads the file with COPY, in parts of a mebibyte

COPY (SELECT modelstore.export_safetensors('$name:1')) TO STDOUT (FORMAT binary)
END
weight=$(sql -At -c "SELECT weight_name FROM store.v_weight_statistics WHERE cardinality(shape) = 2 ORDER BY element_count DESC, 1 LIMIT 1")
copy="$work/export.safetensors"
from=$(date +%s%N)
"$VENV/bin/python" "$ROOT/scripts/export_model.py" "$(server url)" "$name:1" "$copy"
milliseconds=$((($(date +%s%N) - from) / 1000000))
cmp "$model" "$copy" || die "the exported file differs from $model"
printf '%d bytes in %d.%02d s, with the start of Python; cmp finds no difference to the file.\n' \
  "$(stat -c %s "$copy")" $((milliseconds / 1000)) $((milliseconds % 1000 / 10))
rm "$copy"

cat <<END

The demo took $(($(date +%s) - began)) s. Its server goes on running. Next:

  make psql        opens a shell, for example for: SELECT * FROM modelstore.list_models();
  make -s url      prints the address for any client
  make stop        stops the server

  from Python:

.local/venv/bin/python -c '
import psycopg, sys
with psycopg.connect(sys.argv[1]) as db:
    print(db.execute("SELECT modelstore.get_tensor_slice(%s, %s, %s)", ("$name", "$weight", "0, :3")).fetchone())
' "\$(make -s url)"

  README.md explains the terms; docs/models.md is the walk-through of models.
END
