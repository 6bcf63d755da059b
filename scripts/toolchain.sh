#!/usr/bin/env bash
# Installs what is needed to build: a C compiler, a Python environment with libclang and the test packages, and cargo-pgrx of the
# version in Cargo.toml. Returns quickly if nothing is missing.
#
#   scripts/toolchain.sh          for building and testing
#   scripts/toolchain.sh fuzz     cargo-fuzz as well
. "$(dirname "$0")/lib.sh"

LIBCLANG=18.1.1
CARGO_FUZZ=0.13.2

with_lock
need gcc gcc libc6-dev
need make make
need flock util-linux
have cargo || die "cargo is missing: install Rust from https://rustup.rs"
have python3 || need python3 python3 python3-venv

# Python packages, again when the list changes.
wanted=$(cat "$ROOT/pgrx-tests/requirements.txt" && echo "libclang==$LIBCLANG")
if [ "$(cat "$VENV/.wanted" 2>/dev/null)" != "$wanted" ]; then
  if [ ! -x "$VENV/bin/pip" ]; then
    rm -rf "$VENV"
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    python3 -m venv "$VENV"
  fi
  say "Python packages"
  "$VENV/bin/python" -m pip install -q --disable-pip-version-check -r "$ROOT/pgrx-tests/requirements.txt" "libclang==$LIBCLANG"
  printf '%s\n' "$wanted" >"$VENV/.wanted"
fi

# cargo-pgrx must have the very version of pgrx.
pgrx=$(sed -nE 's/^pgrx *= .*"=([0-9.]+)".*/\1/p' "$ROOT/Cargo.toml")
[ -n "$pgrx" ] || die "Cargo.toml names no exact version of pgrx"
if [ "$(cargo pgrx --version 2>/dev/null)" != "cargo-pgrx $pgrx" ]; then
  say "cargo-pgrx $pgrx (a few minutes, once)"
  # Without the default features it needs no OpenSSL headers: it downloads nothing here. Its own speed does not matter.
  (cd / && cargo install --debug cargo-pgrx --version "$pgrx" --locked --no-default-features --root "$LOCAL/tools" >&2)
fi
mkdir -p "$LOCAL/pgrx"
[ -f "$LOCAL/pgrx/config.toml" ] || echo '[configs]' >"$LOCAL/pgrx/config.toml"

if [ "${1:-}" = fuzz ] && ! cargo fuzz --version >/dev/null 2>&1; then
  say "cargo-fuzz $CARGO_FUZZ"
  (cd / && cargo install cargo-fuzz --version "$CARGO_FUZZ" --locked --root "$LOCAL/tools" >&2)
fi
