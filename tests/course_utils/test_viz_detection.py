"""viz.detection: what is drawn can be counted, and read without color."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from course_utils import viz
from course_utils.detection.errors import KINDS
from course_utils.detection.metrics import evaluate_detections
from course_utils.viz import detection
from course_utils.viz.detection import plot_precision_recall, show_detections

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


IMAGE = torch.zeros(3, 60, 100, dtype=torch.uint8)
FOUND = {
    "boxes": torch.tensor(
        [
            [0.0, 0, 10, 10],
            [0, 0, 10, 8],
            [40, 0, 50, 10],
            [5, 0, 15, 10],
            [80, 40, 99, 59],
        ]
    ),
    "labels": torch.ones(5, dtype=torch.int64),
    "scores": torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]),
}
TRUTH = {
    "boxes": torch.tensor([[0.0, 0, 10, 10], [40, 0, 50, 10], [20, 20, 30, 30]]),
    "labels": torch.tensor([1, 2, 1]),
}


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


# Precision over recall


def test_envelope_by_hand(ax):
    line = plot_precision_recall(ax, [0, 1 / 2, 2 / 3], [0, 1 / 3, 2 / 3], label="a")
    assert line.get_drawstyle() == "steps-pre" and line.get_label() == "a"
    x, y = line.get_data()
    assert x.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 2 / 3])
    assert y.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2 / 3, 0])
    raw = ax.lines[1]
    assert raw.get_ydata().tolist() == pytest.approx([0, 1 / 2, 2 / 3])
    assert raw.get_color() == line.get_color()
    assert ax.get_xlabel() == "recall" and ax.get_ylabel() == "precision"
    assert ax.get_ylim()[1] > 1  # a curve at 1 is seen


def test_area_of_the_steps_is_the_exact_ap(ax):
    """The area under the drawn envelope is VOC's, from 2010 on."""
    from course_utils.detection.metrics import average_precision

    correct = np.array([1, 0, 1, 1, 0, 0, 1], dtype=bool)
    hits = correct.cumsum()
    precision, recall = hits / np.arange(1, 8), hits / 5
    x, y = plot_precision_recall(ax, precision, recall).get_data()
    area = (np.diff(x) * y[1:]).sum()
    want = average_precision(np.arange(7, 0, -1) / 7, correct, 5, "voc12")
    assert area == pytest.approx(want)


def test_the_evaluators_arrays(ax):
    result = evaluate_detections([FOUND], [TRUTH])
    line = plot_precision_recall(ax, result["precision"][0, :, 0, 0, -1], color="k")
    assert line.get_xdata()[[0, 50, 100]].tolist() == [0, 0.5, 1]
    assert line.get_color() == "k" and len(ax.lines) == 1
    none = evaluate_detections([FOUND], [{k: v[:0] for k, v in TRUTH.items()}])
    with pytest.raises(ValueError, match=r"from 0 to 1, got .*-1\.0"):
        plot_precision_recall(ax, none["precision"][0, :, 0, 0, -1])


def test_tensors_and_no_detections(ax):
    plot_precision_recall(ax, torch.tensor([1.0, 0.5]), torch.tensor([0.5, 0.5]))
    line = plot_precision_recall(ax, [], [])
    assert line.get_xdata().size == 0 or line.get_ydata().max() == 0


@pytest.mark.parametrize(
    "precision, recall, match",
    [
        ([[0.5]], None, r"shape \(1, 1\)"),
        ([1.5], None, "from 0 to 1"),
        ([float("nan")], None, "from 0 to 1"),
        ([1.0, 0.5], [0.5], r"\(1,\) and \(2,\)"),
        ([1.0, 0.5], [0.5, 0.2], "must rise"),
        ([1.0], [1.5], "must rise from 0 to 1"),
    ],
)
def test_curves_that_are_none(ax, precision, recall, match):
    with pytest.raises(ValueError, match=match):
        plot_precision_recall(ax, precision, recall)


def test_needs_axes():
    with pytest.raises(TypeError, match="needs one matplotlib axes, got list"):
        plot_precision_recall([], [1.0])


# The gallery


