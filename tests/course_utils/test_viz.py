"""viz: one style, and drawings whose parts can be counted."""

import io
import itertools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

from course_utils import viz
from course_utils.viz import tensors

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _style():
    with matplotlib.rc_context():
        viz.use_style()
        yield
        plt.close("all")


@pytest.fixture
def ax():
    return plt.subplots()[1]


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def cells(ax) -> list[Rectangle]:
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


def shown_range(ax) -> tuple[float, float, float, float]:
    (x1, x2), (y1, y2) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
    return x1, y1, x2, y2


def pixels(figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


# The style


def luminance(color) -> float:
    """Relative luminance (WCAG 2.2), from 0 (black) to 1 (white)."""
    parts = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in to_rgb(color)
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_luminance_by_hand():
    assert luminance("black") == 0 and luminance("white") == pytest.approx(1)
    assert luminance("#808080") == pytest.approx(0.2159, abs=1e-4)


def test_lines_are_told_apart_without_color():
    styles = list(plt.rcParams["axes.prop_cycle"])
    assert len(styles) == 6
    for one, other in itertools.combinations(styles, 2):
        assert one["color"] != other["color"]
        assert one["linestyle"] != other["linestyle"]


def test_colors_stand_out_from_the_paper():
    for style in plt.rcParams["axes.prop_cycle"]:
        contrast = 1.05 / (luminance(style["color"]) + 0.05)
        assert contrast > 2.2, style  # orange, the palest: 2.25
    assert 1.05 / (luminance(viz.INK) + 0.05) > 10
    assert luminance(viz.PALE) > 0.8


def test_truth_and_prediction_differ_in_color_and_dash():
    truth, prediction = viz.GROUND_TRUTH, viz.PREDICTION
    assert truth["color"] != prediction["color"]
    assert truth["linestyle"] != prediction["linestyle"]
    ax = plt.subplots()[1]
    for style in (truth, prediction):  # both are keyword arguments of plot
        assert ax.plot([0, 1], **style)[0].get_color() == style["color"]


@pytest.mark.parametrize(
    "fill", ["white", viz.INK, viz.SKY, viz.BLUE, "none", viz.PALE]
)
def test_ink_reads_on_every_fill(fill):
    paper = "white" if fill == "none" else fill
    ink, ground = sorted([luminance(tensors._ink_on(fill)), luminance(paper)])
    assert (ground + 0.05) / (ink + 0.05) > 4.5


def test_the_style_does_not_depend_on_what_was_set_before():
    expected = dict(plt.rcParams)
    plt.rcParams.update({"font.size": 30, "lines.marker": "o", "figure.dpi": 50})
    viz.use_style()
    viz.use_style()
    assert dict(plt.rcParams) == expected


@pytest.mark.parametrize("label", ["", "a long label\nof two lines"])
def test_a_saved_figure_has_its_size_in_pixels(label):
    figure, ax = plt.subplots(figsize=(3, 2))
    ax.set_xlabel(label)
    assert pixels(figure).shape == (2 * 144, 3 * 144, 3)


def test_every_kind_of_plot_takes_the_cycle():
    figure, axes = plt.subplots(2, 3)
    x = np.arange(3.0)
    axes[0, 0].plot(x, np.outer(x, range(7)))
    axes[0, 1].bar(x, x)
    axes[0, 1].hist(x, histtype="step")
    axes[0, 2].scatter(x, x)
    axes[0, 2].errorbar(x, x, yerr=1)
    axes[1, 0].fill_between(x, x, 2 * x)
    axes[1, 1].plot(x, x, "o")
    axes[1, 2].pie([1, 2])
    assert axes[0, 0].lines[0].get_color() == viz.BLUE
    assert axes[0, 0].lines[6].get_color() == viz.BLUE  # the cycle starts anew
    assert axes[1, 1].lines[0].get_linestyle() == "None"
    assert pixels(figure).std() > 5


# Pictures


def test_show_images_by_hand():
    picture = torch.tensor([[[0, 255], [128, 3]]], dtype=torch.uint8)  # (1, 2, 2)
    figure, axes = viz.show_images([picture, picture], titles=["a", "b"])
    assert [ax.get_title() for ax in axes] == ["a", "b"]
    assert axes[0].images[0].get_array().tolist() == [[0, 255], [128, 3]]
    assert axes[0].images[0].get_clim() == (0, 255)
    assert not axes[0].axison
    width, height = figure.get_size_inches()
    assert width == pytest.approx(6.4) and height == pytest.approx(6.4 / 2 + 0.3)


@pytest.mark.parametrize("value", [0, 1])
def test_masks_run_from_0_to_1(value):
    for mask in (
        torch.full((2, 2), value, dtype=torch.bool),
        np.full((2, 2), value, dtype=np.uint8),
    ):
        image = viz.show_images(mask)[1][0].images[0]
        assert image.get_clim() == (0, 1)
        assert image.to_rgba(image.get_array())[0, 0, 0] == value  # black or white


def test_floats_use_their_own_range_or_the_one_given():
    picture = torch.tensor([[-1.0, 3.0]])
    assert viz.show_images(picture)[1][0].images[0].get_clim() == (-1, 3)
    image = viz.show_images(picture, vmin=0, vmax=2)[1][0].images[0]
    assert image.get_clim() == (0, 2)
    byte = torch.tensor([[0, 200]], dtype=torch.uint8)
    assert viz.show_images(byte, vmax=100)[1][0].images[0].get_clim() == (0, 100)


def test_one_picture_in_every_form_is_the_same_picture():
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randint(256, (3, 4, 5), generator=generator, dtype=torch.uint8)
    array = tensor.permute(1, 2, 0).numpy()
    for pictures in (tensor, tensor[None], array, array[None], Image.fromarray(array)):
        figure, axes = viz.show_images(pictures)
        assert len(axes) == 1
        np.testing.assert_array_equal(axes[0].images[0].get_array(), array)


def test_a_batch_fills_rows_of_four():
    batch = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    figure, axes = viz.show_images(batch)
    assert len(axes) == 6 and len(figure.axes) == 8
    assert axes[4].get_subplotspec().rowspan.start == 1
    assert not figure.axes[7].axison
    assert len(viz.show_images(batch, columns=2)[0].axes) == 6


@pytest.mark.parametrize(
    "picture",
    [
        torch.rand(4, 4, requires_grad=True),
        torch.ones(4, 4, dtype=torch.bfloat16),
        torch.ones(1, 4, 4, dtype=torch.float16),
        torch.ones(4, 4, dtype=torch.float8_e4m3fn),
        torch.ones(4, 4, dtype=torch.int64),
        np.ones((4, 4, 1)),
        np.full((4, 4), np.nan),
        torch.ones(1, 1000),
        torch.ones(1000, 1),
    ],
)
def test_pictures_that_can_be_drawn(picture):
    figure, axes = viz.show_images(picture)
    assert pixels(figure).shape[0] >= 0.5 * 144


def test_pictures_are_not_modified():
    picture = torch.tensor([[0.0, 0.5]], requires_grad=True)
    figure, axes = viz.show_images(picture)
    axes[0].images[0].get_array()[:] = 7
    expected = torch.tensor([[0.0, 0.5]])
    torch.testing.assert_close(picture.detach(), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("pictures", "options", "error", "said"),
    [
        ([], {}, ValueError, "at least one picture, got none"),
        (torch.ones(0, 3, 4, 4), {}, ValueError, "at least one picture, got none"),
        (torch.ones(3, 0, 4), {}, ValueError, "no pixels: shape (3, 0, 4)"),
        (torch.ones(3), {}, ValueError, "not a picture: shape (3,)"),
        (torch.ones(2, 4, 4), {}, ValueError, "C x H x W, got shape (2, 4, 4)"),
        (torch.ones(8, 8, 3), {}, ValueError, "C x H x W, got shape (8, 8, 3)"),
        (np.ones((4, 4, 2)), {}, ValueError, "not a picture: shape (4, 4, 2)"),
        (torch.ones(2, 2, dtype=torch.complex64), {}, TypeError, "dtype complex64"),
        ("cat.png", {}, ValueError, "not a picture: shape ()"),
        (torch.ones(2, 2), {"titles": ["a", "b"]}, ValueError, "1 pictures but 2 titl"),
        (torch.ones(2, 2), {"columns": 0}, ValueError, "got 0"),
        (torch.ones(2, 2), {"columns": 1.5}, ValueError, "got 1.5"),
    ],
)
def test_what_is_no_picture(pictures, options, error, said):
    with pytest.raises(error) as caught:
        viz.show_images(pictures, **options)
    assert said in str(caught.value)


def test_one_title_as_a_string():
    assert viz.show_images(torch.ones(2, 2), "cat")[1][0].get_title() == "cat"


# Tensors


@pytest.mark.parametrize(
    ("values", "count", "extent"),
    [
        (torch.tensor(7), 1, (0, 0, 1, 1)),
        (torch.arange(3), 3, (0, 0, 3, 1)),
        (torch.arange(6).reshape(2, 3), 6, (0, 0, 3, 2)),
        (torch.arange(12).reshape(2, 2, 3), 12, (0, -0.45, 3.45, 2)),
        (torch.zeros(0), 0, (0, 0, 0, 1)),
        (torch.zeros(2, 0), 0, (0, 0, 0, 2)),
        ([["a", "b"]], 2, (0, 0, 2, 1)),
        (np.ones((2, 1)), 2, (0, 0, 1, 2)),
    ],
)
def test_draw_tensor(ax, values, count, extent):
    assert viz.draw_tensor(ax, values) == pytest.approx(extent)
    assert len(cells(ax)) == len(ax.texts) == count
    assert not ax.axison and ax.yaxis_inverted() and ax.get_aspect() == 1
    x1, y1, x2, y2 = shown_range(ax)
    assert x1 <= extent[0] and y1 <= extent[1] and extent[2] <= x2 and extent[3] <= y2
    ax.figure.canvas.draw()


def test_each_value_stands_in_its_cell(ax):
    viz.draw_tensor(ax, torch.tensor([[1, 2, 3], [4, 5, 6]]), at=(10, 20), title="t")
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert places["1"] == (10.5, 20.5)
    assert places["6"] == (12.5, 21.5)
    assert places["t"] == (11.5, 19.75)
    assert {(c.get_x(), c.get_y()) for c in cells(ax)} == {
        (10 + c, 20 + r) for c in range(3) for r in range(2)
    }


def test_the_first_plane_lies_in_front(ax):
    viz.draw_tensor(ax, torch.arange(2).reshape(2, 1, 1))
    back, front = cells(ax)
    assert front.get_xy() == (0, 0) and back.get_xy() == pytest.approx((0.45, -0.45))
    assert front.get_zorder() >= back.get_zorder()


@pytest.mark.parametrize(
    ("values", "spec", "expected"),
    [
        (torch.tensor([0.1, 2.0, -0.5]), None, ["0.1", "2", "-0.5"]),
        (torch.tensor([0.1, 2.0]), ".2f", ["0.10", "2.00"]),
        (torch.tensor([0.1, 2.0], dtype=torch.bfloat16), ".1f", ["0.1", "2.0"]),
        (torch.tensor([1.5]).to(torch.float8_e5m2), None, ["1.5"]),
        (torch.tensor([float("nan"), float("inf")]), None, ["nan", "inf"]),
        (torch.tensor([True, False]), ".1f", ["T", "F"]),
        (torch.tensor([3]), None, ["3"]),
        (torch.tensor([1j]).conj(), None, ["-1j"]),
        (torch.ones(1, requires_grad=True), None, ["1"]),
        (["x", "yz"], ".1f", ["x", "yz"]),
    ],
)
def test_texts_of_cells(ax, values, spec, expected):
    viz.draw_tensor(ax, values, spec=spec)
    assert texts(ax) == expected


def test_fills_and_faint_cells(ax):
    faint = torch.tensor([False, True])
    viz.draw_tensor(ax, [1, 2], colors=[viz.BLUE, viz.SKY], faint=faint)
    one, two = cells(ax)
    assert one.get_facecolor()[:3] == to_rgb(viz.BLUE)
    assert two.get_facecolor()[:3] == to_rgb(viz.SKY)
    assert one.get_linestyle() in ("-", "solid") and two.get_linestyle() != "-"
    assert two.get_alpha() < 1
    assert [text.get_color() for text in ax.texts] == ["white", viz.GREY]


def test_what_is_no_drawing(ax):
    with pytest.raises(ValueError, match=r"got shape \(1, 1, 1, 1\)"):
        viz.draw_tensor(ax, torch.ones(1, 1, 1, 1))
    with pytest.raises(ValueError, match=r"colors has shape \(1,\), the values \(2,\)"):
        viz.draw_tensor(ax, [1, 2], colors=["red"])
    with pytest.raises(ValueError, match=r"faint has shape \(3,\), the values \(2,\)"):
        viz.draw_tensor(ax, [1, 2], faint=[True] * 3)


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: viz.blank(ax),
        lambda ax: viz.draw_tensor(ax, [1]),
        lambda ax: viz.draw_storage(ax, torch.ones(1)),
        lambda ax: viz.draw_arrow(ax, (0, 0), (1, 1)),
        lambda ax: viz.draw_graph(ax, {}, []),
    ],
)
def test_what_is_no_axes(draw):
    figure, axes = plt.subplots(1, 2)
    with pytest.raises(TypeError, match="needs one matplotlib axes, got ndarray"):
        draw(axes)
    with pytest.raises(TypeError, match="needs one matplotlib axes, got Figure"):
        draw(figure)


