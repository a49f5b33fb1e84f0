"""The chapters keep to the rules of CONTRIBUTING.md (nothing is executed here).

The notebooks themselves are run and compared by booktools/nbval_plugin.py.
"""

import functools
import re
from pathlib import Path

import pytest
import yaml

from booktools import notebook, structure
from booktools.repository import address
from booktools.text_compare import same_text

CHAPTERS = sorted(notebook.CHAPTERS.glob("*.ipynb"))
TEMPLATE = notebook.ROOT / "template" / "NN_template.ipynb"
LARGER = {"06": 2.5, "07": 2.5}  # megabytes


def listed() -> list[str]:
    """The chapters in _toc.yml."""
    toc = yaml.safe_load((notebook.ROOT / "_toc.yml").read_text())
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [Path(f).stem for f in files if f.startswith("chapters/")]


@functools.cache
def chapter(path: Path):
    return notebook.read(path)


def report(problems: list[str], title: str) -> None:
    if problems:
        pytest.fail("\n  ".join([f"{title}:", *problems]), pytrace=False)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_outputs_can_be_compared(path):
    report(structure.comparable(chapter(path)), path.name)


def parts(text: str) -> list[str]:
    """The text cut at line ends outside of brackets, where comparing starts afresh."""
    found, depth = [""], 0
    for line in text.splitlines(keepends=True):
        found[-1] += line
        depth += sum(line.count(c) for c in "([{") - sum(line.count(c) for c in ")]}")
        if depth <= 0:
            found.append("")
            depth = 0
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_every_printed_digit_counts(path):
    """Change any digit on the page, and the comparison with the page notices.

    But for cells with a tolerance of their own, and the last digit of a float with four
    or more decimals.
    """
    missed = []
    for number, cell in enumerate(structure.code_cells(chapter(path)), 1):
        texts = [] if "tolerance" in cell.metadata else structure.compared(cell)
        for text in [part for whole in texts for part in parts(whole)]:
            for digit in re.finditer(r"\d", text):
                before, after = text[: digit.start()], text[digit.end() :]
                new = before + str((int(digit[0]) + 5) % 10) + after
                last = re.search(r"\.\d{3,}$", before) and not re.match(r"\d", after)
                if not last and same_text(text, new):
                    missed.append(
                        f"cell {number}: {before[-20:]}[{digit[0]}]{after[:20]}"
                    )
    report(missed, path.name)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_anatomy(path):
    limits = structure.Limits(megabytes=LARGER.get(path.name[:2], 1.5))
    report(structure.anatomy(chapter(path), path, address(), limits), path.name)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_stored_form(path):
    """Stored as `make run` stores it: no timings, no volatile metadata."""
    tidied = notebook.tidy(notebook.read(path))
    same = notebook.text(tidied) == path.read_text(encoding="utf-8")
    how = "make run CHAPTER={0}, or python -m booktools.run_chapter --tidy {0}"
    assert same, f"store it again: {how.format(path.stem)}"


def test_book():
    chapters = {path.stem: chapter(path) for path in CHAPTERS}
    glossary = (notebook.ROOT / "glossary.md").read_text()
    report(structure.book(chapters, listed(), glossary), "the book")


def test_template():
    book = notebook.read(TEMPLATE)
    small = structure.Limits(figures=1, exercises=1, core=(0, 30))
    problems = structure.comparable(book)
    problems += structure.anatomy(book, TEMPLATE, address(), small)
    report(problems, TEMPLATE.name)
