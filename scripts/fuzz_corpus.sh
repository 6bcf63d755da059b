#!/usr/bin/env bash
# Merges the inputs in .local/fuzz and the seeds into the smallest set with the same coverage, and stores it as one archive per
# target, from which scripts/fuzz.sh starts.
#
#   scripts/fuzz_corpus.sh [TARGET…]
. "$(dirname "$0")/lib.sh"

"$ROOT/scripts/toolchain.sh" fuzz
export RUSTC_BOOTSTRAP=1
cd "$ROOT/fuzz"
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(sed -nE 's/^name = "(.*)"/\1/p' Cargo.toml | grep -v '^modelstore_fuzz$')
for target in "${targets[@]}"; do
  found=$LOCAL/fuzz/$target smallest=$LOCAL/fuzz-merged/$target
  mkdir -p "$found"
  rm -rf "$smallest"
  mkdir -p "$smallest"
  cargo fuzz run "$target" -- -merge=1 "$smallest" "corpus/$target" "$found" >/dev/null 2>&1
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$smallest" -cf - . | gzip -9n >"corpus/$target.tar.gz"
  say "$target: $(find "$smallest" -type f | wc -l) inputs, $(wc -c <"corpus/$target.tar.gz") bytes"
done
