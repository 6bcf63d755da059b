#!/usr/bin/env bash
# Builds the extension and installs it into a PostgreSQL; does nothing if no source is newer than the installed files.
#
#   scripts/build.sh            release build into the private PostgreSQL of version PG (default 18), or into that of PG_CONFIG
#   scripts/build.sh pg_test    with the in-server tests, into a copy of that PostgreSQL
#
# PROFILE=quick builds faster, without optimising fully, for trying things out. FEATURES=neon builds for Neon's PostgreSQL.
# Prints the path of the pg_config it installed for.
. "$(dirname "$0")/lib.sh"

variant=${1:-} profile=${PROFILE:-release} features=${FEATURES:-}
[ -z "$variant" ] || [ "$variant" = pg_test ] || die "unknown variant $variant"

# What is wrong with a PG_CONFIG is said now, not after some minutes.
[ -z "$PG_CONFIG" ] || "$ROOT/scripts/postgres.sh" "$PG" >/dev/null
"$ROOT/scripts/toolchain.sh"
pg_config=$("$ROOT/scripts/postgres.sh" "$PG" "$variant")
PGRX_PG_CONFIG_PATH=$("$ROOT/scripts/postgres.sh" "$PG")
export PGRX_PG_CONFIG_PATH
build_environment
with_lock

library=$("$pg_config" --pkglibdir)/pg_modelstore.so
stamp=$LOCAL/installed/$(printf '%s %s' "$library" "$variant${features:+ $features}" | cksum | cut -d ' ' -f 1)-$profile
cd "$ROOT"
if [ -f "$stamp" ] && [ -f "$library" ] && [ "$(cat "$stamp")" = "$(stat -c '%i %Y' "$library")" ] &&
  [ -z "$(find src crates sql build.rs Cargo.toml Cargo.lock pg_modelstore.control .cargo -newer "$stamp" -print -quit)" ]; then
  echo "$pg_config"
  exit
fi

say "building for PostgreSQL $PG${variant:+ with in-server tests}"
mkdir -p "$LOCAL/installed"
touch "$stamp.new"
if [ -n "$variant" ] && [ -z "$PG_CONFIG" ]; then
  # Against the PostgreSQL that the copy is of: with another path of pg_config, pgrx would be compiled once more.
  package=$LOCAL/package
  rm -rf "$package"
  cargo pgrx package --profile "$profile" --pg-config "$PGRX_PG_CONFIG_PATH" --no-default-features --features "pg$PG $variant $features" \
    --out-dir "$package" >&2 </dev/null
  cp -a --remove-destination "$package$("$PGRX_PG_CONFIG_PATH" --pkglibdir)"/pg_modelstore* "$(dirname "$library")"
  cp -a --remove-destination "$package$("$PGRX_PG_CONFIG_PATH" --sharedir)"/extension/pg_modelstore* "$("$pg_config" --sharedir)/extension"
  rm -r "$package"
else
  sudo=()
  [ -w "$(dirname "$library")" ] || { have sudo || die "$(dirname "$library") is not writable" && sudo=(--sudo); }
  cargo pgrx install "${sudo[@]}" --profile "$profile" --pg-config "$pg_config" \
    --no-default-features --features "pg$PG${variant:+ $variant}${features:+ $features}" >&2 </dev/null
fi
stat -c '%i %Y' "$library" >"$stamp.new.text"
cat "$stamp.new.text" >"$stamp" && touch -r "$stamp.new" "$stamp"
rm "$stamp.new" "$stamp.new.text"
echo "$pg_config"
