"""The guards of booktools/structure.py find what they are there for.

The template is the sound notebook; each case breaks it in one way.
"""

import copy

import pytest
from books import build, code, markdown
from nbformat.v4 import new_output

from booktools import notebook, structure

TEMPLATE = notebook.ROOT / "template" / "NN_template.ipynb"
SMALL = structure.Limits(figures=1, exercises=1)


@pytest.fixture
def book():
    return notebook.read(TEMPLATE)


def problems(book, url: str | None = None, limits=SMALL) -> list[str]:
    if url is None:  # the address that the template was written with
        setup = structure.code_cells(book)[0].source
        url = setup.partition('REPOSITORY = "')[2].partition('"')[0]
    return structure.comparable(book) + structure.anatomy(book, TEMPLATE, url, limits)


def cell_with(book, text: str):
    return next(cell for cell in book.cells if text in cell.source)


def swap(old: str, new: str):
    """A change: replace a piece of text in the first cell that holds it."""

    def change(book):
        cell = cell_with(book, old)
        cell.source = cell.source.replace(old, new, 1)

    return change


def tag(text: str, *tags: str):
    def change(book):
        cell_with(book, text).metadata["tags"] = list(tags)

    return change


def stored(text: str, output: str):
    def change(book):
        outputs = [new_output("stream", name="stdout", text=output)]
        cell_with(book, text).outputs = outputs

    return change


def stated(text: str, **metadata):
    def change(book):
        cell_with(book, text).metadata.update(metadata)

    return change


def append(source: str):
    """A change: one more line at the end of the first section's text."""
    return swap("a third of it is 3.", f"a third of it is 3.\n\n{source}")


def remove(text: str):
    def change(book):
        book.cells.remove(cell_with(book, text))

    return change


def no_alt(book):
    del cell_with(book, "plt.show()").metadata["mystnb"]["image"]


def no_metadata(book):
    del cell_with(book, "plt.show()").metadata["mystnb"]


def other_name(book):
    cell_with(book, "plt.show()").metadata["mystnb"]["figure"]["name"] = "fig-03-mean"


def no_picture(book):
    cell_with(book, "plt.show()").outputs = []


def broken_picture(book):
    cell_with(book, "plt.show()").outputs[0].data["image/png"] = "AAAA"


def two_pictures(book):
    cell = cell_with(book, "plt.show()")
    cell.outputs = [*cell.outputs, copy.deepcopy(cell.outputs[0])]


def two_long(book):
    for text in ("print(", "def mean"):
        cell_with(book, text).metadata["tags"] = ["long"]


def no_count(book):
    cell_with(book, "def mean").execution_count = None


def wrong_count(book):
    cell_with(book, "def mean").execution_count = 40


def loud_setup(book):
    outputs = [new_output("stream", name="stdout", text="a\n")]
    structure.code_cells(book)[0].outputs = outputs


def last_sections(book):
    book.cells.insert(2, book.cells.pop())


