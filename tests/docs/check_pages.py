#!/usr/bin/env python3
"""Checks the pages themselves: relative links lead somewhere, and each C example compiles.

usage: check_pages.py SOURCE_DIR CC [FLAG...]

A block "```c" is compiled as it stands if it has a main(), else as the body of a function that knows the names below.
"""
import re
import subprocess
import sys
from pathlib import Path

SOURCE, COMPILER = Path(sys.argv[1]), sys.argv[2:]
AROUND = """#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <snakebridge/snakebridge.h>
int predict_and_print(sb_session *, const sb_ref *);
int example(sb_value *X, sb_value *y, sb_value *rows, sb_ref *model_ref);
int example(sb_value *X, sb_value *y, sb_value *rows, sb_ref *model_ref)
{
	(void)X, (void)y, (void)rows, (void)model_ref;
%s
	return 0;
}
"""
PROLOGUE = """	sb_bridge *bridge = NULL;
	sb_session *s = NULL;
	(void)bridge, (void)s;
"""


def blocks(path):
    inside = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if inside and inside[0] == "c":
                yield inside[1], "\n".join(inside[2])
            inside = None if inside else (line[3:].strip(), number, [])
        elif inside:
            inside[2].append(line)


def compile_block(text):
    program = text
    if "int main(" not in text:
        includes = "".join(re.findall(r"^#include.*\n", text + "\n", re.MULTILINE))
        body = re.sub(r"^#include.*\n", "", text + "\n", flags=re.MULTILINE)
        program = includes + AROUND % (("" if "sb_bridge *bridge;" in body else PROLOGUE) + body)
    run = subprocess.run([*COMPILER, "-x", "c", "-std=gnu17", "-Wall", "-Wextra", "-Wno-unused", "-Werror", "-fsyntax-only",
                          f"-I{SOURCE / 'include'}", "-"], input=program, capture_output=True, text=True)
    return run.stderr if run.returncode else ""


def main():
    problems = []
    examples = links = 0
    for path in [SOURCE / "README.md", *sorted(SOURCE.glob("docs/**/*.md"))]:
        name = path.relative_to(SOURCE)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                links += 1
                if not (path.parent / target).exists():
                    problems.append(f"{name}: the link to {target} leads nowhere")
        for number, text in blocks(path):
            examples += 1
            error = compile_block(text)
            if error:
                problems.append(f"{name}:{number}: the example does not compile:\n{error}")
    print("\n".join(problems + [f"{examples} examples, {links} links, {len(problems)} problems"]))
    return 1 if problems or not examples else 0


if __name__ == "__main__":
    sys.exit(main())
