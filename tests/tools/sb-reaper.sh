#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sb-reaper as a user meets it: what it says and does about a killed owner, exit statuses, staying until told to end.

tool=sb-reaper
. "$(dirname "$0")/../support/tool.sh"

serve()
{
	"$bin/sb-owner" --detach --quiet --persistent --session "$1" >"$work/out" 2>"$work/err" && return
	wrong "sb-owner could not serve $1"
	exit 1
}

owner_of()
{
	"$bin/sb-inspect" --json session "$1" | sed -n 's/.*"designated_owner":{"pid":\([0-9]*\).*/\1/p'
}

# ── nothing there, wrong arguments ──

fails 3 "there is no bridge in $SNAKEBRIDGE_DIR"
fails 3 '"code":"SB_ENOBRIDGE"' --json
fails 3 "there is no bridge in $work/elsewhere" --dir "$work/elsewhere"
check "looking for a bridge made one" '[ ! -e "$SNAKEBRIDGE_DIR" ]'
fails 2 "exclude each other" --once --interval 1
fails 2 "--interval takes" --interval 0
fails 2 "unknown" --frobnicate
fails 2 "takes no operand" now
says "^usage: sb-reaper" --help
says "^sb-reaper [0-9]" --version

# ── nobody is dead ──

serve a
says "^nothing to do$"
says "^nothing to do$" --once
says "" --quiet
says "" --no-legend
says '"actions":0,"failed":0' --json

# ── somebody is ──

kill -9 "$(owner_of a)"
wait_for '[ "$(number dead_processes)" -eq 1 ]'
says '^session-orphaned     session "a"' --dry-run
says "would be done$" --dry-run
says '"action":"process-dead","dry_run":true' --dry-run --json
check "a dry run changed something" '[ "$(number dead_processes)" -eq 1 ]'
says '"action":"session-orphaned","session":"a"' --json
for key in dead_processes dead_owners claimed_lanes_of_dead orphan_files; do
	check "$key is not 0" '[ "$(number $key)" = 0 ]'
done
check "the session is gone" '"$bin/sb-inspect" session a | grep -q orphaned'
says "^nothing to do$"

# ── it stays, tidies by itself, and ends when it is told to ──

serve b
"$bin/sb-reaper" --interval 0.1 --json >"$work/out" 2>"$work/err" &
background=$!
kill -9 "$(owner_of b)"
wait_for 'grep -q "\"action\":\"process-dead\"" "$work/out"'
check "it did nothing about a dead process" 'grep -q "\"session-orphaned\",\"session\":\"b\"" "$work/out"'
kill -TERM "$background"
wait "$background"
status=$?
background=
check "SIGTERM ended it with status $status" '[ $status -eq 0 ]'

"$bin/sb-reaper" --interval 0.05 >"$work/out" 2>"$work/err" &
background=$!
mv "$SNAKEBRIDGE_DIR" "$work/away"
rm -rf "$work/away"
wait "$background"
status=$?
background=
check "the directory was removed, and it ended with status $status" '[ $status -eq 3 ]'

check "it links Python" '! ldd "$bin/sb-reaper" | grep -qi python'
finish
