"""booktools.prose: a number in a chapter's text that stands nowhere is found."""

import pytest
from books import build, code, markdown

from booktools import prose

TEXTS = {
    "12 and 13": [12, 13],
    "118,287 pictures, 1,024 and 5": [118287, 1024, 5],
    "1, 2,3 and 4": [1, 2, 3, 4],
    "0.5, 3.14, and 100.": [0.5, 3.14, 100],
    "3 million, 2.5 billion, 20 thousand": [3e6, 2.5e9, 2e4],
    "2 to 3 million": [2e6, 3e6],
    "20 to 30": [20, 30],
    "640x480 and 16 x 16, a 32-bit float": [640, 480, 16, 16, 32],
    "1e-5, 2.5e3": [1e-5, 2500],
    "-1.7 and 300 - 256": [1.7, 300, 256],
    "ResNet-50, E-041, float16, VGG16, v2.11.0, a 2D map": [2],
    "top-100": [100],
    "torch 2.11 (2026), 2.11.0, 10.1.1.": [2.11, 2026],
    "in 2018. 0.5. 7.": [2018, 0.5, 7],
    "25/35 and the 16th": [25, 35, 16],
    "1\u202f000 and 10\u00a0000": [1000, 10000],
    "no numbers": [],
}


@pytest.mark.parametrize(("text", "values"), TEXTS.items(), ids=TEXTS)
def test_numbers_of_a_text(text, values):
    assert [n.value for n in prose.numbers(text)] == pytest.approx(values)


def test_percent():
    found = prose.numbers("37 %, 5 to 8 percent, 62.5%, 12 points of 30")
    values = [(n.value, n.percent) for n in found]
    assert values == [
        (37, True),
        (5, True),
        (8, True),
        (62.5, True),
        (12, False),
        (30, False),
    ]


def test_chapters_named():
    text = (
        "[chapter 4](04_a.ipynb), chapters 6 to 9, [chapters 18](18_b) and [19](19_c)"
    )
    assert prose.chapters_named(text) == {4, 6, 7, 8, 9, 18, 19}
    assert prose.chapters_named("chapters 20, 21 and 22; chapter 30 has 40") == {
        *(20, 21, 22, 30)
    }
    assert prose.chapters_named("no chapter, 5") == set()


REFERENCES = "## References\n\n- T. Lin, [COCO](https://cocodataset.org), 2014.\n"


def chapter(text: str, source: str = "x = 1", printed: str = "", **metadata):
    cells = [markdown("# A"), code(source, printed), markdown(f"## B\n\n{text}")]
    cells[-1].metadata.update(metadata)
    return build([*cells, markdown(REFERENCES)])


def missing(*arguments, **metadata) -> list[str]:
    return [n.written for _, n, _ in prose.unshown(chapter(*arguments, **metadata))]


#: text, code, output
SHOWN = {
    "small": ("12 boxes, 0 left, 5 percent", "", ""),
    "in the code": ("50 steps", "for step in range(50): pass", ""),
    "with underscores": ("10,000 steps", "steps = 10_000", ""),
    "in an exponent": ("a rate of 0.001", "rate = 1e-3", ""),
    "in a comment": ("50 steps", "pass  # 50", ""),
    "a power": ("2,147,483,647 is the last", "last = 2**31 - 1", ""),
    "a fraction": ("about 0.667", "ratio = 4 / 6", ""),
    "in an output": ("a loss of 0.6243", "", "loss 0.6243"),
    "rounded": ("a loss of 0.62", "", "loss 0.6243"),
    "rounded to a whole": ("63 degrees", "", "62.7"),
    "negative": ("14.5 below", "", "-14.5"),
    "percent of a fraction": ("62 % and 62.4 percent", "", "0.6243"),
    "percent of percent": ("62 percent", "", "62.4%"),
    "a fraction of percent": ("a share of 0.62", "", "62.4 %"),
    "range": ("20 to 30 percent", "", "0.2 0.3"),
    "about": ("ends near 65,500", "", "65504"),
    "million": ("3 million weights, 2.5 million of them", "", "2,951,234 2498765"),
    "a tuple": ("of 640 by 480", "", "(3,640,480)"),
    "a tensor": ("it is 300", "", "tensor([300., 44.])"),
    "quoted": ("`x[300]` is 300", "", ""),
    "fenced": ("It is 300:\n\n```\n300\n```", "", ""),
    "code": ("`float16(300)` and ``a ` 300``", "", ""),
    "math": ("$x = 300$ and\n\n$$\n300\n$$\n\n and $a\n+ 300$", "", ""),
    "a link": ("[a](https://a.b/300), https://a.b/300 [c](25_x.ipynb#a-300)", "", ""),
    "chapters": ("chapter 23, [chapters 16](a) to [19](b), chapters\n20, 21", "", ""),
    "errata": ("(E-041, E-500)", "", ""),
    "a cited year": ("COCO (2014)", "", ""),
    "the opening": (
        "**Takes** about 25 minutes, 15.\n\n**Runs in** about 60 s.",
        "",
        "",
    ),
    "an exercise": ("### 1. A\n\n●○○ · 15 minutes\n\nDo.", "", ""),
}


