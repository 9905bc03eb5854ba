#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a new user may get wrong with each tool: a sentence on stderr, nothing on stdout, the exit status that says whose
# fault it was. And standard streams that are closed or full.

tool=sb-call
. "$(dirname "$0")/../support/tool.sh"

"$bin/sb-call" -s there call builtins:int 1 >"$work/out" 2>"$work/err" || wrong "no session was made"

mkdir -m 0755 "$work/open"
ln -s "$work/bridge" "$work/link"

# ── a table: status | text on stderr | tool and its words, as a shell reads them ──

while IFS='|' read -r expected text words; do
	[ -n "$words" ] || continue
	eval "set -- $words"
	tool=$1
	shift
	fails "$expected" "$text" "$@"
done <<'END'
2|there is no JSON in it|sb-call -s there call builtins:str ''
2|there is no JSON in it|sb-call -s there call builtins:str ' '
2|the keyword argument 'a='|sb-call -s there call builtins:dict a=
2|no JSON|sb-call -s there call builtins:str '{bad'
2|no JSON|sb-call -s there call builtins:str 1 '2 3'
2|no JSON|sb-call -s there call builtins:str NaN
2|beyond what a float holds|sb-call -s there call builtins:str 1e999
2|[[[[...': |sb-call -s there call builtins:str "$(printf '%4000s' | tr ' ' '[')"
2|the keyword argument 'a=2' is given twice|sb-call -s there call builtins:dict a=1 b=1 a=2
2|PATH is empty|sb-call -s there call ''
2|PATH is empty|sb-call -s there get ''
6|no path of a Python name|sb-call -s there get math:
2|takes ID, not 2 words|sb-call release-session a b
2|a session id is empty|sb-call release-session ''
2|unknown verb ''|sb-call ''
2|no verb is given|sb-call --
2|unknown option '-x'|sb-call -x
2|letters are of ASCII|sb-call -é
2|--session needs an argument: ID|sb-call --session
2|--session needs an argument that is not empty|sb-call -s '' call math:sqrt 16
2|--tag takes KEY=VALUE, not '=': the key is empty|sb-call --tag = -s there call math:sqrt 16
2|--tag takes KEY=VALUE, not 'a'|sb-call --tag a -s there call math:sqrt 16
2|--timeout takes|sb-call --timeout 0x10 -s there call math:sqrt 16
2|--timeout takes|sb-call --timeout -1 -s there call math:sqrt 16
2|--timeout takes|sb-call --timeout nan -s there call math:sqrt 16
2|--ttl takes|sb-call --ttl 99999999999999999999 -s there call math:sqrt 16
2|--ttl takes|sb-call --ttl ' 5' -s there call math:sqrt 16
2|--as-ref takes no argument|sb-call --as-ref=yes -s there call math:sqrt 16
2|--python needs an argument that is not empty|sb-call --python '' -s new call math:sqrt 16
3|/bin/ls is not a Python|sb-call --python /bin/ls -s new call math:sqrt 16
3|parent does not exist|sb-call --dir /no/such/place -s there call math:sqrt 16
2|--session ID is required|sb-owner
2|--tag takes KEY=VALUE, not '=b': the key is empty|sb-owner -s new --tag =b
2|takes evict or error|sb-owner -s new --on-full often
2|unexpected argument|sb-owner -s new -- more
2|allow[0]|sb-owner -s new --allow ''
3|/bin/ls is not a Python|sb-owner -s new --python /bin/ls
3|/bin/ls is not a Python|sb-owner -s new --python /bin/ls --detach
6|join it with|sb-owner -s there
6|there is no session "nobody"|sb-call --attach-only -s nobody call math:sqrt 16
6|there is no session "nobody"|sb-call repr sbref:nobody:1:0.1:00112233445566778899aabbccddeeff
6|repr: the ref never existed|sb-call repr sbref:there:1:0.1:00112233445566778899aabbccddeeff
2|not a well-formed ref|sb-call release sbref:there:1
3|open to group or others|sb-call -d "$work/open" -s new call math:sqrt 16
3|is a symbolic link|sb-call -d "$work/link" -s new call math:sqrt 16
3|there is no bridge|sb-inspect -d "$work/nothing"
3|there is no bridge|sb-reaper -d "$work/nothing"
1|there is no session "nobody"|sb-inspect session nobody
2|--dir needs an argument that is not empty|sb-inspect --dir '' sessions
2|unknown view 'frob'|sb-inspect frob
2|session takes the id of one session|sb-inspect session
2|session takes the id of one session|sb-inspect session ''
2|refs takes the id of one session|sb-inspect refs a b
2|sessions takes no operand|sb-inspect sessions all
2|--tag takes KEY or KEY=VALUE, not '=': the key is empty|sb-inspect sessions --tag =
2|the key is empty|sb-inspect sessions --tag ''
2|the key is empty|sb-inspect --openmetrics --tag =x
2|--tag does not go with processes|sb-inspect processes --tag a
2|--tag does not go with --check|sb-inspect --check --tag a
2|--type does not go with sessions|sb-inspect sessions --type 'numpy.*'
2|--owner takes|sb-inspect sessions --owner -1
2|--state takes|sb-inspect sessions --state gone
2|exclude each other|sb-inspect --check --watch
2|one word too many|sb-inspect --check sessions
2|--watch takes 0.05 to 86400 seconds, not '0'|sb-inspect --watch 0
2|one operand at most|sb-inspect --watch 1 2
2|'abc'|sb-inspect events --since abc
2|go with 'events'|sb-inspect --follow
2|"code":"usage"|sb-inspect --json frob
2|takes no operand: '--once'|sb-reaper -- --once
2|--wait goes with --interval|sb-reaper --wait
2|--timeout goes with one pass|sb-reaper --interval 1 --timeout 5
2|--budget-ms takes|sb-reaper --budget-ms 1.5
2|not 'html'|sb-reaper --help=html
END

tool=sb-inspect
check "a refused command made a session" '[ "$("$bin/sb-inspect" --no-legend sessions | wc -l)" -eq 1 ]'

# ── standard streams ──

# streams STATUS TOOL ARG...: that status with stdout closed and with stdout full, and a sentence.
streams()
{
	expected=$1
	tool=$2
	shift 2
	for stdout in closed full; do
		checks=$((checks + 1))
		if [ $stdout = closed ]; then
			"$bin/$tool" "$@" >&- 2>"$work/err"
		elif [ -c /dev/full ]; then
			"$bin/$tool" "$@" >/dev/full 2>"$work/err"
		else
			continue
		fi
		status=$?
		if [ $status -ne "$expected" ] || ! grep -q "the output cannot be written" "$work/err"; then
			wrong "$tool $* with stdout $stdout ended with $status"
		fi
	done
}

: >"$work/out"
streams 3 sb-call -s there call builtins:int 1
streams 3 sb-call --help
streams 3 sb-call release-session nobody
streams 3 sb-inspect
streams 3 sb-inspect --json
streams 3 sb-inspect sessions
streams 3 sb-inspect session there
streams 3 sb-inspect events
streams 3 sb-inspect --openmetrics
streams 3 sb-inspect --watch --timeout 0.2 0.1
streams 3 sb-reaper
streams 3 sb-reaper --json
streams 3 sb-owner --version

# With no stream at all a session is made and served, and its Python may print.
check "sb-owner needs streams" '"$bin/sb-owner" --detach -s dark <&- >&- 2>&-'
tool=sb-call
says '^null$' -s dark call builtins:print '"lost"'
check "sb-call needs stdin" '[ "$("$bin/sb-call" -s dark call builtins:int 7 <&-)" = 7 ]'
check "the bridge was written to" '"$bin/sb-inspect" --check >"$work/out" 2>"$work/err"'
finish
