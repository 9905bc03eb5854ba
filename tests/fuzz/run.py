#!/usr/bin/env python3
"""Runs fuzz targets with libFuzzer and keeps the tally. ./dev fuzz builds them and calls this.

usage: run.py [--fast] [--minimise] [TARGET|all] [SECONDS]

Each target runs for SECONDS (default 60), one after the other, at the lowest priority. What it finds new grows in
build/fuzz-corpus/<target>, which begins with the kept corpus; an input that crashes is left in build/fuzz-crashes/.
A line for each run is appended to tests/fuzz/tally.txt: date, target, build, executions, seconds, crashes.
--fast      the build without AddressSanitizer: more executions
--minimise  runs nothing, but keeps the smallest set of inputs that covers what is known in tests/fuzz/corpus/<target>
Exit status 0: no crash; 1: one or more; 2: wrong usage.
"""
import datetime
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
HERE = TOP / "tests" / "fuzz"
CORPUS = TOP / "build" / "fuzz-corpus"
CRASHES = TOP / "build" / "fuzz-crashes"
TALLY = HERE / "tally.txt"
MAX_LEN = 1024
KEPT_INPUTS = 120  # of one target, about


def dictionary(target):
    path = HERE / "dict" / f"{target}.dict"
    return [f"-dict={path}"] if path.exists() else []


def environment():
    env = dict(os.environ)
    env["ASAN_OPTIONS"] = "detect_leaks=1:allocator_may_return_null=1:handle_abort=1"
    env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1"
    return env


def run(build, target, seconds):
    """(executions, seconds, crashes) of one run."""
    work, artifacts = CORPUS / target, CRASHES / target
    work.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir(parents=True, exist_ok=True)
    before = set(artifacts.iterdir())
    kept = HERE / "corpus" / target
    command = [str(TOP / "build" / build / "bin" / "fuzz" / target), f"-max_total_time={seconds}", f"-max_len={MAX_LEN}",
               "-print_final_stats=1", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={artifacts}/",
               *dictionary(target), str(work), *([str(kept)] if kept.is_dir() else [])]
    begun = time.monotonic()
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(),
                            preexec_fn=lambda: os.nice(19), errors="replace")
    took = time.monotonic() - begun
    found = re.findall(r"stat::number_of_executed_units:\s+(\d+)", result.stdout)
    crashes = len(set(artifacts.iterdir()) - before)
    if result.returncode != 0 and crashes == 0:
        crashes = 1
    if crashes:
        print("\n".join(result.stdout.splitlines()[-60:]))
        print(f"{target}: the input is in {artifacts}")
    return int(found[-1]) if found else 0, took, crashes


def record(build, target, executions, seconds, crashes):
    new = not TALLY.exists()
    with TALLY.open("a") as tally:
        if new:
            tally.write("# Written by ./dev fuzz: date, target, build, executions, seconds, crashes.\n")
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        tally.write(f"{now} {target} {build} {executions} {seconds:.0f} {crashes}\n")
    print(f"reliability: fuzz/{target} tried={executions} failed={crashes} seconds={seconds:.1f}", flush=True)


def minimise(build, target):
    """What is known, as few and as small inputs as cover it; where they are many, every so-manieth by size."""
    kept, merged = HERE / "corpus" / target, CORPUS / f"{target}.merged"
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    kept.mkdir(parents=True, exist_ok=True)
    subprocess.run([str(TOP / "build" / build / "bin" / "fuzz" / target), "-set_cover_merge=1", f"-max_len={MAX_LEN}", "-timeout=20",
                    str(merged), str(kept), str(CORPUS / target)], check=True, env=environment(),
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=lambda: os.nice(19))
    for path in kept.iterdir():
        if not path.name.startswith("fixed-"):  # of a bug that was mended: stays
            path.unlink()
    found = sorted(merged.iterdir(), key=lambda p: (p.stat().st_size, p.name))
    for path in found[:: -(-len(found) // KEPT_INPUTS)] if found else []:
        shutil.copy(path, kept / path.name[:16])
    total = sum(path.stat().st_size for path in kept.iterdir())
    print(f"{target}: {len(list(kept.iterdir()))} inputs, {total} bytes")


def main():
    words = sys.argv[1:]
    options = {word for word in words if word.startswith("--")}
    words = [word for word in words if word not in options]
    build = "fuzz-fast" if "--fast" in options else "fuzz"
    there = sorted(path.name for path in (TOP / "build" / build / "bin" / "fuzz").iterdir())
    target = words[0] if words else "all"
    if options - {"--fast", "--minimise"} or len(words) > 2 or (target != "all" and target not in there):
        print(__doc__ + "\ntargets: " + " ".join(there), file=sys.stderr)
        return 2
    seconds = int(words[1]) if len(words) > 1 else 60
    failed = 0
    for name in there if target == "all" else [target]:
        if "--minimise" in options:
            minimise(build, name)
        else:
            counts = run(build, name, seconds)
            record(build, name, *counts)
            failed += counts[2]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
