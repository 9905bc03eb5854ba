"""Reads the public headers: what they declare, with the comment above each, and the error list.

Nothing here writes; man3.py, errors_page.py and the tests under tests/docs share it.
"""
import re
from pathlib import Path

PARTS = ("Errors", "Threads", "Fork", "Blocks", "Crash", "Since")
COMMENT = re.compile(r"/\*(.*?)\*/", re.DOTALL)
SKIPPED = {"visibility.h", "snakebridge.h"}

# Pages that are not simply sb_<header>: the first pattern that a name matches says where it is described.
PAGES = (
    (r"sb_context_\w+|sb_with_session|sb_scope_\w+|SB_WITH_SESSION|sb_session_current_id|sb_body_fn|sb_scope", "sb_context"),
    (r"sb_args\w*", "sb_args"),
    (r"sb_ref_release", "sb_ref"),
    (r"sb_log_\w+", "sb_log"),
    (r"sb_version", "sb_bridge"),
)


def page_of(name, header):
    for pattern, page in PAGES:
        if re.fullmatch(pattern, name):
            return page
    return "sb_" + Path(header).stem


def plain(comment):
    """A comment's text without stars."""
    lines = [re.sub(r"^[ \t]*\*( |$)", "", line) for line in comment.strip().splitlines()]
    return "\n".join(line.rstrip() for line in lines).strip()


def split_parts(text):
    """(what comes before, {part: text}) of a comment of the house's form."""
    pattern = r"(?:^|(?<=\s))(%s):\s" % "|".join(PARTS)
    at = re.search(pattern, text + "\n")
    if not at:
        return text, {}
    pieces = re.split(pattern, text[at.start():] + "\n")
    parts = {name: " ".join(body.split()) for name, body in zip(pieces[1::2], pieces[2::2])}
    return text[:at.start()].strip(), parts


class Declaration:
    """kind: function, type or macro. text: as the header has it. comment: plain, "" if none is right above it."""

    def __init__(self, kind, name, text, comment, header):
        self.kind, self.name, self.text, self.comment, self.header = kind, name, text, comment, header
        self.page = page_of(name, header)
        self.about, self.parts = split_parts(comment)


def name_of(text):
    """What the text declares, or None for what no page shows."""
    if text.startswith("#define"):
        match = re.match(r"#define\s+(SB_[A-Z]\w*)", text)
        return ("macro", match.group(1)) if match else None
    if "SB_API" in text:
        return "function", re.search(r"\b(sb_\w+)\s*\(", text).group(1)
    if text.startswith("typedef"):
        match = re.search(r"\(\*(sb_\w+)\)", text) or re.search(r"\b(sb_\w+)\s*;\s*$", text)
        return ("type", match.group(1)) if match else None
    return None


def scan(code):
    """Yields (start, end) of each declaration and each #define in code, whose comments were blanked out."""
    position = 0
    while True:
        while position < len(code) and code[position].isspace():
            position += 1
        if position >= len(code):
            return
        start = position
        if code[position] == "#":
            while position < len(code) and code[position] != "\n":
                position += 2 if code[position] == "\\" else 1
            yield start, min(position, len(code))
            continue
        if code[position] == "}":  # of extern "C"
            position += 1
            continue
        depth = 0
        while position < len(code):
            c = code[position]
            position += 1
            if c == "{":
                depth += 1
                if code[start:position].startswith('extern "C"'):
                    break
            elif c == "}":
                depth -= 1
            elif c == ";" and depth == 0:
                break
        if not code[start:position].startswith('extern "C"'):
            yield start, position


def read_header(path):
    """(comment at the file's top, [Declaration])."""
    text = Path(path).read_text(encoding="utf-8")
    comments = list(COMMENT.finditer(text))
    code = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    top = next((plain(m.group(1)) for m in comments if "SPDX" not in m.group(1)), "")
    declarations = []
    for start, end in scan(code):
        named = name_of(code[start:end])
        if not named or named[1].endswith("_H") or named[1].startswith(("SB__", "SB_ERROR_ENUM")):
            continue
        above = [m for m in comments if m.end() <= start]
        near = above and not text[above[-1].end():start].strip() and "\n\n" not in text[above[-1].end():start]
        comment = plain(above[-1].group(1)) if near and "SPDX" not in above[-1].group(1) else ""
        # A trailing comment of the last line belongs to the declaration.
        tail = re.match(r"[ \t]*/\*[^\n]*\*/", text[end:])
        declarations.append(Declaration(*named, text[start:end + (tail.end() if tail else 0)].rstrip(),
                                        "" if comment == top else comment, Path(path).name))
    return top, declarations


def read_headers(folder):
    """{header name: (top comment, declarations)}, in alphabetical order."""
    return {path.name: read_header(path) for path in sorted(Path(folder).glob("*.h")) if path.name not in SKIPPED}


def read_errors(folder):
    """[(name, code, text, advice)] of SB_ERROR_MAP."""
    text = (Path(folder) / "error.h").read_text(encoding="utf-8")
    body = re.search(r"#define SB_ERROR_MAP\(X\)(.*?[^\\])\n", text, re.DOTALL).group(1).replace("\\\n", "\n")
    string = r'((?:"(?:[^"\\]|\\.)*"\s*)+)'
    found = re.findall(r"X\(\s*(SB_E\w+)\s*,\s*(-\d+)\s*,\s*" + string + r",\s*" + string + r"\)", body)
    if len(found) != len(re.findall(r"\bX\(", body)):
        raise SystemExit("error.h: an entry of SB_ERROR_MAP has another form than X(name, code, \"text\", \"advice\")")
    join = lambda strings: "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', strings)).replace('\\"', '"')
    return [(name, int(code), join(words), join(advice)) for name, code, words, advice in found]
