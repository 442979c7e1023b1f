#!/usr/bin/env bash
# Runs a command on the virtual host: a stock Debian kernel with kvm_amd and nested paging, in QEMU's
# emulation of an AMD processor. It gives a standard KVM with real second-stage paging on any machine.
#
#   run.sh [-i] DIR COMMAND...     copies DIR to /job there, runs COMMAND in it, exits with its status
#   -i                             the clock counts instructions: runs repeat to the byte (no wall time)
#
# Needs qemu-system-x86, busybox-static, cpio, xz-utils; fetches and unpacks (never installs) the package
# of Debian's 6.12 kernel once, into $VIRTUAL_HOST_CACHE (default: target/virtual-host beside Cargo.toml).
set -euo pipefail

fail() { echo "virtual-host: $*" >&2; exit 2; }

clock=()
cpu=max,+svm
if [ "${1:-}" = -i ]; then
  shift
  clock=(-icount shift=0,sleep=off -seed 1 -rtc base=2026-01-01,clock=vm)
  # Without fast string operations a page copy counts one instruction per 8 bytes, not per byte.
  cpu=max,+svm,-erms,-fsrm
fi
[ $# -ge 2 ] || fail "usage: run.sh [-i] DIR COMMAND..."
job=$(realpath "$1")
shift
for tool in qemu-system-x86_64 cpio xz; do
  command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install qemu-system-x86 cpio xz-utils"
done
[ -x /bin/busybox ] || fail "/bin/busybox is missing: apt-get install busybox-static"

top=$(cd "$(dirname "$0")/../.." && pwd)
cache=${VIRTUAL_HOST_CACHE:-$top/target/virtual-host}
mkdir -p "$cache"
if ! ls "$cache"/boot/vmlinuz-* >/dev/null 2>&1; then
  # A partial unpack must not be taken for a whole one: unpack beside, then move.
  fresh=$(mktemp -d "$cache/fetch.XXXXXX")
  package=$(apt-cache depends linux-image-6.12-amd64 2>/dev/null | awk '/Depends: linux-image/{print $2; exit}')
  [ -n "$package" ] || fail "no package linux-image-6.12-amd64 known: run apt-get update"
  (cd "$fresh" && apt-get download -qq "$package" 2>/dev/null && dpkg -x "$package"_*.deb .) || fail "cannot fetch $package"
  rm -rf "$cache/boot" "$cache/lib"
  if [ -d "$fresh/usr/lib/modules" ] && [ ! -d "$fresh/lib/modules" ]; then mkdir -p "$fresh/lib" && mv "$fresh/usr/lib/modules" "$fresh/lib/"; fi
  mv "$fresh/lib" "$cache/lib"
  mv "$fresh/boot" "$cache/boot"
  rm -rf "$fresh"
fi

root=$(mktemp -d)
trap 'rm -rf "$root" "$root.cpio" "$root.log"' EXIT
mkdir -p "$root"/{bin,proc,sys,dev,tmp,mod,job}
cp /bin/busybox "$root/bin/"
cp -a "$job"/. "$root/job/"
for module in irqbypass ccp kvm kvm-amd; do
  file=$(find "$cache/lib" -name "$module.ko.xz" | head -1)
  [ -n "$file" ] || fail "module $module is not in the kernel package"
  xz -dc "$file" >"$root/mod/$module.ko"
done
cat >"$root/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
for module in irqbypass ccp kvm; do insmod /mod/\$module.ko; done
insmod /mod/kvm-amd.ko npt=1
cd /job
$*
echo "virtual-host: exit status \$?"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc 2>/dev/null) >"$root.cpio"

qemu-system-x86_64 -M q35 -accel tcg,thread=single,tb-size=512 -cpu "$cpu" -smp "${SMP:-1}" -m "${MEMORY:-2048}" \
  ${clock[@]+"${clock[@]}"} -nodefaults -no-user-config -nographic -serial stdio -no-reboot \
  -kernel "$(ls "$cache"/boot/vmlinuz-* | head -1)" -initrd "$root.cpio" \
  -append "console=ttyS0 panic=-1 quiet mitigations=off nokaslr" </dev/null | tr -d '\r' | tee "$root.log"

status=$(sed -n 's/^virtual-host: exit status \([0-9]*\)$/\1/p' "$root.log" | tail -1)
[ -n "$status" ] || fail "the virtual host did not reach the end of the command"
exit "$status"
