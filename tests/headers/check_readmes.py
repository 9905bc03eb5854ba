#!/usr/bin/env python3
"""Checks that each layer's README.md names every source file of the layer, and no file that is not there.

A file is named by its stem in code marks, `lane_call` or `way.h`; below a subfolder by `embed/table`. A header x.h goes with
x.c, and x_impl.h with the whole layer. usage: check_readmes.py SOURCE_DIR
"""
import re
import sys
from pathlib import Path

NAME = re.compile(r"`([a-z][a-z0-9_/]*)(?:\.h)?`")


def stems(layer):
    for path in layer.rglob("*.[ch]"):
        if not path.stem.endswith("_impl"):
            yield str(path.relative_to(layer).with_suffix(""))


def named(text):
    """The files that the first column of each table row names."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield from NAME.findall(line.split("|")[1])


def main():
    problems = []
    count = 0
    for layer in sorted(p.parent for p in Path(sys.argv[1], "src").glob("*/README.md")):
        there = set(stems(layer))
        said = set(named((layer / "README.md").read_text(encoding="utf-8")))
        count += len(there)
        problems += [f"src/{layer.name}/README.md does not name {stem}" for stem in sorted(there - said)]
        problems += [f"src/{layer.name}/README.md names {stem}, which is not there" for stem in sorted(said - there)]
    print("\n".join(problems + [f"{count} files, {len(problems)} problems"]))
    return 1 if problems or not count else 0


if __name__ == "__main__":
    sys.exit(main())
