"""Drawings of tensors, of memory and of graphs."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from course_utils.viz.pictures import as_array
from course_utils.viz.style import GREY, INK, PALE, SKY, blank, require_axes

__all__ = ["draw_arrow", "draw_graph", "draw_storage", "draw_tensor"]


def _texts(values, spec: str | None) -> np.ndarray:
    """The text of each cell, in the shape of the values."""
    array = as_array(values)
    if array.ndim > 3:
        raise ValueError(f"can draw up to 3 dimensions, got shape {array.shape}")

    def text(value) -> str:
        if isinstance(value, (str, np.str_)):
            return str(value)
        if isinstance(value, (bool, np.bool_)):
            return "T" if value else "F"
        if spec is not None:
            return format(value, spec)
        return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)

    return np.array([text(v) for v in array.flat], dtype=object).reshape(array.shape)


def draw_tensor(
    ax,
    values,
    *,
    at: tuple[float, float] = (0.0, 0.0),
    colors=None,
    color: str = PALE,
    spec: str | None = None,
    title: str | None = None,
    fontsize: float = 10,
    faint=None,
) -> tuple[float, float, float, float]:
    """Draw a tensor of up to three dimensions as a grid of unit cells with its values.

    A scalar is one cell, a vector one row, a matrix a grid; the planes of a
    three-dimensional tensor lie behind one another, the first in front. Units are
    cells; x grows to the right, y downward (see :func:`blank`).

    Args:
        ax: the axes; it is turned into a blank sheet.
        values: tensor, array, nested list of numbers or of short strings.
        at: the upper left corner of the (front) plane, ``(x, y)``.
        colors: a fill color per cell, nested like ``values``; default: ``color``.
        color: the fill of all cells where ``colors`` is not given.
        spec: a format for the numbers, such as ``".1f"``.
        title: a line above the drawing.
        fontsize: of the values.
        faint: booleans nested like ``values``: those cells are dashed and pale, as
            for values that are only repeated (broadcasting, ``expand``).

    Returns:
        The drawn extent ``(x1, y1, x2, y2)`` in cells, title not included.

    Raises:
        TypeError: not an axes.
        ValueError: more than three dimensions, or ``colors`` or ``faint`` of another
            shape.
    """
    texts = _texts(values, spec)
    shape = texts.shape

    def like(extra, name):
        if extra is None:
            return None
        array = np.asarray(extra, dtype=object)
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, the values {shape}")
        return array.reshape(block)

    block = (1,) * (3 - texts.ndim) + shape
    texts, fills = texts.reshape(block), like(colors, "colors")
    pales = like(faint, "faint")
    blank(ax)
    planes, rows, columns = block
    x0, y0 = at
    step = 0.45  # how far each further plane is moved up and to the right
    for p in reversed(range(planes)):
        for r in range(rows):
            for c in range(columns):
                x, y = x0 + c + step * p, y0 + r - step * p
                pale = bool(pales[p, r, c]) if pales is not None else False
                fill = fills[p, r, c] if fills is not None else color
                layer = planes - 1 - p  # front planes hide the values behind them
                # Of a plane behind another, only the strip above it is seen whole.
                text = texts[p, r, c] if p == 0 or r == 0 else ""
                _cell(ax, x, y, text, fill, fontsize, pale, layer, step if p else 1.0)
    if title:
        ax.text(
            x0 + columns / 2 + step * (planes - 1) / 2,
            y0 - step * (planes - 1) - 0.25,
            title,
            ha="center",
            va="bottom",
            fontsize=fontsize,
        )
    x2, y1 = x0 + columns + step * (planes - 1), y0 - step * (planes - 1)
    extent = (x0, y1, x2, y0 + rows)
    ax.update_datalim([(x0, y1 - (0.8 if title else 0)), (x2, y0 + rows)])
    ax.autoscale_view()
    return extent


def _cell(ax, x, y, text, fill, fontsize, pale=False, layer=0, seen=1.0) -> None:
    ax.add_patch(
        Rectangle(
            (x, y),
            1,
            1,
            facecolor=fill,
            edgecolor=GREY if pale else INK,
            linestyle=(0, (2, 2)) if pale else "-",
            linewidth=0.8,
            alpha=0.6 if pale else 1.0,
            zorder=1 + 0.1 * layer,
        )
    )
    ax.text(
        x + 0.5,
        y + seen / 2,  # in the middle of the part that is not covered
        text,
        ha="center",
        va="center",
        fontsize=fontsize,
        c=GREY if pale else _ink_on(fill),
        zorder=1.05 + 0.1 * layer if seen < 1 else 3,
    )


def _ink_on(fill: str) -> str:
    """Black or white, whichever reads better on the fill (on none: black)."""
    red, green, blue, alpha = to_rgba(fill)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue <= 0.5
    return "white" if dark and alpha > 0.5 else INK


def draw_storage(
    ax,
    tensor: torch.Tensor,
    *,
    at: tuple[float, float] = (0.0, 0.0),
    color: str = SKY,
    colors=None,
    fontsize: float = 10,
    title: str | None = None,
) -> tuple[float, float, float, float]:
    """Draw the storage behind a tensor as one row of cells, numbered from 0.

    Cells that the tensor reaches through its offset, shape and strides are filled;
    the others belong to the storage but not to this tensor.

    Args:
        ax: the axes; it is turned into a blank sheet.
        tensor: any strided tensor; its whole storage is drawn (keep it short).
        at: the upper left corner, in cells.
        color: fill of the cells that the tensor uses.
        colors: instead of ``color``: a fill per element, nested like the tensor, so
            that an element has one color here and in :func:`draw_tensor`.
        fontsize: of the values; positions are smaller.
        title: a line above the row.

    Returns:
        The drawn extent ``(x1, y1, x2, y2)`` in cells.

    Raises:
        TypeError: not a tensor, or not an axes.
        ValueError: a storage of more than 64 elements, or ``colors`` of another shape.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"draw_storage needs a tensor, got {type(tensor).__name__}")
    length = tensor.untyped_storage().nbytes() // tensor.element_size()
    if length > 64:
        raise ValueError(f"the storage has {length} elements; at most 64 can be drawn")
    flat = tensor.detach().as_strided((length,), (1,), 0)
    index = torch.arange(length, device="cpu").as_strided(
        tensor.shape, tensor.stride(), tensor.storage_offset()
    )
    per_element = np.full(tuple(tensor.shape), color, dtype=object)
    if colors is not None:
        per_element = np.asarray(colors, dtype=object)
        if per_element.shape != tuple(tensor.shape):
            sizes = f"{per_element.shape}, the tensor {tuple(tensor.shape)}"
            raise ValueError(f"colors has shape {sizes}")
    used = dict(zip(index.flatten().tolist(), per_element.flat, strict=True))
    fills = [used.get(i, "white") for i in range(length)]
    extent = draw_tensor(ax, flat, at=at, colors=fills, fontsize=fontsize, title=title)
    for i in range(length):
        ax.text(
            at[0] + i + 0.5,
            at[1] + 1.12,
            str(i),
            ha="center",
            va="top",
            fontsize=0.7 * fontsize,
            c=GREY,
        )
    ax.update_datalim([(at[0], at[1] + 1.6)])
    ax.autoscale_view()
    return extent


