#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The installed tree, in a place of its own: the README's program is built against it, as C and as C++, by its .pc file and by
# its CMake package, runs, and finds the Python engine and sb-owner there; the manual pages are where man looks.

set -u
build=${SB_BUILD_DIR:?}
if [ -d /dev/shm ]; then tmp=/dev/shm; else tmp=/tmp; fi
work=$(mktemp -d "${TMPDIR:-$tmp}/sb install.XXXXXX") || exit 1
prefix="$work/prefix"
SNAKEBRIDGE_DIR=$work/bridge
export SNAKEBRIDGE_DIR
checks=0
failures=0

cleanup()
{
	"$prefix/bin/sb-call" release-session installed >/dev/null 2>&1 # made by sb-call below
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# check WHAT COMMAND...: the command succeeds; its output is shown if not.
check()
{
	what=$1
	shift
	checks=$((checks + 1))
	"$@" >"$work/out" 2>&1 && return 0
	failures=$((failures + 1))
	echo "FAILED: $what"
	sed 's/^/  /' "$work/out"
	return 1
}

check 'cmake --install' cmake --install "$build" --prefix "$prefix" || exit 1

# The README's program, as it stands there; it is C++ as well.
sed -n '/^```c$/,/^```$/p' "$(dirname "$0")/../../README.md" | sed '1d;$d' >"$work/program.c"
check 'the README shows one program' test "$(grep -c 'int main(' "$work/program.c")" -eq 1 || exit 1
cp "$work/program.c" "$work/program.cpp"

# By snakebridge.pc; without a pkg-config its two lines are read here.
libdir=$(dirname "$(find "$prefix" -name libsnakebridge.so)")
pc=$libdir/pkgconfig/snakebridge.pc
check 'snakebridge.pc is installed' test -f "$pc"
if command -v pkg-config >/dev/null 2>&1; then
	flags=$(PKG_CONFIG_PATH=$libdir/pkgconfig pkg-config --cflags --libs snakebridge)
	check 'pkg-config knows the prefix' sh -c 'case $1 in *"-lsnakebridge"*) ;; *) echo "$1"; exit 1 ;; esac' sh "$flags"
fi
check 'a C program is built' cc -Wall -Werror "-I$prefix/include" "$work/program.c" -o "$work/program" \
	"-L$libdir" -lsnakebridge "-Wl,-rpath,$libdir"
check 'the C program runs' "$work/program"
if command -v c++ >/dev/null 2>&1; then
	check 'a C++ program is built' c++ -Wall -Werror "-I$prefix/include" "$work/program.cpp" -o "$work/program++" \
		"-L$libdir" -lsnakebridge "-Wl,-rpath,$libdir"
	check 'the C++ program runs' "$work/program++"
fi

mkdir "$work/consumer"
cat >"$work/consumer/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.21)
project(consumer LANGUAGES C)
find_package(Snakebridge REQUIRED)
add_executable(consumer ../program.c)
target_link_libraries(consumer PRIVATE Snakebridge::snakebridge)
END
check 'find_package(Snakebridge)' cmake -S "$work/consumer" -B "$work/consumer/build" "-DCMAKE_PREFIX_PATH=$prefix"
check 'a CMake project is built' cmake --build "$work/consumer/build"
check 'its program runs' "$work/consumer/build/consumer"

check 'sb-call runs' "$prefix/bin/sb-call" --session installed call math:sqrt 16
for page in man1/sb-call.1 man1/sb-owner.1 man1/sb-inspect.1 man1/sb-reaper.1 man3/sb_session.3 man3/sb_session_open.3; do
	check "$page is installed" test -s "$prefix/share/man/$page"
done
if command -v man >/dev/null 2>&1; then
	check 'man finds sb_session_open' env "MANPATH=$prefix/share/man" MANPAGER=cat man 3 sb_session_open
fi

echo "$checks checks, $failures failed"
[ $failures -eq 0 ]
