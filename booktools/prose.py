"""Every number in a chapter's text stands in its code or an output, or has a source.

``python -m booktools.prose 18`` prints the numbers that stand nowhere, with the words
around them.

A number may stand in the text if it is

- a whole number up to 12, a chapter's, an erratum's (E-041) or a name's (ResNet-50), in
  code, in math or in a link's address;
- a year of a work that the references list;
- in an output or in the code of the chapter, or in the code that its own text cell
  quotes, rounded as it is written: 0.6243 is 0.62, 62 % and 62.4 percent, and "about
  65,500" may stand for 65504;
- named in the cell's metadata with its source,
  ``{"sources": {"118,000": "COCO train2017, cocodataset.org"}}``. One of the parts
  between the commas has to stand in a point of the references.
"""

import ast
import re
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from booktools import notebook
from booktools.parts import (
    CODE_SPAN,
    MATH,
    code_cells,
    items,
    printed,
    sections,
    tags_of,
    without_blocks,
    without_links,
)

__all__ = ["Number", "chapters_named", "numbers", "problems", "unshown"]

SMALL = 12
SCALES = {
    "hundred": 1e2,
    "thousand": 1e3,
    "million": 1e6,
    "billion": 1e9,
    "trillion": 1e12,
}
DIGITS = r"\d{1,3}(?:[,\u2009\u202f\u00a0]\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?"
NUMBER = re.compile(
    rf"(?<![\w.])({DIGITS})(?:[eE]([+-]?\d+)(?!\w))?"
    r"(?!\d|\.\d)([\s\u00a0]*(?:%|percent\b)|-?\s*(?:hundred|thousand|million|billion|"
    r"trillion)s?\b(?:\s+percent\b)?)?"
)
READ = re.compile(r"(?<![A-Za-z_.\d])\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+")
RANGE = re.compile(r"\s*(?:to|and|or|–|-|—|×|x)\s*$")
HEDGE = re.compile(
    r"(?i)(?:\babout|\bnear|\bnearly|\balmost|\baround|\broughly|\bsome|"
    r"\bapproximately|\bclose to|≈|~)\s*$"
)
CHAPTERS = re.compile(
    r"(?i)\bchapters?\s+(\d+(?:(?:\s*,\s*(?:and\s+)?|\s+(?:to|and|or)\s+|\s*[–-]\s*)\d+)*)"
)


@dataclass(frozen=True)
class Number:
    """A number as a text writes it.

    Attributes:
        written: its characters.
        value: what it says.
        half: half a unit of its last digit.
        percent: whether it is one of a hundred.
        start: where it stands in the text.
        about: whether the word before says that it is rounded.
    """

    written: str
    value: float
    half: float
    percent: bool = False
    start: int = 0
    about: bool = False


def numbers(text: str) -> list[Number]:
    """The numbers of a text (from which code, math and addresses are taken out)."""
    text = re.sub(r"(?<=\d)[x×](?=\d)", " ", text)  # 640x480 are two
    matches = list(NUMBER.finditer(text))
    found: list[Number] = []
    for k in reversed(range(len(matches))):
        match = matches[k]
        if _in_a_name(text, match):
            continue
        digits = re.sub(r"[^\d.]", "", match[1])
        scale = 10.0 ** int(match[2] or 0)
        unit = (match[3] or "").lower()
        percent = "%" in unit or "percent" in unit
        for word, factor in SCALES.items():
            scale *= factor if word in unit else 1
        if not unit and found and k + 1 < len(matches):
            # "20 to 30 percent", "2 to 3 million": the unit is said once.
            later = found[-1]
            between = text[match.end() : matches[k + 1].start()]
            if later.start == matches[k + 1].start() and RANGE.fullmatch(between):
                percent = later.percent
                for word, factor in SCALES.items():
                    scale *= factor if word in later.written.lower() else 1
        decimals = len(digits.partition(".")[2])
        about = bool(HEDGE.search(text[: match.start()]))
        found.append(
            Number(
                match[0].strip(),
                float(digits) * scale,
                0.5 * 10.0**-decimals * scale,
                percent,
                match.start(),
                about,
            )
        )
    return found[::-1]


