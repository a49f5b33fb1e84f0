"""The parts of a chapter: cells, sections, headings, paragraphs, what a reader sees.

Read by the rules (:mod:`booktools.structure`, :mod:`booktools.two_speeds`,
:mod:`booktools.prose`) and by :mod:`booktools.reading`, so that a section, an anchor or
a word is the same thing for all of them.
"""

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path

from booktools import cell_compare
from booktools.notebook import BadNotebook, read

IGNORE = "nbval-ignore-output"
CODE_SPAN = re.compile(r"(?s)(`+)(?!`)(.*?)(?<!`)\1(?!`)")
MATH = re.compile(
    r"(?s)(?<!\\)\$\$.*?(?<!\\)\$\$|(?<!\\)\$(?:[^$\\\n]|\\.|\n(?!\s*\n))+\$"
)
ENDING = ["Ours against the library's", "Summary", "Exercises", "References"]
PROMISES = "In this chapter you will"
OPENING = (PROMISES, "Needs", "Takes", "Runs in", "Data", "New here")


# --- cells -----------------------------------------------------------------------


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags_of(cell) -> list[str]:
    return list(cell.metadata.get("tags", []))


def pictures(cell) -> list[bytes]:
    return cell_compare.outputs_of(cell.outputs).pictures


def compared(cell) -> list[str]:
    """The texts of a cell's outputs, as they are compared."""
    texts = cell_compare.outputs_of(cell.outputs).texts
    return [text for values in texts.values() for text in values]


def printed(cell) -> list[str]:
    """All that a reader sees of a cell's outputs, tracebacks included."""
    frames = ["\n".join(o.traceback) for o in cell.outputs if o.output_type == "error"]
    return compared(cell) + frames


# --- text ------------------------------------------------------------------------


def without_blocks(source: str) -> str:
    """Markdown without its fenced code."""
    return re.sub(r"(?ms)^(```+|~~~+).*?^\1[`~]*\s*$", "", source)


def plain(source: str, code="``", math="") -> str:
    """Markdown without code and math, where signs mean something else.

    ``code`` and ``math`` stand for each span (as in :func:`re.sub`).
    """
    return MATH.sub(math, CODE_SPAN.sub(code, without_blocks(source)))


def without_links(text: str) -> str:
    """The words of links, without where they lead."""
    text = re.sub(r"\]\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*\)", "]", text)
    return re.sub(r"<?https?://[^\s>)]+>?", "", text)


def fences(cell) -> list[str]:
    return re.findall(r"(?m)^\s*(?:```+|~~~+|:::+)(.*)$", cell.source)


def paragraphs(source: str) -> list[str]:
    """Blocks between blank lines; a fenced block is not cut."""
    found, inside = [[]], ""
    for line in source.splitlines():
        fence = re.match(r"\s*(```+|~~~+)", line)
        if fence and not inside:
            inside = fence[1]
        elif fence and line.strip().startswith(inside):
            inside = ""
        if line.strip() or inside:
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return ["\n".join(lines) for lines in found if lines]


def items(text: str) -> list[str]:
    """The points of a list, each with the lines that continue it."""
    found, inside = [], False
    for line in text.splitlines():
        if re.match(r"[-*]\s+\S", line):
            found.append(re.sub(r"^[-*]\s+", "", line))
            inside = True
        elif inside and line.strip() and not re.match(r"[#>|]|\d+\. ", line):
            found[-1] += " " + line.strip()
        else:
            inside = False
    return found


def links(source: str) -> list[str]:
    """The targets of a text's links; brackets in code are none."""
    text = CODE_SPAN.sub("``", without_blocks(source))
    return re.findall(r"\]\(([^)\s]+)\)", text)


# --- headings and sections -------------------------------------------------------


@dataclass
class Section:
    """A heading and the cells up to the next one; text is cut where it has to be."""

    title: str
    cells: list = field(default_factory=list)
    level: int = 2

    @property
    def text(self) -> str:
        return "\n".join(c.source for c in self.cells if c.cell_type == "markdown")


def sections(notebook, depth: int = 2) -> list[Section]:
    """The chapter cut at its headings of level 2 (to ``depth``).

    The first part, with the chapter's title, has none of its own.
    """
    found = [Section("", level=1)]
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            found[-1].cells.append(cell)
            continue
        for piece in _pieces(cell.source, depth):
            if heading := re.match(r"(#{2,})\s+(.+?)\s*(?:\n|$)", piece):
                if len(heading[1]) <= depth:
                    found.append(Section(heading[2], level=len(heading[1])))
            if piece.strip():
                part = type(cell)(cell_type="markdown", source=piece)
                part.metadata = cell.metadata
                found[-1].cells.append(part)
    return found


def _pieces(source: str, depth: int) -> list[str]:
    """A text cut before its headings; a ``##`` in fenced code is a comment."""
    found, inside = [""], ""
    for line in source.splitlines(keepends=True):
        fence = re.match(r"\s*(```+|~~~+)", line)
        if fence and not inside:
            inside = fence[1]
        elif fence and line.strip().startswith(inside):
            inside = ""
        if not inside and re.match(rf"#{{2,{depth}}}\s", line):
            found.append("")
        found[-1] += line
    return found


def headings(notebook) -> list[tuple[int, str]]:
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = without_blocks(cell.source)
            for marks, title in re.findall(r"(?m)^(#{1,6})\s+(.+?)\s*$", text):
                found.append((len(marks), title))
    return found


def same_title(title: str) -> str:
    """A heading with the apostrophe that is on every keyboard."""
    return title.replace("’", "'")


def is_deeper(title: str) -> bool:
    """Whether a heading opens what may be left out at first reading."""
    return bool(re.match(r"Deeper: \S", title))


def anchor(title: str) -> str:
    """The name under which a link finds a heading (as myst-parser makes it)."""
    title = re.sub(r"[`*]", "", title).strip().lower().replace(" ", "-")
    return re.sub(r"[^\w\-]", "", title)


def anchors(notebook) -> set[str]:
    """The names of all headings of a notebook, or of a file."""
    if isinstance(notebook, Path):
        return _anchors_of(notebook, notebook.stat().st_mtime_ns)
    return {anchor(title) for _, title in headings(notebook)}


@functools.lru_cache(maxsize=100)
def _anchors_of(file: Path, changed: int) -> set[str]:
    """Read once for all chapters that link to the file, until it changes."""
    if file.suffix == ".md":
        text = without_blocks(file.read_text(encoding="utf-8"))
        titles = re.findall(r"(?m)^#{1,6}\s+(.+?)\s*$", text)
        return {anchor(title) for title in titles}
    try:
        return anchors(read(file))
    except BadNotebook:
        return set()


# --- the opening -----------------------------------------------------------------


def opening_text(notebook) -> str:
    texts = []
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            break
        texts.append(cell.source)
    return "\n\n".join(texts)


def opening_list(notebook, name: str) -> list[str]:
    """The points of the list under a bold name of the opening."""
    after = opening_text(notebook).split(f"**{name}", 1)
    return items(after[1].split("\n**", 1)[0]) if len(after) == 2 else []


def promises(notebook) -> list[str]:
    return opening_list(notebook, PROMISES)
