#!/usr/bin/env python3
"""Sums up the JUnit files that ctest wrote, one test of CMocka at a time.

usage: report.py [--broken NAME]... [PRESET=JUNIT_FILE]...

A CMocka program counts as the tests it ran; a program that died, timed out or stopped before its last test counts at
least one failure. Any other ctest test counts as one. --broken counts one failure for what did not even build.
The last line is "N passed, N failed" with ", N skipped" when there were any. Exit status 0 needs a pass and no failure.
"""
import argparse
import re
import sys
import xml.etree.ElementTree as ET

RUNNING = re.compile(r"\[==========\] Running (\d+) test")
EVENT = re.compile(r"\[ +(RUN|OK|FAILED|ERROR|SKIPPED) +\] (\S.*?)\s*$")
TAIL = 60  # lines of a failed test's output that are shown


def cmocka_counts(output):
    """(announced, passed, failed, skipped), or None when this is not the output of CMocka.

    Only a verdict on the test that is running counts, so the closing summary, which names failures again, does not.
    """
    announced = None
    passed = failed = skipped = 0
    running = None
    for line in output.splitlines():
        if match := RUNNING.search(line):
            announced = (announced or 0) + int(match.group(1))
        elif match := EVENT.search(line):
            verdict, name = match.groups()
            if verdict == "RUN":
                failed += running is not None  # the one before never got a verdict
                running = name
            elif name == running:
                passed += verdict == "OK"
                failed += verdict in ("FAILED", "ERROR")
                skipped += verdict == "SKIPPED"
                running = None
    if announced is None:
        return None
    failed += running is not None
    return announced, passed, failed, skipped


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped

    def __str__(self):
        tail = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{tail}"


def judge(case):
    """(passed, failed, skipped) of one ctest test."""
    status = case.get("status")
    output = case.findtext("system-out") or ""
    skipped = case.find("skipped") is not None or status in ("notrun", "disabled")
    counts = cmocka_counts(output)
    if skipped and "SKIP_RETURN_CODE" not in ((case.find("skipped").get("message") or "")
                                              if case.find("skipped") is not None else ""):
        return 0, 1, 0  # not run for another reason: its program is missing, say
    if counts is None:
        return (0, 0, 1) if skipped else (1, 0, 0) if status == "run" else (0, 1, 0)
    announced, ok, failed, skips = counts
    if skipped:
        return 0, 0, max(announced, 1)
    if failed == 0 and (status != "run" or ok + skips < announced):
        failed = 1
    return ok, failed, skips


def show_failure(preset, case):
    print(f"--- {preset}: {case.get('name')}: FAILED")
    failure = case.find("failure")
    if failure is not None and failure.get("message"):
        print(f"    {failure.get('message')}")
    lines = (case.findtext("system-out") or "").splitlines()
    if len(lines) > TAIL:
        print(f"    … {len(lines) - TAIL} lines above")
    for line in lines[-TAIL:]:
        print(f"    {line}")


def main():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--broken", action="append", default=[])
    parser.add_argument("results", nargs="*")
    args = parser.parse_args()

    total = Totals()
    print()
    for result in args.results:
        preset, _, path = result.partition("=")
        counts = Totals()
        try:
            cases = ET.parse(path).getroot().iter("testcase")
        except (OSError, ET.ParseError) as error:
            print(f"--- {preset}: no result: {error}")
            total.add(0, 1, 0)
            continue
        programs = 0
        for case in cases:
            programs += 1
            verdict = judge(case)
            counts.add(*verdict)
            if verdict[1]:
                show_failure(preset, case)
            elif verdict[2]:
                print(f"--- {preset}: {case.get('name')}: {verdict[2]} skipped")
        if programs == 0:
            print(f"--- {preset}: no test ran")
            counts.add(0, 1, 0)
        print(f"{preset}: {counts} ({programs} programs)")
        total.add(counts.passed, counts.failed, counts.skipped)
    for name in args.broken:
        print(f"{name}: FAILED")
        total.add(0, 1, 0)
    print(total)
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
