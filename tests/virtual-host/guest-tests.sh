#!/usr/bin/env bash
# The guest tests on a standard KVM with nested paging, where second-stage faults are taken by hardware paging, under an in-kernel
# interrupt controller, and ring 0 runs natively.
#
#   guest-tests.sh [PATTERN]...     default: all of them, about seven minutes of emulation
set -euo pipefail
cd "$(dirname "$0")/../.."
PATTERNS=("$@")
cargo build --release --quiet
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$target/x86_64-unknown-linux-gnu/release/refault" "$work/"
echo "virtual host: guest tests ${PATTERNS[*]:-all of them}"
quoted=$(printf " '%s'" ${PATTERNS[@]+"${PATTERNS[@]}"})
[ ${#PATTERNS[@]} -gt 0 ] || quoted=""
# No fsck.minix there: images are walked by refault itself.
timeout 1200 tests/virtual-host/run.sh "$work" "TERM=dumb ./refault test --jobs 1$quoted" | tee "$work/said"
# This host lacks nothing; a run in which the second stage was left out shows nothing.
grep -qE '^[1-9][0-9]* passed, 0 failed, 0 skipped' "$work/said" || { echo "virtual host: FAILED: tests were left out"; exit 1; }
