#!/usr/bin/env python3
"""Runs what the documentation shows: each console block is typed, and what it prints must be what the page says.

usage: run_examples.py BUILD_DIR PAGE...

In a block "```console" a line "$ …" is a command, and the lines up to the next one are its output, stderr included.
"…" stands for any text within a line, a line "…" for any lines. The commands of a page share one shell and one
bridge of their own, which is gone when the page ends. Comments ("$ …  # …") are the shell's.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BUILD = Path(sys.argv[1])


def steps(page):
    """(line number, command, expected output) of each command on the page."""
    inside = False
    number, command, expected = 0, None, []
    for i, line in enumerate(Path(page).read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if inside and command is not None:
                yield number, command, expected
            inside, command, expected = line == "```console", None, []
        elif inside and line.startswith("$ "):
            if command is not None:
                yield number, command, expected
            number, command, expected = i, line[2:], []
        elif inside and line.startswith("> ") and not expected:
            command += "\n" + line[2:]
        elif inside:
            expected.append(line)


def matches(expected, actual):
    pattern = ""
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ \t]*\n"
    return re.fullmatch(pattern, actual) is not None


class Shell:
    """A shell that lives as long as the page, so that variables stay; a mark tells where a command's output ends."""

    MARK = "--- end of command ---"

    def __init__(self, directory):
        environment = dict(os.environ, SNAKEBRIDGE_DIR=str(directory / "bridge"), HOME=str(directory), LC_ALL="C.UTF-8",
                           PATH=f"{BUILD / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}")
        self.process = subprocess.Popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        cwd=directory, env=environment, text=True)

    def run(self, command):
        self.process.stdin.write(f"{command}\necho '{self.MARK}'\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.strip() == self.MARK:
                return "".join(lines)
            lines.append(line)
        raise SystemExit(f"the shell ended at: {command}")

    def close(self):
        self.run("for id in $(sb-inspect --json sessions 2>/dev/null | grep -o '\"session\":\"[^\"]*\"' | cut -d'\"' -f4); do "
                 "sb-call release-session \"$id\"; done >/dev/null 2>&1")
        self.process.stdin.close()
        self.process.wait(timeout=60)


def run_page(page):
    base = os.environ.get("TMPDIR") or ("/dev/shm" if Path("/dev/shm").is_dir() else None)
    directory = Path(tempfile.mkdtemp(prefix="sb-docs.", dir=base))
    count = bad = 0
    shell = Shell(directory)
    try:
        for number, command, expected in steps(page):
            actual = shell.run(command)
            count += 1
            if not matches(expected, actual):
                bad += 1
                print(f"{page}:{number}: $ {command}")
                print("  the page says:\n    " + "\n    ".join(expected))
                print("  it printed:\n    " + "\n    ".join(actual.splitlines()))
        shell.close()
    finally:
        shell.process.kill()
        shutil.rmtree(directory, ignore_errors=True)
    return count, bad


def main():
    total = failed = 0
    for page in sys.argv[2:]:
        count, bad = run_page(page)
        total += count
        failed += bad
    print(f"{total} commands, {failed} print something else than their page says")
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main())
