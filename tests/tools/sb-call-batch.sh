#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sb-call with requests and arguments from files and stdin: one, or many in a round trip.

tool=sb-call
. "$(dirname "$0")/../support/tool.sh"

# feed TEXT STATUS ARG...: with this on stdin the tool ends so; what it wrote is in $work/out and $work/err.
feed()
{
	text=$1
	expected=$2
	shift 2
	checks=$((checks + 1))
	printf '%b' "$text" | "$bin/$tool" "$@" >"$work/out" 2>"$work/err"
	status=$?
	[ $status -eq "$expected" ] || wrong "$tool $* should end with $expected (status $status)"
}

# gave LINE...: the lines of the last run's stdout; nothing on stderr.
gave()
{
	checks=$((checks + 1))
	printf '%s\n' "$@" >"$work/expected"
	if ! cmp -s "$work/expected" "$work/out" || [ -s "$work/err" ]; then
		wrong "these lines were expected: $*"
	fi
}

# complained TEXT: on stderr, with nothing on stdout.
complained()
{
	checks=$((checks + 1))
	if [ -s "$work/out" ] || ! grep -qF -e "$1" "$work/err"; then
		wrong "it should complain '$1'"
	fi
}

# has PATTERN: a line of the last run's stdout.
has()
{
	checks=$((checks + 1))
	grep -q -e "$1" "$work/out" || wrong "a line should match '$1'"
}

# ── arguments from stdin and files ──

feed '[3, 1, 2]' 0 -s demo call builtins:sorted - reverse=true
gave '[3, 2, 1]'
feed '{"b": 1}\n' 0 -s demo call builtins:dict a=-
gave '{"a": {"b": 1}}'
printf '  [1,\n2]\n' >"$work/list.json"
feed '' 0 -s demo call builtins:len "@$work/list.json"
gave 2
feed '' 0 -s demo call builtins:dict a=1 "b=@$work/list.json"
gave '{"a": 1, "b": [1, 2]}'
feed -1 0 -s demo call builtins:abs -
gave 1
feed '' 0 -s demo call builtins:abs -1 # no file's name
gave 1
feed '1' 2 -s demo call builtins:dict a=- b=-
complained 'stdin is read once'
feed '' 2 -s demo call builtins:abs -
complained 'no JSON in it'
feed '{bad' 2 -s demo call builtins:abs -
complained 'no JSON'
feed '1\00002' 2 -s demo call builtins:abs -
complained 'NUL'
feed '' 2 -s demo call builtins:abs "@$work/nowhere"
complained 'No such file'
feed '' 2 -s demo call builtins:abs "@$work"
complained 'Is a directory'
feed '' 2 -s demo call builtins:abs @
complained 'names no file'
feed '' 2 -s nobody-made-this call builtins:abs "@$work/nowhere"
fails 6 'no session' --attach-only -s nobody-made-this call builtins:abs 1 # nothing was made

# ── a request ──

feed '' 0 -s demo request '{"name": "math:sqrt", "args": [16]}'
gave 4.0
feed '{"name": "builtins:sorted", "args": [[1, 2]], "kwargs": {"reverse": true}}' 0 -s demo request -
gave '[2, 1]'
feed '' 0 -s demo request '{"name": "builtins:list", "args": [[1]], "as_ref": true}'
list=$(sed -n 's/^{"$ref": "\(sbref:[^"]*\)".*/\1/p' "$work/out")
feed '' 0 request '{"verb": "method", "target": "'"$list"'", "name": "append", "args": [5]}'
gave null
feed '' 0 request '{"verb": "getitem", "target": {"$ref": "'"$list"'"}, "args": [1]}'
gave 5
feed '' 0 -s demo request '{"name": "collections:Counter", "args": ["aab"], "plain": true}'
gave '{"a": 2, "b": 1}'
feed '' 1 -s demo request '{"name": "math:sqrt", "args": [-1]}'
complained 'math domain error'
while IFS='|' read -r text words; do
	[ -n "$words" ] || continue
	feed '' 2 -s demo request "$words"
	complained "$text"
