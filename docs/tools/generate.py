#!/usr/bin/env python3
"""Writes what the documentation takes from the code, or checks that the committed files say the same.

usage: generate.py [--check] SOURCE_DIR BUILD_DIR [PAGE...]

Pages: errors (docs/errors.md), knobs (the table in docs/configuration.md), contract (the tests in docs/contract.md),
symbols (tests/abi/symbols.txt). knobs and symbols need a built library in BUILD_DIR/lib.

--check writes nothing and exits with 1 where a file differs; of the contract it only asks that each test named there
exists and that no point lacks one, so that adding a test makes nothing fail.
"""
import ctypes
import difflib
import re
import subprocess
import sys
from pathlib import Path

import headers

# ── errors ──

GROUPS = (
    (-9, "Anywhere"), (-19, "The bridge"), (-29, "Sessions"), (-39, "Refs"), (-1000, "Calls"),
)
ERRORS_INTRO = """# Errors

<!-- Written by docs/tools/generate.py from SB_ERROR_MAP in error.h: ./dev docs -->

A function that fails returns one of these codes, or NULL if it returns a pointer. Names and numbers are ABI: branch on them
and, for calls, on `sb_last_error()->outcome`, never on text. `sb_last_error()->message` is one sentence for people: what
happened, to what, and what to do.

| outcome | meaning |
|---|---|
| `SB_OUTCOME_NONE` | not a call |
| `SB_OUTCOME_EXCEPTION` | it ran and Python raised, or its result could not be delivered |
| `SB_OUTCOME_REFUSED` | nothing ran: retrying is safe |
| `SB_OUTCOME_UNKNOWN` | it was sent and may have run: the owner died or the deadline passed |

The headers and the manual pages (`man 3 sb_session_open`) say which function returns which; any may return `SB_EBUG`.
`sb_strerror()`, `sb_error_name()` and `sb_error_advice()` give the three texts of a code. With `--json`, tools write
`{"schema":1,"error":{"code":"SB_EREFRELEASED","number":-32,"outcome":"refused",…}}` on stderr.
"""


def errors_page(source, build):
    out = [ERRORS_INTRO.rstrip()]
    last = None
    for name, code, text, advice in headers.read_errors(source / "include/snakebridge"):
        group = next(title for limit, title in GROUPS if code >= limit)
        if group != last:
            out += ["", f"## {group}", "", "| code | name | what happened | what to do |", "|---|---|---|---|"]
            last = group
        out.append(f"| {code} | `{name}` | {text} | {advice} |")
    return source / "docs/errors.md", "\n".join(out) + "\n"


# ── knobs ──


class Knob(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t)] + [(f, ctypes.c_char_p) for f in ("name", "environment", "option", "text")] + [
        ("is_number", ctypes.c_int)] + [(f, ctypes.c_uint64) for f in ("default_number", "min", "max")] + [
        ("default_text", ctypes.c_char_p)]


def knobs(build):
    library = ctypes.CDLL(str(build / "lib/libsnakebridge.so"))
    library.sb_config_describe.restype = ctypes.POINTER(Knob)
    library.sb_config_describe.argtypes = [ctypes.c_size_t]
    index = 0
    while knob := library.sb_config_describe(index):
        if knob.contents.size < ctypes.sizeof(Knob):
            raise SystemExit("struct sb_config_knob is shorter than docs/tools/generate.py takes it to be")
        yield knob.contents
        index += 1


def code(text):
    return f"`{text}`" if text else ""


def knobs_page(source, build):
    path = source / "docs/configuration.md"
    rows = ["| knob | environment | option that takes precedence | default | range | what it is |", "|---|---|---|---|---|---|"]
    for k in knobs(build):
        text = {field: (getattr(k, field) or b"").decode() for field in ("name", "environment", "option", "text", "default_text")}
        default = str(k.default_number) if k.is_number else text["default_text"]
        limits = f"{k.min} to {k.max}" if k.is_number else "text"
        options = ", ".join(code(o.strip()) for o in text["option"].split(",") if o.strip())
        rows.append(f"| {code(text['name'])} | {code(text['environment'])} | {options} | {default} | {limits} | {text['text']} |")
    return path, between(path.read_text(encoding="utf-8"), "knobs", "\n".join(rows), path)


