#!/usr/bin/env bash
# tests/under-load.sh N: runs 'make test' N times while every core is kept busy, and prints a line for each run.
set -uo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5}
burners=()
trap 'kill "${burners[@]}" 2>/dev/null' EXIT
trap 'exit 130' INT TERM
for _ in $(seq "$(nproc)"); do
  sh -c 'while :; do :; done' &
  burners+=($!)
done
failed=0
for i in $(seq "$runs"); do
  start=$(date +%s)
  log=.cache/under-load-$i.log
  mkdir -p .cache
  if make test >"$log" 2>&1; then result=passed; else result=failed; failed=$((failed + 1)); fi
  echo "run $i: $result after $((($(date +%s) - start) / 60)) min: $(grep '^total:' "$log")"
done
[ "$failed" -eq 0 ]
