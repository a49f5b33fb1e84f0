"""What people carry: backpacks, shoulder bags, bags in a hand."""

from experiments.scenes.body import Body
from experiments.scenes.dice import cosine
from experiments.scenes.raster import coverage, limb, mix

__all__ = ["draw_bag"]


def draw_bag(person: Body, behind: bool, last: bool = False) -> None:
    """Draw what a person carries.

    Args:
        person: whose.
        behind: the call before the body is drawn.
        last: the call after the arms are drawn.
    """
    f, u = person.figure, person.unit
    h = f.height
    k = f.bag_side
    hand = person.between(f"elbow{k}", f"hand{k}", 1.15)
    base = person.joints["pelvis"][1]
    front = cosine(f.turn)
    if f.bag == "backpack":
        seen = front < 0.3
        if behind == (not seen) and not last:
            a = person.point((0.0, base + 0.25 * h, -0.085 * h))
            b = person.point((0.0, base + 0.10 * h, -0.095 * h))
            wide = (0.058 + 0.03 * abs(front)) * u
            person.rod(a, b, wide * 0.86, wide, f.bag_color, 0.7)
            if front < -0.4:  # its back: a pocket, a zipper and a loop
                c = person.point((0.0, base + 0.12 * h, -0.10 * h))
                d = person.point((0.0, base + 0.09 * h, -0.10 * h))
                dark = mix(f.bag_color, (0, 0, 0), 0.4)
                person.occlude(limb(c, d, 0.62 * wide, 0.66 * wide), 0.2)
                for side in (-1, 1):
                    top = (c[0] + side * 0.58 * wide, c[1] - 0.15 * wide)
                    line = limb(c, top, 0.005 * u, 0.005 * u, 2)
                    person.canvas.fill(line, dark, person.light.sky)
                    end = person.point((side * 0.05 * h, base + 0.305 * h, -0.05 * h))
                    person.rod(a, end, 0.012 * u, 0.012 * u, dark, 0.0)
        if front > 0.2 and not behind and not last:
            for side in (-1, 1):
                a = person.point((side * 0.062 * h, base + 0.31 * h, 0.03 * h))
                b = person.point((side * 0.072 * h, base + 0.17 * h, 0.06 * h))
                person.rod(a, b, 0.012 * u, 0.010 * u, f.bag_color, 0.0)
    elif f.bag == "shoulder":
        side = -1 if k == 0 else 1
        near = person.world((side * 0.1, 0.0, 0.0))[2] < person.z + 0.03
        bag = (side * 0.125 * h, base + 0.0 * h, 0.0)
        x, y = person.point(bag)
        if near == last and not behind and (near or last) or (behind and not near):
            a = person.point((side * 0.07 * h, base + 0.31 * h, 0.01 * h))
            person.rod(a, (x, y), 0.006 * u, 0.006 * u, f.bag_color, 0.0)
            _case(person, x, y, 0.062 * u, 0.05 * u)
    elif f.bag in ("hand", "carrier") and f.arms[k][1] < 1.0:
        near = person.depth(f"shoulder{k}") <= 0.06
        if (near and last) or (not near and behind):
            x, y = person.point(hand)
            tall = (0.055 if f.bag == "hand" else 0.075) * u
            for side in (-1, 1):
                person.canvas.fill(
                    limb(
                        (x, y),
                        (x + side * 0.03 * u, y + 0.05 * u),
                        0.004 * u,
                        0.004 * u,
                        2,
                    ),
                    f.bag_color,
                    person.light.sky,
                )
            _case(person, x, y + 0.05 * u + tall, 0.058 * u, tall)


def _case(person: Body, x: float, y: float, rx: float, ry: float) -> None:
    """The body of a bag round (x, y)."""
    outline = [
        (x - rx * 0.85, y - ry),
        (x + rx * 0.85, y - ry),
        (x + rx, y - 0.5 * ry),
        (x + rx * 1.02, y + 0.8 * ry),
        (x + rx * 0.8, y + ry),
        (x - rx * 0.8, y + ry),
        (x - rx * 1.02, y + 0.8 * ry),
        (x - rx, y - 0.5 * ry),
    ]
    patch = coverage(outline, person.canvas.height, person.canvas.width)
    if patch is None:
        return
    px, py = patch.grid()
    nx = ((px - x) / (1.4 * rx)).clip(-1, 1)
    ny = ((py - y) / (1.6 * ry)).clip(-1, 1)
    light = person.shade(nx * 0.7, ny * 0.7) * person.folds(patch)
    person.canvas.paint(patch, person.figure.bag_color, light)
