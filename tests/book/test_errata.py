"""The ledger ``errata.md``, the chapters' notes and the tests say the same."""

import csv
import os
import re

import pytest

from booktools import notebook
from booktools.structure import anchors

LEDGER = notebook.ROOT / "errata.md"
PROOFS = notebook.ROOT / "tests" / "chapters"
# The list of errata that the book sets out to settle, where somebody keeps one: a table
# with the columns id, severity and chapter.
LIST = os.environ.get("COURSE_ERRATA")
ROW = re.compile(r"^\| (E-\d{3}) \| (.+?) \| (.+?) \| (.+?) \|$", re.M)
LINK = re.compile(r"\]\(chapters/(\w+)\.ipynb#([\w-]+)\)")
TEST = re.compile(r"`(tests/chapters/\w+\.py)`")


def ledger():
    rows = ROW.findall(LEDGER.read_text(encoding="utf-8"))
    assert rows, "errata.md holds no rows of the form | E-001 | ... |"
    return rows


def chapter_text(name):
    book = notebook.read(notebook.CHAPTERS / f"{name}.ipynb")
    return "\n\n".join(c.source for c in book.cells if c.cell_type == "markdown")


def chapters():
    return sorted(p.stem for p in notebook.CHAPTERS.glob("*.ipynb"))


def proven_by_tests():
    found = {}
    for path in sorted(PROOFS.glob("test_ch*_errata.py")):
        for number in re.findall(r"def test_E_(\d{3})\b", path.read_text()):
            found[f"E-{number}"] = f"tests/chapters/{path.name}"
    return found


def test_each_erratum_has_one_row_in_order():
    numbers = [row[0] for row in ledger()]
    assert len(numbers) == len(set(numbers))
    assert numbers == sorted(numbers)


def test_each_row_names_its_proof():
    for number, _, _, proof in ledger():
        assert LINK.search(proof) or TEST.search(proof), f"{number}: no link, no test"


def test_ledger_and_chapters_name_the_same_errata():
    in_ledger = {(c, row[0]) for row in ledger() for c, _ in LINK.findall(row[3])}
    in_chapters = {
        (name, number)
        for name in chapters()
        for number in re.findall(r"\bE-\d{3}\b", chapter_text(name))
    }
    assert in_ledger == in_chapters


def test_links_lead_to_headings():
    for number, _, _, proof in ledger():
        for name, anchor in LINK.findall(proof):
            path = notebook.CHAPTERS / f"{name}.ipynb"
            assert anchor in anchors(path), f"{number}: #{anchor} in {name}"


def test_ledger_and_tests_name_the_same_errata():
    in_ledger = {row[0]: t for row in ledger() for t in TEST.findall(row[3])}
    assert in_ledger == proven_by_tests()


@pytest.mark.skipif(not LIST, reason="COURSE_ERRATA names no list of errata")
def test_severe_errata_of_each_chapter_are_settled():
    """Every severity-1 erratum assigned to a written chapter is in the ledger."""
    with open(LIST, encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    wanted = {
        r["id"] for r in rows if r["severity"] == "1" and r["chapter"] in chapters()
    }
    assert wanted, "no severe errata found: was the table renamed?"
    assert wanted <= {row[0] for row in ledger()}
