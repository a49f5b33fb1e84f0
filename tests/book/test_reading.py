"""booktools.reading: a chapter's times by hand, and what is written into it."""

import pytest
from books import build, code, markdown
from nbformat.v4 import new_output

from booktools import notebook, reading

LINE = (
    "**Takes** about {} minutes to read, {} more for *Deeper*, "
    "and {} for the exercises."
)
OPENING = (
    "# A\n\nOne.\n\n**Takes** about 1 minute.\n\n**Runs in** about 6 CPU-seconds.\n\n"
    "**Data** None."
)


def picture(source: str, **metadata):
    cell = code(source, **metadata)
    cell.outputs = [new_output("display_data", data={"image/png": "AAAA"})]
    return cell


def chapter(core: int = 0, deeper: int = 0, exercises=(), opening: str = OPENING):
    """A chapter with these numbers of words."""
    texts = [
        opening,
        f"## B\n\n{'word ' * core}",
        f"## Deeper: c\n\n{'word ' * deeper}",
    ]
    texts += ["## Exercises", *exercises, f"## References\n\n{'word ' * 999}"]
    return build([markdown(text) for text in texts])


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("one two\nthree", 3),
        ("- **one** | `two` $x$ ##", 3),
        ("one\n\n```\ntwo three\n```\n", 1),
        ("[one two](https://a.b/c%20d), <https://a.b>", 2),
    ],
)
def test_words(text, count):
    assert reading.words(text) == count


@pytest.mark.parametrize(
    ("minutes", "shown"),
    [(0, 0), (0.1, 5), (7.4, 5), (7.5, 10), (22.4, 20), (22.5, 25), (32.4, 30)],
)
def test_rounded(minutes, shown):
    assert reading.rounded(minutes) == shown


def test_times_by_hand():
    title = "### {}. A\n\n●○○ · {} minutes\n\n" + "word " * 999
    exercises = [title.format(1, 7), title.format(2, 8)]
    have = reading.times(chapter(3000, 1000, exercises))
    beside = reading.words(OPENING) + 1  # and the heading B
    assert have.core == pytest.approx((3000 + beside) / 200)
    assert have.deeper == pytest.approx((1000 + 2) / 200)
    assert have.exercises == 15
    assert reading.takes(chapter(3000, 1000, exercises)) == LINE.format(15, 5, 15)
    without = chapter(3000)
    del without.cells[2]
    line = "**Takes** about 15 minutes to read, and 0 for the exercises."
    assert reading.takes(without) == line


def test_code_and_figures():
    lines = "\n\n".join(["x = 1"] * 40)
    cells = [
        markdown("# A"),
        code(lines, tags=["setup"]),
        markdown("## B"),
        code(lines),
        code(lines, tags=["hide-input"]),
        code(lines, tags=["hide-cell"]),
        picture("x", tags=["hide-input"]),
        markdown("### Deeper: b"),
        picture(lines),
        markdown("### C"),
        code(lines),
        markdown("## Deeper: d"),
        markdown("### E"),
        code(lines),
        markdown("## Summary"),
        code(lines),
        markdown("## Exercises\n\n### 1. A"),
        code(lines, tags=["exercise"]),
    ]
    have = reading.times(build(cells))
    assert have.core == pytest.approx(3 + 0.25 + 4 / 200)
    assert have.deeper == pytest.approx(2 + 0.25 + 5 / 200)
    assert (have.exercises, have.code_cells) == (0, 10)


def test_beyond():
    [few, *_] = reading.Times(words=10, core=12.4).beyond
    assert few == "the core must take 15 to 30 minutes"
    assert reading.Times(core=12.5).beyond == reading.Times(core=32.4).beyond == []
    many = reading.Times(words=4001, code_cells=52, core=32.5).beyond
    assert many[1:] == ["1 words beyond 4000", "2 code cells beyond 50"]


def test_renewed():
    book = chapter(3000, 1000)
    reading.renew(book)
    assert LINE.format(15, 5, 0) in book.cells[0].source.split("\n\n")
    assert "about 6 CPU-seconds" in book.cells[0].source
    reading.renew(book, 11.6)
    assert "**Runs in** about 12 CPU-seconds.\n\n**Data**" in book.cells[0].source
    reading.renew(book, 0.2)
    assert "**Runs in** about 1 CPU-seconds.\n\n**Data**" in book.cells[0].source


def test_a_cut_line_that_holds_stays():
    book = chapter(3000, 1000)
    reading.renew(book)
    book.cells[0].source = book.cells[0].source.replace(", and 0", ",\nand 0")
    before = book.cells[0].source
    reading.renew(book)
    assert book.cells[0].source == before
    book.cells[1].source += " word" * 2000
    reading.renew(book)
    assert LINE.format(25, 5, 0) in book.cells[0].source.split("\n\n")


def test_a_chapter_without_the_line_is_left_alone():
    book = chapter(3000, opening=OPENING.replace("**Takes**", "Takes"))
    before = notebook.text(book)
    reading.renew(book, 60)
    assert notebook.text(book) == before
    reading.renew(build([]), 60)


def test_command(capsys, monkeypatch, tmp_path):
    notebook.write(chapter(3000, 1000), tmp_path / "03_a.ipynb")
    notebook.write(chapter(), tmp_path / "04_b.ipynb")
    monkeypatch.setattr(notebook, "CHAPTERS", tmp_path)
    assert reading.main(["03"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("03_a ") and "core  15 (15.1), Deeper   5" in line
    assert reading.main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert reading.main(["05"]) == 2
    assert capsys.readouterr().err == "no chapter '05'\n"