def test_every_box_has_its_tag_and_dashes():
    figure, (ax,) = show_detections([IMAGE], [FOUND], [TRUTH])
    assert sorted(words(ax)) == sorted(
        ["miss", "miss", "0.90", "dup 0.80", "cls 0.70", "loc 0.60", "bg 0.50"]
    )
    frames = [line for line in ax.lines if len(line.get_xdata()) == 5]
    assert len(frames) == 8
    green = [f for f in frames if f.get_color() == viz.GREEN]
    assert [f.get_linestyle() for f in green] == ["-"] * 3
    dashes = [str(f._unscaled_dash_pattern) for f in frames if f not in green]
    assert len(set(dashes)) == 5 and all("None" not in d for d in dashes)
    crosses = [line for line in ax.lines if len(line.get_xdata()) == 2]
    assert len(crosses) == 4  # two for each miss
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == [
        *("object", "right", "dup: duplicate", "cls: class", "loc: localization"),
        *("bg: background", "miss: missed"),
    ]


def test_looks_differ_without_color():
    dashes, tags, _ = zip(*detection.LOOKS.values(), strict=True)
    assert len(set(map(str, dashes))) == len(KINDS)
    assert len(set(tags)) == len(KINDS)


def luminance(color) -> float:
    parts = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in to_rgb(color)
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_tags_can_be_read():
    _, (ax,) = show_detections([IMAGE], [FOUND], [TRUTH])
    for text in ax.texts:
        ground = luminance(text.get_bbox_patch().get_facecolor()[:3])
        ink = luminance(text.get_color())
        contrast = (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05)
        assert contrast > 4.5, text.get_text()  # WCAG 2.2, AA


def test_pixels_and_frames_meet():
    """A box from 0 to 10 covers pixels 0 to 9, whose edges imshow puts at -0.5, 9.5."""
    _, (ax,) = show_detections([IMAGE], [FOUND], [TRUTH])
    assert ax.lines[0].get_xdata() == pytest.approx([-0.5, 9.5, 9.5, -0.5, -0.5])
    assert ax.get_xlim() == (-0.5, 99.5) and ax.get_ylim() == (59.5, -0.5)


def test_tags_stay_inside_the_picture():
    corners = torch.tensor(
        [[-20.0, -20, 4, 4], [96, 0, 130, 20], [0, 50, 8, 90], [90, 50, 140, 80]]
    )
    found = {"boxes": corners, "labels": torch.ones(4).long(), "scores": torch.ones(4)}
    for kind in KINDS:
        verdict = ([kind] * 4, ["missed"] * 3)
        figure, (ax,) = show_detections([IMAGE], [found], [TRUTH], [verdict])
        figure.canvas.draw()
        frame = ax.get_window_extent().padded(3)
        for text in ax.texts:
            box = text.get_window_extent()
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1, (kind, text.get_text())


def test_a_readers_own_verdicts():
    verdict = (["right", "ignored", "right", "right", "right"], ["found"] * 3)
    figure, (ax,) = show_detections([IMAGE], [FOUND], [TRUTH], [verdict], legend=False)
    assert words(ax) == ["0.90", "ign 0.80", "0.70", "0.60", "0.50"]
    assert not figure.legends


def test_many_images_and_none_found():
    none = {k: v[:0] for k, v in FOUND.items()}
    empty = {k: v[:0] for k, v in TRUTH.items()}
    pictures = [IMAGE, np.zeros((80, 30, 3), np.uint8), IMAGE]
    figure, axes = show_detections(
        pictures, [FOUND, none, none], [TRUTH, TRUTH, empty], titles=list("abc")
    )
    assert len(axes) == 3 and words(axes[1]) == ["miss"] * 3 and words(axes[2]) == []
    assert [ax.get_title() for ax in axes] == list("abc")
    assert figure.get_figwidth() == pytest.approx(6.4)


@pytest.mark.parametrize(
    "arguments, match",
    [
        (([IMAGE], [FOUND, FOUND], [TRUTH]), "equally many, got 1, 2 and 1"),
        (([IMAGE], [FOUND], [TRUTH], []), "1 images but 0 verdicts"),
        (
            ([IMAGE], [FOUND], [TRUTH], [(["right"], ["found"] * 3)]),
            r"verdicts\[0\]: detections: 5 boxes, but 1 words",
        ),
        (
            ([IMAGE], [FOUND], [TRUTH], [(["right"] * 5, ["lost"] * 3)]),
            r"verdicts\[0\]: targets must be among .*got \['lost'\]",
        ),
    ],
)
def test_clear_errors(arguments, match):
    with pytest.raises(ValueError, match=match):
        show_detections(*arguments)
