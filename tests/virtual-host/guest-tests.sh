#!/usr/bin/env bash
# Guest tests on a standard KVM with nested paging, where second-stage faults are taken by hardware paging and ring 0 runs
# natively.
#
#   guest-tests.sh [PATTERN]...     default: PATTERNS below, a part of the table that fits into three minutes of emulation
set -euo pipefail
cd "$(dirname "$0")/../.."
PATTERNS=()
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
