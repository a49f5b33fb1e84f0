"""What a reader would see counts; what only a pixel counter sees does not."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from booktools import figure_compare
from course_utils import viz
from course_utils.viz.style import STYLE

X = np.linspace(0, 6, 200)


def draw(
    scale=1.0,
    offset=0.0,
    colors=(viz.BLUE, viz.VERMILION),
    tick="0.25",
    box=True,
    box_x=4.0,
    size=10,
    title="loss",
    figsize=(6.4, 3.2),
    offset_grid=0.0,
):
    """A figure as a chapter would draw it, decoded."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=figsize)
        ax.plot(X, np.sin(X) * scale, color=colors[0])
        ax.plot(X, 0.5 * np.cos(X) * scale + offset, "--", color=colors[1])
        ax.set(ylim=(-1.5, 1.5), xlim=(0, 6), title=title)
        ax.set_xticks([1, 2, 3 + offset_grid], ["0.5", tick, "1.5"], fontsize=size)
        if box:
            patch = plt.Rectangle((box_x, -0.5), 0.6, 0.8, fill=False, lw=1)
            ax.add_patch(patch)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        plt.close(figure)
    return figure_compare.decode(buffer.getvalue())


@pytest.fixture(scope="module")
def stored():
    return draw()


def pixels(count: float, axis: str = "y") -> float:
    """So many pixels of the figure above in its data units (measured)."""
    per_unit = {"y": 135.7, "x": 141.1}[axis]
    return count / per_unit


NOISE = {
    "the same": {},
    "data times (1 + 1e-6)": {"scale": 1 + 1e-6},
    "data times (1 - 1e-6)": {"scale": 1 - 1e-6},
    "a quarter of a pixel": {"offset": pixels(0.25)},
}
CHANGES = {
    "a line moved by 3 pixels": {"offset": pixels(3)},
    "a box moved by 3 pixels": {"box_x": 4 + pixels(3, "x")},
    "a thin grid line moved by 3 pixels": {"offset_grid": pixels(3, "x")},
    "one digit of a tick label": {"tick": "0.26"},
    "one digit that hardly changes": {"tick": "0.28"},
    "a missing box": {"box": False},
    "two swapped colors": {"colors": (viz.VERMILION, viz.BLUE)},
    "a letter of the title": {"title": "lass"},
    "another size": {"figsize": (6.4, 3.3)},
}


@pytest.mark.parametrize("change", NOISE.values(), ids=NOISE)
def test_noise_passes(stored, change):
    assert figure_compare.compare(stored, draw(**change)).same


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_change_fails(stored, change):
    verdict = figure_compare.compare(stored, draw(**change))
    assert not verdict.same
    assert verdict.reason


def test_antialiasing_passes(stored):
    """Every edge a fraction of a pixel further on, colors off by a few levels."""
    shifted = 0.95 * stored + 0.05 * np.roll(stored, 1, axis=1)
    noise = np.random.default_rng(0).integers(-3, 4, stored.shape)
    assert figure_compare.compare(stored, shifted + noise).same


@pytest.mark.parametrize("size", [7, 8, 10])
def test_every_pair_of_digits_is_told_apart(size):
    pictures = {}
    with plt.rc_context(STYLE):
        for digit in "0123456789":
            figure = plt.figure(figsize=(0.6, 0.4))
            figure.text(0.3, 0.3, f"0.{digit}", fontsize=size)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png")
            plt.close(figure)
            pictures[digit] = figure_compare.decode(buffer.getvalue())
    for a in pictures:
        for b in pictures:
            same = figure_compare.compare(pictures[a], pictures[b]).same
            assert same == (a == b), (a, b)


def test_swapped_colors_of_equal_brightness():
    """A comparison of gray levels would see no difference at all."""
    one, two = "#C04040", "#40729A"
    gap = np.subtract(to_rgb(one), to_rgb(two))
    assert abs(gap @ [0.299, 0.587, 0.114]) < 0.03
    assert not figure_compare.compare(
        draw(colors=(one, two)), draw(colors=(two, one))
    ).same


def test_noise_pictures_that_differ_everywhere():
    """Neighborhoods hide much in a fine texture; the second measure does not."""
    generator = np.random.default_rng(0)
    one, two = generator.integers(0, 256, (2, 200, 200, 3)).astype(np.float32)
    assert not figure_compare.compare(one, two).same


def test_factor_loosens(stored):
    changed = draw(tick="0.26")
    assert not figure_compare.compare(stored, changed).same
    assert figure_compare.compare(stored, changed, factor=1000).same


def test_size_is_never_loosened(stored):
    verdict = figure_compare.compare(stored, stored[:-1], factor=1000)
    assert verdict.reason == "the size was 921x460 pixels and is 921x459"


def test_blank(stored):
    assert figure_compare.is_blank(np.full((9, 9, 3), 255.0))
    assert not figure_compare.is_blank(stored)


def test_transparent_is_white():
    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(buffer, "PNG")
    assert (figure_compare.decode(buffer.getvalue()) == 255).all()


def test_not_a_picture():
    with pytest.raises(ValueError, match="not a PNG"):
        figure_compare.decode(b"nothing")


def test_difference_picture(stored):
    changed = draw(box=False)[:-10]
    assert figure_compare.difference_picture(stored, changed).size == (921, 460)
