#!/usr/bin/env bash
# Lints what only the guest builds: kernel image, servers and programs, with the guest's own flags.
set -euo pipefail
cd "$(dirname "$0")/.."
flags="-C relocation-model=static -C no-redzone=yes -C target-feature=-sse,-sse2 -C panic=abort -D warnings"
packages=()
features=()
for name in kernel rt vm vfs mfs pipefs blk pm rs tty init apps; do
  packages+=(-p "refault-$name")
  features+=("refault-$name/guest")
done
# Its own target directory: other flags would throw away the host's build.
RUSTFLAGS="$flags" cargo clippy --locked --profile guest --target x86_64-unknown-linux-gnu --target-dir target/guest-clippy \
  "${packages[@]}" --features "$(IFS=,; echo "${features[*]}")" --lib --bins
