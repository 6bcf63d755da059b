#!/usr/bin/env bash
# Manages private PostgreSQL servers, each with its data in .local/state/servers/NAME.
#
#   scripts/server.sh start            creates the server if it does not exist; starts it if it is down
#   scripts/server.sh stop [MODE]      smart, fast (default) or immediate
#   scripts/server.sh restart
#   scripts/server.sh standby PRIMARY  creates and starts a hot standby of another of these servers
#   scripts/server.sh restore BACKUP   creates and starts one from a base backup, which recovers; SERVER_CONF says where its WAL is
#   scripts/server.sh url [DATABASE]   connection string, over TCP
#   scripts/server.sh psql …           a shell
#   scripts/server.sh show             name=value lines: pg_config, directory, socket directory, port, pid, log
#   scripts/server.sh remove           stops it and removes its data
#   scripts/server.sh stop-all
#   scripts/server.sh remove-all
#
# SERVER is its name (default: demo), PG or PG_CONFIG selects its PostgreSQL, SERVER_CONF contains further lines for
# postgresql.conf. With SERVER_IN_MEMORY its data is in /dev/shm, if there is enough space. It listens on 127.0.0.1, with a
# password, and on a socket in its own directory.
. "$(dirname "$0")/lib.sh"

name=${SERVER:-demo}
database=${DB:-demo}
find_state
dir=$STATE/servers/$name
data=$dir/data

pg() { echo "$(dirname "$(cat "$dir/pg_config")")/$1"; }
must_exist() { [ -f "$data/PG_VERSION" ] || die "no server $name: make start"; }
running() {
  [ -f "$data/postmaster.pid" ] || return 1
  # Where nobody reaps orphans, as in many containers, a killed server stays a zombie that looks alive to pg_ctl, and to the next
  # server, which would have to take another port.
  if grep -q '^State:.Z' "/proc/$(head -n 1 "$data/postmaster.pid")/status" 2>/dev/null; then
    rm -f "$data/postmaster.pid" "$(socket)/.s.PGSQL.$(port).lock"
    return 1
  fi
  as_server "$(pg pg_ctl)" status -D "$data" >/dev/null 2>&1
}
port() { cat "$dir/port"; }
socket() { cat "$dir/socket"; }

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Room for what the tests write, and memory besides.
have_memory() {
  [ -d /dev/shm ] && [ -r /proc/meminfo ] &&
    [ "$(df -k --output=avail /dev/shm | tail -n 1)" -gt $((8 << 20)) ] &&
    [ "$(awk '$1 == "MemAvailable:" {print $2}' /proc/meminfo)" -gt $((12 << 20)) ]
}

remove_data() { [ ! -L "$data" ] || rm -rf "$(readlink "$data")"; }

