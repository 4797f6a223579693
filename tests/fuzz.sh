#!/usr/bin/env bash
# tests/fuzz.sh TIME: runs every fuzz target of the module for TIME.
set -euo pipefail
cd "$(dirname "$0")/.."
for file in $(git ls-files '*_test.go'); do
  for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
    echo "fuzz: $target in $(dirname "$file") for $1"
    ${GO:-go} test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "./$(dirname "$file")"
  done
done
