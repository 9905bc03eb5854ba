#!/usr/bin/env python3
"""Checks every #include in the project: one includer per foreign header, and no path that climbs.

The layers' include directories already make a forbidden layer's header fail to compile. Headers that lie in the
compiler's default path are found from anywhere, so they are checked here. usage: check_includes.py SOURCE_DIR
"""
import re
import sys
from pathlib import Path

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^">]+)[">]', re.MULTILINE)

# A foreign header (or folder of headers) and the only folders that may include it.
ALLOWED = {
    "Python.h": ("src/python/embed",),
    "lmdb.h": ("src/store",),
    "atomic_ops.h": ("src/shm",),
    "cbor.h": ("src/codec",),
    "jansson.h": ("tools", "tests"),
    "cmocka.h": ("tests",),
}
FOLDERS = ("include", "src", "tools", "examples", "tests")
PROJECT_HEADER_FREE = "include"  # public headers include only the standard library's and each other


def rule_for(header):
    """The entry of ALLOWED that a header falls under: atomic_ops/generalize.h is atomic_ops.h too."""
    for name in ALLOWED:
        if header == name or header.startswith(name[:-2] + "/"):
            return name
    return None


def check_file(path, relative):
    text = path.read_text(encoding="utf-8", errors="replace")
    for match in INCLUDE.finditer(text):
        quote, header = match.groups()
        where = f"{relative}:{text.count(chr(10), 0, match.start()) + 1}"
        if ".." in header.split("/"):
            yield f'{where}: "{header}": an include names a header, never a way up'
        rule = rule_for(header)
        if rule and not any(relative.is_relative_to(folder) for folder in ALLOWED[rule]):
            yield f"{where}: {header} may be included only in {' and '.join(ALLOWED[rule])}"
        if relative.parts[0] in (PROJECT_HEADER_FREE, "examples") and quote == '"' \
                and not header.startswith("snakebridge/"):
            yield f'{where}: "{header}": only public headers (snakebridge/…) may be included here'


def main():
    root = Path(sys.argv[1])
    files = sorted(p for f in FOLDERS for p in (root / f).rglob("*") if p.suffix in (".c", ".h") and p.is_file())
    problems = [problem for p in files for problem in check_file(p, p.relative_to(root))]
    for problem in problems:
        print(problem)
    print(f"{len(files)} files, {len(problems)} problems")
    return 1 if problems or not files else 0


if __name__ == "__main__":
    sys.exit(main())
