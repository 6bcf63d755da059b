#!/usr/bin/env bash
# Checks formatting, the dependencies between the folders of src/, then clippy with warnings as errors (through its own flags:
# RUSTFLAGS would break the build).
#
#   scripts/lint.sh [fmt|arrows|clippy]
. "$(dirname "$0")/lib.sh"

"$ROOT/scripts/toolchain.sh"
cd "$ROOT"
what=${1:-all}

# Folders and files of src/ use each other in one direction: `tsort` names what goes round in a circle.
arrows() {
  local grouped
  grouped=$(grep -rn 'crate::{' src) && die "name folders one by one, not in a group: $grouped"
  grep -roE '\bcrate::[a-z_]+' src --include='*.rs' | grep -v '^src/\(lib.rs\|in_server_tests/\)' |
    sed -E 's#^src/([a-z_]+)[^:]*:crate::#\1 #' | awk '$1 != $2' | sort -u | tsort >/dev/null ||
    die "folders of src/ use each other in a circle"
}

if [ "$what" = all ] || [ "$what" = fmt ]; then cargo fmt --all --check; fi
if [ "$what" = all ] || [ "$what" = arrows ]; then arrows; fi
if [ "$what" = all ] || [ "$what" = clippy ]; then
  PGRX_PG_CONFIG_PATH=$("$ROOT/scripts/postgres.sh" "$PG")
  export PGRX_PG_CONFIG_PATH
  build_environment
  # As the builds are, with their features: what those compile is not compiled again. The tests in the server are a feature.
  profile=${PROFILE:-dev}
  cargo_as_pgrx clippy --profile "$profile" --no-default-features --features "pg$PG pg_test" --lib -- -D warnings
  cargo_as_pgrx clippy --profile "$profile" --workspace --exclude pg_modelstore --all-targets -- -D warnings
fi
