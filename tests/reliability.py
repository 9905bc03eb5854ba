#!/usr/bin/env python3
"""Runs what tries faults, keeps what it printed in docs/reliability.json, and writes docs/reliability.md from that.

usage: reliability.py run [--quick] [SUITE...]   all (hours), or some; the others' results stay. --quick: for minutes
       reliability.py page                writes the page anew from the kept results
       reliability.py check BUILD_DIR     is the page what the results say, is every suite in it, are its commands there?

A suite prints lines "reliability: SUITE/ITEM tried=N failed=N seconds=S [name=value]...". Whoever adds a suite adds it below.
"""
import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
RESULTS = TOP / "docs" / "reliability.json"
PAGE = TOP / "docs" / "reliability.md"
LINE = re.compile(r"reliability: (([a-z-]+)/(\S+) tried=(\d+) failed=(\d+) seconds=([\d.]+)(.*))$")
TALLY = TOP / "tests" / "fuzz" / "tally.txt"

# name: (source that prints it, command, what is tried and what must hold)
SUITES = {
    "kill-points": ("tests/crash/test_points.c", "./dev crash",
                    "SIGKILL and stops at each named point, as caller, owner, reaper; then a bystander's call, a sweep, a check"),
    "kill-steps": ("tests/crash/test_step_lanes.c", "./dev crash",
                   "SIGKILL at each instruction of an operation, under ptrace; then the same"),
    "faults": ("tests/crash/test_faults.c", "./dev crash",
               "each system call and allocation of an operation fails in turn: the right error, nothing left behind"),
    "simulation": ("tests/sim/test_histories.c", # in two halves, one beside the other
                   "SB_SIM_HISTORIES=500000 SB_SIM_FIRST=100000000 build/dev/bin/tests/sim-test_histories & "
                   "SB_SIM_HISTORIES=500000 SB_SIM_FIRST=101000000 build/dev/bin/tests/sim-test_histories; "
                   "status=$?; wait $! && [ $status = 0 ]",
                   "random histories of many processes in one, with deaths, pauses and clock jumps, against the contract's model"),
    "interleavings": ("tests/sim/test_interleavings.c", "build/dev/bin/tests/sim-test_interleavings",
                      "the lane's code in every order of a few threads' steps"),
    "fuzz": ("tests/fuzz/run.py", "./dev fuzz --fast",
             "libFuzzer on what comes from other processes and from files; executions of all recorded runs (tests/fuzz/tally.txt), and "
             "inputs that crashed: each is mended, and kept in the corpus as fixed-..."),
    "replay": ("tests/fuzz/replay.c", "ctest --test-dir build/dev -V -L fuzz", "the kept fuzz corpora, again"),
    "scribble": ("tests/proc/test_scribble.c", "SB_SCRIBBLE_SECONDS=60 build/dev/bin/tests/proc-test_scribble",
                 "a process writes random bytes over its lane and over the mailbox of a running owner; bystanders' calls"),
    "secrets": ("tests/proc/test_secrets.c", "build/dev/bin/tests/proc-test_secrets", "tokens that show in core dumps"),
    "policy": ("tests/proc/test_policy_ways.c", "build/dev/bin/tests/proc-test_policy_ways",
               "ways around a session's policy: each is refused"),
    "torture": ("tests/stress/sb-torture.c", "SB_STRESS_SECONDS=600 build/dev/bin/tests/stress-sb-torture",
                "everything at once, real processes: answers are explained, what ran ran once, bystanders are answered, nothing leaks"),
    "sessions-model": ("tests/stress/test_sessions_model.c",
                       "SB_STRESS_SECONDS=300 build/dev/bin/tests/stress-test_sessions_model",
                       "random life and death of two hundred sessions: whatever a caller sees, the contract's model allows"),
    "kill-rounds": ("tests/stress/test_kill_rounds.c", "SB_KILL_ROUNDS=3000 build/dev/bin/tests/stress-test_kill_rounds",
                    "eight forked workers, one killed at a random moment, no reaper; then nothing of the dead is left"),
    "limits": ("tests/proc/test_limits.c", "SB_LIMIT_SESSIONS=10000 build/dev/bin/tests/proc-test_limits",
               "a thousand processes in one session, ten thousand sessions on one bridge; hogs of threads, lanes, bytes"),
    "death-notice": ("bench/death_notice.c", "build/dev/bin/bench-death_notice",
                     "a process is killed while another spins: how long until its callers, its sessions and its holds know"),
}

