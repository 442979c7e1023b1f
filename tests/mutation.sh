#!/bin/sh
# The mutation score: builds the guest with every seeded bug in it, has each bug hunted by the tests aimed at it (with --all-tests:
# by all of them), and writes docs/mutation-score.md. Ends with an error if a bug gets past.
#
#   tests/mutation.sh [--all-tests] [OPTION OF `refault test`]...
set -eu
cd "$(dirname "$0")/.."
# A build of its own: the ordinary one has no bugs in it.
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/mutation" REFAULT_BUGS=all \
    exec cargo run --release --quiet -p refault --bin refault -- test --bugs --markdown docs/mutation-score.md "$@"