def test_blank_twice(ax):
    assert viz.blank(viz.blank(ax, equal=False)) is ax
    assert ax.yaxis_inverted() and ax.get_aspect() == 1 and not ax.axison


# Storage


@pytest.mark.parametrize(
    ("view", "used"),
    [
        (lambda x: x, range(12)),
        (lambda x: x.reshape(3, 4)[:, 1], [1, 5, 9]),
        (lambda x: x.reshape(3, 4).t()[1:3, 1:], [5, 9, 6, 10]),
        (lambda x: x[5].expand(4), [5]),
        (lambda x: x[7], [7]),
        (lambda x: x[3:3], []),
        (lambda x: x.unfold(0, 3, 5), [0, 1, 2, 5, 6, 7]),
    ],
)
def test_storage_cells_that_a_tensor_reaches(ax, view, used):
    tensor = view(torch.arange(12) * 10)
    assert viz.draw_storage(ax, tensor, at=(1, 2)) == (1, 2, 13, 3)
    filled = [c.get_x() - 1 for c in cells(ax) if c.get_facecolor()[:3] != (1, 1, 1)]
    assert sorted(filled) == sorted(used)
    assert texts(ax)[:12] == [str(10 * i) for i in range(12)]
    assert texts(ax)[12:] == [str(i) for i in range(12)]
    assert shown_range(ax)[3] >= 3.6  # the positions below are in the picture
    # torch itself is the oracle: the values behind the filled cells are the tensor's
    assert {10 * i for i in used} == set(tensor.flatten().tolist())


