"""Draw the book's cover, logo and favicon into ``_static/``: ``make figures``."""

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Circle, Ellipse, Polygon, Rectangle
from PIL import Image

from course_utils import viz

STATIC = Path(__file__).resolve().parent.parent / "_static"
WIDTH, HEIGHT = 24.0, 9.0  # of the scene, in its own units
CELL = 0.5  # side of one coarse pixel


def person(ax, x, feet, height, coat, legs, *, stride=0.18, mask=None) -> tuple:
    """A walking figure; returns its box, xyxy with y growing downward.

    With ``mask``, a color, every part is tinted with it, as an instance mask would.
    """
    h = height
    top = feet - h
    skin = "#8d5a3c" if coat != viz.BLUE else "#e0ac86"
    if mask is not None:
        coat, legs, skin = (
            tuple(0.4 * np.array(to_rgb(part)) + 0.6 * np.array(to_rgb(mask)))
            for part in (coat, legs, skin)
        )
    for side in (-1, 1):
        leg = [
            (x - 0.06 * h, feet - 0.48 * h),
            (x + 0.06 * h, feet - 0.48 * h),
            (x + side * stride * h + 0.05 * h, feet),
            (x + side * stride * h - 0.05 * h, feet),
        ]
        ax.add_patch(Polygon(leg, color=legs, lw=0))
        arm = [
            (x + side * 0.08 * h, top + 0.2 * h),
            (x + side * 0.13 * h, top + 0.22 * h),
            (x + side * 0.2 * h, top + 0.5 * h),
            (x + side * 0.15 * h, top + 0.5 * h),
        ]
        ax.add_patch(Polygon(arm, color=coat, lw=0))
    torso = Ellipse((x, top + 0.36 * h), 0.26 * h, 0.42 * h, color=coat, lw=0)
    ax.add_patch(torso)
    ax.add_patch(Circle((x, top + 0.085 * h), 0.085 * h, color=skin, lw=0))
    half = max(stride + 0.05, 0.2) * h
    return x - half, top, x + half, feet


PEOPLE = [  # x, feet, height, coat, legs
    (4.3, 8.3, 5.6, viz.VERMILION, "#3a3a4a"),
    (12.4, 7.9, 4.9, viz.BLUE, "#44403a"),
    (19.0, 8.4, 5.9, viz.GREEN, "#2f3440"),
    (21.9, 7.0, 3.4, viz.PURPLE, "#4a4a52"),
]


def scene(ax) -> list[tuple]:
    """Draw the street; returns the boxes of the people."""
    ax.add_patch(Rectangle((0, 0), WIDTH, 5.6, color="#cfe3ee", lw=0))
    shades = [
        "#d9cdbb",
        "#c9b8a2",
        "#bfc7c9",
        "#d3c2b0",
        "#b9b3a8",
        "#cdd3cf",
        "#c4ad97",
    ]
    left = 0.0
    for i, shade in enumerate(shades):
        wide, tall = 3.0 + 0.9 * (i % 3), 3.2 + 1.1 * ((i * 2) % 3)
        ax.add_patch(Rectangle((left, 5.6 - tall), wide, tall, color=shade, lw=0))
        for row in np.arange(5.6 - tall + 0.4, 5.0, 0.9):
            for column in np.arange(left + 0.4, left + wide - 0.5, 0.95):
                ax.add_patch(Rectangle((column, row), 0.42, 0.5, color="#7d8a92", lw=0))
        left += wide
    ax.add_patch(Rectangle((0, 5.6), WIDTH, 3.4, color="#a9a59c", lw=0))
    ax.add_patch(Rectangle((0, 5.6), WIDTH, 0.35, color="#8f8b83", lw=0))
    for x in np.arange(0.5, WIDTH, 3.0):
        stripe = [(x, 8.6), (x + 1.4, 8.6), (x + 1.1, 8.3), (x - 0.3, 8.3)]
        ax.add_patch(Polygon(stripe, color="#e8e4da", lw=0))
    ax.add_patch(Rectangle((15.4, 2.4), 0.16, 4.4, color="#4b4f52", lw=0))
    ax.add_patch(Circle((15.48, 2.3), 0.32, color="#f2d98b", lw=0))
    return [person(ax, *one) for one in PEOPLE]


def sheet(dpi: float):
    """An axes over a whole figure of the scene's shape, y growing downward."""
    figure = plt.figure(figsize=(WIDTH / 2, HEIGHT / 2), dpi=dpi)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, WIDTH)
    ax.set_ylim(HEIGHT, 0)
    ax.set_axis_off()
    return figure, ax