QUICK = {
    "scribble": "SB_SCRIBBLE_SECONDS=30 build/dev/bin/tests/proc-test_scribble",
    "simulation": "SB_SIM_HISTORIES=20000 build/dev/bin/tests/sim-test_histories",
    "torture": "SB_STRESS_SECONDS=60 build/dev/bin/tests/stress-sb-torture",
    "sessions-model": "SB_STRESS_SECONDS=60 build/dev/bin/tests/stress-test_sessions_model",
    "kill-rounds": "SB_KILL_ROUNDS=300 build/dev/bin/tests/stress-test_kill_rounds",
    "limits": "build/dev/bin/tests/proc-test_limits",
    "death-notice": "build/dev/bin/bench-death_notice --kills 100 --callers 100",
}

HEAD = """# Reliability

What a dying, hostile or starving process may do to the others, and how that was tried. The table is written by
`./dev reliability` from what the programs printed; each line can be run again by its command, from the top of the
sources after `./dev build dev`, or with `./dev reliability` and its suite's name, which builds what it needs. Nothing in it is
copied by hand.

## What is promised

- A call that is blocked learns of its designated owner's death at once: not when the kernel has freed the owner's memory, but before.
  It is told whether the call may have run.
- What a killed process owned or kept is given back: at once where a designated owner or `sb-reaper` watches it, by the next
  sweep in any case. Nothing of it is left after one pass of `sb-reaper --once`; `sb-inspect --check` proves that.
- A process that is stopped, slow, a zombie, or in another namespace is never taken for dead.
- A full file system, a full table or a full session is an error to whoever asks for more, and to nobody else; what exists goes
  on, and what was full works again when there is room.
- One process cannot take all lanes, threads or bytes from the others (`docs/configuration.md`: `max_lanes_per_process`,
  `max_service_threads`, `max_refs_per_process`, `max_arena_bytes`), and a session whose Python code hangs leaves threads for others.
  Where nobody says how many refs a process may have, one that has seven eighths of them pushes out its own (`on_full = evict`).
- Bytes that a peer wrote by accident crash nobody.

Not promised: processes of one user are one trust domain, so one that means harm can do it. A writer of the session store that is
*stopped* in mid-write holds up opening and closing of sessions until it goes on; calls go on meanwhile.

## What was tried
"""


def tally_rows():
    """The fuzz tally, summed up by target."""
    sums = {}
    for line in TALLY.read_text().splitlines() if TALLY.exists() else []:
        fields = line.split()
        if line.startswith("#") or len(fields) != 6:
            continue
        row = sums.setdefault(fields[1], [0, 0, 0])
        for i, value in enumerate((fields[3], fields[5], fields[4])):
            row[i] += int(value)
    return [{"item": target, "tried": tried, "failed": failed, "seconds": seconds, "more": ""}
            for target, (tried, failed, seconds) in sorted(sums.items())]


def rows_of(output):
    """Several programs that print of the same item make one row: what they tried, and the time that they took, added up."""
    rows = {}
    for line in output.splitlines():
        if match := LINE.search(line):
            _, suite, item, tried, failed, seconds, more = match.groups()
            row = next((row for row in rows.setdefault(suite, []) if row["item"] == item and not more.strip()), None)
            if row is None:
                row = {"item": item, "tried": 0, "failed": 0, "seconds": 0.0, "more": more.strip()}
                rows[suite].append(row)
            row["tried"] += int(tried)
            row["failed"] += int(failed)
            row["seconds"] = round(row["seconds"] + float(seconds), 1)
    return rows


def load():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def exists(suite):
    return (TOP / SUITES[suite][0]).exists()


def run(wanted, quick):
    status, done = 0, set()
    env = dict(os.environ, SB_BUILD_DIR=str(TOP / "build" / "dev"), SB_SOURCE_DIR=str(TOP))
    for suite in wanted or list(SUITES):
        if suite not in SUITES:
            sys.exit(f"reliability: no suite {suite}; there are {', '.join(SUITES)}")
        command = QUICK.get(suite, SUITES[suite][1]) if quick else SUITES[suite][1]
        if not exists(suite) or command in done:
            continue
        if suite == "fuzz" and not wanted:
            continue  # hours on its own; what was run is in the tally
        done.add(command)
        load_before = round(os.getloadavg()[0], 1)
        print(f"{suite}: {command}", flush=True)
        ran = subprocess.run(command, shell=True, cwd=TOP, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             errors="replace")
        output = ran.stdout
        for log in (TOP / "build" / "crash").glob("*.txt") if command == "./dev crash" else []:
            output += log.read_text(errors="replace")
        found = rows_of(output)
        if ran.returncode or not found:
            status = 1
            print(output[-3000:])
            print(f"{suite}: FAILED ({ran.returncode})")
        results = load()  # another run may have ended meanwhile
        for name, rows in found.items():
            results[name] = {"date": datetime.date.today().isoformat(), "cpus": os.cpu_count(), "load": load_before,
                             "status": ran.returncode,
                             "command": command, "rows": rows}
            for row in rows:
                print(f"  {name}/{row['item']}: {row['tried']} tried, {row['failed']} failed, {row['seconds']:g} s {row['more']}")
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        write_page()
    return status


