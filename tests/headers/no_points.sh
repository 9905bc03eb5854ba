#!/bin/sh
# Without SNAKEBRIDGE_POINTS, as in a release, nothing is left of a named point in any source. usage: no_points.sh SOURCE CC
set -eu
source=$1 cc=$2
includes=$(find "$source/src" "$source/include" -type d | sed 's/.*/-I "&"/' | tr '\n' ' ')
seen=0
for file in $(cd "$source" && grep -rl --include='*.c' SB_POINT src) src/base/point.c; do
    seen=$((seen + 1))
    if eval "$cc -E -D_GNU_SOURCE= $includes \"\$source/\$file\"" | grep -nE 'sb_points|sb__point|SB_POINT'; then
        echo "$file keeps something of its points"
        exit 1
    fi
done
[ "$seen" -gt 20 ] || { echo "only $seen sources have points: what was looked for?"; exit 1; }
echo "$seen sources have nothing of their points left"