def _in_a_name(text: str, match: re.Match) -> bool:
    """Whether the digits belong to a name: ``ResNet-50``, ``E-041``."""
    return bool(re.search(r"\b\w*[A-Z]\w*-$", text[: match.start()]))


def bare(source: str) -> str:
    """Markdown without code, math and addresses; of the same lines."""
    text = without_links(MATH.sub(" ", CODE_SPAN.sub(" ", without_blocks(source))))
    text = re.sub(r"[\[\]]", "", text)  # "[chapters 18](...) and [19](...)"
    text = re.sub(r"(?m)^\*\*(?:Takes|Runs in)\*\*.*(?:\n(?!\s*\n|\*\*).+)*", "", text)
    return re.sub(r"(?m)^[●○]{3} · \d+ minutes[ \t]*$", "", text)


def chapters_named(text: str) -> set[int]:
    """The chapters that a text names, ranges counted out: "chapters 6 to 9"."""
    found: set[int] = set()
    for match in CHAPTERS.finditer(re.sub(r"[\[\]]", "", without_links(text))):
        low = last = None
        for word in re.findall(r"\d+|to|[–-]", match[1]):
            if not word.isdigit():
                low = last
                continue
            last = int(word)
            found |= set(range(low, last)) if low is not None else set()
            found.add(last)
            low = None
    return found


# --- what a chapter shows --------------------------------------------------------