LONG = "\n".join(f"x{i} = {i}" for i in range(26))
CASES = {
    # opening
    "no title": (swap("# A template chapter", "A template"), "level-1 heading"),
    "no promise": (swap("This page shows the shape", "- This page"), "promise is"),
    "a promise of two sentences": (
        swap("of a chapter on", "of it. On"),
        "one sentence",
    ),
    "no Needs": (swap("**Needs**", "Needs"), "paragraphs must open with"),
    "Data before Needs": (swap("**Needs**", "**Data**"), "paragraphs must open with"),
    "two promises": (swap("- see it in a picture,\n", ""), "3 to 6 promises"),
    # the two opening cells
    "another set-up": (swap("import os", "import os  # x"), "not the set-up cell"),
    "set-up without tags": (tag("#@title Set-up"), "needs the tags setup"),
    "loud set-up": (loud_setup, "must be silent"),
    "imports": (swap("\nruntime.setup()", ""), "must end with runtime.setup()"),
    # the last sections
    "no Ours": (swap("## Ours against the library's", "## Ours"), "last sections"),
    "no compare": (swap("compare(", "print("), "nothing calls compare"),
    "another order": (last_sections, "last sections"),
    "a point missing": (swap("- Our loop and", "Our loop and"), "2 points for 3"),
    "no link": (
        swap("[torch.mean](https", "torch.mean (ftp"),
        "each point with a link",
    ),
    # cells
    "long cell": (swap("def mean(values):", f"{LONG}\ndef mean(values):"), "25 is the"),
    "wide cell": (swap("total = 0.0", f"total = 0.0  # {'x' * 80}"), "columns"),
    "two long cells": (two_long, "more than one cell is tagged long"),
    "no text between": (remove("The mean is 3, as by hand"), "without a sentence"),
    "a path in the code": (swap("total = 0.0", "a = '/home/x/y'"), "a machine path"),
    "silenced": (
        swap("total = 0.0", "import warnings; warnings.filterwarnings('ignore')"),
        "silences warnings",
    ),
    # text
    "directive": (append("```{note}\nx\n```"), "a MyST directive"),
    "colon directive": (append(":::{note}\nx\n:::"), "a MyST directive"),
    "role": (append("see {doc}`x`"), "a MyST role"),
    "HTML": (append("a <br> b"), "HTML tag <br>"),
    "comment": (append("a <!-- b -->"), "HTML tag <!--"),
    "twice the same heading": (
        swap("## Where does the mean lie?", "## Summary"),
        "'summary'",
    ),
    "a heading too deep": (append("#### deep"), "skips a level"),
    "a second title": (append("# Again"), "exactly one level-1"),
    "a link to nothing": (append("[x](99_none.ipynb)"), "leads nowhere"),
    "a link to no heading": (append("[x](#none)"), "no such heading"),
    "a note without number": (
        append("> *Often written, not so*. A sentence."),
        "open with its errata's numbers",
    ),
    "a note at the end": (
        swap(
            "## References\n",
            "> *Often written, not so* (E-001). A.\n\n## References\n",
        ),
        "not followed by the cell",
    ),
    # figures
    "no alt": (no_alt, "no alt text"),
    "no caption": (no_metadata, "no caption"),
    "name of another chapter": (other_name, "name must be fig-NN-"),
    "no picture": (no_picture, "but no figure"),
    "too few": (no_picture, "0 figures; at least 1"),
    "broken picture": (broken_picture, "not a PNG"),
    "two in a cell": (two_pictures, "draws 2 figures"),
    "not shown": (swap("plt.show()", "fig.canvas.draw()"), "end in plt.show()"),
    # exercises
    "no exercise": (swap("### 1. The spread", "#### The spread"), "at least 1"),
    "unnumbered": (swap("### 1. The", "### 2. The"), "must be numbered"),
    "no stub": (tag("    ..."), "but 0 stubs"),
    "no solution": (remove("raise ValueError"), "has no solution"),
    "stub without dots": (swap("    ...\n", "    pass\n"), "no ... to replace"),
    "solution not hidden": (tag("raise ValueError", "solution"), "the tag hide-cell"),
    "no form title": (swap('#@title Solution { display-mode: "form" }', "#"), "first"),
    "no check": (swap('checks.check("00.spread", spread)', "spread"), "must end with"),
    "solution fails": (
        stored("raise ValueError", "Exercise 00.spread: not yet\n"),
        "does not pass",
    ),
    "stub attempted": (
        stored("    ...", "Exercise 00.spread: passed\n"),
        "does not pr",
    ),
    # what an honest comparison needs
    "never run": (no_count, "was never run"),
    "run out of order": (wrong_count, "execution count 40 instead of 4"),
    "path": (stored("print(", "/home/me/a.py\n"), "a machine path"),
    "package path": (stored("print(", "in site-packages/a.py\n"), "a machine path"),
    "address": (stored("print(", "<f at 0x7f0012ab>\n"), "an object address"),
    "too fine": (stored("print(", "1234.5678\n"), "print fewer, or state a tolerance"),
    "no reason": (stated("print(", tolerance={"rtol": 1}), "tolerance has no reason"),
    "bare number": (stated("print(", tolerance=1), "must be a mapping"),
    "unknown key": (
        stated("print(", tolerance={"rtol": 1, "reason": "x", "abs": 1}),
        "unknown keys: abs",
    ),
    "infinite": (
        stated("print(", tolerance={"rtol": float("inf"), "reason": "x"}),
        "rtol must be a number",
    ),
    "a factor below 1": (
        stated("plt.show()", figure_tolerance={"factor": 0.5, "reason": "x"}),
        "factor must be a number >= 1",
    ),
    "a factor without figure": (
        stated("print(", figure_tolerance={"factor": 2, "reason": "x"}),
        "but no figure",
    ),
    "ignored": (tag("print(", "nbval-ignore-output"), "no ignore_reason"),
    "reason alone": (stated("print(", ignore_reason="x"), "not the tag"),
    "skipped": (tag("print(", "nbval-skip"), "nbval-skip is not used"),
    "marker": (swap("print(", "# NBVAL_IGNORE_OUTPUT\nprint("), "use a tag"),
    "error without tag": (tag("mean([])"), "has no raises-exception"),
    "tag without error": (tag("print(", "raises-exception"), "stores no error"),
}


