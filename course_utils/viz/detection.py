"""Pictures of detections: precision-recall curves, and what a detector got wrong.

Boxes keep the book's two styles, truth solid and predictions dashed. What became of a
box is said by a tag, by its corner and by its dashes, so that no color is needed.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.lines import Line2D

from course_utils.detection.box_ops import check_format
from course_utils.detection.errors import FATES, KINDS, Verdict, detection_kinds
from course_utils.detection.metrics import precision_envelope
from course_utils.viz.boxes import draw_boxes
from course_utils.viz.pictures import show_images
from course_utils.viz.style import GREEN, GROUND_TRUTH, INK, PREDICTION, require_axes

__all__ = ["plot_precision_recall", "show_detections"]

# Dashes, tag and corner (x, y; 0 is left or top) of each kind of detection.
LOOKS = {
    "right": ("--", "", (0, 0)),
    "duplicate": (":", "dup", (0, 1)),
    "class": ((0, (5, 1, 1, 1, 1, 1)), "cls", (1, 0)),
    "localization": ("-.", "loc", (1, 1)),
    "background": ((0, (1.5, 1)), "bg", (0, 0)),
    "ignored": ((0, (1, 3)), "ign", (0, 0)),
}
assert tuple(LOOKS) == KINDS


def plot_precision_recall(ax, precision, recall=None, *, label=None, **line):
    """Draw a precision-recall curve and, where the raw points are known, its envelope.

    Args:
        ax: the axes; limits and axis labels are set.
        precision: (N,) values from 0 to 1. With ``recall``: after each detection, the
            highest score first. Without: at N evenly spaced recalls from 0 to 1, such
            as ``result["precision"][t, :, k, a, m]`` of the evaluator.
        recall: (N,) never falling, or None.
        label: for the legend.
        line: further properties of the line, such as ``color``.

    Returns:
        The line of the curve. With ``recall`` it is the envelope, the best precision
        at a recall or beyond, in steps; the raw points are small dots in its color.

    Raises:
        TypeError: not an axes.
        ValueError: shapes that do not fit, values outside 0 to 1 (the evaluator's -1
            stands for a class without targets: there is no curve), a recall that falls.
    """
    require_axes(ax)
    values = np.asarray(precision, dtype=float)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        got = f"shape {values.shape}, {values.reshape(-1)[:3].tolist()}"
        raise ValueError(f"precision must be (N,), from 0 to 1, got {got}")
    if recall is None:
        points = np.linspace(0, 1, len(values))
        (drawn,) = ax.plot(points, values, label=label, **line)
    else:
        points = np.asarray(recall, dtype=float)
        if points.shape != values.shape:
            got = f"{points.shape} and {values.shape}"
            raise ValueError(f"recall and precision must be equally long, got {got}")
        if not ((points >= 0) & (points <= 1)).all() or (np.diff(points) < 0).any():
            raise ValueError(f"recall must rise from 0 to 1, got {points.tolist()[:5]}")
        best = precision_envelope(values)
        last = points[-1:]  # the envelope drops to 0 where recall ends
        x, y = (
            np.concatenate([[0], points, last]),
            np.concatenate([best[:1], best, [0]]),
        )
        (drawn,) = ax.plot(x, y, drawstyle="steps-pre", label=label, **line)
        ax.plot(points, values, ".", color=drawn.get_color(), markersize=3, alpha=0.7)
    ax.set(xlim=(0, 1.02), ylim=(0, 1.05), xlabel="recall", ylabel="precision")
    return drawn


def show_detections(
    images: Sequence,
    predictions: Sequence[Mapping],
    targets: Sequence[Mapping],
    verdicts: Sequence[Verdict] | None = None,
    *,
    iou_threshold: float = 0.5,
    titles: Sequence[str] | None = None,
    columns: int = 2,
    width: float = 6.4,
    legend: bool = True,
):
    """Draw what a detector found, missed and got wrong, on the images.

    Targets are solid; a missed one is crossed out and tagged ``miss``. Detections are
    dashed, each kind in its own way, with the score as a tag: alone on a right one, and
    with ``dup``, ``cls``, ``loc`` or ``bg`` on a wrong one, white on color.

    Args:
        images: pictures, as :func:`course_utils.viz.show_images` takes them.
        predictions: a dictionary per image: ``boxes`` (N, 4), xyxy in pixels,
            ``labels``, ``scores``.
        targets: a dictionary per image: ``boxes`` (N, 4), ``labels``.
        verdicts: what became of them, a pair ``(detections, targets)`` of lists of
            words per image; default: :func:`course_utils.detection.errors
            .detection_kinds` at ``iou_threshold``.
        iou_threshold: as there.
        titles: one per image.
        columns: pictures in a row.
        width: of the figure, in inches.
        legend: explain the styles that occur, below the pictures.

    Returns:
        ``(figure, axes)``, the axes as a flat list.

    Raises:
        ValueError: not one dictionary and verdict per image, boxes of another format,
            or a verdict whose words or lengths do not fit.
        TypeError: as :func:`course_utils.viz.show_images`.
    """
    if not len(images) == len(predictions) == len(targets):
        got = f"{len(images)}, {len(predictions)} and {len(targets)}"
        raise ValueError(
            f"images, predictions, targets must be equally many, got {got}"
        )
    for name, entries in (("predictions", predictions), ("targets", targets)):
        for i, entry in enumerate(entries):
            check_format(entry["boxes"], f"{name}[{i}]['boxes']")
    if verdicts is None:
        verdicts = [
            detection_kinds(p, t, iou_threshold=iou_threshold)
            for p, t in zip(predictions, targets, strict=True)
        ]
    if len(verdicts) != len(images):
        raise ValueError(f"{len(images)} images but {len(verdicts)} verdicts")
    for i, (kinds, fates) in enumerate(verdicts):
        _check(f"verdicts[{i}]: detections", kinds, predictions[i]["boxes"], KINDS)
        _check(f"verdicts[{i}]: targets", fates, targets[i]["boxes"], FATES)
    figure, axes = show_images(images, titles, columns=columns, width=width)
    for ax, prediction, target, (kinds, fates) in zip(
        axes, predictions, targets, verdicts, strict=True
    ):
        right, bottom = ax.get_xlim()[1] + 0.5, ax.get_ylim()[0] + 0.5
        for box, fate in zip(target["boxes"].tolist(), fates, strict=True):
            _draw_target(ax, box, fate, (right, bottom))
        scores = prediction["scores"].tolist()
        for box, score, kind in zip(
            prediction["boxes"].tolist(), scores, kinds, strict=True
        ):
            dashes, word, corner = LOOKS[kind]
            draw_boxes(ax, box, PREDICTION, halo=True, linestyle=dashes, linewidth=1.5)
            text = f"{word} {score:.2f}".strip()
            colors = ("white", INK) if kind == "right" else (_DARK, "white")
            _tag(ax, box, text, corner, *colors, (right, bottom))
        ax.set(xlim=(-0.5, right - 0.5), ylim=(bottom - 0.5, -0.5))
    if legend:
        seen = [k for k in KINDS if any(k in kinds for kinds, _ in verdicts)]
        missed = any("missed" in fates for _, fates in verdicts)
        handles = [Line2D([], [], **GROUND_TRUTH, label="object")]
        handles += [_handle(kind) for kind in seen]
        if missed:
            handles.append(
                Line2D([], [], color=GREEN, marker="x", ls="", label="miss: missed")
            )
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=4,
            fontsize=7,
            handlelength=3.5,
        )
        height = figure.get_figheight() + 0.2 * (-(-len(handles) // 4)) + 0.1
        figure.set_figheight(height)
    return figure, axes


_DARK = "#A04400"  # vermilion, dark enough for white letters


def _handle(kind: str) -> Line2D:
    dashes, word, _ = LOOKS[kind]
    style = {**PREDICTION, "linestyle": dashes, "linewidth": 1.5}
    return Line2D([], [], **style, label=f"{word}: {kind}" if word else kind)


def _check(where: str, words: Sequence[str], boxes, allowed: tuple) -> None:
    if len(words) != len(boxes):
        raise ValueError(f"{where}: {len(boxes)} boxes, but {len(words)} words")
    unknown = sorted(set(words) - set(allowed))
    if unknown:
        raise ValueError(f"{where} must be among {allowed}, got {unknown}")


def _draw_target(ax, box, fate: str, size) -> None:
    draw_boxes(ax, box, GROUND_TRUTH, halo=True, linewidth=1.8)
    if fate == "missed":
        x1, y1, x2, y2 = (v - 0.5 for v in box)
        for y in ([y1, y2], [y2, y1]):
            ax.plot([x1, x2], y, color=GREEN, linestyle="-", linewidth=0.8)
        _tag(ax, box, "miss", (0.5, 0.5), "#00664B", "white", size)


def _tag(ax, box, text, corner, ground, ink, size) -> None:
    """A word at a corner of a box (or in its middle), kept inside the picture."""
    x, y = corner
    place = (box[0] + x * (box[2] - box[0]), box[1] + y * (box[3] - box[1]))
    if not size[0] / 5 < place[0] < 4 * size[0] / 5:  # toward the middle
        x = x if x == 0.5 else float(place[0] > size[0] / 2)
    place = np.clip(place, 0, size) - 0.5
    ax.annotate(
        text,
        place,
        (3 - 6 * x, 6 * y - 3),  # points, inward
        textcoords="offset points",
        ha=("left", "center", "right")[int(2 * x)],
        va=("top", "center", "bottom")[int(2 * y)],
        fontsize=6.5,
        color=ink,
        bbox={"facecolor": ground, "edgecolor": "none", "pad": 1, "alpha": 0.9},
        zorder=6,
        annotation_clip=False,
    )
