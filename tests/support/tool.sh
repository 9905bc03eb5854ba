# SPDX-License-Identifier: Apache-2.0
# For tests of tools, to be sourced: a bridge directory of their own, and checks that count. The test sets $tool to the
# program that run, says and fails mean, and ends with finish.

set -u
bin=${SB_BUILD_DIR:?}/bin
if [ -d /dev/shm ]; then tmp=/dev/shm; else tmp=/tmp; fi
work=$(mktemp -d "${TMPDIR:-$tmp}/${tool:?}.XXXXXX") || exit 1
SNAKEBRIDGE_DIR=$work/bridge
export SNAKEBRIDGE_DIR
failures=0
checks=0
background= # pid of what the test started and has not ended

# Releases every session, so that their owners end.
cleanup()
{
	[ -n "$background" ] && kill "$background" 2>/dev/null
	for id in $("$bin/sb-inspect" --json sessions 2>/dev/null | grep -o '"session":"[^"]*"' | cut -d'"' -f4); do
		"$bin/sb-call" release-session "$id" >/dev/null 2>&1
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

wrong()
{
	failures=$((failures + 1))
	echo "FAILED: $1"
	echo "  stdout: $(cat "$work/out")"
	echo "  stderr: $(cat "$work/err")"
}

# check WHAT COMMAND: the command, a string, succeeds; else WHAT is what is wrong.
check()
{
	checks=$((checks + 1))
	eval "$2" || wrong "$1"
}

# run ARG...: status in $status, output in $work/out and $work/err.
run()
{
	"$bin/$tool" "$@" >"$work/out" 2>"$work/err"
	status=$?
}

# says PATTERN ARG...: status 0, a line of stdout matches (PATTERN "": stdout is empty), nothing on stderr.
says()
{
	pattern=$1
	shift
	checks=$((checks + 1))
	run "$@"
	if [ -n "$pattern" ]; then grep -q -e "$pattern" "$work/out"; else [ ! -s "$work/out" ]; fi
	if [ $? -ne 0 ] || [ $status -ne 0 ] || [ -s "$work/err" ]; then
		wrong "$tool $* should say '$pattern' (status $status)"
	fi
}

# fails STATUS TEXT ARG...: this status, nothing on stdout, TEXT on stderr.
fails()
{
	expected=$1
	text=$2
	shift 2
	checks=$((checks + 1))
	run "$@"
	if [ $status -ne "$expected" ] || [ -s "$work/out" ] || ! grep -qF -e "$text" "$work/err"; then
		wrong "$tool $* should fail with $expected and '$text' (status $status)"
	fi
}

# wait_for COMMAND: until the command, a string, succeeds, at most ten seconds.
wait_for()
{
	tries=0
	until eval "$1" || [ $tries -ge 500 ]; do
		sleep 0.02
		tries=$((tries + 1))
	done
}

# number KEY: what sb-inspect's overview says.
number()
{
	"$bin/sb-inspect" --json | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"
}

finish()
{
	echo "$checks checks, $failures failed"
	[ $failures -eq 0 ]
}