def between(text, mark, middle, path):
    begin, end = f"<!-- {mark}: written by ./dev docs -->\n", f"<!-- end of {mark} -->"
    if begin not in text or end not in text:
        raise SystemExit(f"{path}: the marks for {mark} are missing")
    return text[:text.index(begin)] + begin + "\n" + middle + "\n\n" + text[text.index(end):]


# ── contract ──

TEST = re.compile(r"^static void (test_((?:\d\d_)+)\w+)\(void \*\*", re.MULTILINE)
ROW = re.compile(r"^\| (\d+) \| (.*?) \| (.*?) \| (.*?) \|$")


def numbered_tests(source):
    """{point: {file: [test]}} by the numbers in the names: test_04_06_resolution proves points 4 and 6."""
    found = {}
    for path in sorted((source / "tests").rglob("test_*.c")):
        for name, numbers in TEST.findall(path.read_text(encoding="utf-8")):
            for number in numbers.strip("_").split("_"):
                found.setdefault(int(number), {}).setdefault(str(path.relative_to(source / "tests")), []).append(name)
    return found


def contract_page(source, build):
    path = source / "docs/contract.md"
    found = numbered_tests(source)
    out = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = ROW.match(line)
        if row:
            tests = "; ".join(f"{file}: " + ", ".join(f"`{t}`" for t in names)
                              for file, names in sorted(found.get(int(row.group(1)), {}).items()))
            line = f"| {row.group(1)} | {row.group(2)} | {tests or '—'} | {row.group(4)} |"
        out.append(line)
    return path, "\n".join(out) + "\n"


def check_contract(source):
    """Problems of the committed table: points that lack a test, tests and files that do not exist."""
    path = source / "docs/contract.md"
    existing = {name for path_ in (source / "tests").rglob("test_*.c")
                for name in re.findall(r"\b(test_\w+)\(", path_.read_text(encoding="utf-8"))}
    points = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = ROW.match(line)
        if not row:
            continue
        number, _, tests, also = row.groups()
        points.append(int(number))
        for name in re.findall(r"`(test_\w+)`", tests + also):
            if name not in existing:
                yield f"point {number}: there is no test {name} any more"
        for file in re.findall(r"`?((?:unit|proc|crash|tsan|tools|stress|docs|headers)/[\w.-]+)", tests + also):
            if not (source / "tests" / file).exists():
                yield f"point {number}: there is no tests/{file}"
        if not re.match("next issue|still open", also) and "`test_" not in tests and not re.search(r"\w/\w", also):
            yield f"point {number}: no test proves it"
    if points != list(range(1, 36)):
        yield f"the points are {points}, not 1 to 35"


# ── symbols ──


def symbols_page(source, build):
    names = subprocess.run(["nm", "-D", "--defined-only", "--extern-only", str(build / "lib/libsnakebridge.so")],
                           check=True, capture_output=True, text=True).stdout
    found = sorted(line.split()[-1] for line in names.splitlines())
    found = [name for name in found if not name.startswith("SNAKEBRIDGE_")]  # the version node itself
    return source / "tests/abi/symbols.txt", "\n".join(found) + "\n"


PAGES = {"errors": errors_page, "knobs": knobs_page, "contract": contract_page, "symbols": symbols_page}


def main():
    args = sys.argv[1:]
    check = args[:1] == ["--check"]
    source, build, *wanted = args[check:]
    source, build = Path(source), Path(build)
    bad = 0
    for page in wanted or PAGES:
        if check and page == "contract":
            problems = list(check_contract(source))
            print("\n".join(problems) or "contract: every point has its tests")
            bad += bool(problems)
            continue
        path, text = PAGES[page](source, build)
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old == text:
            print(f"{path.relative_to(source)}: up to date")
        elif check:
            bad += 1
            print(f"{path.relative_to(source)} is not what the code says; ./dev docs writes it. What differs:")
            sys.stdout.writelines(list(difflib.unified_diff(old.splitlines(True), text.splitlines(True), "committed", "code"))[:40])
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(source)}: written")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
