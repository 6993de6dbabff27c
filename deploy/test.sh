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
step clients
# A package of its own: see its manifest.
clients=store/tests/clients/etcd-client/Cargo.toml
cargo fmt --manifest-path "$clients" --check
target="$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')"
cargo build --manifest-path "$clients" --locked --quiet --target-dir "$target/clients"
export KONTIKI_ETCD_CLIENT="$target/clients/debug/etcd-client-test"
step tests
if cargo nextest --version > /dev/null 2>&1; then
  cargo nextest run --workspace --locked --no-fail-fast
else
  cargo test --workspace --locked
fi
