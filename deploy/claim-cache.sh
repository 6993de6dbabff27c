#!/usr/bin/env bash
# Makes the shared build cache this checkout's own. Cargo takes a crate of another checkout in the same cache for this
# one's wherever the files here are older, since it compares times and not contents. So when the cache last built
# another checkout, all files here become new: our own crates are compiled again, third-party ones are not.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${CARGO_TARGET_DIR:-$HOME/.cache/kontiki/target}"
[ "$(cat "$cache/checkout" 2> /dev/null)" = "$PWD" ] && exit 0
mkdir -p "$cache"
# Of use to the other checkout alone, and gigabytes more with each.
rm -rf "$cache"/*/incremental
find . -name .git -prune -o -type f -print0 | xargs -0 touch -c
echo "$PWD" > "$cache/checkout"