def pixels(dpi: float) -> np.ndarray:
    """The scene as an array, H x W x 3."""
    figure, ax = sheet(dpi)
    scene(ax)
    with io.BytesIO() as buffer:
        figure.savefig(buffer, format="png", dpi=dpi)
        plt.close(figure)
        return np.asarray(Image.open(buffer).convert("RGB"))


def cover() -> None:
    """From left to right: numbers, pixels, a picture, detections."""
    fine = pixels(200)
    per = round(fine.shape[0] / (HEIGHT / CELL))
    rows, columns = round(HEIGHT / CELL), round(WIDTH / CELL)
    coarse = fine[: rows * per, : columns * per].reshape(rows, per, columns, per, 3)
    coarse = coarse.mean(axis=(1, 3)).round().astype(np.uint8)
    figure, ax = sheet(100)
    ax.imshow(fine, extent=(0, WIDTH, HEIGHT, 0), aspect="auto")
    for r in range(rows):
        for c in range(columns):
            x, y = c * CELL, r * CELL
            if x >= 15.0:
                continue
            color = coarse[r, c] / 255
            gray = color @ [0.299, 0.587, 0.114]
            if x < 8.0:  # a cell with its number
                pale = 0.75 + 0.25 * color
                ax.add_patch(
                    Rectangle((x, y), CELL, CELL, facecolor=pale, edgecolor="w", lw=0.6)
                )
                ink = plt.cm.cividis(0.15 + 0.35 * gray)
                ax.text(
                    x + CELL / 2,
                    y + CELL / 2,
                    f"{round(255 * gray)}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=ink,
                )
            else:
                ax.add_patch(Rectangle((x, y), CELL, CELL, facecolor=color, lw=0))
    ax.autoscale(False)
    boxes = scene_boxes()
    for box, score in zip(boxes[2:], (0.98, 0.91), strict=True):
        x1, y1, x2, y2 = box
        ax.add_patch(
            Rectangle(
                (x1, y1), x2 - x1, y2 - y1, fill=False, **viz.PREDICTION, zorder=5
            )
        )
        ax.text(
            x1,
            y1 - 0.12,
            f"person {score:.2f}",
            fontsize=11,
            color="white",
            bbox={"facecolor": viz.VERMILION, "edgecolor": "none", "pad": 2},
            zorder=6,
        )
    person(ax, *PEOPLE[2], mask=viz.SKY)
    person(ax, *PEOPLE[3], mask=viz.ORANGE)
    x1, y1, x2, y2 = boxes[1]
    ax.add_patch(
        Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **viz.GROUND_TRUTH, zorder=5)
    )
    figure.savefig(STATIC / "cover.png", dpi=100)
    plt.close(figure)
    picture = Image.open(STATIC / "cover.png").convert("RGB")
    picture.quantize(128, method=Image.Quantize.MEDIANCUT).save(
        STATIC / "cover.png", optimize=True
    )


def scene_boxes() -> list[tuple]:
    """The people's boxes, without keeping the drawing."""
    figure, ax = sheet(20)
    boxes = scene(ax)
    plt.close(figure)
    return boxes


def mark(size: int) -> str:
    """The logo's drawing: a 3 x 3 tensor inside a detection's corners, as SVG."""
    fills = ["#0072B2", "#56B4E9", "#0072B2", "#56B4E9", "#E69F00", "#56B4E9"]
    fills += ["#0072B2", "#56B4E9", "#0072B2"]
    parts = [
        f'<rect x="{18 + 22 * (i % 3)}" y="{18 + 22 * (i // 3)}" width="20" '
        f'height="20" rx="3" fill="{fill}"/>'
        for i, fill in enumerate(fills)
    ]
    corners = "M4 24V4H24 M76 4H96V24 M96 76V96H76 M24 96H4V76"
    parts.append(f'<path d="{corners}" fill="none" stroke="#D55E00" stroke-width="7"/>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" '
        f'width="{size}" height="{size}" role="img" '
        f'aria-label="Tensors to Detectors">{"".join(parts)}</svg>\n'
    )


def main() -> None:
    STATIC.mkdir(exist_ok=True)
    cover()
    (STATIC / "logo.svg").write_text(mark(120))
    (STATIC / "favicon.svg").write_text(mark(64))
    print("drawn: cover.png, logo.svg, favicon.svg")


if __name__ == "__main__":
    main()
