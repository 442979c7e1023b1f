#!/usr/bin/env bash
# Guest tests on a standard KVM with nested paging, where second-stage faults are taken by hardware paging and ring 0 runs
# natively.
#
#   guest-tests.sh [PATTERN]...     default: PATTERNS below, a part of the table, about three minutes of emulation
set -euo pipefail
cd "$(dirname "$0")/../.."
# What this host alone can show: pages that hardware paging finds away, under an in-kernel interrupt controller, in ring 0 that runs
# natively. One or two of each kind; the whole table runs on the development machine's KVM.
PATTERNS=(
  'softread.*' 'programs.*' G1-G10 M1-M9.second-stage M10-M11
  F1-F3.READ.second-stage F1-F3.WRITE.second-stage F1-F3.GETDENTS.second-stage F1-F3.SLINK.second-stage
  F4.WRITE.second-stage F8.READ F9.WRITE F14.READ.second-stage
  D1 D1.try-off D4-H4 D4-H4.faithful D11 H1 H10.faithful
)
[ $# = 0 ] || PATTERNS=("$@")
cargo build --release --quiet
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$target/x86_64-unknown-linux-gnu/release/refault" "$work/"
echo "virtual host: guest tests ${PATTERNS[*]:-all of them}"
quoted=$(printf " '%s'" ${PATTERNS[@]+"${PATTERNS[@]}"})
[ ${#PATTERNS[@]} -gt 0 ] || quoted=""
# No fsck.minix there: images are walked by refault itself.
timeout 600 tests/virtual-host/run.sh "$work" "TERM=dumb ./refault test --jobs 1$quoted"
