#!/usr/bin/env bash
# Looks for inputs that break a reader of the API server, by libFuzzer, which goes where the coverage of the code grows.
#   deploy/fuzz.sh [--seconds N] [TARGET..]     each target for N seconds (60); all where none is named
# What it has found out stays in the cache folder for the next time. An input that breaks a law is kept, and named.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=60
if [ "${1:-}" = --seconds ]; then seconds="$2"; shift 2; fi
case "$seconds" in '' | *[!0-9]*) echo "fuzz: --seconds wants a number, not '$seconds'" >&2; exit 2 ;; esac

cache="${CARGO_TARGET_DIR:-$HOME/.cache/kontiki/target}"
corpus="${XDG_CACHE_HOME:-$HOME/.cache}/kontiki/fuzz"
host="$(rustc -vV | sed -n 's/^host: //p')"
cargo build --quiet --locked -p fuzz --bin fuzz-seeds
known="$("$cache/debug/fuzz-seeds" | cut -d ' ' -f 1)"
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets <<< "$known"
for target in "${targets[@]}"; do
  grep -qx -- "$target" <<< "$known" || { printf 'fuzz: no target %s; there are:\n' "$target" >&2; "$cache/debug/fuzz-seeds" >&2; exit 2; }
done

echo "fuzz: compiling with counters of coverage (the first time takes a few minutes)"
coverage=(--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares)
# With a target of its own, build scripts and macros are compiled without them.
CARGO_TARGET_DIR="$cache/fuzz" RUSTFLAGS="${coverage[*]}" \
  cargo build --quiet --locked --release --target "$host" --manifest-path apiserver/fuzz/guided/Cargo.toml
"$cache/debug/fuzz-seeds" "$corpus"

broken=0
for target in "${targets[@]}"; do
  echo "fuzz: $target, $seconds seconds"
  log="$corpus/$target.log"
  KONTIKI_FUZZ_TARGET="$target" "$cache/fuzz/$host/release/fuzz-guided" "$corpus/$target" -max_total_time="$seconds" \
    -max_len=65536 -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$corpus/broken-$target-" > "$log" 2>&1 \
    || { broken=$((broken + 1)); grep -aE 'panicked|ERROR|Test unit written|SUMMARY' "$log" || tail -n 5 "$log"; }
  grep -a ' cov: ' "$log" | tail -n 1
done
echo "fuzz: ${#targets[@]} targets, $broken broken (logs and inputs in $corpus)"
[ "$broken" = 0 ]
