"""The guards of booktools/structure.py find what they are there for.

The template is the sound notebook; each case breaks it in one way.
"""

import copy

import pytest
from books import build, code, markdown
from nbformat.v4 import new_output

from booktools import notebook, structure
from course_utils import checks

TEMPLATE = notebook.ROOT / "template" / "NN_template.ipynb"
SMALL = structure.Limits(figures=1, exercises=1, core=(0, 30))


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


def append(source: str, text: str = "a third of it is 3."):
    """A change: one more paragraph in the cell with ``text``, the first section's."""

    def change(book):
        cell = cell_with(book, text)
        cell.source = f"{cell.source}\n\n{source}"

    return change


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


ANSWER = "The mean of 1, 2 and 6 is 3: their sum, divided by how many there are."
CARD = """| what | how |
|---|---|
| the mean of a tensor | `values.mean()` |
| by hand | `values.sum() / values.numel()` |
| of no values | an error from our loop |
"""
NOTE = "\n> *Often written, not so* (E-001). A sentence.\n"
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
    "two promises": (
        swap("- see it [in a picture](#where-does-the-mean-lie);\n", ""),
        "3 to 6 promises",
    ),
    "New here before Data": (swap("**New here**", "**Data**"), "must open with"),
    "no Takes": (swap("**Takes**", "Takes"), "paragraphs must open with"),
    "other times": (swap("about 5 minutes", "about 25 minutes"), "--tidy writes it"),
    "no Deeper in the times": (swap(", 5 more for *Deeper*", ""), "--tidy writes it"),
    "other exercises' time": (swap("· 5 minutes", "· 25 minutes"), "--tidy writes it"),
    "wall time": (swap("2 CPU-seconds", "2 seconds"), "'**Runs in** about 6"),
    "half a second": (swap("2 CPU-seconds", "2.5 CPU-seconds"), "'**Runs in** about 6"),
    "nine new terms": (
        swap("- *tensor*: a", "- *a*: b.\n" * 8 + "- *tensor*: a"),
        "9 items under New here; 1 to 8",
    ),
    "a bold new term": (swap("- *tensor*", "- **tensor**"), "New here: '- *term*"),
    "a new term without words": (swap("*tensor*: a", "*tensor*, a"), "New here: '- *"),
    "no new terms": (swap("- *tensor*: a", "*tensor*: a"), "0 items under New here"),
    "a promise without link": (
        swap("[in a picture](#where-does-the-mean-lie)", "in a picture"),
        "the promise 'see it in a picture;' needs a link",
    ),
    "a promise of nothing": (
        swap("(#where-does-the-mean-lie)", "(#where)"),
        "no section #where, as promised",
    ),
    "a promise of the title": (
        swap("(#where-does-the-mean-lie)", "(#a-template-chapter)"),
        "no section #a-template-chapter",
    ),
    "a promise elsewhere": (
        swap("(#where-does-the-mean-lie)", "(NN_template.ipynb#summary)"),
        "needs a link to its section",
    ),
    "a second link to nothing": (
        swap("see it [in a picture]", "[see](#none) it [in a picture]"),
        "no section #none, as promised",
    ),
    # the answer under a heading
    "no answer": (swap(f"{ANSWER}\n\nA section", "A section"), "must be one sentence"),
    "no own paragraph": (swap(f"{ANSWER}\n", ANSWER), "must be one sentence"),
    "an answer that asks": (swap(ANSWER, "Is it 3?"), "the answer asks"),
    "an answer that is a list": (swap(ANSWER, "- It is 3."), "a plain sentence must"),
    "a note as answer": (swap(ANSWER, "> It is 3."), "a plain sentence must follow"),
    "two sentences": (swap(ANSWER, "It is 3. That is all."), "must be one sentence"),
    "an open end": (swap(ANSWER, "It is three …"), "must be one sentence"),
    "no period": (swap(ANSWER, "It is 3"), "must be one sentence"),
    "a long answer": (swap(ANSWER, f"It is{' very' * 28} large."), "has 31 words"),
    "a heading alone": (
        swap("## Where does the mean lie?", "## Is it so?\n\n## Where does it lie?"),
        "section 'Is it so?': no answer",
    ),
    "no answer in a Deeper section": (
        swap("the number of all values.", "the number of all values?"),
        "section 'Deeper: how far does one value pull?': the answer",
    ),
    # Deeper
    "no colon": (swap("## Deeper: how", "## Deeper how"), "'Deeper: ' opens it"),
    "small letters": (swap("## Deeper: how", "## deeper: how"), "'Deeper: ' opens it"),
    "at the end": (
        swap("## Where does the mean lie?", "## Where does it lie (deeper)"),
        "'Deeper: ' opens it",
    ),
    "twice deeper": (
        swap("A section that may be", "### Deeper: more\n\nA section that may be"),
        "its section is Deeper already",
    ),
    "a deeper summary": (swap("### What to", "### Deeper: what to"), "has no Deeper"),
    # guesses
    "one guess": (swap("*Guess first*: what is", "What is"), "1 lines '*Guess first*"),
    "no question": (swap("no values at all?", "no values."), "a question mark"),
    "another form": (swap("*Guess first*: what", "*Guess first:* what"), "of its own"),
    "within a paragraph": (
        swap("\n\n*Guess first*: what", "\n*Guess first*: what"),
        "of its own",
    ),
    "a guess in the middle": (
        swap("no values at all?", "no values at all?\n\nLet us see."),
        "must be the last line",
    ),
    "a guess about nothing": (
        append("*Guess first*: what is the mean of a name?", "## References"),
        "a code cell with an output must follow",
    ),
    # the card
    "no card": (swap("### What to keep", "What to keep"), "'### What to keep'"),
    "another card": (swap("### What to keep", "### To keep"), "'### What to keep'"),
    "an empty card": (swap(CARD, ""), "'What to keep' is empty"),
    "a long card": (
        swap("| by hand |", "| a | b |\n" * 17 + "| by hand |"),
        "has 21 lines; 20 at most",
    ),
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
    "a note before its cell": (
        append("> *Often written, not so* (E-001). A sentence."),
        "must stand before the note",
    ),
    "a note in the next section": (
        swap("## Where does the mean lie?\n", f"## Where does the mean lie?\n\n{NOTE}"),
        "section 'Where does the mean lie?': the cell that shows",
    ),
    "seven notes": (append(NOTE * 7, "Two values lie"), "7 notes"),
    "a chapter that is there": (append("Chapter 3 is planned."), "chapter 3 exists"),
    "in a range, linked": (
        append("See [chapters 1](#summary) to 4: they are\nto come."),
        "chapter 4 exists, but is called planned",
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
    "no dots": (swap("●○○ · 5 minutes\n", ""), "must stand under the heading"),
    "four dots": (swap("●○○ ·", "●○○○ ·"), "must stand under the heading"),
    "dots of another order": (swap("●○○ ·", "○○● ·"), "must stand under the heading"),
    "dots in a paragraph": (
        swap("minutes\n\nComplete", "minutes\nComplete"),
        "must stand under the heading",
    ),
    "dots at the end": (
        swap("●○○ · 5 minutes\n\nComplete", "Do.\n\n●○○ · 5 minutes\n\nComplete"),
        "must stand under the heading",
    ),
    "easier": (
        swap("●○○ ·", "●●● · 5 minutes\n\nA.\n\n### 2. Next\n\n●●○ ·"),
        "exercise '2. Next': is easier",
    ),
    "no hint": (swap("# Stuck? A first", "# A first"), "the line before the check"),
    "another hint": (swap('hint("00.spread")', 'hint("00.mean")'), "the line before"),
    "a hint too early": (
        swap('hint("00.spread")\n', 'hint("00.spread")\n\n'),
        "the line before the check",
    ),
    "a class without methods": (
        swap("def spread(values):\n    ...", "class spread:\n    ..."),
        "the class spread needs method stubs",
    ),
    "no class": (
        swap("def spread(values):\n    if", "class spread:\n  def a(values):\n    if"),
        "must define the class spread",
    ),
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
    assert "the core takes 5 minutes, not 15 to 30" in found
    assert any("at least 4 are expected" in problem for problem in found)
    assert any("MB; 0.01 is the limit" in problem for problem in found)
    assert any("1 exercises; at least 5" in problem for problem in found)


def test_a_missing_hint(book, monkeypatch):
    assert "00.spread" in checks.exercises("00")
    monkeypatch.setattr(checks.core._registry["00.spread"], "hint", "")
    assert any("'00.spread' has no hint: write @" in p for p in problems(book))
    swap('checks.check("00.spread"', 'checks.check("00.none"')(book)
    assert any("no exercise '00.none'" in p for p in problems(book))


GOOD = {
    "no new terms": swap("\n\n**New here**\n\n- *tensor*: a block of numbers", " Of"),
    "two terms at once": swap("- *tensor*:", "- *tensor* and *shape*:"),
    "a term and its code": swap("- *tensor*:", "- *tensor*, in code `torch.Tensor`:"),
    "code and math in an answer": swap(
        ANSWER, "It is `a.b. c?` or $a.b. c?$ (A et al.)."
    ),
    "a defined term in an answer": swap(ANSWER, "A **mean** is 3."),
    "two links": swap("- see it", "- [see](#summary) it"),
    "a note after its cell": append(NOTE, "The cell prints"),
    "a planned chapter": append("Chapter 99 is planned. See [chapter](#summary) 3."),
    "a cut guess": swap("what is the mean of no", "what\nis the mean of no"),
    "a harder one": swap("●○○ ·", "●●● ·"),
    "code with brackets": append("Call `losses[0](3)`."),
    "a shorter way": swap("### What to keep\n\n|", "### What to keep\n\n- `a`\n\n|"),
    "a class with methods": swap(
        "def spread(values):\n    ...",
        "class spread:\n    def __init__(self):\n        ...",
    ),
}


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD)
def test_good(book, change):
    before = [cell.source for cell in book.cells]
    change(book)
    assert [cell.source for cell in book.cells] != before
    assert problems(book) == []


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
