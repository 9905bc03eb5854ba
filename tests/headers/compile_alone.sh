#!/bin/sh
# Compiles each public header by itself, twice over (the include guard), with warnings as errors.
# usage: compile_alone.sh INCLUDE_DIR LANGUAGE COMPILER [FLAG...]
set -eu

include=$1 language=$2
shift 2

if ! command -v "$1" >/dev/null 2>&1; then
    echo "no compiler $1: skipped"
    exit 77
fi

count=0 bad=0
for header in "$include"/snakebridge/*.h; do
    [ -e "$header" ] || continue
    name=snakebridge/${header##*/}
    count=$((count + 1))
    if ! printf '#include "%s"\n#include "%s"\nextern int sb_unit_is_not_empty;\n' "$name" "$name" |
        "$@" -x "$language" -pedantic -Wall -Wextra -Werror -fsyntax-only -I "$include" -; then
        echo "FAILED: $name does not compile alone as: $* -x $language"
        bad=$((bad + 1))
    fi
done

echo "$count headers, $bad bad"
[ "$count" -gt 0 ] && [ "$bad" -eq 0 ]
