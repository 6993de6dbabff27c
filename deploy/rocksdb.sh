#!/usr/bin/env bash
# Builds librocksdb.a once per version into the user's cache, so that every cargo profile links the same
# archive and none compiles 330 C++ files again. Prints the environment that librocksdb-sys reads:
#   eval "$(deploy/rocksdb.sh)"
# Sources come from the librocksdb-sys package that Cargo.lock pins; nothing else is fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fetch --locked >&2
registry="${CARGO_HOME:-$HOME/.cargo}/registry/src"
package() { # newest unpacked source folder of the version that Cargo.lock names
  local version
  version=$(awk -v n="name = \"$1\"" '$0==n {getline; gsub(/version = |"/,""); print; exit}' Cargo.lock)
  ls -d "$registry"/*/"$1-$version" | head -n 1
}
sys=$(package librocksdb-sys) lz4=$(package lz4-sys) zstd=$(package zstd-sys)

# The format number changes when the flags below do, so that an old archive is not taken for a new one.
format=1
out="${XDG_CACHE_HOME:-$HOME/.cache}/kontiki/rocksdb/$(basename "$sys")-$format"
emit() {
  echo "export ROCKSDB_LIB_DIR='$out' ROCKSDB_STATIC=1 ROCKSDB_INCLUDE_DIR='$sys/rocksdb/include'"
}
if [ -f "$out/librocksdb.a" ]; then emit; exit 0; fi

work="$out.building.$$"
rm -rf "$work"; mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
# Batches of twelve files in one translation unit: the headers dominate, so this takes a quarter of the time.
grep -v 'util/build_version.cc' "$sys/rocksdb_lib_sources.txt" | sed 's/^ *//;/^$/d' |
  awk -v w="$work" -v s="$sys/rocksdb" '{ printf "#include \"%s/%s\"\n", s, $1 > sprintf("%s/unity_%03d.cc", w, int((NR-1)/12)) }'
echo "#include \"$sys/build_version.cc\"" > "$work/unity_version.cc"
flags=(-std=c++20 -O2 -fPIC -include cstdint -DNDEBUG -DLZ4=1 -DZSTD=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION
  -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
  -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT
  -I"$sys/rocksdb/include" -I"$sys/rocksdb" -I"$sys" -I"$lz4/liblz4/lib" -I"$zstd/zstd/lib")
# SSE4.2 and PCLMUL give hardware CRC32C; every x86-64 server since 2013 has them.
[ "$(uname -m)" = x86_64 ] && flags+=(-msse2 -msse4.1 -msse4.2 -mpclmul)
total=$(ls "$work"/unity_*.cc | wc -l)
echo "building RocksDB once for all profiles: $total units on $(nproc) cores (about 7 minutes on two)" >&2
export work total; printf '%s\n' "${flags[@]}" > "$work/flags"
compile() {
  mapfile -t f < "$work/flags"
  "${CXX:-g++}" "${f[@]}" -w -c "$1" -o "${1%.cc}.o"
  printf '\r  rocksdb: %s/%s units' "$(ls "$work"/*.o | wc -l)" "$total" >&2
}
export -f compile
ls "$work"/unity_*.cc | xargs -P "$(nproc)" -I{} bash -c 'set -e; compile {}'
echo >&2
ar crs "$work/librocksdb.a" "$work"/*.o
rm -f "$work"/*.o "$work"/*.cc "$work/flags"
mv -T "$work" "$out" 2>/dev/null || [ -f "$out/librocksdb.a" ]
trap - EXIT
emit
