#!/usr/bin/env python3
"""Checks that exported symbols, header comments, manual pages, --help and the error list say the same.

usage: check_man.py SOURCE_DIR BUILD_DIR
"""
import re
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE, BUILD = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
sys.path.insert(0, str(SOURCE / "docs/tools"))
import generate  # noqa: E402
import headers  # noqa: E402

problems = []


def expect(true, problem):
    if not true:
        problems.append(problem)


def check_library():
    """Symbol, declaration with a complete comment, and page: each has the other two."""
    symbols = {line.split("@")[0] for line in generate.symbols_page(SOURCE, BUILD)[1].split()}
    read = headers.read_headers(SOURCE / "include/snakebridge")
    functions = {d.name: d for _, declarations in read.values() for d in declarations if d.kind == "function"}
    man = BUILD / "man/man3"
    for name in sorted(symbols | set(functions)):
        expect(name in symbols, f"{name} is declared but libsnakebridge.so does not export it")
        expect(name in functions, f"{name} is exported but no public header declares it")
        expect((man / f"{name}.3").exists(), f"{name} has no manual page")
        if name in functions:
            missing = [part for part in headers.PARTS if part not in functions[name].parts]
            expect(not missing, f"{name}: its comment lacks {' '.join(missing)}")
    groups = {d.page for d in functions.values()}
    for page in sorted(man.glob("*.3")):
        expect(page.stem in symbols | groups, f"{page.name} describes nothing that there is")
        text = page.read_text(encoding="utf-8")
        link = re.match(r"\.so (man3/\S+)\n$", text)
        if link:
            text = (BUILD / "man" / link.group(1)).read_text(encoding="utf-8")
        expect(page.stem in groups or f".SS {page.stem}()" in text, f"{page.name} does not describe {page.stem}")
    return len(symbols)


def check_errors():
    """The list, its page, its manual page; and no document or comment names a code that is not in it."""
    listed = {name for name, *_ in headers.read_errors(SOURCE / "include/snakebridge")}
    manual = (BUILD / "man/man3/sb_error.3").read_text(encoding="utf-8")
    page = (SOURCE / "docs/errors.md").read_text(encoding="utf-8")
    for name in sorted(listed):
        expect(f".BR {name} " in manual, f"{name} is not in sb_error.3")
        expect(f"| `{name}` |" in page, f"{name} is not in docs/errors.md")
    texts = [SOURCE / "README.md", *SOURCE.glob("docs/**/*.md"), *SOURCE.glob("include/snakebridge/*.h")]
    for path in texts:
        for name in set(re.findall(r"\bSB_E[A-Z]{2,}\b", path.read_text(encoding="utf-8"))) - listed - {"SB_ERROR"}:
            expect(False, f"{path.relative_to(SOURCE)} names {name}, which is no error")
    return len(listed)


def options_of_help(text):
    return set(re.findall(r"^  (?:-\w, |    )--([\w-]+)", text, re.MULTILINE))


def options_of_manual(text):
    return {name.replace("\\-", "-") for name in re.findall(r"\\fB\\-\\-([\w\\-]+)\\fR", text)}


def check_tools():
    """Each program's --help and its page have the same options, and the README knows the program."""
    readme = (SOURCE / "README.md").read_text(encoding="utf-8")
    tools = sorted(SOURCE.glob("tools/sb-*.c"))
    for source in tools:
        tool = source.stem
        program = BUILD / "bin" / tool
        run = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60)
        expect(run.returncode == 0 and not run.stderr, f"{tool} --help fails: {run.stderr}")
        page = (BUILD / f"man/man1/{tool}.1").read_text(encoding="utf-8")
        shown, written = options_of_help(run.stdout), options_of_manual(page)
        expect(shown, f"{tool} --help shows no option")
        expect(shown == written, f"{tool}: --help and {tool}.1 differ: {sorted(shown ^ written)}")
        for option in sorted(shown):
            known = subprocess.run([program, f"--{option}", "--help"], capture_output=True, text=True, timeout=60)
            expect("unknown" not in known.stderr, f"{tool}: --{option} is shown but not known")
        expect(f"`{tool}`" in readme, f"README.md does not mention {tool}")
    return len(tools)


def check_environment():
    """The variables that the code reads are those of docs/configuration.md."""
    read = set()
    for folder in ("src", "tools", "include"):
        for path in (SOURCE / folder).rglob("*.[ch]"):
            read |= set(re.findall(r'"(SNAKEBRIDGE_[A-Z_]+)"', path.read_text(encoding="utf-8")))
    page = (SOURCE / "docs/configuration.md").read_text(encoding="utf-8").split("## Build")[0]
    said = set(re.findall(r"`(SNAKEBRIDGE_[A-Z_]+)`", page))
    expect(read == said, f"environment variables of the code and of docs/configuration.md differ: {sorted(read ^ said)}")
    return len(read)


def check_roff():
    groff = shutil.which("groff")
    if not groff:
        return "no groff here"
    for page in [*BUILD.glob("man/man1/*.1"), *BUILD.glob("man/man3/*.3")]:
        if page.read_text(encoding="utf-8").startswith(".so "):
            continue
        run = subprocess.run([groff, "-man", "-Tutf8", "-ww", "-z", str(page)], capture_output=True, text=True,
                             cwd=BUILD / "man", timeout=60)
        expect(not run.stderr, f"groff on {page.name}: {run.stderr}")
    return "groff has no complaint"


def main():
    print(f"{check_library()} symbols, {check_errors()} errors, {check_tools()} tools, {check_environment()} variables; "
          f"{check_roff()}")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
