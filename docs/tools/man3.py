#!/usr/bin/env python3
"""Writes the manual pages of the library from the public headers: a page for each group, a link for each function.

usage: man3.py HEADER_DIR OUT_DIR VERSION

OUT_DIR is emptied of *.3 first. The text is the headers' own; nothing is said here that is not said there.
"""
import re
import sys
from pathlib import Path

import headers

CODE_CALL = re.compile(r"\b(sb_\w+)\(\)")


ESCAPES = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "^": "\\(ha", "~": "\\(ti"}


def roff(text):
    """Text with what roff takes for its own escaped, in ASCII."""
    return "".join(ESCAPES.get(c) or (c if c.isascii() else f"\\[u{ord(c):04X}]") for c in text)


def line(text):
    """A text line: never taken for a request, functions in bold."""
    text = CODE_CALL.sub("\\\\fB\\1\\\\fR()", roff(text))
    return "\\&" + text if text.startswith(".") else text


def paragraphs(text):
    """Prose as paragraphs; what is indented, or laid out in columns, as it stands."""
    out = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.splitlines()
        if not lines:
            continue
        out.append(".PP")
        if any(re.match(r"\s", text_line) for text_line in lines):
            out += [".nf"] + ["    " + line(text_line) if text_line else "" for text_line in lines] + [".fi"]
        else:
            out += [line(text_line) for text_line in lines]
    return out


def code(text):
    return [".nf"] + [line(text_line.expandtabs(8)) for text_line in text.splitlines()] + [".fi"]


def first_sentence(text):
    sentence = " ".join(re.split(r"(?<=\.)\s|\n\s*\n", text.strip())[0].split()).rstrip(".:;")
    return sentence[:1].lower() + sentence[1:]


def error_table(errors):
    out = [".SH ERROR CODES"]
    for name, number, text, advice in errors:
        out += [".TP", f".BR {name} \" ({roff(str(number))})\"", line(f"{text}; {advice}")]
    return out


def write_page(page, top, declarations, errors, version, others, own):
    functions = [d for d in declarations if d.kind == "function"]
    shown = [d for d in declarations if d.kind != "function"]
    includes = sorted({d.header for d in declarations})
    about = first_sentence(top) if top else page
    names = [page] + [d.name for d in functions if d.name != page]
    out = [f'.\\" Written from include/snakebridge/{", ".join(includes)}.',
           f'.TH {page.upper()} 3 "" "SnakeBridge {version}" "SnakeBridge"', ".nh", ".ad l",
           ".SH NAME", f"{', '.join(names)} \\- {roff(about)}",
           ".SH SYNOPSIS", ".nf", ".B #include <snakebridge/snakebridge.h>", ""]
    for d in functions:
        out += [line(text_line.expandtabs(8)) for text_line in d.text.replace("SB_API ", "").splitlines()]
    out += ["", r"cc program.c $(pkg\-config \-\-cflags \-\-libs snakebridge)", ".fi"]
    if own:
        out += [".SH DESCRIPTION"] + paragraphs(top)
    if shown:
        out += [".SH TYPES AND CONSTANTS"]
        for d in shown:
            if d.name == "SB_ERROR_MAP":
                continue
            out += paragraphs(d.comment) + [".PP"] + code(d.text)
    out += [".SH FUNCTIONS"]
    for d in functions:
        out += [f".SS {d.name}()"] + paragraphs(d.about)
        shown_parts = [part for part in headers.PARTS if part in d.parts]
        for i, part in enumerate(shown_parts):
            out += ([".PD 0"] if i == 1 else []) + [".TP 10", f".B {part}", line(d.parts[part])]
        out += [".PD"] if len(shown_parts) > 1 else []
    if page == "sb_error":
        out += error_table(errors)
    see = [f".BR {other} (3)" for other in others if other != page] + [".BR sb\\-call (1)", ".BR sb\\-inspect (1)"]
    out += [".SH SEE ALSO", ",\n".join(see)]
    return "\n".join(out) + "\n"


def main():
    folder, target, version = sys.argv[1:4]
    target = Path(target)
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.3"):
        old.unlink()
    pages = {}
    tops = {}
    for name, (top, declarations) in headers.read_headers(folder).items():
        tops["sb_" + Path(name).stem] = top
        for d in declarations:
            pages.setdefault(d.page, []).append(d)
    pages = {page: declared for page, declared in pages.items() if any(d.kind == "function" for d in declared)}
    errors = headers.read_errors(folder)
    for page, declarations in pages.items():
        # A group without a header of its own is described by its first commented function.
        top = tops.get(page) or next(d.about for d in declarations if d.kind == "function" and d.about)
        text = write_page(page, top, declarations, errors, version, sorted(pages), page in tops)
        (target / f"{page}.3").write_text(text, encoding="utf-8")
    for page, declarations in pages.items():
        for d in declarations:
            if d.kind == "function" and d.name not in pages:
                (target / f"{d.name}.3").write_text(f".so man3/{page}.3\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