done <<'END'
a request is an object|[]
a request is an object|"math:sqrt"
has no key 'argz'|{"name": "math:sqrt", "argz": [1]}
requests have no verb 'jump'|{"verb": "jump"}
requests have no verb '?'|{"verb": 1}
call needs a "name"|{"args": [1]}
"name" needs a text|{"name": ""}
"name" needs a text|{"name": 3}
method needs a "target"|{"verb": "method", "name": "f"}
"target" needs a ref|{"verb": "len", "target": 5}
not a well-formed ref|{"verb": "len", "target": "sbref:x"}
call takes no "target"|{"name": "f", "target": {"$item": 0}}
"args" needs an array|{"name": "f", "args": 1}
"args" needs an array|{"name": "f", "args": {"$tuple": [1]}}
"kwargs" needs an object|{"name": "f", "kwargs": [1]}
"kwargs" needs an object|{"name": "f", "kwargs": []}
"kwargs" needs an object|{"name": "f", "kwargs": {"$dict": [[1, 2]]}}
get takes no "kwargs"|{"verb": "get", "name": "math:pi", "kwargs": {"a": 1}}
get takes 0 "args", not 1|{"verb": "get", "name": "math:pi", "args": [1]}
"as_ref" needs true or false|{"name": "f", "as_ref": 1}
no JSON|{"name": "f"
END
feed '' 6 -s demo request '{"name": "builtins:len", "args": [{"$item": 0}]}'
complained "known only to later items"

# ── batches ──

cat >"$work/requests" <<'END'
{"name": "builtins:list", "args": [[3, 1, 2]], "as_ref": true}
{"verb": "method", "target": {"$item": 0}, "name": "append", "args": [0]}

{"name": "builtins:sorted", "args": [{"$item": 0}], "kwargs": {"reverse": true}}
{"name": "math:sqrt", "args": [-1]}
{"name": "builtins:repr", "args": [[{"$item": 2}, {"k": {"$item": 0}}]]}
{"name": "builtins:len", "args": [{"$item": 3}]}
{"verb": "get", "name": "math:pi"}
END
feed '' 1 -s demo --batch "$work/requests"
has '^{"item": 0, "result": {"$ref": "sbref:demo:.*", "type": "builtins.list"}}$'
has '^{"item": 1, "result": null}$'
has '^{"item": 2, "result": \[3, 2, 1, 0\]}$'
has '^{"item": 3, "error": {"code": "SB_EPYTHON", .*"outcome": "exception", .*"type": "builtins.ValueError"'
has "^{\"item\": 4, \"result\": \"\[\[3, 2, 1, 0\], {'k': \[3, 1, 2, 0\]}\]\"}\$"
has '^{"item": 5, "error": {"code": "SB_EINVAL", .*"outcome": "refused"'
has '^{"item": 6, "result": 3.14159'
check "seven lines" '[ "$(wc -l <"$work/out")" -eq 7 ] && [ ! -s "$work/err" ]'
feed '' 1 -s demo --batch --stop-on-error "$work/requests"
has '^{"item": 2, "result": \[3, 2, 1, 0\]}$'
has '^{"item": 6, "error": {"code": "SB_ECANCELLED"'
feed '{"name": "builtins:abs", "args": [-1]}\n{"name": "builtins:abs", "args": [-2]}' 0 -s demo --batch
gave '{"item": 0, "result": 1}' '{"item": 1, "result": 2}'
feed '{"name": "builtins:abs", "args": [-1]}\r\n' 0 -s demo --batch -
gave '{"item": 0, "result": 1}'
feed '{"verb": "len", "target": "'"$list"'"}' 0 --batch # the ref knows its session
gave '{"item": 0, "result": 2}'
feed '{"name": "builtins:list"}\n' 0 -q -s demo --batch
check "quiet" '[ ! -s "$work/out" ] && [ ! -s "$work/err" ]'
feed '{"name": "builtins:list"}\n' 0 --as-ref -s demo --batch
has '"$ref": "sbref:demo'

# A thousand in one, and one more than there may be.
python3 - "$work" <<'END' || wrong "python3 is needed"
import json, sys
with open(sys.argv[1] + "/thousand", "w") as f:
    for i in range(1000):
        print(json.dumps({"name": "operator:add", "args": [1, {"$item": i - 1} if i else 0]}), file=f)
with open(sys.argv[1] + "/many", "w") as f:
    for i in range(10001):
        print(json.dumps({"name": "builtins:abs", "args": [i]}), file=f)
END
feed '' 0 -s demo --batch "$work/thousand"
has '^{"item": 999, "result": 1000}$'
feed '' 2 -s demo --batch "$work/many"
complained 'line 10001'

# What is wrong in the middle: nothing runs.
counter=$("$bin/sb-call" -s demo --as-ref call collections:deque | sed -n 's/^{"$ref": "\(sbref:[^"]*\)".*/\1/p')
one='{"verb": "method", "target": "'$counter'", "name": "append", "args": [1]}'
for bad in '{"name": ' '[1]' '{"verb": "jump"}' '{"name": "f", "args": [{"$item": 1}]}' '{"verb": "len", "target": {"$item": 7}}'; do
	printf '%s\n%s\n%s\n' "$one" "$bad" "$one" >"$work/middle"
	feed '' 2 --batch "$work/middle"
	complained 'line 2: '
done
says '^0$' len "$counter"

feed '' 0 -s demo --batch # nothing to do
check "an empty batch says nothing" '[ ! -s "$work/out" ] && [ ! -s "$work/err" ]'
check "a closed stdin is an empty one" '[ -z "$("$bin/sb-call" -s demo --batch <&- 2>&1)" ]'
feed '' 2 -s demo --batch "$work/nowhere"
complained 'No such file'
feed '{"name": "builtins:list"}\n' 2 --batch
complained 'no session is named'
feed '' 2 -s demo --batch a b
complained 'one FILE at most'
feed '' 2 -s demo --stop-on-error call builtins:list
complained '--stop-on-error goes with --batch'
feed "$one\\n" 6 -s other --batch
complained 'other'
feed '{"name": "builtins:list"}\n' 6 --attach-only -s nobody-made-this --batch
complained 'no session'
feed '{"name": "time:sleep", "args": [3]}\n' 7 --timeout 0.3 -s demo --batch
complained ''

case $list in
*0) guess=${list%?}1 ;;
*) guess=${list%?}0 ;;
esac

# All outcomes in one, and the status of the first that failed.
feed '{"name": "builtins:abs", "args": [-1]}\n{"verb": "len", "target": "'"$guess"'"}\n{"name": "math:sqrt", "args": [-1]}\n' 6 -s demo --batch
has '^{"item": 1, "error": {"code": "SB_EREFUNKNOWN", .*"outcome": "refused"'
finish
