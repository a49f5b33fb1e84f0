"""Outlines of boxes, in the two styles that boxes keep all through the book."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.cbook import normalize_kwargs
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from course_utils.detection.box_ops import check_boxes, check_format
from course_utils.viz.pictures import as_array
from course_utils.viz.style import GROUND_TRUTH, require_axes

__all__ = ["draw_boxes"]


def draw_boxes(
    ax,
    boxes: torch.Tensor | np.ndarray | Sequence,
    style: dict | None = None,
    *,
    texts: Sequence[str] | None = None,
    on_image: bool = True,
    halo: bool = False,
    **line,
) -> list[Line2D]:
    """Draw the outlines of boxes, and a text at each upper left corner.

    Args:
        ax: the axes.
        boxes: (N, 4) or (4,), xyxy, half-open, in pixels, or in the units of the axes.
            A tv_tensor that says another format is refused.
        style: ``viz.GROUND_TRUTH`` (default), ``viz.PREDICTION``, or other properties
            of a line.
        texts: one for each box.
        on_image: the axes show a picture by ``imshow``, which puts the *centers* of
            pixels on whole numbers; so that a box frames the pixels it holds, it is
            drawn half a pixel up and to the left. False: drawn where the numbers say.
        halo: a thin white border, to be seen on any picture.
        line: further properties of the line, such as ``linewidth``.

    Returns:
        The outlines, in the order of the boxes.

    Raises:
        TypeError: not an axes, or boxes that are no table of numbers.
        ValueError: boxes of another shape or format, not finite, or with ``x2 < x1`` or
            ``y2 < y1``; or not one text for each. Nothing is drawn then.
    """
    require_axes(ax)
    check_format(boxes)
    corners = _corners(boxes)
    if isinstance(texts, str) or (texts is not None and len(texts) != len(corners)):
        got = repr(texts) if isinstance(texts, str) else f"{len(texts)} texts"
        raise ValueError(f"{len(corners)} boxes, but {got}")
    look = normalize_kwargs(GROUND_TRUTH if style is None else style, Line2D)
    look |= normalize_kwargs(line, Line2D)  # lw is linewidth
    if halo:
        wide = look.get("linewidth", 2) + 1.2
        look["path_effects"] = [withStroke(linewidth=wide, foreground="white")]
    drawn = []
    for k, (x1, y1, x2, y2) in enumerate(corners - 0.5 * on_image):
        drawn += ax.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], **look)
        if texts is not None:
            ground = {"facecolor": "white", "pad": 0.8, "alpha": 0.85}
            ax.text(
                x1,
                y1,
                texts[k],
                size=7,
                va="bottom",
                bbox={**ground, "edgecolor": "none"},
                clip_on=True,
            )
    return drawn


def _corners(boxes) -> np.ndarray:
    """The boxes as (N, 4), float64, finite, with x1 <= x2 and y1 <= y2."""
    try:
        corners = as_array(boxes).astype(float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"boxes must be numbers, (N, 4) or (4,): {error}") from None
    if corners.shape == (0,):  # an empty list
        corners = corners.reshape(0, 4)
    if corners.shape == (4,):
        corners = corners[None]
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise ValueError(f"boxes must be (N, 4) or (4,), got {corners.shape}")
    check_boxes(torch.from_numpy(corners))
    return corners