@pytest.mark.parametrize(("text", "source", "out"), SHOWN.values(), ids=SHOWN)
def test_shown(text, source, out):
    assert missing(text, source or "x = 1", out) == []
    assert prose.problems(chapter(text, source or "x = 1", out)) == []


PLANTED = {
    "nowhere": ("13 boxes", "", "", "13"),
    "a float": ("a loss of 0.5", "", "", "0.5"),
    "other digits": ("a loss of 0.63", "", "0.6243", "0.63"),
    "more digits": ("a loss of 0.624", "", "0.62", "0.624"),
    "not rounded": ("ends at 65,500", "", "65504", "65,500"),
    "far from about": ("about 100", "", "90", "100"),
    "percent": ("64 percent", "", "0.6243", "64 percent"),
    "no percent": ("62 boxes", "", "0.62", "62"),
    "million": ("3 million", "", "2,451,234", "3 million"),
    "part of a number": ("it is 300", "", "1300 3000 0.300", "300"),
    "part of a name": ("it is 16", "x = float16", "", "16"),
    "an unknown year": ("from 2013", "", "", "2013"),
    "no chapter": ("chapter 23 has 24", "", "", "24"),
    "quoted elsewhere": ("it is 300\n\n## C\n\n`300`", "", "", "300"),
    "math elsewhere": ("$300$ and 300, $5", "", "", "300"),
    "after a price": ("\\$13 and \\$14", "", "", "13"),
    "after the opening": (
        "16 bits\n\n**Runs in** about 60 s.\n\nNow 60.",
        "",
        "",
        "16",
    ),
}


@pytest.mark.parametrize(
    ("text", "source", "out", "says"), PLANTED.values(), ids=PLANTED
)
def test_planted(text, source, out, says):
    assert says in missing(text, source or "x = 1", out)
    [problem, *_] = prose.problems(chapter(text, source or "x = 1", out))
    assert "stands in no output, code or source" in problem and "'B'" in problem


def test_the_set_up_cell_shows_nothing():
    book = chapter("13 boxes", "x = 13")
    assert prose.unshown(book) == []
    book.cells[1].metadata["tags"] = ["setup"]
    assert len(prose.unshown(book)) == 1


def test_an_error_that_is_shown():
    book = chapter("13 boxes")
    output = {"output_type": "error", "ename": "E", "evalue": "13", "traceback": ["13"]}
    book.cells[1].outputs = [type(book)(output)]
    assert prose.unshown(book) == []


SOURCE = {"118,000": "COCO train2017, cocodataset.org"}


def test_a_source():
    text = "trained on 118,000 pictures"
    assert missing(text) == ["118,000"]
    assert prose.problems(chapter(text, sources=SOURCE)) == []
    assert prose.problems(chapter(text, sources={"118000": "[LVIS]"})) != []
    assert prose.problems(chapter(text, sources={"118000": "2017, T. Lin"})) == []


@pytest.mark.parametrize(
    ("text", "sources", "says"),
    [
        ("118,287 pictures", SOURCE, "'118,000' is no number of this text"),
        ("118,287 pictures", SOURCE, "'118,287' stands in no output"),
        ("118,000", {"118,000": "ImageNet, image-net.org"}, "do not list 'ImageNet"),
        ("118,000", {"118,000": ""}, "do not list ''"),
        ("118,000", {"118,000": "2014"}, "do not list '2014'"),
        ("118,000", {"118,000": 3}, "do not list 3"),
        ("118,000", {}, "must map numbers to works"),
        ("118,000", "COCO", "must map numbers to works"),
        ("13 and 14", {"13 and 14": "COCO, cocodataset.org"}, "'13 and 14' is no"),
    ],
)
def test_wrong_sources(text, sources, says):
    found = prose.problems(chapter(text, sources=sources))
    assert any(says in problem for problem in found), found


def test_sources_of_code():
    book = chapter("x")
    book.cells[1].metadata["sources"] = SOURCE
    assert any("are for text cells" in p for p in prose.problems(book))


def test_a_chapter_without_references_or_code():
    assert prose.problems(build([markdown("# A\n\n13")])) != []
    assert prose.problems(build([])) == []


def test_command(capsys, monkeypatch, tmp_path):
    from booktools import notebook

    notebook.write(chapter("There are 13 boxes."), tmp_path / "03_a.ipynb")
    monkeypatch.setattr(notebook, "CHAPTERS", tmp_path)
    assert prose.main(["03"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("03_a: 1 numbers stand nowhere\n")
    assert "There are 13 boxes." in out
    assert prose.main(["04"]) == 2
    assert capsys.readouterr().err == "no chapter '04'\n"