# The directory of one server. A socket's path may have 107 bytes at most.
make_directory() {
  ensure_server_user
  mkdir -p "$STATE/servers"
  remove_data
  rm -rf "$dir"
  mkdir "$dir"
  if [ -n "${1:-}" ]; then echo "$1"; else "$ROOT/scripts/postgres.sh" "$PG" "${PG_VARIANT:-}"; fi >"$dir/pg_config"
  free_port >"$dir/port"
  local socket=$dir
  if [ ${#dir} -gt 80 ]; then
    socket=/tmp/pg_modelstore-$(id -u)-$(printf %s "$dir" | cksum | cut -d ' ' -f 1)
    rm -rf "$socket"
    mkdir "$socket"
  fi
  echo "$socket" >"$dir/socket"
  # A store has a thousand files: ext4 takes most of a second to make them anew after others like them were removed.
  if [ -n "${SERVER_IN_MEMORY:-}" ] && have_memory; then
    local memory
    memory=$(mktemp -d "/dev/shm/pg_modelstore-$name.XXXXXX")
    if is_root; then chown "$SERVER_USER:" "$memory"; fi
    ln -s "$memory" "$data"
  fi
  touch "$dir/password"
  chmod 600 "$dir/password"
  if is_root; then chown -R "$SERVER_USER:" "$dir" "$socket"; fi
  chmod 700 "$dir" "$socket"
  as_server mkdir "$dir/scratch"
}

configure() {
  as_server tee -a "$data/postgresql.conf" >/dev/null <<CONF

# By scripts/server.sh
listen_addresses = '127.0.0.1'
port = $(port)
unix_socket_directories = '$(socket)'
shared_buffers = 256MB
max_wal_size = 4GB
max_connections = 200
log_line_prefix = '%m [%p] %d '
log_timezone = UTC
timezone = UTC
jit = off
${SERVER_CONF:-}
CONF
}

create() {
  say "making the server $name (PostgreSQL $PG)"
  make_directory
  python3 -c 'import secrets; print(secrets.token_hex(16))' >"$dir/password"
  as_server "$(pg initdb)" -D "$data" -U postgres -E UTF8 --locale=C.UTF-8 --auth-local=trust \
    --auth-host=scram-sha-256 --pwfile="$dir/password" >"$dir/initdb.log" 2>&1 </dev/null ||
    { cat "$dir/initdb.log" >&2 && die "initdb failed"; }
  configure
}

launch() {
  as_server "$(pg pg_ctl)" start -w -t 120 -D "$data" -l "$dir/log" </dev/null >/dev/null 2>&1 && return
  tail -n 20 "$dir/log" >&2
  return 1
}

start() {
  if [ ! -f "$data/PG_VERSION" ]; then create; fi
  running && return
  if ! launch; then
    # Another program may have taken the port meanwhile.
    free_port >"$dir/port"
    echo "port = $(port)" | as_server tee -a "$data/postgresql.conf" >/dev/null
    launch || die "the server $name does not start; its log is $dir/log"
  fi
}

stop() {
  running || return 0
  as_server "$(pg pg_ctl)" stop -w -t 120 -m "${1:-fast}" -D "$data" </dev/null >/dev/null
}

standby() {
  local primary=$STATE/servers/$1
  [ -f "$primary/data/PG_VERSION" ] || die "no server $1"
  stop
  make_directory "$(cat "$primary/pg_config")"
  cat "$primary/password" >"$dir/password"
  as_server "$(pg pg_basebackup)" -D "$data" -R -X stream --checkpoint=fast -U postgres \
    -h "$(cat "$primary/socket")" -p "$(cat "$primary/port")" </dev/null >&2
  configure
  launch || die "the standby $name does not start"
}

restore() {
  [ -f "$1/PG_VERSION" ] || die "no base backup in $1"
  stop
  make_directory
  as_server cp -a "$1/." "$data"
  as_server touch "$data/recovery.signal"
  configure
  launch || die "the server $name does not recover"
}

url() {
  must_exist
  echo "postgresql://postgres:$(cat "$dir/password")@127.0.0.1:$(port)/${1:-$database}"
}

show() {
  must_exist
  printf '%s\n' "pg_config=$(cat "$dir/pg_config")" "directory=$dir" "data=$data" "socket=$(socket)" "port=$(port)" \
    "log=$dir/log" "scratch=$dir/scratch" "pid=$(running && head -n 1 "$data/postmaster.pid")"
}

remove() {
  [ -d "$dir" ] || return 0
  stop immediate || true
  remove_data
  rm -rf "$(socket 2>/dev/null || echo "$dir")" "$dir"
}

each() {
  local other
  for other in "$STATE"/servers/*; do
    [ ! -d "$other" ] || SERVER=$(basename "$other") "$0" "$1"
  done
}

command=${1:-}
shift || true
case $command in
  start) start ;;
  stop) stop "$@" ;;
  restart) stop "$@" && start ;;
  standby) standby "${1:?name of the primary}" ;;
  restore) restore "${1:?folder of a base backup}" ;;
  url) url "$@" ;;
  show) show ;;
  remove) remove ;;
  stop-all) each stop ;;
  remove-all) each remove ;;
  psql)
    must_exist
    exec "$(pg psql)" "host=$(socket) port=$(port) user=postgres dbname=$database" "$@"
    ;;
  *) die "what about the server? See the head of scripts/server.sh" ;;
esac
