#!/usr/bin/env bash
# Formatting, then clippy with warnings as errors (through its own flags: RUSTFLAGS would break the build).
#
#   scripts/lint.sh [fmt|clippy]
. "$(dirname "$0")/lib.sh"

"$ROOT/scripts/toolchain.sh"
cd "$ROOT"
what=${1:-all}
if [ "$what" != clippy ]; then cargo fmt --all --check; fi
if [ "$what" != fmt ]; then
  PGRX_PG_CONFIG_PATH=$("$ROOT/scripts/postgres.sh" "$PG")
  export PGRX_PG_CONFIG_PATH
  build_environment
  cargo clippy --workspace --all-targets --no-default-features --features "pg_modelstore/pg$PG pg_modelstore/pg_test" -- -D warnings
fi