def test_storage_colors(ax):
    matrix = torch.arange(4).reshape(2, 2)
    colors = [["red", "green"], ["blue", "black"]]
    viz.draw_storage(ax, matrix.t(), colors=colors)
    found = [c.get_facecolor()[:3] for c in cells(ax)]
    assert found == [to_rgb(c) for c in ("red", "blue", "green", "black")]
    with pytest.raises(
        ValueError, match=r"colors has shape \(1,\), the tensor \(2, 2\)"
    ):
        viz.draw_storage(ax, matrix, colors=["red"])


def test_storage_edges(ax):
    assert viz.draw_storage(ax, torch.zeros(0)) == (0, 0, 0, 1)
    viz.draw_storage(ax, torch.ones(64, requires_grad=True), title="64")
    assert "64" in texts(ax)
    with pytest.raises(ValueError, match="storage has 65 elements; at most 64"):
        viz.draw_storage(ax, torch.zeros(65)[:2])
    with pytest.raises(TypeError, match="needs a tensor, got list"):
        viz.draw_storage(ax, [1, 2])


# Arrows and graphs


def test_an_arrow_and_its_label(ax):
    arrow = viz.draw_arrow(ax, (0, 0), (4, 2), text="step", color=viz.GREEN, bend=0.2)
    assert isinstance(arrow, FancyArrowPatch) and arrow in ax.patches
    assert [t.xy for t in ax.texts] == [(2, 1)] and texts(ax) == ["step"]
    x1, y1, x2, y2 = shown_range(ax)
    assert x1 <= 0 and y1 <= 0 and x2 >= 4 and y2 >= 2  # the arrow is in the picture
    viz.draw_arrow(ax, (1, 1), (1, 1))  # of no length
    ax.figure.canvas.draw()


