"""viz.draw_boxes: every outline can be counted, and lies where its pixels are."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from torchvision import tv_tensors

from course_utils import viz

matplotlib.use("Agg")

TWO = torch.tensor([[0.0, 0, 10, 10], [2.5, 4, 8, 9]])
NONE = torch.zeros(0, 4)


@pytest.fixture(autouse=True)
def _style():
    with matplotlib.rc_context():
        viz.use_style()
        yield
        plt.close("all")


@pytest.fixture
def ax():
    return plt.subplots()[1]


def corners(line):
    """The smallest and largest x and y of an outline, as xyxy."""
    x, y = line.get_data()
    return [min(x), min(y), max(x), max(y)]


def test_one_closed_outline_a_box_in_their_order(ax):
    lines = viz.draw_boxes(ax, TWO, on_image=False)
    assert lines == list(ax.lines) and len(lines) == 2 and not ax.texts
    assert [corners(line) for line in lines] == TWO.tolist()
    for line in lines:
        x, y = line.get_data()
        assert len(x) == 5 and (x[0], y[0]) == (x[4], y[4])
        moves = np.abs(np.diff(x)) > 0, np.abs(np.diff(y)) > 0
        assert moves[0].tolist() == [True, False, True, False]  # along the sides,
        assert moves[1].tolist() == [False, True, False, True]  # never across


def test_on_a_picture_the_outline_frames_its_pixels(ax):
    """Pixel 3 reaches from 2.5 to 3.5 there; so does the box from 3 to 4."""
    picture = np.zeros((8, 8), np.uint8)
    picture[5, 3] = 255
    shown = ax.imshow(picture)
    (line,) = viz.draw_boxes(ax, [3, 5, 4, 6])
    assert corners(line) == [2.5, 4.5, 3.5, 5.5]
    whole = viz.draw_boxes(ax, [0, 0, 8, 8])[0]
    left, right, bottom, top = shown.get_extent()
    assert corners(whole) == [left, top, right, bottom]


@pytest.mark.parametrize(
    "boxes",
    [
        TWO,
        TWO.tolist(),
        TWO.numpy(),
        TWO.double().requires_grad_(),
        TWO.bfloat16(),
        tv_tensors.BoundingBoxes(TWO, format="XYXY", canvas_size=(20, 20)),
        list(TWO),
    ],
    ids=["tensor", "list", "array", "gradient", "bfloat16", "tv_tensor", "rows"],
)
def test_kinds_of_boxes(ax, boxes):
    lines = viz.draw_boxes(ax, boxes, on_image=False)
    assert [corners(line) for line in lines] == TWO.tolist()


@pytest.mark.parametrize("none", [NONE, [], np.zeros((0, 4))])
def test_no_boxes(ax, none):
    assert viz.draw_boxes(ax, none) == []
    assert viz.draw_boxes(ax, none, texts=[], halo=True) == []
    assert not ax.lines and not ax.texts


def test_the_two_styles_of_the_book_and_others(ax):
    (truth,) = viz.draw_boxes(ax, TWO[0])
    (found,) = viz.draw_boxes(ax, TWO[0], viz.PREDICTION)
    (other,) = viz.draw_boxes(ax, TWO[0], viz.PREDICTION, color="k", linewidth=1)
    (short,) = viz.draw_boxes(ax, TWO[0], viz.PREDICTION, c="k", lw=1)
    assert (short.get_color(), short.get_linewidth()) == ("k", 1)
    (own,) = viz.draw_boxes(ax, TWO[0], {"color": viz.BLUE, "linestyle": ":"})
    for line, style in ((truth, viz.GROUND_TRUTH), (found, viz.PREDICTION)):
        assert line.get_color() == style["color"]
        assert line.get_linestyle() == style["linestyle"]
        assert line.get_linewidth() == style["linewidth"]
    assert (other.get_color(), other.get_linewidth()) == ("k", 1)
    assert other.get_linestyle() == viz.PREDICTION["linestyle"]
    assert (own.get_color(), own.get_linestyle()) == (viz.BLUE, ":")
    assert viz.GROUND_TRUTH == {"color": viz.GREEN, "linestyle": "-", "linewidth": 2.5}
    assert viz.PREDICTION == {
        "color": viz.VERMILION, "linestyle": "--", "linewidth": 2.0
    }  # fmt: skip


def test_the_halo_is_white_and_wider(ax):
    plainly, bordered = (
        viz.draw_boxes(ax, TWO[0], halo=halo, linewidth=3, color="k")[0]
        for halo in (False, True)
    )
    assert not plainly.get_path_effects()
    (effect,) = bordered.get_path_effects()
    assert to_rgba(effect._gc["foreground"]) == (1, 1, 1, 1)
    assert effect._gc["linewidth"] > 3


def test_a_halo_is_seen_and_the_line_stays_above_it():
    """By the pixels, on black: white beside the line, the line's color in it."""
    figure = plt.figure(figsize=(1, 1), dpi=100, facecolor="black", layout="none")
    ax = figure.add_axes([0, 0, 1, 1])
    ax.set_axis_off()
    ax.set(xlim=(0, 100), ylim=(100, 0))
    look = {"color": "red", "linestyle": "-", "linewidth": 4}
    seen = []
    for halo in (False, True):
        for line in list(ax.lines):
            line.remove()
        viz.draw_boxes(ax, [20, 20, 80, 80], look, on_image=False, halo=halo)
        figure.canvas.draw()
        pixels = np.asarray(figure.canvas.buffer_rgba())[50, :50, :3]  # one row
        white = (pixels > 200).all(axis=1).sum()
        red = ((pixels[:, 0] > 200) & (pixels[:, 1] < 60)).sum()
        seen.append((bool(white), bool(red)))
    assert seen == [(False, True), (True, True)]


