# shellcheck shell=bash
# Sourced by the other scripts: where things live, who may run a server, and how a script speaks.
#
#   .local/         what the scripts fetch and make; git ignores it, `make clean` removes it
#   .local/state/   PostgreSQL installations and server data. A link into /var/tmp when the user that runs the server
#                   cannot reach the project's folder

set -euo pipefail
umask 022

# RUSTFLAGS would replace a linker flag without which cargo-pgrx finds no schema in the library. The libpq variables
# would lead clients to another server.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
unset PGHOST PGHOSTADDR PGPORT PGUSER PGDATABASE PGPASSWORD PGPASSFILE PGSERVICE PGSERVICEFILE PGOPTIONS PGSSLMODE \
  PGDATA PGTZ PGDATESTYLE PGCLIENTENCODING PGAPPNAME

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
LOCAL=$ROOT/.local
VENV=$LOCAL/venv
SERVER_USER=${MODELSTORE_USER:-modelstore}
export PATH="$LOCAL/tools/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf '==> %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

# need COMMAND PACKAGE…: root installs what is missing, anyone else is told how.
need() {
  local command=$1
  shift
  have "$command" || apt_install "$@"
  have "$command" || die "$command is still missing after installing $*"
}

apt_install() {
  if ! is_root || ! have apt-get; then die "missing: $*. Run as root: apt-get install $*"; fi
  say "apt-get install $*"
  if ! apt-cache show "$@" >/dev/null 2>&1; then apt-get update -qq >&2; fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 </dev/null ||
    { apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "$@" >&2 </dev/null; }
}

# unpack_debian FOLDER PACKAGE…: packages of Debian's archive, unpacked and not installed; the packages stay in FOLDER/deb.
# DEBIAN=12 is the release that surely has them. What the system's archives lack comes from there with DEBIAN_SUITE=name.
unpack_debian() (
  have apt-get || die "$2 comes from Debian's archive: apt-get is missing"
  say "$2 from Debian's archive"
  mkdir "$1/deb"
  cd "$1/deb"
  # With lists of our own when the system's are missing or out of date.
  apt-get download "${@:2}" >log 2>&1 || {
    apt=$LOCAL/apt${DEBIAN_SUITE:+-$DEBIAN_SUITE}
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    own=(-o "Dir::State::lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
    if [ -n "${DEBIAN_SUITE:-}" ]; then
      debian_source "$DEBIAN_SUITE" >"$apt/sources.list"
      own+=(-o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=-)
    fi
    { apt-get "${own[@]}" update && apt-get "${own[@]}" download "${@:2}"; } >>log 2>&1 ||
      { cat log >&2 && die "no $2 in this system's package archives; it is in Debian ${DEBIAN:-12}'s"; }
  }
  cd "$1"
  for deb in deb/*.deb; do dpkg -x "$deb" .; done
)

# debian_source SUITE: a line for sources.list, of another release in the archive that this system's own comes from.
debian_source() {
  local archive
  archive=$(apt-get indextargets --no-release-info --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
    awk -v "suite=$(sed -nE 's/^VERSION_CODENAME=//p' /etc/os-release)" '$1 == suite {uri = $2} END {print uri}')
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $1 main"
}

# cargo with the linker flag of cargo-pgrx: with other flags, every dependency would be compiled once more for the extension.
cargo_as_pgrx() {
  cargo --config 'target.'"'"'cfg(all(target_family = "unix", not(target_os = "macos")))'"'"'.rustflags = ["-C", "link-arg=-Wl,--no-gc-sections"]' "$@"
}

# PostgreSQL refuses to run as root: root lends itself an unprivileged user.
ensure_server_user() {
  is_root || return 0
  id -u "$SERVER_USER" >/dev/null 2>&1 && return 0
  need useradd passwd
  say "adding the system user $SERVER_USER, which runs the server"
  useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$SERVER_USER"
}

# as_server COMMAND…: runs it as the user that owns the server, in a directory that user can read.
as_server() (
  cd /
  if is_root; then
    HOME=/ exec setpriv --reuid "$SERVER_USER" --regid "$SERVER_USER" --init-groups --inh-caps=-all -- "$@"
  fi
  exec "$@"
)

# Sets STATE. Its parents are readable by the user that runs the server.
find_state() {
  mkdir -p "$LOCAL"
  if [ ! -d "$LOCAL/state" ]; then
    rm -f "$LOCAL/state"
    ensure_server_user
    if as_server test -x "$LOCAL"; then
      mkdir -p "$LOCAL/state"
    else
      local elsewhere
      elsewhere=/var/tmp/pg_modelstore-$(id -u)-$(printf %s "$ROOT" | cksum | cut -d ' ' -f 1)
      mkdir -p "$elsewhere"
      [ -O "$elsewhere" ] && [ ! -L "$elsewhere" ] || die "$elsewhere belongs to someone else"
      ln -sfn "$elsewhere" "$LOCAL/state"
    fi
  fi
  STATE=$(readlink -f "$LOCAL/state")
  export STATE
}

# Major version of a pg_config.
pg_major() { "$1" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/'; }

# The PostgreSQL that a command is about: PG=18 by default, or that of PG_CONFIG.
PG_CONFIG=${PG_CONFIG:-}
if [ -n "$PG_CONFIG" ]; then
  PG_CONFIG=$(command -v "$PG_CONFIG") || die "PG_CONFIG is not an executable file"
  PG=${PG:-$(pg_major "$PG_CONFIG")}
fi
PG=${PG:-18}
export PG PG_CONFIG

# What cargo needs to build against PostgreSQL. `scripts/toolchain.sh` has put it in place.
build_environment() {
  export PGRX_HOME=$LOCAL/pgrx
  if [ -z "${LIBCLANG_PATH:-}" ]; then
    LIBCLANG_PATH=$(echo "$VENV"/lib/python3*/site-packages/clang/native)
    # The wheel brings no headers of its own; those of gcc serve.
    BINDGEN_EXTRA_CLANG_ARGS="${BINDGEN_EXTRA_CLANG_ARGS:-} -isystem $(gcc -print-file-name=include)"
    export LIBCLANG_PATH BINDGEN_EXTRA_CLANG_ARGS
  fi
}

# Runs one installation at a time.
with_lock() {
  mkdir -p "$LOCAL"
  exec 9>"$LOCAL/lock"
  flock 9
}
