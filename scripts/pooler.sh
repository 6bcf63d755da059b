#!/usr/bin/env bash
# Makes sure that PgBouncer is there, for the tests behind a transaction pooler, and prints the path of a command that runs it. It is
# Debian's, unpacked and not installed, like PostgreSQL 15. Start it as the user that runs the servers: it refuses to be root.
. "$(dirname "$0")/lib.sh"

find_state
with_lock
prefix=$STATE/pgbouncer
packages=(pgbouncer libevent-2.1-7 libc-ares2)

fetch() {
  have apt-get || die "PgBouncer comes from Debian's archive"
  say "PgBouncer from Debian's archive"
  mkdir "$1/deb"
  cd "$1/deb"
  # With lists of our own when the system's are missing or out of date.
  apt-get download "${packages[@]}" >log 2>&1 || {
    mkdir -p "$LOCAL/apt/lists/partial" "$LOCAL/apt/cache/archives/partial"
    local own=(-o "Dir::State::lists=$LOCAL/apt/lists" -o "Dir::Cache=$LOCAL/apt/cache" -o APT::Sandbox::User=root)
    { apt-get "${own[@]}" update && apt-get "${own[@]}" download "${packages[@]}"; } >>log 2>&1 ||
      { cat log >&2 && die "no PgBouncer in this system's package archives"; }
  }
  cd "$1"
  local deb
  for deb in deb/*.deb; do dpkg -x "$deb" .; done
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
