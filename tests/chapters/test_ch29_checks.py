"""The exercises of chapter 29: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code

EXERCISES = chapter_code.exercises("29_vision_transformers")

# The exercise, a change of the solution's source, and words of the verdict; None where
# the changed solution is right, too.
CHANGES = [
    ("to_picture", "(0, 3, 1, 4, 2, 5)", "(0, 3, 1, 2, 4, 5)", "two by two"),
    ("to_picture", "(0, 3, 1, 4, 2, 5)", "(0, 3, 2, 5, 1, 4)", ""),
    ("to_picture", "rows, columns, 3, p, p)", "rows, columns, p, p, 3)", "one patch"),
    (
        "to_picture",
        "(-1, rows, columns, 3, p, p)",
        "(-1, columns, rows, 3, p, p)",
        "a wide",
    ),
    ("to_picture", "patches.reshape(", "patches.float().reshape(", "one pixel"),
    ("to_picture", "patches.reshape(", "patches.clone().reshape(", None),
    ("to_picture", "(rows * p, columns * p) != (height, width)", "False", "too few"),
    ("to_picture", "patches.shape[1:] != (rows", "() != (rows", "one pixel"),
    (
        "to_picture",
        "patches.shape[1:] != (rows * columns, 3 * p * p)",
        "patches.shape[1] != rows * columns",
        "patches of another size",
    ),
    (
        "to_picture",
        "patches.shape[1:] != (rows * columns, 3 * p * p)",
        "False",
        "too few patches",
    ),
    ("fit_positions", ", antialias=True", "", "3 x 3"),
    ("fit_positions", "antialias=True", "align_corners=True", "3 x 3"),
    ("fit_positions", "bicubic", "bilinear", "3 x 3"),
    ("fit_positions", "(height, width))", "(width, height))", "2 x 3 becomes"),
    ("fit_positions", "tuple(new)", "tuple(new)[::-1]", "wide"),
    ("fit_positions", "rest.mT.unflatten", "rest.unflatten", ""),
    ("fit_positions", ".flatten(2).mT]", ".mT.flatten(2).mT]", ""),
    ("fit_positions", "[first, rest", "[first * 0, rest", "one place"),
    ("fit_positions", "!= 1 + height", "< height", "no grid of"),
    ("fit_positions", "positions.shape[1] != 1 + height * width", "False", "no grid"),
    ("fit_positions", "positions[:, 1:]", "positions[:, 1:].detach()", "slopes at"),
    (
        "fit_positions",
        "old\n    if",
        "old\n    positions = positions.float()\n    if",
        "float64",
    ),
    ("fit_positions", "positions[:, :1]", "positions[:, :1].detach()", "handed on"),
    ("window_mean", "x.roll((-shift, -shift)", "x.roll((shift, shift)", "shifted"),
    (
        "window_mean",
        "width).roll((shift, shift)",
        "width).roll((-shift, -shift)",
        "shifted",
    ),
    ("window_mean", "part = 2 * rows[:, None] + columns", "part = 0 * x", "shifted"),
    ("window_mean", "2 * rows[:, None]", "rows[:, None].int()", "one window, shifted"),
    ("window_mean", ">= width - shift", "> width - shift", "shifted"),
    ("window_mean", ">= height - shift", "> height - shift", "shifted"),
    ("window_mean", ">= height - shift", ">= shift", "shifted"),
    ("window_mean", "t.transpose(1, 2).flatten", "t.flatten", ""),
    ("window_mean", "mean.unflatten(2, (w, w)).transpose(1, 2)", "mean", "four win"),
    ("window_mean", "/ same.sum(-1)", "/ w**2", "shifted"),
    ("window_mean", ".to(x.dtype)", ".double()", "float32"),
    ("rollout", "/ 2 @ total", "@ total", "one token"),
    ("rollout", "(table + one) / 2 @ total", "total @ (table + one) / 2", "two layers"),
    ("rollout", "(table + one) / 2", "table", "two tokens"),
    ("rollout", "tables.mean(1)", "tables[:, 0]", "two heads"),
    ("rollout", "tables.mean(1)", "tables.sum(1)", "two heads"),
    ("rollout", "tables.mean(1)", "tables.amax(1)", "two heads"),
    ("rollout", "total = one", "total = tables.mean(1)[0]", "one token"),
    ("rollout", "    for table in tables.mean(1):", "    for table in []:", "two tok"),
    ("rollout", "dtype=tables.dtype, ", "", "one layer"),
    ("rollout", "(table + one) / 2 @ total", "total.lerp(table @ total, 0.5)", None),
    ("window_bias", "y[:, None] - y", "y - y[:, None]", "2 x 1"),
    ("window_bias", "x[:, None] - x", "x - x[:, None]", "1 x 2"),
    ("window_bias", "(2 * width - 1) + right]", "(2 * height - 1) + right]", ""),
    ("window_bias", "+ height - 1  #", "#", "2 x 1"),
    ("window_bias", "down * (2 * width - 1)", "down * width", "2 x 2"),
    ("window_bias", "down * (2", "down.abs() * (2", None),
    ("window_bias", "repeat_interleave(width)", "repeat(width)", "2 x"),
    ("window_bias", ".movedim(-1, 0)", "", "1 x 2"),
    ("window_bias", "return table[", "return table.detach()[", "no gradient"),
    ("window_bias", "return table[", "return table.float()[", "one token"),
    ("window_bias", "len(table) != wanted", "len(table) < wanted", "too many"),
    ("window_bias", "ValueError(", "IndexError(", "too few rows"),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_changed_solutions(name, old, new, says):
    assert_changed(EXERCISES[f"29.{name}"], old, new, says)


FAULTY = """
def window_mean(x, w, shift):
    height, width = x.shape
    x = x.roll((shift, shift), (0, 1))
    x = x.view(height // w, width // w, w, w)
    mean = x.mean((2, 3), keepdim=True).expand_as(x)
    mean = mean.reshape(height, width)
    return mean.roll((shift, shift), (0, 1))
"""
UNMASKED = """
def window_mean(x, w, shift):
    height, width = x.shape
    x = x.roll((-shift, -shift), (0, 1))
    x = x.unflatten(1, (-1, w)).unflatten(0, (-1, w))
    mean = x.mean((1, 3), keepdim=True).expand_as(x)
    return mean.reshape(height, width).roll((shift, shift), (0, 1))
"""
BORDERS = """
def window_mean(x, w, shift):
    height, width = x.shape
    out = x.clone()
    starts = [[0, *range(shift, side, w), side] for side in (height, width)]
    for top, bottom in zip(starts[0], starts[0][1:]):
        for left, right in zip(starts[1], starts[1][1:]):
            if top < bottom and left < right:
                out[top:bottom, left:right] = x[top:bottom, left:right].mean()
    return out
"""
FOLDED = """
def to_picture(patches, height, width, p):
    n = (height // p) * (width // p)
    if height % p or width % p or patches.shape[1:] != (n, 3 * p * p):
        raise ValueError(patches.shape)
    x = F.fold(patches.double().mT, (height, width), p, stride=p)
    return x.to(patches.dtype)
"""
NO_FOLD = """
def to_picture(patches, height, width, p):
    return patches.mT.reshape(-1, 3, height, width)
"""
WHOLE = """
def fit_positions(positions, old, new):
    if positions.shape[1] != 1 + old[0] * old[1]:
        raise ValueError(positions.shape)
    grid = positions[:, 1:].reshape(1, *old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, new, mode="bicubic", antialias=True)
    grid = grid.permute(0, 2, 3, 1).reshape(1, new[0] * new[1], -1)
    return torch.cat((positions[:, :1], grid), dim=1)
"""
LINE = """
def fit_positions(positions, old, new):
    if positions.shape[1] != 1 + old[0] * old[1]:
        raise ValueError(positions.shape)
    n = new[0] * new[1]
    rest = F.interpolate(positions[:, 1:].mT, n, mode="linear").mT
    return torch.cat([positions[:, :1], rest], 1)
"""
COUNTED = """
def to_picture(patches, height, width, p):
    if patches.shape[1] * p * p != height * width or patches.shape[2] != 3 * p * p:
        raise ValueError(patches.shape)
    x = patches.reshape(-1, height // p, width // p, 3, p, p)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, height, width)
"""
SEPARATE = """
def window_mean(x, w, shift):
    for _ in range(2):
        at = (torch.arange(len(x)) - shift).div(w, rounding_mode="floor")
        same = (at[:, None] == at).to(x.dtype)
        x = (same / same.sum(1, keepdim=True) @ x).T
    return x
"""
NO_DTYPE = """
def rollout(tables):
    if not len(tables):
        return torch.eye(tables.shape[-1])
    one = torch.eye(tables.shape[-1], dtype=tables.dtype)
    total = one
    for table in tables.mean(1):
        total = (table + one) / 2 @ total
    return total
"""
LOOPED = """
def window_bias(table, height, width):
    if len(table) != (2 * height - 1) * (2 * width - 1):
        raise ValueError(len(table))
    grid = table.T.reshape(-1, 2 * height - 1, 2 * width - 1)
    rows = [grid[:, y:y + height, x:x + width].flip(1, 2).flatten(1)
            for y in range(height) for x in range(width)]
    return torch.stack(rows, 1)
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("window_mean", FAULTY, "one window, shifted"),
        ("window_mean", UNMASKED, "one window, shifted"),
        ("window_mean", BORDERS, None),
        ("to_picture", FOLDED, None),
        ("to_picture", NO_FOLD, ""),
        ("to_picture", COUNTED, "a side not divided"),
        ("window_mean", SEPARATE, None),
        ("rollout", NO_DTYPE, "no layers"),
        ("fit_positions", WHOLE, None),
        ("fit_positions", LINE, "2 x 2 becomes 3 x 3"),
        ("window_bias", LOOPED, None),
    ],
)
def test_other_answers(name, source, says):
    assert_verdict(EXERCISES[f"29.{name}"], source, says)