def test_the_template_is_sound(book):
    assert problems(book) == []


@pytest.mark.parametrize(("change", "says"), CASES.values(), ids=CASES)
def test_broken(book, change, says):
    change(book)
    found = problems(book)
    assert any(says in problem for problem in found), found


def test_address(book):
    assert any("not the set-up cell" in p for p in problems(book, "https://a.b/c/d"))


def test_limits(book):
    found = problems(book, limits=structure.Limits(megabytes=0.01))
    assert any("at least 4 are expected" in problem for problem in found)
    assert any("MB; 0.01 is the limit" in problem for problem in found)
    assert any("1 exercises; at least 5" in problem for problem in found)


GOOD_TEXT = """`<br>` and `{doc}` in code, $a < b > c$, a link [x](https://a.b), <https://a.b>,
1 < 2, $5 and $6.

```python
x: list[int]  # <T> :::
```
"""


def test_signs_in_code_and_math_are_no_markup(book):
    append(GOOD_TEXT)(book)
    assert problems(book) == []


@pytest.mark.parametrize(
    ("source", "silent"),
    [
        ("import warnings\nwarnings.simplefilter('ignore')", True),
        ("from warnings import filterwarnings\nfilterwarnings(action='ignore')", True),
        ("%matplotlib inline\nwarnings.simplefilter('ignore')", True),
        ("with warnings.catch_warnings():\n    warnings.simplefilter('ignore')", False),
        ("warnings.simplefilter('error')", False),
        ("warnings.filterwarnings('ignore'", True),  # not Python, but clear enough
        ("x = 'ignore'", False),
    ],
)
def test_silences_warnings(source, silent):
    assert structure.silences_warnings(source) == silent


# --- all chapters together -----------------------------------------------------------

GLOSSARY = "# Glossary\n\n```{glossary}\nmean\n  The sum by the number.\n```\n"


def small(text: str = "A **mean** is this.", **metadata):
    return build([markdown(text), code("1", **metadata)], run=True)


def test_book_is_sound():
    chapters = {"03_a": small(), "04_b": small("**Needs** the *mean*.")}
    assert structure.book(chapters, ["03_a", "04_b"], GLOSSARY) == []


def named(name: str) -> dict:
    return {"mystnb": {"figure": {"name": name}}}


IGNORED = {"tags": ["nbval-ignore-output"], "ignore_reason": "x"}
BOOKS = {
    "not listed": ({"03_a": small(), "04_b": small()}, "04_b: not in _toc.yml"),
    "not there": ({}, "03_a: in _toc.yml, but not in chapters/"),
    "a name": ({"3a": small()}, "is named like"),
    "a number twice": ({"03_a": small(), "03_b": small()}, "have the number 03"),
    "a figure twice": (
        {"03_a": small(**named("fig-x")), "04_b": small(**named("fig-x"))},
        "name a figure fig-x",
    ),
    "too many ignored": ({"03_a": small(**IGNORED)}, "1 of 1 cells are ignored"),
    "a term without entry": ({"03_a": small("**mean** **mode**")}, "'mode' is not in"),
    "an entry without term": ({"03_a": small("x")}, "'mean' is not a bold term"),
}


@pytest.mark.parametrize(("chapters", "says"), BOOKS.values(), ids=BOOKS)
def test_broken_book(chapters, says):
    found = structure.book(chapters, ["03_a"], GLOSSARY)
    assert any(says in problem for problem in found), found


def test_too_many_loosened(book):
    stated("plt.show()", figure_tolerance={"factor": 2, "reason": "x"})(book)
    found = structure.book({"03_a": book}, ["03_a"], GLOSSARY)
    assert any("1 of 1 figures are loosened" in problem for problem in found)
