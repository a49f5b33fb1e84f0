"""The book's figures: one style, pictures in rows, drawings of tensors and memory.

The style is fixed in pixels (144 dots per inch, never trimmed) and in fonts (the
ones matplotlib ships), so that two machines draw the same picture and the tests can
compare it. Colors are the Okabe-Ito set, told apart by color-blind readers, and
every line also has its own dash pattern for greyscale.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "GROUND_TRUTH",
    "INK",
    "ORANGE",
    "PALE",
    "PREDICTION",
    "PURPLE",
    "SKY",
    "VERMILION",
    "blank",
    "draw_arrow",
    "draw_graph",
    "draw_storage",
    "draw_tensor",
    "show_images",
    "use_style",
]

# Okabe and Ito (2008), "Color Universal Design": https://jfly.uni-koeln.de/color/
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY, PALE = "#222222", "#8A8A8A", "#EFEFEF"

# The two styles that boxes keep all through the book.
GROUND_TRUTH = {"color": GREEN, "linestyle": "-", "linewidth": 2.5}
PREDICTION = {"color": VERMILION, "linestyle": "--", "linewidth": 2.0}

STYLE = {
    "figure.dpi": 144,
    "savefig.dpi": "figure",
    "savefig.bbox": "standard",
    "figure.figsize": (6.4, 3.2),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": ["DejaVu Sans"],
    "mathtext.fontset": "dejavusans",
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
}


def use_style() -> None:
    """Give every later figure the book's look; inside a notebook also its pixel size.

    It starts from matplotlib's own defaults, so that no setting of this machine shows.
    The inline backend of notebooks trims each picture to its content, so that a
    longer label changes the size. Here it is told not to. Safe to call twice.
    """
    cycle = plt.cycler(
        color=[BLUE, VERMILION, GREEN, PURPLE, ORANGE, INK],
        linestyle=["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1))],
    )
    plt.style.use(["default", {**STYLE, "axes.prop_cycle": cycle}])
    try:
        shell = get_ipython()  # noqa: F821  (defined in every IPython session)
    except NameError:
        return
    if getattr(shell, "kernel", None):  # a notebook (Jupyter, Colab), not a terminal
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("png", bbox_inches=None)


def blank(ax, *, equal: bool = True):
    """Turn an axes into an empty sheet for a drawing: no frame, y grows downward.

    Args:
        ax: the matplotlib axes.
        equal: keep squares square.

    Returns:
        The same axes.

    Raises:
        TypeError: not an axes, such as the array that ``plt.subplots(1, 2)`` returns.
    """
    _require_axes(ax)
    ax.set_axis_off()
    if equal:
        ax.set_aspect("equal")
    if not ax.yaxis_inverted():
        ax.invert_yaxis()
    return ax


def _require_axes(ax) -> None:
    if not isinstance(ax, Axes):
        raise TypeError(f"needs one matplotlib axes, got {type(ax).__name__}")


def _array(values) -> np.ndarray:
    """A tensor (or what numpy takes) as an array; float32 for what numpy lacks."""
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    values = values.detach().cpu().resolve_conj().resolve_neg()
    if values.dtype == torch.bfloat16 or "float8" in str(values.dtype):
        values = values.float()
    return values.numpy()


def _image(picture) -> np.ndarray:
    """One picture as an array that imshow takes: H x W or H x W x 3 (or 4)."""
    array = _array(picture)
    shape = array.shape
    if isinstance(picture, torch.Tensor) and array.ndim == 3:
        if shape[0] not in (1, 3, 4):
            raise ValueError(f"a tensor picture is C x H x W, got shape {shape}")
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[-1] in (3, 4)):
        raise ValueError(f"not a picture: shape {shape}")
    if array.size == 0:
        raise ValueError(f"a picture has no pixels: shape {shape}")
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "uif":
        raise TypeError(f"not a picture: dtype {array.dtype}")
    return array


def show_images(
    pictures,
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    cmap: str = "gray",
    vmin: float | None = None,
    vmax: float | None = None,
    width: float = 6.4,
):
    """Lay pictures out in rows, each with an optional title.

    Args:
        pictures: one picture, a sequence, or a batch (a tensor or array of four
            dimensions). A tensor is C x H x W or H x W; an array or PIL image is
            H x W or H x W x C. In color, integers run from 0 to 255 and floats from
            0 to 1.
        titles: one per picture.
        columns: pictures in a row; default: at most 4.
        cmap: color map of one-channel pictures.
        vmin, vmax: the value range of one-channel pictures; default: 0 to 255 for
            uint8, 0 to 1 for masks (booleans, or uint8 up to 1), the picture's own
            range otherwise.
        width: of the whole figure, in inches.

    Returns:
        ``(figure, axes)``, the axes as a flat list, one per picture.

    Raises:
        ValueError: no pictures, not one title each, or a shape that is no picture.
        TypeError: a dtype that is no picture.
    """
    if isinstance(pictures, (np.ndarray, torch.Tensor)):
        single = pictures.ndim < 4
    else:
        single = not isinstance(pictures, Sequence)
    if isinstance(titles, str):
        titles = [titles]
    arrays = [_image(p) for p in ([pictures] if single else pictures)]
    if not arrays:
        raise ValueError("show_images needs at least one picture, got none")
    if titles is not None and len(titles) != len(arrays):
        raise ValueError(f"{len(arrays)} pictures but {len(titles)} titles")
    if columns is not None and not (isinstance(columns, int) and columns >= 1):
        raise ValueError(f"columns must be an integer of at least 1, got {columns!r}")
    columns = min(columns or 4, len(arrays))
    rows = -(-len(arrays) // columns)
    tallest = max(a.shape[0] / a.shape[1] for a in arrays)
    tallest = min(max(tallest, 0.1), 3.0)  # a figure that fits a page, and is seen
    height = rows * (width / columns * tallest + (0.3 if titles else 0.05))
    figure, grid = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    axes = list(grid.flat)
    for ax in axes:
        ax.set_axis_off()
    for i, (ax, array) in enumerate(zip(axes, arrays, strict=False)):
        low, high = vmin, vmax
        if array.ndim == 2 and array.dtype == np.uint8:
            top = 255 if array.max() > 1 else 1
            low, high = (0 if low is None else low), (top if high is None else high)
        ax.imshow(array, cmap=cmap, vmin=low, vmax=high)
        if titles is not None:
            ax.set_title(titles[i])
    return figure, axes[: len(arrays)]


def _texts(values, spec: str | None) -> np.ndarray:
    """The text of each cell, in the shape of the values."""
    array = _array(values)
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
    _require_axes(ax)
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