def test_texts_stand_at_the_upper_left_corners(ax):
    ax.imshow(np.zeros((20, 20)))
    lines = viz.draw_boxes(ax, TWO, texts=["a 0.90", ""])
    assert [text.get_text() for text in ax.texts] == ["a 0.90", ""]
    for text, line in zip(ax.texts, lines, strict=True):
        assert list(text.get_position()) == corners(line)[:2]
        assert text.get_verticalalignment() == "bottom" and text.get_clip_on()


def test_input_stays_as_it_is(ax):
    before, look = TWO.clone(), {"color": "k"}
    viz.draw_boxes(ax, TWO, look, linewidth=1, halo=True)
    assert torch.equal(TWO, before) and look == {"color": "k"}


@pytest.mark.parametrize(
    "boxes, more, match",
    [
        (torch.zeros(2, 5), {}, r"\(N, 4\) or \(4,\), got \(2, 5\)"),
        (torch.zeros(1, 2, 4), {}, r"got \(1, 2, 4\)"),
        (torch.zeros(0, 3), {}, r"got \(0, 3\)"),
        ([1, 2, 3], {}, r"got \(3,\)"),
        ([[0, 0, 1, float("nan")]], {}, r"finite, .*nan.* at \[0\]"),
        ([[0, 0, 1, 1], [0, 0, float("inf"), 1]], {}, r"inf.* at \[1\]"),
        ([[0, 0, 1, 1], [5, 0, 4, 1]], {}, r"x1 <= x2 .*\[5.0, 0.0, 4.0, 1.0\] at \[1"),
        (TWO, {"texts": ["one"]}, "2 boxes, but 1 texts"),
        (TWO, {"texts": "ab"}, "2 boxes, but 'ab'"),
    ],
)
def test_clear_errors(ax, boxes, more, match):
    with pytest.raises(ValueError, match=match):
        viz.draw_boxes(ax, boxes, **more)
    assert not ax.lines


@pytest.mark.parametrize(
    "boxes, match", [(["one"], "numbers"), ([[0, 0, 1], [1]], "numbers")]
)
def test_what_is_no_table_of_numbers(ax, boxes, match):
    with pytest.raises(TypeError, match=match):
        viz.draw_boxes(ax, boxes)


def test_needs_axes():
    with pytest.raises(TypeError, match="needs one matplotlib axes, got ndarray"):
        viz.draw_boxes(plt.subplots(1, 2)[1], TWO)
