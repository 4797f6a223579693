#!/usr/bin/env bash
# tests/run.sh NAME GO-TEST-ARGUMENTS: runs go test with a log in .cache/, prints
# its package lines and failures, and lists every skip with its reason at the end.
# IN is the folder of another module.
set -uo pipefail
cd "$(dirname "$0")/.."
name=$1
shift
mkdir -p .cache
log=.cache/test-$name.log
(cd "${IN:-.}" && ${GO:-go} test -v "$@") >"$log" 2>&1
rc=$?
# Package results, and all of the log of what failed.
grep -E '^(ok|FAIL|panic:|---? FAIL|\?)' "$log" | grep -v '\[no test files\]'
[ $rc -ne 0 ] && { echo "--- the end of $log:"; tail -n 120 "$log"; }
pass=$(grep -c -E '^ *--- PASS' "$log")
fail=$(grep -c -E '^ *--- FAIL' "$log")
# The reason stands in the line before.
skips=$(awk '/^ *--- SKIP/ {sub(/^ +/, "", before); print "  " $3 ": " before} {before = $0}' "$log")
skip=$(grep -c -E '^ *--- SKIP' "$log")
[ -n "$skips" ] && printf 'skipped in %s:\n%s\n' "$name" "$skips"
echo "$name: $pass passed, $fail failed, $skip skipped"
exit $rc
