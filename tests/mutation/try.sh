#!/bin/sh
# Does removing the code behind a point of the contract make its test fail? Each patch here removes one piece in a copy
# of the tree; its first line names the program and the test that must then fail. Prints a table; exit status 0: all did.
#
# usage: try.sh [PATCH]...      SB_MUTATION_DIR keeps the copy and its build for the next time.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
work=${SB_MUTATION_DIR:-$(mktemp -d)}
[ -n "${SB_MUTATION_DIR:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tree" "$work/build"
jobs=${SB_JOBS:-$(nproc 2>/dev/null || echo 2)}
[ $# -gt 0 ] || set -- "$here"/*.patch

# Only what differs, so that a kept build stays fresh.
(cd "$top" && git ls-files) | while IFS= read -r file; do
    cmp -s "$top/$file" "$work/tree/$file" && continue
    mkdir -p "$work/tree/$(dirname "$file")"
    cp -p "$top/$file" "$work/tree/$file"
    touch "$work/tree/$file"
done

build() {
    cmake -S "$work/tree" -B "$work/build" -DCMAKE_BUILD_TYPE=Debug -DSNAKEBRIDGE_TESTS=ON >"$work/log" 2>&1 &&
        cmake --build "$work/build" -j "$jobs" --target snakebridge snakebridge-python sb-call sb-inspect sb-owner sb-reaper "$@" >>"$work/log" 2>&1
}

# The verdict on one patch, as a word.
try() {
    patch -s -p1 -d "$work/tree" <"$1" >"$work/log" 2>&1 || { echo 'does not apply'; return; }
    if ! build "$program"; then
        verdict='does not build'
    else
        SB_BUILD_DIR="$work/build" timeout 120 "$work/build/bin/tests/$program" >"$work/output" 2>&1 && status=0 || status=$?
        if grep -q "FAILED  \] $name\$" "$work/output"; then
            verdict=fails
        elif [ "$status" -ge 124 ] && ! grep -q "OK \] $name\$" "$work/output"; then
            verdict='fails (hangs or dies)'
        else
            verdict='STILL PASSES'
        fi
    fi
    patch -s -R -p1 -d "$work/tree" <"$1" >/dev/null
    echo "$verdict"
}

bad=0
printf '%-26s %-62s %s\n' REMOVED TEST VERDICT
for file; do
    read -r _ program name <"$file"
    verdict=$(try "$file")
    printf '%-26s %-62s %s\n' "$(basename "$file" .patch)" "$program $name" "$verdict"
    case $verdict in fails*) ;; *) bad=1 ;; esac
done
exit $bad
