#!/usr/bin/env bash
# Guest tests on a standard KVM with nested paging, where second-stage faults are taken by hardware paging and ring 0 runs
# natively.
#
#   guest-tests.sh [PATTERN]...     default: PATTERNS below, a part of the table, about three minutes of emulation
set -euo pipefail
cd "$(dirname "$0")/../.."
# What this host alone can show: pages that hardware paging finds away, under an in-kernel interrupt controller, in ring 0 that runs
# natively. One or two of each kind; `cargo test` runs the whole table.
PATTERNS=(
  'softread.*' 'programs.*' G1-G10 M1-M9.second-stage M10-M11
  'F1-F3.*.second-stage' F4.WRITE.second-stage 'F8.*' 'F9.*' 'F14.*.second-stage'
  D1 'D1.*' 'D10*' 'D11*' D12 'D3*' 'D4*' 'D5*' 'D6*' 'D9*' H1 'H10*'
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
timeout 600 tests/virtual-host/run.sh "$work" "TERM=dumb ./refault test --jobs 1$quoted" | tee "$work/said"
# This host lacks nothing; a run in which the second stage was left out shows nothing.
grep -qE '^[1-9][0-9]* passed, 0 failed, 0 skipped' "$work/said" || { echo "virtual host: FAILED: tests were left out"; exit 1; }
