#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sb-inspect as a user meets it, on a bridge with a living session: texts, JSON, exit statuses.

tool=sb-inspect
. "$(dirname "$0")/../support/tool.sh"

# ── nothing there, wrong arguments ──

fails 3 "there is no bridge in $SNAKEBRIDGE_DIR"
fails 3 '"code":"SB_ENOBRIDGE"' --json sessions
check "looking for a bridge made one" '[ ! -e "$SNAKEBRIDGE_DIR" ]'
fails 2 "say nothing" session
fails 2 "say nothing" sessions all
fails 2 "unknown" --frobnicate
says "^usage: sb-inspect" --help
says "^sb-inspect [0-9]" --version

# ── a bridge with one session ──

ref=$("$bin/sb-call" --session demo call fractions:Fraction 3 4 2>"$work/err")
check "sb-call made no ref" '[ -n "$ref" ]'

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
says "fractions.Fraction" session demo
says '"type":"fractions.Fraction"' --json session demo
says "^0 problems$" --check
says '"sound":true,"problems":\[\]' --check --json
says "" --quiet
run --no-legend sessions
check "--no-legend wrote a heading" '[ "$(wc -l <"$work/out")" -eq 1 ]'
fails 1 'there is no session "nobody"' session nobody
fails 1 '"code":"SB_ENOSESSION"' --json session nobody

chmod 0755 "$SNAKEBRIDGE_DIR"
fails 3 "chmod 0700"
chmod 0700 "$SNAKEBRIDGE_DIR"

check "it links Python" '! ldd "$bin/sb-inspect" | grep -qi python'
finish
