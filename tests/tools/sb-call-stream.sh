#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sb-call stream and iter: lines as they come, --limit, and that the stream is closed however it ends.

tool=sb-call
. "$(dirname "$0")/../support/tool.sh"

# The refs that the session holds.
held()
{
	"$bin/sb-inspect" --json sessions | grep -o '"live_refs":[0-9]*' | cut -d: -f2
}

gives()
{
	expected=$1
	shift
	checks=$((checks + 1))
	run "$@"
	[ "$(cat "$work/out")" = "$expected" ] && [ $status -eq 0 ] && [ ! -s "$work/err" ] ||
		wrong "$tool $* should print '$expected' (status $status)"
}

ref()
{
	"$bin/sb-call" "$@" | grep -o 'sbref:[^"]*'
}

gives "$(printf '0\n1\n2')" -s demo stream builtins:range 3
gives "$(printf '"a"\n"b"')" -s demo stream builtins:iter '["a", "b"]'
gives "$(printf '5\n6')" -s demo --limit 2 stream itertools:count 5
gives "$(printf '0\n1\n2\n3\n4')" -s demo --fetch 2 stream builtins:range 5
gives '' -s demo stream builtins:range 0
gives '' -q -s demo stream builtins:range 3
wait_for '[ "$(held)" = 0 ]'
check "streams that have ended leave no refs" '[ "$(held)" = 0 ]'
checks=$((checks + 1))
run -s demo --as-ref stream builtins:range 1
grep -q '"type": "builtins.int"' "$work/out" || wrong "--as-ref leaves items where they are"
fails 1 "TypeError" -s demo stream builtins:int 1
fails 2 "--fetch and --limit go with iter and stream" -s demo --limit 1 call math:sqrt 1
fails 2 "--out does not go with stream" -s demo --out x stream builtins:range 1
fails 2 "no session is named" stream builtins:range 1

# ── one that waits, whose finally block says so ──

names=$(ref -s demo --as-ref call builtins:dict)
cat >"$work/source.json" <<'END'
"import time\nended = []\ndef slow(nap, first):\n    try:\n        yield from range(first)\n        while True:\n            time.sleep(nap)\n            yield 'more'\n    finally:\n        ended.append(1)\n"
END
gives null -s demo call builtins:exec @"$work/source.json" '{"$ref":"'"$names"'"}'

ended()
{
	[ "$("$bin/sb-call" -s demo call builtins:eval '"len(ended)"' '{"$ref":"'"$names"'"}')" = "$1" ]
}

slow=$(ref -s demo --as-ref call builtins:eval '"slow(0.01, 2)"' '{"$ref":"'"$names"'"}')
gives "$(printf '0\n1\n"more"')" --limit 3 iter "$slow"
wait_for 'ended 1'
check "a stream cut by --limit is closed" 'ended 1'

# Nobody reads any more, found out by writing.
slow=$(ref -s demo --as-ref call builtins:eval '"slow(0.01, 2)"' '{"$ref":"'"$names"'"}')
check "lines come while the stream goes on" '[ "$("$bin/sb-call" iter "$slow" 2>"$work/err" | head -n 3)" = "$(printf "0\n1\n\"more\"")" ]'
check "a pipe that is closed is no error" '[ ! -s "$work/err" ]'
wait_for 'ended 2'
check "a stream that nobody reads is closed" 'ended 2'

# Nobody reads any more, and nothing is written.
slow=$(ref -s demo --as-ref call builtins:eval '"slow(0.01, 2)"' '{"$ref":"'"$names"'"}')
quiet=$(ref -s demo --as-ref call builtins:eval '"(x for x in slow(0.01, 2) if x == 0)"' '{"$ref":"'"$names"'"}')
check "the line of a quiet stream comes" '[ "$("$bin/sb-call" iter "$quiet" | head -n 1)" = 0 ]'
wait_for 'ended 3'
check "a quiet stream that nobody reads is closed" 'ended 3'

# SIGTERM.
: >"$work/lines"
"$bin/sb-call" iter "$slow" >"$work/lines" 2>"$work/err" &
background=$!
wait_for '[ "$(wc -l <"$work/lines")" -ge 3 ]'
kill -TERM "$background"
wait "$background" 2>/dev/null
status=$?
background=
check "SIGTERM ends it as it ends others" '[ $status -eq 143 ]'
wait_for 'ended 4'
check "a stream is closed at SIGTERM" 'ended 4'

# --timeout is for each item.
fails 6 "no item in time" --timeout 0.3 iter "$(ref -s demo --as-ref call builtins:eval '"slow(60, 0)"' '{"$ref":"'"$names"'"}')"

finish
