#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Builds the container image for real, on a base made from Debian's packages, and logs in to mail through it:
# once as buildah runs it, once as process 1 of its own namespace on a read-only root.
#   container.sh [--tools | --twice]
# With --tools only what the build needs is fetched; with --twice it is built again from nothing: bit by bit the same.
set -euo pipefail
cd "$(dirname "$0")/../.."

# shellcheck source=test/platform/bases.sh
. test/platform/bases.sh
needs_root_and buildah mmdebstrap setpriv getcap

# Layers outlive the run: a second one builds only what changed.
[ ! -d "$cache/storage" ] || [ "$(du -s --block-size=1G "$cache/storage" | cut -f1)" -lt 12 ] || rm -rf "$cache/storage"
mkdir -p "$cache/storage"
driver=overlay
buildah() { command buildah --root "$cache/storage" --runroot "$stage/run" --storage-driver "$driver" "$@"; }
stage=$(mktemp -d /tmp/postern.XXXXXX) container=''
chmod 755 "$stage"
clean_up() {
  local status=$?
  umount --recursive --lazy "$stage/root" 2>/dev/null || true
  [ -z "$container" ] || buildah rm "$container" >/dev/null
  if [ "$driver" = overlay ] && mountpoint -q "$cache/storage/overlay"; then umount "$cache/storage/overlay" || true; fi
  rm -rf "$stage"
  exit $status
}
trap clean_up EXIT
trap 'exit 143' INT TERM
[ "$(buildah --version >/dev/null && buildah images -q 2>/dev/null && echo fine)" ] || driver=vfs

seconds() { printf '%s: %d s\n' "$1" $((SECONDS - since)) && since=$SECONDS; }
since=$SECONDS

base=localhost/postern-base:$codename
if [ -z "$(buildah images -q "$base" 2>/dev/null)" ] || [ ! -e "$cache/base-$codename.tar" ]; then
  archive=$(base_archive)
  container=$(buildah from scratch)
  buildah add -q "$container" "$archive" / >/dev/null
  buildah commit -q "$container" "$base" >/dev/null
  buildah rm "$container" >/dev/null
  container=''
fi
seconds "base image"

# --- the image, from a copy of the tree as a fresh clone has it, times and all the same --------------------------
mkdir "$stage/context"
{ git ls-files -z --cached --others --exclude-standard 2>/dev/null || find . -type f -printf '%P\0'; } |
  grep -zvE '^(build|test/)' | while IFS= read -r -d '' file; do [ ! -f "$file" ] || printf '%s\0' "$file"; done |
  tar -c --null -T - --mtime=@0 --owner=0 --group=0 --mode='go=rX,u+rw' | tar -x -C "$stage/context"
