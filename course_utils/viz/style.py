"""The style of the book's figures: fixed pixels, fonts, and colors.

The style is fixed in pixels (144 dots per inch, never trimmed) and in fonts (the
ones matplotlib ships), so that two machines draw the same picture and the tests can
compare it. Colors are the Okabe-Ito set, told apart by color-blind readers, and
every line also has its own dash pattern for greyscale.
"""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

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
    require_axes(ax)
    ax.set_axis_off()
    if equal:
        ax.set_aspect("equal")
    if not ax.yaxis_inverted():
        ax.invert_yaxis()
    return ax


def require_axes(ax) -> None:
    if not isinstance(ax, Axes):
        raise TypeError(f"needs one matplotlib axes, got {type(ax).__name__}")
