#!/usr/bin/env bash
# The main job on a standard KVM with nested paging: the same table must come out as on any other host.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --quiet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp target/x86_64-unknown-linux-gnu/release/refault "$work/"
# The program is all that is copied: it carries its guest. It judges its own table: a row that is not what the
# policy must give ends it with a status that is not 0.
timeout 600 tests/virtual-host/run.sh "$work" './refault doctor && ./refault run --stats --timeout 300s' | tee "$work/log"
for text in "efault" "SHORT" "RETRIED" "second-stage" "first-stage"; do
  grep -q "$text" "$work/log" || { echo "virtual host: the table has no '$text'"; exit 1; }
done
if grep -q "CORRUPT\|WEDGED\|CRASH" "$work/log"; then echo "virtual host: a bad verdict"; exit 1; fi
echo "virtual host: 1 passed, 0 failed"
