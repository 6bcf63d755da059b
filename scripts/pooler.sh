#!/usr/bin/env bash
# Downloads PgBouncer, for the tests behind a transaction pooler, if it is missing, and prints the path of a command that runs it.
# It is Debian's package, unpacked and not installed, like PostgreSQL 15. Start it as the user that runs the servers: it refuses
# to run as root.
. "$(dirname "$0")/lib.sh"

find_state
with_lock
prefix=$STATE/pgbouncer

fetch() {
  unpack_debian "$1" pgbouncer libevent-2.1-7 libc-ares2
  cd "$1"
  rm -r deb
  cat >run <<'RUN'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$(echo "$here"/usr/lib/*-linux-gnu) exec "$here/usr/sbin/pgbouncer" "$@"
RUN
  chmod -R a+rX "$1"
  chmod a+x run
  as_server "$1/run" --version >&2 || die "PgBouncer does not run here"
}

if [ ! -d "$prefix" ]; then
  rm -rf "$prefix.new"
  mkdir -p "$prefix.new"
  (fetch "$prefix.new")
  mv "$prefix.new" "$prefix"
fi
echo "$prefix/run"
