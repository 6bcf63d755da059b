#!/usr/bin/env bash
# Fuzzes the parsers of untrusted bytes, one target after the other, with one worker each.
#
#   SECONDS_PER_TARGET=600 scripts/fuzz.sh [TARGET…]
#
# New inputs go into .local/fuzz. Runs start from fuzz/corpus, which holds seeds and archives of inputs found by earlier runs
# (scripts/fuzz_corpus.sh).
#
# cargo-fuzz requires a nightly compiler for the sanitizer flags; RUSTC_BOOTSTRAP makes the stable compiler accept them.
. "$(dirname "$0")/lib.sh"

"$ROOT/scripts/toolchain.sh" fuzz
export RUSTC_BOOTSTRAP=1
cd "$ROOT/fuzz"
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(sed -nE 's/^name = "(.*)"/\1/p' Cargo.toml | grep -v '^modelstore_fuzz$')
failed=()
for target in "${targets[@]}"; do
  say "fuzzing $target for ${SECONDS_PER_TARGET:-600} s"
  corpora=("$LOCAL/fuzz/$target")
  mkdir -p "${corpora[@]}"
  [ ! -d "corpus/$target" ] || corpora+=("corpus/$target")
  [ ! -f "corpus/$target.tar.gz" ] || tar -xzf "corpus/$target.tar.gz" -C "$LOCAL/fuzz/$target"
  cargo fuzz run "$target" "${corpora[@]}" -- -max_total_time="${SECONDS_PER_TARGET:-600}" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 ||
    failed+=("$target")
done
[ ${#failed[@]} = 0 ] || die "found by fuzzing: ${failed[*]}; the inputs are in fuzz/artifacts"