def grouped(number):
    return f"{number:,}"


def suite_table(suite, result):
    source, command, words = SUITES[suite]
    command = result.get("command", command)
    rows = tally_rows() if suite == "fuzz" and TALLY.exists() else result.get("rows", [])
    text = [f"### {suite}", "", f"{words[0].upper()}{words[1:]}. `{command}` (source: `{source}`)", ""]
    if not rows:
        return text + ["Not run for this page yet.", ""], 0, 0
    tried, failed = sum(row["tried"] for row in rows), sum(row["failed"] for row in rows)
    more = any(row["more"] for row in rows)
    text += ["| item | tried | failed | seconds |" + (" also |" if more else ""), "|---|---|---|---|" + ("---|" if more else "")]
    for row in rows:
        line = f"| {row['item']} | {grouped(row['tried'])} | {grouped(row['failed'])} | {row['seconds']:g} |"
        text.append(line + (f" {row['more']} |" if more else ""))
    text.append(f"| **in all** | **{grouped(tried)}** | **{grouped(failed)}** | |" + (" |" if more else ""))
    busy = f", on which {result['load']:g} others ran or waited when it began" if "load" in result else ""
    when = f"Run on {result['date']}, {result['cpus']} CPUs{busy}." if result else "All runs that were recorded."
    return text + ["", when, ""], tried, failed


def page():
    results = load()
    tables, summary = [], ["| suite | tried | failed |", "|---|---|---|"]
    for suite in SUITES:
        text, tried, failed = suite_table(suite, results.get(suite, {}))
        tables += text
        summary.append(f"| [{suite}](#{suite}) | {grouped(tried)} | {grouped(failed)} |")
    return HEAD + "\n" + "\n".join(summary + [""] + tables).rstrip() + "\n"


def write_page():
    PAGE.write_text(page())


def printed():
    """(file, suite) of all that the sources print."""
    literal = re.compile(r"reliability: ([a-z-]+)/|(?:crash_report|step_suite_run)\(\"([a-z-]+)\"")
    for folder in ("tests", "bench", "tools"):
        for path in sorted((TOP / folder).glob("**/*.[ch]")):
            for match in literal.finditer(path.read_text(errors="replace")):
                yield path.relative_to(TOP), match.group(1) or match.group(2)


def command_is_there(command, build):
    words = [word for word in command.split() if "=" not in word]
    if words[0] == "./dev":
        return f"\n{words[1]}) cmd_" in (TOP / "dev").read_text()
    if words[0].startswith("build/dev/bin/tests/"):
        return (Path(build) / words[0].removeprefix("build/dev/")).exists()
    if words[0].startswith("build/dev/bin/bench-"):  # built on request
        return f"sb_add_bench({words[0].removeprefix('build/dev/bin/bench-')} " in (TOP / "bench" / "CMakeLists.txt").read_text()
    return words[0] == "ctest"


def check(build):
    problems = [f"{path} prints of the suite {suite}, which tests/reliability.py does not know" for path, suite in printed()
                if suite not in SUITES]
    problems += [f"{suite}: there is no command {command}" for suite in SUITES
                 for command in (SUITES[suite][1], QUICK.get(suite, SUITES[suite][1]))
                 if exists(suite) and not command_is_there(command, build)]
    text = PAGE.read_text() if PAGE.exists() else ""
    problems += [f"docs/reliability.md has no row of {suite}: run tests/reliability.py page" for suite in SUITES
                 if f"| [{suite}](#{suite}) |" not in text]
    known = set(re.findall(r"^\| \[([a-z-]+)\]", text, re.MULTILINE))
    problems += [f"docs/reliability.md has a row of {suite}, which is not there any more" for suite in known
                 if suite not in SUITES]
    print("\n".join(problems + [f"{len(known)} suites, {len(problems)} problems"]))
    return 1 if problems else 0


def main():
    command, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if command == "run":
        sys.exit(run([word for word in arguments if word != "--quick"], "--quick" in arguments))
    if command == "page":
        write_page()
    elif command == "check" and len(arguments) == 1:
        sys.exit(check(arguments[0]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
