#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sb-inspect as a user meets it, on a bridge with a living session: texts, JSON, exit statuses.

tool=sb-inspect
. "$(dirname "$0")/../support/tool.sh"

# ── nothing there, wrong arguments ──

fails 3 "there is no bridge in $SNAKEBRIDGE_DIR"
fails 3 '"code":"SB_ENOBRIDGE"' --json sessions
check "looking for a bridge made one" '[ ! -e "$SNAKEBRIDGE_DIR" ]'
fails 2 "takes the id of one session" session
fails 2 "sessions takes no operand" sessions all
fails 2 "unknown" --frobnicate
says "^usage: sb-inspect" --help
says "^sb-inspect [0-9]" --version

# ── a bridge with one session ──

ref=$("$bin/sb-call" --session demo call collections:Counter '"aab"' 2>"$work/err")
check "sb-call made no ref" '[ -n "$ref" ]'
wait_for '"$bin/sb-inspect" | grep -q "^refs       1 live"' # numbers follow a call by a moment

says "^bridge     $SNAKEBRIDGE_DIR$"
says "^sessions   1 active"
says "^refs       1 live"
says '"schema":1,"what":"bridge"' --json
for key in dead_processes dead_owners claimed_lanes_of_dead orphan_files; do
	says "\"$key\":0" --json
done
says "sb-owner .*alive" processes
says '"serving_sessions":1' --json processes
says "^SESSION " sessions
says "^demo  *active" sessions
says '"session":"demo"' --json sessions
says "^state  *active" session demo
says "collections.Counter" session demo
says '"type":"collections.Counter"' --json session demo
says "^0 problems$" --check
says '"sound":true,"problems":\[\]' --check --json
says "" --quiet
run --no-legend sessions
check "--no-legend wrote a heading" '[ "$(wc -l <"$work/out")" -eq 1 ]'
fails 1 'there is no session "nobody"' session nobody
fails 1 '"code":"SB_ENOSESSION"' --json session nobody

# ── lists, filters, metrics ──

"$bin/sb-call" --session other --tag colour=blue call collections:Counter >/dev/null 2>"$work/err"
wait_for '"$bin/sb-inspect" | grep -q "^refs       2 live"'
says "^SESSION .*OWNER" owners
says '"what":"owners","owners":\[' --json owners
says "^other " sessions --tag colour=blue
run --no-legend sessions --tag colour=blue
check "--tag showed others" '[ "$(wc -l <"$work/out")" -eq 1 ]'
says "" --no-legend sessions --state orphaned
says "collections.Counter" refs demo --type 'collections.*' --sort idle
says "" --no-legend refs demo --type 'numpy.*'
says '"refs":\[{"slot":' --json refs demo
says "" --no-legend calls
says '"service_ns":"[1-9]' --json session demo
says '^snakebridge_session_calls_total{session="demo"} [1-9]' --openmetrics
says '^# EOF$' --openmetrics
says '^demo .*active' --watch --timeout 0.1 0.05
fails 2 "can be sorted by" sessions --sort colour
fails 2 "exclude each other" --watch --check

# ── an owner that stands still, and a call that waits for it ──

owner=$("$bin/sb-inspect" --json session demo | sed -n 's/.*"designated_owner":{"pid":\([0-9]*\).*/\1/p')
# It may be writing to the store at that moment: then nobody else can, no call begins, and it is tried again.
for attempt in 1 2 3 4 5; do
	kill -STOP "$owner"
	"$bin/sb-call" --session demo --timeout 60 call operator:add 1 2 >"$work/sum" 2>&1 &
	background=$!
	wait_for '"$bin/sb-inspect" calls | grep -q queued'
	"$bin/sb-inspect" calls | grep -q queued && break
	kill -CONT "$owner"
	wait "$background"
done
says "^demo  *queued  *call operator.*sb-call" --timeout 20 calls
says '"state":"queued","label":"call operator' --timeout 20 --json calls
says "^calls  *1 queued, 0 running" --timeout 20
says "^demo  *active" --timeout 20 sessions --owner "$owner"
says "^0 problems$" --timeout 20 --check
says "sb-call .*alive" --timeout 20 owners
says '^snakebridge_calls_in_flight{state="queued"} 1' --timeout 20 --openmetrics
kill -CONT "$owner"
wait "$background"
background=
check "the call had no answer" 'grep -qx 3 "$work/sum"'

# ── everybody is dead ──

for id in demo other; do
	kill -9 "$("$bin/sb-inspect" --json session $id | sed -n 's/.*"designated_owner":{"pid":\([0-9]*\).*/\1/p')"
done
wait_for '[ "$(number alive_processes)" -eq 0 ]'
says "^processes  0 alive" --no-legend
says "dead" sessions
run --check
check "--check saw no death (status $status)" '[ $status -eq 1 ] && grep -q "designated owner, pid" "$work/out"'
"$bin/sb-reaper" --once --quiet >/dev/null 2>&1
says "^0 problems$" --check

chmod 0755 "$SNAKEBRIDGE_DIR"
fails 3 "chmod 0700"
chmod 0700 "$SNAKEBRIDGE_DIR"

check "it links Python" '! ldd "$bin/sb-inspect" | grep -qi python'
finish
