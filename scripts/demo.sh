#!/usr/bin/env bash
# Runs the whole demo: installs missing dependencies, builds, starts a private server, imports a model, runs queries on it,
# exports it and compares the bytes. Prints the time of each step.
#
#   scripts/demo.sh         with all-MiniLM-L6-v2
#   MODEL=path scripts/demo.sh
#
# Every run recreates the database `demo`.
. "$(dirname "$0")/lib.sh"

began=$(date +%s.%N)
took() { python3 -c 'import sys, time; print(f"{time.time() - float(sys.argv[1]):.2f} s")' "$1"; }
step() {
  local title=$1 from
  shift
  from=$(date +%s.%N)
  "$@" || die "$title: failed"
  printf '    %s: %s\n' "$title" "$(took "$from")"
}
server() { "$ROOT/scripts/server.sh" "$@"; }
sql() { server psql -X -q -v ON_ERROR_STOP=1 "$@" </dev/null; }

build() { "$ROOT/scripts/build.sh" >/dev/null; }
step 'build' build
model=${MODEL:-$("$ROOT/scripts/model.sh")}
[ -f "$model" ] || die "MODEL=$model is not a file"
model=$(readlink -f "$model")
config=$(dirname "$model")/config.json
name=$(basename "$(dirname "$model")")
step 'server' server start

work=$LOCAL/demo
mkdir -p "$work"
fresh_database() {
  DB=postgres sql -c 'SET client_min_messages = error' -c 'DROP DATABASE IF EXISTS demo WITH (FORCE)' \
    -c 'CREATE DATABASE demo'
}
step 'fresh database' fresh_database

if [ -f "$config" ]; then config=$(cat "$config"); else config=null; fi
sql -v "model=$model" -v "name=$name" -v "config=$config" -f "$ROOT/scripts/demo.sql"

export_file() {
  "$VENV/bin/python" "$ROOT/scripts/export_model.py" "$(server url)" "$name" "$work/export.safetensors"
}
step 'export' export_file
step 'cmp: the export is the file, byte for byte' cmp "$model" "$work/export.safetensors"
rm "$work/export.safetensors"

cat <<END

The whole demo took $(took "$began"). "make psql" opens a shell on its server, "make -s url" prints its address for
any client, "make stop" stops it.
END
