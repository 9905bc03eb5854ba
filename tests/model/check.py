# SPDX-License-Identifier: Apache-2.0
"""Runs spin over a model: check.py MODEL.pml DIRECTORY

The model's own comment says what runs there are: lines "verify: DEFINES" must find no error in any reachable state,
lines "find: DEFINES" (a seeded mistake) must find one. Prints the states of each; status 77 without spin.
"""
import pathlib
import re
import shutil
import subprocess
import sys

MEMORY_MB = 4000


def fail(text):
    print(text)
    sys.exit(1)


def runs(source):
    return re.findall(r"^ \*   (verify|find): *(.*?) *$", source, re.M)


def check(model, place, kind, defines):
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    options = ["-D" + d for d in defines.split()]
    subprocess.run(["spin", *options, "-a", str(model)], cwd=place, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"],
                   cwd=place, check=True)
    out = subprocess.run(["./pan", "-m1000000"], cwd=place, capture_output=True, text=True).stdout
    errors = re.search(r"errors: (\d+)", out)
    states = re.search(r"(\d+) states, stored", out)
    if not errors or not states or "MEMLIM" in out or "max search depth too small" in out:
        fail(f"{model.name} [{defines}]: the search did not come to its end\n{out}")
    print(f"{model.stem} [{defines}]: {states[1]} states, {errors[1]} errors")
    if (errors[1] != "0") != (kind == "find"):
        what = "a seeded mistake was not found" if kind == "find" else "an error was found"
        trail = subprocess.run(["spin", *options, "-t", "-p", "-k", f"{model.name}.trail", str(model)],
                               cwd=place, capture_output=True, text=True).stdout
        fail(f"{what}:\n{out}\n{trail}")


def main():
    model, place = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    if not shutil.which("spin"):
        print("skipped: spin is not here (Debian: apt-get install spin)")
        sys.exit(77)
    found = runs(model.read_text())
    if not any(kind == "verify" for kind, _ in found) or not any(kind == "find" for kind, _ in found):
        fail(f"{model.name} names no run to verify, or no seeded mistake to find")
    for kind, defines in found:
        check(model, place / model.stem, kind, defines)


main()
