#!/usr/bin/env bash
# Tests with sessions of the real guest on a standard KVM with nested paging: there the processor itself stops at pages that are away,
# page tables and descriptor tables among them, which hosts that interpret ring 0 cannot be asked for.
#
#   sessions.sh [TEST]...     default: classes session_rules session_disk, names of files in vmm/tests
set -euo pipefail
cd "$(dirname "$0")/../.."
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=(classes session_rules session_disk)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for test in "${tests[@]}"; do
  program=$(cargo test --release -p refault --no-run --test "$test" --message-format=json 2>/dev/null |
    sed -n 's/.*"name":"'"$test"'".*"executable":"\([^"]*\)".*/\1/p' | tail -1)
  [ -n "$program" ] || { echo "virtual host: FAILED: the test $test does not build"; exit 1; }
  strip -o "$work/$test" "$program"
done
echo "virtual host: tests ${tests[*]}"
# No fsck.minix there: where it would be asked, nothing is said of the image.
command=$(printf './%s --test-threads=1 --nocapture && ' "${tests[@]}")
timeout 1200 tests/virtual-host/run.sh "$work" "TERM=dumb $command true" | tee "$work/said"
passed=$(grep -c '^test result: ok' "$work/said" || true)
[ "$passed" = ${#tests[@]} ] || { echo "virtual host: FAILED: $passed of ${#tests[@]} test programs passed"; exit 1; }
if grep -q 'SKIPPED' "$work/said"; then echo "virtual host: FAILED: this host lacks nothing, and something was left out"; exit 1; fi
echo "virtual host: ${#tests[@]} passed, 0 failed"
