#!/usr/bin/env python3
"""Checks that the layers are compile-time facts: what a layer may not use, its compiler cannot find.

For each layer, from the commands it is really compiled with: its include directories are only its own, include/ and
lower layers, and no header of any other layer can be found through them. usage: check_layers.py SOURCE_DIR COMMANDS
"""
import json
import shlex
import sys
from pathlib import Path

# Arrows point down: a layer may use the ones after it (codec is pure, and shm carries what it encodes).
ORDER = ("api", "session", "python", "reaper", "inspect", "store", "shm", "codec", "base")
NEVER = {("reaper", "python"), ("inspect", "python"), ("reaper", "inspect"), ("store", "shm"), ("store", "codec")}


def include_directories(command, directory):
    """The -I directories of one compile command."""
    words = iter(shlex.split(command))
    for word in words:
        if word == "-I":
            word = "-I" + next(words)
        if word.startswith("-I"):
            yield (Path(directory) / word[2:]).resolve()


def check_layer(root, layer, directories):
    allowed = [name for name in ORDER[ORDER.index(layer):] if (layer, name) not in NEVER]
    ours = {d for d in directories if d.is_relative_to(root)}
    for directory in ours:
        if directory != root / "include" and directory.name not in allowed:
            yield f"{layer} sees {directory.relative_to(root)}, which is not below it"
    seen = {d.name for d in ours}
    for other in set(ORDER) - seen:
        for header in (root / "src" / other).glob("*.h"):
            for directory in ours:
                if (directory / header.name).exists():
                    yield f"{layer}: \"{header.name}\" of {other} is also the name of a header in {directory.name}"


def main():
    root = Path(sys.argv[1]).resolve()
    directories = {}
    for entry in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")):
        source = Path(entry["file"]).resolve()
        if source.parent.parent == root / "src" and source.parent.name in ORDER:
            found = set(include_directories(entry["command"], entry["directory"]))
            if root / "tests/sim" in found:
                continue  # compiled once more for the simulation, where it sees everything
            directories.setdefault(source.parent.name, set()).update(found)

    problems = sorted(p for layer, found in directories.items() for p in check_layer(root, layer, found))
    for problem in problems:
        print(problem)
    print(f"{len(directories)} layers, {len(problems)} problems")
    return 1 if problems or not directories else 0


if __name__ == "__main__":
    sys.exit(main())
