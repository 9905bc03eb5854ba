#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sb-call as a user meets it: values, refs across shells, every exit status, and stdout empty on error.

tool=sb-call
. "$(dirname "$0")/../support/tool.sh"

# gives EXPECTED ARG...: exit status 0, this line and nothing else.
gives()
{
	expected=$1
	shift
	checks=$((checks + 1))
	run "$@"
	if [ $status -ne 0 ] || [ "$(cat "$work/out")" != "$expected" ] || [ -s "$work/err" ]; then
		wrong "sb-call $* should give $expected (status $status)"
	fi
}

# also TEXT: it is on the stderr of the last run, too.
also()
{
	checks=$((checks + 1))
	grep -qF -e "$1" "$work/err" || wrong "'$1' should be on stderr"
}

# ref ARG...: prints the ref that a call gives, only its sbref:... form.
ref()
{
	"$bin/sb-call" "$@" | sed -n 's/^{"$ref": "\(sbref:[^"]*\)".*/\1/p'
}

# ── values ──

gives 4.0 --session demo call math:sqrt 16
gives 4.0 --session demo call math.sqrt 16
gives 3.141592653589793 --session demo get math:pi
gives '{"a": {"$tuple": [1, null]}, "b": {"$float": "nan"}, "c": {"$bytes": "AP8="}, "d": -0.0}' \
	-s demo call builtins:dict 'a={"$tuple":[1,null]}' 'b={"$float":"nan"}' 'c={"$bytes":"AP8="}' d=-0.0
gives '{"$dict": [["$ref", "x"]]}' -s demo call builtins:dict '{"$dict":[["$ref","x"]]}'
gives '"Grüße"' -s demo call builtins:str '"Grüße"'
gives -9223372036854775808 -s demo call builtins:int -9223372036854775808
gives null -s demo call builtins:print
gives '' -q -s demo call math:sqrt 16
gives '[3, 2, 1]' -s demo call builtins:sorted '[2,3,1]' reverse=true

# ── refs: printed by one, used by another ──

list=$(ref -s demo --as-ref call builtins:list '[1,2]')
counter=$(ref -s demo call collections:Counter '"abca"')
case $list,$counter in
sbref:demo:*,sbref:demo:*) ;;
*) wrong "refs should be printed: '$list' '$counter'" ;;
esac
gives null method "$list" append 3
gives '[1, 2, 3]' method "$list" copy
gives 3 -s demo method "{\"\$ref\": \"$list\", \"type\": \"builtins.list\"}" __len__
gives 3 -s demo call builtins:len "{\"\$ref\": \"$list\"}"
gives 2 method "$counter" get '"a"'
gives '"Counter"' attr "$counter" __class__.__name__
object=$(ref -s demo call types:SimpleNamespace a=1)
gives null set "$object" a '[5]'
gives '[5]' attr "$object" a
gives '{"dropped": true}' release "$object"
gives '{"dropped": false}' release "$object"
fails 6 released attr "$object" a
also "sb-call: "

# ── verbs on objects ──

numbers=$(ref -s demo --as-ref call builtins:list '[10,20,30]')
table=$(ref -s demo --as-ref call builtins:dict)
gives 20 getitem "$numbers" 1
gives 3 len "$numbers"
gives true contains "$numbers" 30
gives false contains "$numbers" '"30"'
gives null setitem "$numbers" -1 31
gives '"[10, 20, 31]"' repr "$numbers"
gives '"[10, 20, 31]"' str "$numbers"
gives null delitem "$numbers" 0
gives null setitem "$table" '{"$tuple":[1,2]}' '{"$ref":"'"$numbers"'"}'
gives true contains "$table" '{"$tuple":[1,2]}'
gives "$(printf '20\n31')" iter "$numbers"
gives "$(printf '20\n31')" --fetch 1 iter "$numbers"
gives '' -q iter "$numbers"
gives '' iter "$(ref -s demo --as-ref call builtins:list '[]')"
fails 1 "IndexError" getitem "$numbers" 9
fails 1 "unhashable" hash "$numbers"
fails 1 "TypeError" iter "$(ref -s demo call builtins:object)"
fails 2 "not a keyword argument" getitem "$numbers" a=1
fails 2 "setitem takes REF KEY VALUE" setitem "$numbers" 1
fails 2 "contradict" --plain --as-ref len "$numbers"
gives '{"a": 2, "b": 1}' -s demo --plain call collections:Counter '"aab"'
gives 1 pin "$numbers"
gives 2 pin "$numbers"
checks=$((checks + 1))
run info "$numbers"
grep -q '^{"type": "builtins.list", "module": "builtins", "session": "demo", "incarnation": "[0-9]*", "creator_pid": [0-9]*, "pins": 2, "age_ms": [0-9]*, "idle_ms": [0-9]*}$' "$work/out" ||
	wrong "info should print facts"
gives 1 unpin "$numbers"
gives 0 unpin "$numbers"
gives 0 unpin "$numbers"
gives '{"dropped": true}' release "$numbers"
fails 6 released info "$numbers"
fails 6 released iter "$numbers"

# ── exit statuses ──

