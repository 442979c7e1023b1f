#!/usr/bin/env bash
# A campaign on a standard KVM with nested paging. Each run has to be well, and each site and pair that is known visited.
#
#   campaign.sh [PRESET]...     default: floor, some minutes of emulation
set -euo pipefail
cd "$(dirname "$0")/../.."
presets=("${@:-floor}")
cargo build --release --quiet
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$target/x86_64-unknown-linux-gnu/release/refault" "$work/"
for preset in "${presets[@]}"; do
  echo "virtual host: campaign $preset"
  # No fsck.minix there: images are walked by refault itself.
  timeout "${LIMIT:-3600}" tests/virtual-host/run.sh "$work" "TERM=dumb ./refault campaign --preset $preset --jobs 1" | tee "$work/said"
  line=$(grep -E '^[0-9]+ runs \(' "$work/said" | tail -1)
  [[ $line =~ ^[1-9][0-9]*\ runs\ .*,\ 0\ violations\;\ [1-9][0-9]*\ faults\;\ ([0-9]+)\ of\ ([0-9]+)\ sites,\ ([0-9]+)\ of\ ([0-9]+)\ pairs\ visited$ ]] ||
    { echo "virtual host: FAILED: the campaign $preset says: $line"; exit 1; }
  [ "${BASH_REMATCH[1]}" = "${BASH_REMATCH[2]}" ] && [ "${BASH_REMATCH[3]}" = "${BASH_REMATCH[4]}" ] ||
    { echo "virtual host: FAILED: not everything was visited: $line"; exit 1; }
done
echo "virtual host: ${#presets[@]} passed, 0 failed"
