#!/usr/bin/env python3
"""Checks that each public declaration has its API reference: a comment right above it, with every required part.

usage: check_comments.py HEADER_DIR
"""
import re
import sys
from pathlib import Path

PARTS = ("Errors:", "Threads:", "Fork:", "Blocks:", "Crash:", "Since:")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)


def blank(match):
    """As many lines and characters as before, with nothing in them."""
    return re.sub(r"[^\n]", " ", match.group())


def declared_name(code, start):
    """What the declaration that begins at start declares, for the message."""
    text = re.sub(r"__attribute__\s*\(\(.*?\)\)", " ", code[start:].split(";", 1)[0], flags=re.DOTALL)
    match = re.search(r"\b(sb_\w+)\s*\(", text) or re.search(r"(\w+)\s*(?:\[[^\]]*\])?\s*$", text)
    return match.group(1) if match else text.strip()


def check_header(path):
    """Yields (line, name, problem or None) for each declaration marked SB_API."""
    text = path.read_text(encoding="utf-8")
    comments = {m.end(): m.group() for m in COMMENT.finditer(text)}
    code = DIRECTIVE.sub(blank, COMMENT.sub(blank, text))
    for match in re.finditer(r"\bSB_API\b", code):
        # The declaration begins after the last thing that ended: a declaration, a brace, a comment or a directive.
        begin = max(code.rfind(c, 0, match.start()) for c in ";{}") + 1
        above = [end for end in comments if begin <= end <= match.start()]
        line = text.count("\n", 0, match.start()) + 1
        name = declared_name(code, match.end())
        if not above or re.search(r"^[ \t]*#", text[max(above):match.start()], re.MULTILINE):
            yield line, name, "has no comment right above it"
            continue
        missing = [part for part in PARTS if part not in comments[max(above)]]
        yield line, name, f"its comment lacks {' '.join(missing)}" if missing else None


def main():
    count = bad = 0
    for path in sorted(Path(sys.argv[1]).glob("*.h")):
        for line, name, problem in check_header(path):
            count += 1
            if problem:
                bad += 1
                print(f"{path.name}:{line}: {name}: {problem}")
    print(f"{count} public declarations, {bad} without a complete comment")
    return 1 if bad or not count else 0


if __name__ == "__main__":
    sys.exit(main())