def test_a_graph(ax):
    nodes = {"a": (0, 0), "b": (3, 0, "label"), "c": (3, 2, "dark", viz.INK)}
    viz.draw_graph(ax, nodes, [("a", "b"), ("b", "c", "edge")], size=(1, 1))
    boxes = [p for p in ax.patches if isinstance(p, FancyBboxPatch)]
    arrows = [p for p in ax.patches if isinstance(p, FancyArrowPatch)]
    assert len(boxes) == 3 and len(arrows) == 2
    assert sorted(texts(ax)) == ["a", "dark", "edge", "label"]
    inks = {text.get_text(): text.get_color() for text in ax.texts}
    assert inks["dark"] == "white" and inks["a"] == viz.INK
    x1, y1, x2, y2 = shown_range(ax)
    assert x1 <= -0.5 and y1 <= -0.5 and x2 >= 3.5 and y2 >= 2.5
    ax.figure.canvas.draw()


def test_arrows_start_and_end_at_the_boxes():
    # Boxes 2 wide and 1 high; by hand, and symmetric under a mirror.
    assert tensors._border((0, 0), (4, 0), 2, 1) == (1, 0)
    assert tensors._border((0, 0), (0, -3), 2, 1) == (0, -0.5)
    assert tensors._border((0, 0), (2, 2), 2, 1) == (0.5, 0.5)
    assert tensors._border((1, 1), (1, 1), 2, 1) == (1, 1)


def test_an_empty_graph(ax):
    viz.draw_graph(ax, {}, [])
    assert not ax.patches
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("edge", "said"),
    [
        (("a", "x"), r"edge \('a', 'x'\) names unknown nodes \['x'\]"),
        (("a", "a"), r"an edge joins two nodes, got \('a', 'a'\)"),
        (("a",), r"an edge joins two nodes, got \('a',\)"),
        (("a", "b", "l", "m"), "an edge joins two nodes, got"),
    ],
)
def test_a_wrong_edge_draws_nothing(ax, edge, said):
    with pytest.raises(ValueError, match=said):
        viz.draw_graph(ax, {"a": (0, 0), "b": (1, 1)}, [edge])
    assert not ax.patches


def test_inputs_are_not_modified(ax):
    tensor = torch.arange(3.0)
    viz.draw_tensor(ax, tensor)
    viz.draw_storage(ax, tensor)
    torch.testing.assert_close(tensor, torch.arange(3.0), rtol=0, atol=0)


def test_every_public_name_is_there():
    assert sorted(viz.__all__) == viz.__all__
    for name in viz.__all__:
        assert hasattr(viz, name)