def draw_arrow(ax, start, end, *, color: str = INK, bend: float = 0.0, text: str = ""):
    """Draw an arrow between two points, in data units, with an optional label.

    Args:
        ax: the axes.
        start, end: ``(x, y)``.
        color: of arrow and label.
        bend: curvature; 0 is straight, positive bends to one side.
        text: a label at the middle of the straight line.

    Returns:
        The arrow patch.

    Raises:
        TypeError: not an axes.
    """
    require_axes(ax)
    arrow = FancyArrowPatch(
        start,
        end,
        arrowstyle="-|>",
        mutation_scale=11,
        shrinkA=0,
        shrinkB=0,
        color=color,
        linewidth=1.4,
        zorder=2.5,  # above cells, below their values
        connectionstyle=f"arc3,rad={bend}",
    )
    ax.add_patch(arrow)
    ax.update_datalim([start, end])
    ax.autoscale_view()
    if text:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        ax.annotate(
            text, middle, (0, 4), textcoords="offset points", ha="center", c=color
        )
    return arrow


def draw_graph(
    ax,
    nodes: Mapping[str, tuple],
    edges: Sequence[tuple],
    *,
    fontsize: float = 10,
    size: tuple[float, float] = (1.7, 0.7),
) -> None:
    """Draw a directed graph: rounded boxes joined by arrows.

    Args:
        ax: the axes; it is turned into a blank sheet (y grows downward).
        nodes: name to ``(x, y)``, ``(x, y, label)`` or ``(x, y, label, fill color)``.
        edges: ``(from, to)`` or ``(from, to, label)``, by node name.
        fontsize: of the labels.
        size: width and height of a box, in data units.

    Raises:
        TypeError: not an axes.
        ValueError: an edge names an unknown node, or joins a node to itself.
    """
    blank(ax, equal=False)
    width, height = size
    for edge in edges:
        unknown = [name for name in edge[:2] if name not in nodes]
        if unknown:
            raise ValueError(f"edge {edge!r} names unknown nodes {unknown}")
        if len(edge) not in (2, 3) or edge[0] == edge[1]:
            raise ValueError(f"an edge joins two nodes, got {edge!r}")
    for name, (x, y, *rest) in nodes.items():
        label = rest[0] if rest else name
        fill = rest[1] if len(rest) > 1 else PALE
        box = FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.15",
            facecolor=fill,
            edgecolor=INK,
            linewidth=1,
        )
        ax.add_patch(box)
        ax.text(
            x,
            y,
            label,
            ha="center",
            va="center",
            fontsize=fontsize,
            c=_ink_on(fill),
            zorder=5,
        )
        ax.update_datalim(
            [(x - width / 2, y - height / 2), (x + width / 2, y + height / 2)]
        )
    for tail, head, *label in edges:
        start, end = nodes[tail][:2], nodes[head][:2]
        draw_arrow(
            ax,
            _border(start, end, width, height),
            _border(end, start, width, height),
            text=label[0] if label else "",
        )
    ax.autoscale_view()
    ax.margins(0.05)


def _border(center, toward, width, height):
    """Where the line from a box's center to another point leaves the box."""
    dx, dy = toward[0] - center[0], toward[1] - center[1]
    if dx == 0 and dy == 0:
        return center
    reach = min(
        width / 2 / abs(dx) if dx else float("inf"),
        height / 2 / abs(dy) if dy else float("inf"),
    )
    return center[0] + dx * reach, center[1] + dy * reach
