#!/usr/bin/env bash
# A campaign in parts, side by side under GNU parallel, merged: the recipe of docs/campaigns.md.
# Usage: tests/parallel.sh [REFAULT [PRESET [PARTS]]]
set -euo pipefail
cd "$(dirname "$0")/.."

command -v parallel >/dev/null || { echo "needs GNU parallel (package parallel)" >&2; exit 1; }
refault=$(realpath "${1:-target/debug/refault}")
preset=${2:-floor}
parts=${3:-2}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

seq "$parts" | parallel --will-cite --halt soon,fail=1 \
  "$refault" campaign --preset "$preset" --jobs 1 --shard "{}/$parts" --out "$out/part-{}"

"$refault" report "$out"/part-* --out "$out/report.html"
[ -s "$out/report.html" ]
"$refault" coverage "$out"/part-* --floor 1.0 --markdown "$out/coverage.md" --json "$out/coverage.json"
grep -q '^| sites |' "$out/coverage.md"

# Each run is in one part, and no part is empty. Fault-free runs are made in each.
for part in "$out"/part-*; do
  [ "$(wc -l <"$part/runs.jsonl")" -gt 1 ] || { echo "$part made nothing" >&2; exit 1; }
done
twice=$(cat "$out"/part-*/runs.jsonl | grep -v '"kind":"none"' | grep -o '"id":"[^"]*"' | sort | uniq -d)
[ -z "$twice" ] || { printf 'made twice:\n%s\n' "$twice" >&2; exit 1; }
echo "$(cat "$out"/part-*/runs.jsonl | wc -l) runs in $parts parts"