if [ -d subprojects/packagecache ]; then
  cp -r subprojects/packagecache "$stage/context/subprojects/"
  touch -d @0 "$stage/context/subprojects/packagecache" "$stage/context/subprojects/packagecache"/*
fi
# The compiler's cache of this machine, for the container to use and to fill.
ccache=$(ccache --get-config cache_dir 2>/dev/null || true)
ccache=${ccache:-$cache/ccache}
mkdir -p "$ccache"  # nobody may have compiled yet
build() {  # IMAGE OPTION...
  local image=$1
  shift
  buildah build --isolation chroot --format docker --timestamp 0 -f deploy/Dockerfile \
    --ignorefile deploy/Dockerfile.dockerignore --build-arg "DEBIAN=$base" --volume "$ccache:/ccache:rw" \
    --tag "$image" "$@" "$stage/context"
}
image=localhost/postern:test-$codename
persistently build "$image-tools" --layers --target tools || { echo "the packages to build with did not arrive; see above" && exit 77; }
seconds "what to build with"
[ "${1:-}" != --tools ] || exit 0
build "$image" --layers
seconds "build"
if [ "${1:-}" = --twice ]; then
  layers() { buildah inspect --type image "$1" | python3 -c 'import json,sys; print(*json.load(sys.stdin)["OCIv1"]["rootfs"]["diff_ids"])'; }
  build "$image-again" --no-cache
  [ "$(layers "$image")" = "$(layers "$image-again")" ] || { echo "two builds, two images" && exit 1; }
  echo "a second build is the same, bit by bit"
  buildah rmi "$image-again" >/dev/null
  seconds "second build"
fi

# --- what it says of itself -------------------------------------------------------------------------------------
buildah inspect --type image "$image" | python3 -c '
import json, sys
config = json.load(sys.stdin)["Docker"]["config"]
assert config["User"] == "2000:2000", config["User"]
assert config["Entrypoint"] == ["/usr/sbin/postern"] and config["Cmd"] == ["run", "--seccomp"], config
assert config["Healthcheck"]["Test"] == ["CMD", "/usr/sbin/postern", "healthcheck"], config["Healthcheck"]
assert config["StopSignal"] in ("SIGTERM", "15"), config["StopSignal"]
ports = sorted(int(p.split("/")[0]) for p in config["ExposedPorts"])
assert ports == [24, 25, 110, 143, 443, 465, 587, 993, 995, 4190, 9443], ports
assert config["Labels"]["org.opencontainers.image.licenses"] == "GPL-3.0-or-later", config["Labels"]'
container=$(buildah from --pull-never "$image")
tree=$(buildah mount "$container")
size=$(du -sb "$tree" | cut -f1)
printf 'image: %d.%02d MB in all, of which the binary is %d.%02d MB\n' $((size / 1000000)) $((size / 10000 % 100)) \
  $(($(stat -c %s "$tree/usr/sbin/postern") / 1000000)) $(($(stat -c %s "$tree/usr/sbin/postern") / 10000 % 100))
[ "$size" -lt 40000000 ] || { echo "over 40 MB" && exit 1; }
getcap "$tree/usr/sbin/postern" | grep -q 'cap_net_bind_service=p' || { echo "no capability on the binary" && exit 1; }
programs=$(find "$tree" -type f -perm /111 -not -name '*.so*' -printf '/%P\n')
[ "$programs" = /usr/sbin/postern ] || { echo "programs beside it: $programs" && exit 1; }
[ "$(dpkg --print-architecture)" != amd64 ] || { find "$tree" -name 'libIPSec_MB.so*' | grep -q . && find "$tree" -name 'libcrypto.so*' | grep -q .; } ||
  { echo "without what makes amd64 faster" && exit 1; }
find "$tree/var/lib/dpkg/status.d" -type f -printf '%f ' && echo

# --- as buildah runs it -------------------------------------------------------------------------------------------
mkdir "$stage/one" "$stage/two" "$stage/root"
inside=(command buildah --root "$cache/storage" --runroot "$stage/run" --storage-driver "$driver"
  run --isolation chroot --volume "$stage/one/etc:/etc/postern:ro" "$container" -- /usr/sbin/postern)
unset 'inside[0]'
test/platform/place.py --etc /etc/postern --reload --while "${inside[*]} healthcheck" "$stage/one" "${inside[@]}" run --seccomp
seconds "logins, run by buildah"

# --- as an orchestrator does: process 1, nobody's root, nothing writable, no way to new privileges ------------------
mkdir -p "$tree/proc" && touch "$tree/etc/hosts"
mkdir -p "$stage/two/etc"
mount --bind "$tree" "$stage/root"
mount --bind "$stage/two/etc" "$stage/root/etc/postern"
mount --bind /etc/hosts "$stage/root/etc/hosts"
mount -o remount,bind,ro "$stage/root"
if touch "$stage/root/written" 2>/dev/null; then echo "the root can be written" && exit 1; fi
test/platform/place.py --etc /etc/postern --reload "$stage/two" env -i PROXY_CONFIG=/etc/postern/postern.toml \
  unshare --mount --pid --fork --kill-child --root="$stage/root" --mount-proc=/proc --setgid=2000 --setuid=2000 \
  /usr/sbin/postern run --seccomp
# Without the capability and without a way to it the binary still starts.
[ "$codename" != "$(. /etc/os-release && echo "$VERSION_CODENAME")" ] ||
  setpriv --reuid=2000 --regid=2000 --clear-groups --bounding-set=-all --no-new-privs "$tree/usr/sbin/postern" --version
seconds "logins, process 1, read-only"
