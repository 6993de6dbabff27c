#!/usr/bin/env bash
# Every check of the repository, in the order in which they fail fastest.
set -euo pipefail
cd "$(dirname "$0")/.."
deploy/claim-cache.sh
rocksdb="$(deploy/rocksdb.sh)"; eval "$rocksdb"
step() { echo "== $* ($(date +%H:%M:%S))"; }

step format
cargo fmt --all --check
step lints
cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
step lints of what plants bugs
cargo clippy -p raft-tests --all-targets --features mutants --locked --quiet -- -D warnings
step clients
# A package of its own: see its manifest.
clients=store/tests/clients/etcd-client/Cargo.toml
cargo fmt --manifest-path "$clients" --check
target="$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
cargo build --manifest-path "$clients" --locked --quiet --target-dir "$target/clients"
export KONTIKI_ETCD_CLIENT="$target/clients/debug/etcd-client-test"
step tests
# Real clusters on networks of their own (raft-tests) need root. Its tests are never left out in silence.
if [ -z "${KONTIKI_CHAOS_TESTS:-}" ]; then
  [ "$(id -u)" = 0 ] && KONTIKI_CHAOS_TESTS=run || KONTIKI_CHAOS_TESTS=skip
fi
export KONTIKI_CHAOS_TESTS
[ "$KONTIKI_CHAOS_TESTS" = run ] || echo "tests of real clusters that need root may be left out (KONTIKI_CHAOS_TESTS=$KONTIKI_CHAOS_TESTS)"
if cargo nextest --version > /dev/null 2>&1; then
  cargo nextest run --workspace --locked --no-fail-fast
else
  cargo test --workspace --locked
fi
