#!/usr/bin/env bash
# Runs the guest under QEMU's own emulation of a microvm: no KVM, no doorbell, another monitor's virtio.
# The same kernel and boot image that `refault` embeds must boot there, read a file from a virtio disk, and
# repeat reads that meet first-stage soft faults; then the guest tests.
#
#   run.sh [REFAULT]     REFAULT: the program to take the guest from (default: cargo builds it)
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v qemu-system-x86_64 >/dev/null; then
  echo "emulator: SKIPPED: qemu-system-x86_64 is not installed (apt-get install qemu-system-x86)"
  exit 0
fi
refault=${1:-}
if [ -z "$refault" ]; then
  cargo build --release --quiet
  target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  refault=$target/x86_64-unknown-linux-gnu/release/refault
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$refault" export "$work" >/dev/null
"$refault" mkfs "$work/disk.img" --demo >/dev/null
before=$(sha256sum <"$work/disk.img")

passed=0
failed=0

image=boot.cpio

# guest EXPECTED_STATUS OPTIONS -- PROGRAM ARGS...: boots $image, keeps what the guest printed in $work/out.
guest() {
  local expected=$1 options=$2
  shift 3
  local status=0
  timeout 120 qemu-system-x86_64 -M microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=on -accel tcg -cpu max -m 128 \
    -nodefaults -no-user-config -display none -serial stdio -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=4 \
    -global virtio-mmio.force-legacy=false -drive "id=d,file=$work/disk.img,format=raw,if=none,cache=unsafe" \
    -device virtio-blk-device,drive=d -kernel "$work/kernel.elf" -initrd "$work/$image" \
    -append "$options -- $*" </dev/null >"$work/out" 2>&1 || status=$?
  # isa-debug-exit ends QEMU with 2 * status + 1.
  if [ "$status" = $((2 * expected + 1)) ]; then return 0; fi
  echo "emulator: FAILED: '$*' ended QEMU with $status, not $((2 * expected + 1)); output:"
  sed 's/^/  | /' "$work/out"
  return 1
}

# expect TEXT: the last guest printed it.
expect() {
  grep -qF -- "$1" "$work/out" && return 0
  echo "emulator: FAILED: the guest did not print '$1'; output:"
  sed 's/^/  | /' "$work/out"
  return 1
}

check() {
  local name=$1
  shift
  if "$@"; then passed=$((passed + 1)); echo "emulator: ok: $name"; else failed=$((failed + 1)); echo "emulator: not ok: $name"; fi
}

cat_file() { guest 0 "" -- cat /hello.txt && expect "Hello from a MINIX file system."; }
unknown_program() { guest 127 "" -- nonesuch && expect nonesuch; }
missing_file() { guest 1 "" -- cat /nonesuch && expect /nonesuch; }
short_read() { guest 0 "retry=efault fs=partial" -- softread --case first-stage && expect SHORT; }
mark_cures() { guest 0 "retry=mark fs=partial" -- softread --case first-stage && expect "got 65536"; }
hardened_cures() { guest 0 "retry=hardened fs=partial" -- softread --case first-stage && expect "got 65536"; }
# The kernel alone: its self-test in VM's place. The count shows that there were checks.
self_test() {
  local image=selftest.cpio
  guest 0 "$1" -- && expect " 0 failures" && grep -qE '^kselftest: [2-9][0-9]{2} checks, 0 failures' "$work/out"
}

check "cat of a file" cat_file
check "a program that is not in the boot image" unknown_program
check "a file that is not on the disk" missing_file
check "retry=efault: a short read from a first-stage soft fault" short_read
check "retry=mark repeats it" mark_cures
check "retry=hardened repeats it" hardened_cures
check "the kernel's self-test" self_test ""
check "the kernel's self-test, entered by INT3" self_test "trap=int3"
unharmed() { [ "$(sha256sum <"$work/disk.img")" = "$before" ] || { command -v fsck.minix >/dev/null && fsck.minix -f "$work/disk.img"; }; }
check "the disk image is unharmed" unharmed

# Every guest test that needs no monitor, by the same table, runner and judge as on KVM.
guest_tests() {
  "$refault" test --under qemu-system-x86_64 --json "$work/tests.json" || return 1
  # A run in which everything was left out shows nothing.
  grep -qE '"passed": [1-9]' "$work/tests.json"
}
check "the guest tests" guest_tests

echo "emulator: $passed passed, $failed failed"
[ "$failed" = 0 ]