fails 1 "ValueError: math domain error" -s demo call math:sqrt -1
also "sb-call: builtins.ValueError"
fails 1 "No module named 'no_such_module'" -s demo call no_such_module:f
fails 1 no_such_name -s demo get math:no_such_name
fails 1 '"code":"SB_EPYTHON"' --json -s demo call math:sqrt -1
also '{"schema":1,"error":{'
also '"outcome":"exception"'
also '"type":"builtins.ValueError"'
fails 1 '"code":"SB_EMODULE"' --json -s demo call no_such_module:f
fails 1 '"code":"SB_EATTRIBUTE"' --json -s demo get math:no_such_name

fails 2 "no verb"
fails 2 "unknown verb 'jump'" jump
fails 2 "no session is named" call math:sqrt 16
fails 2 "call takes PATH" -s demo call
fails 2 "set takes REF NAME VALUE" set "$list" a
fails 2 "the argument 'foo'" -s demo call builtins:str foo
also "'\"text\"'"
fails 2 "the keyword argument 'a=foo'" -s demo call builtins:dict a=foo
fails 2 "beyond what a float holds" -s demo call builtins:str 1e999
fails 2 "follows keyword" -s demo call builtins:dict a=1 2
fails 2 "--ttl takes" --ttl soon -s demo call math:sqrt 16
fails 2 "unknown or ambiguous option '--frob'" --frob
fails 2 '"code":"usage"' --json jump
fails 2 "not a well-formed ref" attr sbref:nonsense a
fails 2 '"code":"SB_EREFMALFORMED"' --json method "$list" append '{"$ref":"sbref:x"}'
fails 2 "is not a ref" attr '{}' a
fails 2 "$(printf 'max_refs')" --max-refs 5 -s demo call math:sqrt 16
fails 2 "" -s "$(printf 'bad\nid')" call math:sqrt 16

mkdir -m 0755 "$work/open"
fails 3 "$work/open" --dir "$work/open" -s demo call math:sqrt 16
fails 3 "" --dir "$work/no/such/place" -s demo call math:sqrt 16

fails 6 "no session \"nobody\"" --attach-only -s nobody call math:sqrt 16
gives 1 -s other call builtins:int '"1"'
fails 6 demo -s other method "$list" append 4
also other
fails 6 '"code":"SB_EREFSESSION"' --json -s other call builtins:len "{\"\$ref\":\"$list\"}"
also '"session":"other"'
also '"other_session":"demo"'
case $list in
*0) guess=${list%?}1 ;;
*) guess=${list%?}0 ;;
esac
fails 6 never attr "$guess" a

fails 7 "" --timeout 0.3 -s other call time:sleep 3
gives '{"released": 1}' release-session other

# ── sessions ──

gives 1 -s tagged --ttl 60 --max-refs 7 --tag a=b --tag c= call builtins:int 1
gives 1 -s tagged call builtins:int 1
fails 2 "--tag takes KEY=VALUE" -s tagged --tag ab call builtins:int 1
gives '{"released": 1}' release-session tagged
gives '{"released": 0}' release-session tagged
gives 1 -s brief --not-persistent call builtins:int 1
gives '{"released": 0}' release-session brief

# ── a policy ──

gives 4.0 -s guarded --allow math --allow 'builtins:*' --deny math:cos --deny '.__*__' call math:sqrt 16
fails 6 'denies "math:cos"' -s guarded call math:cos 1
fails 6 "allows only some modules" -s guarded call os:getpid
fails 6 '"code":"SB_EDENIED"' --json -s guarded get builtins:len.__class__
gives 4.0 -s guarded --allow math --allow 'builtins:*' --deny math:cos --deny '.__*__' call math:sqrt 16
fails 2 "another policy" -s guarded --allow math call math:sqrt 16
fails 2 "deny[0]" -s unguarded --deny . call math:sqrt 16
tool=sb-inspect
says '^allow  *math$' session guarded
says '^allow  *builtins:\*$' session guarded
says '^deny  *\.__\*__$' session guarded
says '"policy":{"allow":\["math","builtins:\*"\],"deny":\["math:cos","\.__\*__"\]}' --json session guarded
says '"policy":{"allow":\[\],"deny":\[\]}' --json session demo
tool=sb-call

# The owner's death, and after it.
owner=$("$bin/sb-call" -s demo call os:getpid)
fails 7 died -s demo call os:kill "$owner" 9
fails 6 died method "$list" copy
gives 1 -s demo call builtins:int 1
fails 6 "" method "$list" copy
gives '{"dropped": false}' release "$list"
gives '{"released": 1}' release-session demo
gives '{"dropped": false}' release "$list"
fails 6 ended method "$list" copy

# ── help ──

checks=$((checks + 1))
run --help
for word in --session --as-ref --plain --batch --fetch --out --stop-on-error request getitem iter --max-refs --not-persistent "Exit status" SNAKEBRIDGE_DIR release-session; do
	grep -qF -e "$word" "$work/out" || wrong "--help should mention $word"
done
checks=$((checks + 1))
run -V
grep -q '^sb-call [0-9]*\.[0-9]*\.[0-9]*$' "$work/out" || wrong "-V should print a version"

finish