def _read(text: str) -> Iterator[float]:
    """All that may be read as a number in code or an output."""
    pattern = (
        r"(?<![A-Za-z_.\d])\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE]-?\d+)?"
    )
    for match in re.finditer(pattern, text):
        try:
            value = float(match[0].replace("_", ""))
        except ValueError:
            continue
        yield value
        if text[match.end() :].lstrip(" ")[:1] == "%":
            yield value / 100
    for match in re.finditer(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        yield float(match[0].replace(",", ""))


def _constants(source: str) -> Iterator[float]:
    """The values of arithmetic between numbers, such as ``2**31 - 1``."""
    source = re.sub(r"(?m)^\s*[%!].*$", "", source)
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and (value := _value(node)) is not None:
            yield abs(value)


def _value(node) -> float | None:
    if isinstance(node, ast.Constant):
        number = isinstance(node.value, (int, float))
        return node.value if number and not isinstance(node.value, bool) else None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        return None if value is None else -value
    if not isinstance(node, ast.BinOp):
        return None
    left, right = _value(node.left), _value(node.right)
    if left is None or right is None:
        return None
    try:
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                return left / right
            case ast.FloorDiv():
                return left // right
            case ast.Pow() if abs(left) <= 1e6 and abs(right) <= 64:
                return float(left) ** right
    except (ArithmeticError, ValueError):
        pass
    return None


def _finite(values: Iterable) -> list[float]:
    found = set()
    for value in values:
        try:
            found.add(abs(float(value)))
        except (OverflowError, TypeError):
            continue
    return sorted(v for v in found if v < float("inf"))


def shown(book) -> list[float]:
    """The numbers in the code and in the outputs of a chapter, in order."""
    values: list[float] = []
    for cell in code_cells(book):
        if "setup" in tags_of(cell):
            continue
        values += [*_read(cell.source), *_constants(cell.source)]
        for text in printed(cell):
            values += _read(text)
    return _finite(values)


def _quoted(source: str) -> list[float]:
    """The numbers in the code that a text quotes."""
    spans = [match[2] for match in CODE_SPAN.finditer(source)]
    fenced = re.findall(r"(?ms)^(```+|~~~+)[^\n]*\n(.*?)^\1", source)
    return _finite(v for text in [*spans, *(f[1] for f in fenced)] for v in _read(text))


def _near(values: list[float], value: float, half: float) -> bool:
    """Whether one of the ordered values rounds to this one."""
    slack = half * (1 + 1e-6) + 1e-12 * abs(value)
    i = bisect_left(values, value - slack)
    return i < len(values) and values[i] <= value + slack


def _stands(number: Number, values: list[float]) -> bool:
    halves = [number.half]
    if number.about and number.value == int(number.value):
        zeros = re.search(r"0*$", str(int(number.value)))[0]
        halves.append(min(0.5 * 10.0 ** len(zeros), 0.05 * number.value))
    return any(
        _near(values, number.value, half)
        or (number.percent and _near(values, number.value / 100, half / 100))
        for half in halves
    )


# --- the rule --------------------------------------------------------------------


def _references(book) -> list[str]:
    for section in sections(book):
        if section.title == "References":
            return [" ".join(point.casefold().split()) for point in items(section.text)]
    return []


def _texts(book) -> Iterator[tuple[str, str, dict]]:
    """The text before the references: section, source and the stated sources."""
    for section in sections(book):
        if section.title == "References":
            return
        for cell in section.cells:
            if cell.cell_type == "markdown":
                yield section.title or "the opening", cell.source, cell.metadata


def _exempt(number: Number, text: str, works: list[str]) -> bool:
    whole = number.value == int(number.value) and "." not in number.written
    if whole and number.value <= SMALL:
        return True
    year = re.fullmatch(r"(?:19|20)\d\d", number.written)
    if year and any(re.search(rf"(?<!\d){year[0]}(?!\d)", work) for work in works):
        return True
    for match in CHAPTERS.finditer(text):
        if match.start(1) <= number.start < match.end(1):
            return True
    return False


def _around(text: str, number: Number) -> str:
    before = text[max(0, number.start - 45) : number.start]
    after = text[number.start :][: len(number.written) + 35]
    return " ".join((before + after).split())


def unshown(book) -> list[tuple[str, Number, str]]:
    """The numbers that stand nowhere: section, number, the words around it.

    Those whose source the cell's metadata names are left out.
    """
    values, works, found = shown(book), _references(book), []
    for title, source, metadata in _texts(book):
        text, quoted = bare(source), _quoted(source)
        sourced = [n for key in _sources(metadata) for n in numbers(key)]
        for number in numbers(text):
            if _exempt(number, text, works) or _same(number, sourced):
                continue
            if not (_stands(number, values) or _stands(number, quoted)):
                found.append((title, number, _around(text, number)))
    return found


def _same(number: Number, others: list[Number]) -> bool:
    return any((number.value, number.half) == (o.value, o.half) for o in others)


def _sources(metadata) -> dict:
    stated = metadata.get("sources", {})
    return stated if isinstance(stated, dict) else {}


def problems(book) -> list[str]:
    """Numbers that stand nowhere, and sources that do not hold."""
    found = [
        f"section {title!r}: {number.written!r} stands in no output, code or source: "
        f"{around!r}"
        for title, number, around in unshown(book)
    ]
    works = _references(book)
    for cell in book.cells:
        if "sources" not in cell.metadata:
            continue
        where = f"text {(cell.source.strip().splitlines() or [''])[0][:40]!r}: sources"
        stated = cell.metadata["sources"]
        if cell.cell_type != "markdown":
            found.append(f"{where} are for text cells")
        if not isinstance(stated, dict) or not stated:
            found.append(f"{where} must map numbers to works, got {stated!r:.40}")
            continue
        have = numbers(bare(cell.source))
        for written, work in stated.items():
            keys = numbers(written)
            if len(keys) != 1 or not _same(keys[0], have):
                found.append(f"{where}: {written!r} is no number of this text")
            if not isinstance(work, str) or not _listed(work, works):
                found.append(f"{where}: the references do not list {work!r:.60}")
    return found


def _listed(work: str, works: list[str]) -> bool:
    """Whether a part of the source stands in a point of the references."""
    parts = [" ".join(part.casefold().split()) for part in work.split(",")]
    parts = [part for part in parts if len(part) > 3 and re.search("[a-z]", part)]
    return any(part in point for part in parts for point in works)


def main(arguments: list[str]) -> int:
    try:
        paths = notebook.chosen(arguments)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for path in paths:
        found = unshown(notebook.read(path))
        print(f"{path.stem}: {len(found)} numbers stand nowhere")
        for title, number, around in found:
            print(f"  {title[:30]:<30} {number.written:>10}  {around}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
