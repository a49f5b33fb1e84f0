"""Exercises of chapter 29, vision transformers."""

import torch
from torch.nn import functional as F

from course_utils.checks.core import Case, Wrong, exercise
from course_utils.checks.samples import uniform

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


@exercise(
    "29.to_picture",
    hint="Give every axis a name first: (B, rows, columns, 3, p, p). In which order "
    "must they stand, so that one `reshape` gives (B, 3, height, width)?",
)
def to_picture() -> list[Case]:
    def case(says, shape, p, dtype=torch.float64):
        images = torch.arange(torch.Size(shape).numel()).reshape(shape)
        patches = F.unfold(images.double(), p, stride=p).mT.contiguous()
        args = (patches.to(dtype), *shape[2:], p)
        return Case(says, args=args, expect=images.to(dtype))

    one = torch.zeros(1, 4, 12)
    turned = uniform(1, 12, 4).mT
    return [
        case("one pixel", (1, 3, 1, 1), 1),
        case("one patch", (1, 3, 2, 2), 2),
        case("patches of one pixel", (1, 3, 2, 2), 1),
        case("two by two patches", (1, 3, 4, 4), 2),
        case("a wide picture", (1, 3, 2, 6), 2),
        case("a tall picture", (1, 3, 6, 2), 2),
        case("two pictures", (2, 3, 4, 6), 2),
        case("bytes stay bytes", (1, 3, 4, 4), 2, torch.uint8),
        case("patches of 4", (2, 3, 8, 12), 4, torch.float32),
        Case(
            "not contiguous",
            args=(turned, 4, 4, 2),
            expect=F.fold(turned.mT, (4, 4), 2, stride=2),
        ),
        Case(
            "no pictures",
            args=(torch.zeros(0, 4, 12), 4, 4, 2),
            expect=torch.zeros(0, 3, 4, 4),
        ),
        Case("too few patches", args=(one, 4, 6, 2), expect=ValueError),
        Case("a side that p does not divide", args=(one, 5, 4, 2), expect=ValueError),
        Case(
            "as many pixels, a side not divided",
            args=(torch.zeros(2, 3, 12), 3, 4, 2),
            expect=ValueError,
        ),
        Case("patches of another size", args=(one, 4, 4, 1), expect=ValueError),
        Case(
            "four channels",
            args=(torch.zeros(3, 4, 16), 4, 4, 2),
            expect=ValueError,
        ),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "29.fit_positions",
    hint="Put the first row aside. `F.interpolate` wants (1, d, h, w): which axes "
    "must change places before the grid is laid out?",
)
def fit_positions() -> list[Case]:
    def wanted(positions, old, new):
        grid = positions[0, 1:].reshape(*old, -1).permute(2, 0, 1)[None]
        grid = F.interpolate(grid, new, mode="bicubic", antialias=True)
        rest = grid[0].permute(1, 2, 0).reshape(new[0] * new[1], -1)
        return torch.cat([positions[0, :1], rest])[None]

    def case(says, old, new, d=3, dtype=torch.float32):
        positions = uniform(1, 1 + old[0] * old[1], d, dtype=dtype)
        return Case(
            says,
            args=(positions, old, new),
            expect=wanted(positions, old, new),
            within=1e-5,
        )

    def trained(answer):
        positions = uniform(1, 5, 2, dtype=torch.float32).requires_grad_()
        out = answer(positions, (2, 2), (3, 3))
        if not (isinstance(out, torch.Tensor) and out.requires_grad):
            raise Wrong("no gradient reaches the positions: were they detached?")
        out.sum().backward()
        if not torch.allclose(positions.grad[0, 0], torch.ones(2)):
            raise Wrong(
                "the class token's row is handed on once, slope 1; the gradient "
                f"says {positions.grad[0, 0].tolist()}"
            )
        if not torch.allclose(positions.grad[0, 1:].sum(0), torch.full((2,), 9.0)):
            raise Wrong(
                "the slopes at the grid add up to 9, the number of new places; got "
                f"{positions.grad[0, 1:].sum(0).tolist()}"
            )

    few = uniform(1, 9, 2, dtype=torch.float32)
    return [
        case("one place stays one", (1, 1), (1, 1)),
        case("the same grid", (2, 2), (2, 2)),
        case("2 x 2 becomes 3 x 3", (2, 2), (3, 3)),
        case("2 x 2 becomes 2 x 5, wide", (2, 2), (2, 5)),
        case("2 x 3 becomes 4 x 6", (2, 3), (4, 6)),
        case("as many places, another shape", (2, 6), (3, 4)),
        case("4 x 4 shrinks to 2 x 2", (4, 4), (2, 2)),
        case("8 x 8 shrinks to 3 x 5", (8, 8), (3, 5), 6),
        case("one feature", (3, 3), (5, 4), 1),
        case("float64", (2, 3), (3, 4), 2, torch.float64),
        Case("no grid of 3 x 3", args=(few, (3, 3), (4, 4)), expect=ValueError),
        Case("too many rows", args=(few, (2, 3), (4, 4)), expect=ValueError),
        Case("no class token", args=(few[:, :8], (2, 4), (4, 4)), expect=ValueError),
        Case("the positions are trained", test=trained),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "29.window_bias",
    hint="Write down y and x of each of the n tokens first. A difference of two "
    "columns and rows, shifted to start at 0, gives the row of the table.",
)
def window_bias() -> list[Case]:
    def wanted(table, height, width):
        places = [(y, x) for y in range(height) for x in range(width)]
        n = len(places)
        out = table.new_zeros(table.shape[1], n, n)
        for i, (y, x) in enumerate(places):
            for j, (v, u) in enumerate(places):
                down, right = y - v + height - 1, x - u + width - 1
                out[:, i, j] = table[down * (2 * width - 1) + right]
        return out

    def case(says, height, width, heads=1, **more):
        table = uniform((2 * height - 1) * (2 * width - 1), heads, **more)
        args = (table, height, width)
        return Case(says, args=args, expect=wanted(*args))

    ramp = torch.tensor([[1.0], [2.0], [3.0]])

    def trained(answer):
        table = uniform(9, 1).requires_grad_()
        out = answer(table, 2, 2)
        if not (isinstance(out, torch.Tensor) and out.requires_grad):
            raise Wrong("no gradient reaches the table: was it copied or detached?")
        out.sum().backward()
        counts = [1.0, 2, 1, 2, 4, 2, 1, 2, 1]
        if table.grad[:, 0].tolist() != counts:
            raise Wrong(
                f"in a window of 2 x 2 the nine distances count {counts} times; "
                f"the gradient says {table.grad[:, 0].tolist()}"
            )

    return [
        case("one token", 1, 1),
        Case("1 x 2", args=(ramp, 1, 2), expect=wanted(ramp, 1, 2)),
        Case("2 x 1", args=(ramp, 2, 1), expect=wanted(ramp, 2, 1)),
        case("2 x 2", 2, 2),
        case("2 x 3", 2, 3),
        case("3 x 2, two heads", 3, 2, 2),
        case("4 x 5, three heads, float32", 4, 5, 3, dtype=torch.float32),
        Case(
            "integers stay integers",
            args=(torch.arange(15)[:, None], 2, 3),
            expect=wanted(torch.arange(15)[:, None], 2, 3),
        ),
        Case("no heads", args=(torch.zeros(9, 0), 2, 2), expect=torch.zeros(0, 4, 4)),
        Case("too few rows", args=(ramp, 2, 2), expect=ValueError),
        Case("too many rows", args=(uniform(15, 1), 2, 2), expect=ValueError),
        Case("the table is trained", test=trained),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "29.rollout",
    hint="Begin with the identity, and let each layer's matrix read from what is there "
    "already. On which side must it be multiplied?",
)
def rollout() -> list[Case]:
    def tables(layers, heads, n, seed=0):
        return uniform(layers, heads, n, n, seed=seed).softmax(-1)

    def wanted(tables):
        n = tables.shape[-1]
        total = torch.eye(n, dtype=tables.dtype)
        for table in tables:
            step = torch.eye(n, dtype=tables.dtype) / 2
            for head in table:
                step = step + head / (2 * len(table))
            total = step @ total
        return total

    def case(says, given):
        return Case(says, args=(given,), expect=wanted(given), within=1e-6)

    swap = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])

    def rows(answer):
        sums = answer(tables(6, 2, 5, seed=4)).sum(1)
        if not torch.allclose(sums, torch.ones_like(sums)):
            raise Wrong(f"each row must add up to 1, got {sums.tolist()}")

    return [
        case("one token", torch.ones(1, 1, 1, 1)),
        case("two tokens change places", swap),
        case("one layer, one head", tables(1, 1, 3)),
        case("two heads", tables(1, 2, 3)),
        case("two layers", tables(2, 1, 3)),
        case("three layers, four heads", tables(3, 4, 5)),
        case("float32", tables(2, 2, 4, seed=2).float()),
        case("no layers", torch.zeros(0, 2, 3, 3, dtype=torch.float64)),
        Case("rows add up to 1", test=rows),
    ]


# --- 5 ------------------------------------------------------------------------


def _means(x: torch.Tensor, w: int, shift: int) -> torch.Tensor:
    """Means in shifted windows, token by token: borders lie at shift + k w."""
    height, width = x.shape
    out = torch.zeros_like(x)
    for i in range(height):
        for j in range(width):
            rows = [k for k in range(height) if (k - shift) // w == (i - shift) // w]
            columns = [k for k in range(width) if (k - shift) // w == (j - shift) // w]
            out[i, j] = x[rows][:, columns].mean()
    return out


@exercise(
    "29.window_mean",
    hint="Try a 4 x 4 picture of the numbers 0 to 15 with w = 2. Without a shift, "
    "which numbers does each window hold? And with a shift of 1?",
)
def window_mean() -> list[Case]:
    def case(says, x, w, shift):
        within = 1e-9 if x.dtype == torch.float64 else 1e-5
        expect = _means(x, w, shift)
        return Case(says, args=(x, w, shift), expect=expect, within=within)

    two = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    grid = torch.arange(16.0, dtype=torch.float64).view(4, 4)

    def trained(answer):
        x = uniform(4, 4).requires_grad_()
        out = answer(x, 2, 1)
        if not (isinstance(out, torch.Tensor) and out.requires_grad):
            raise Wrong("no gradient reaches x")
        out[0, 0].backward()
        if x.grad[-1].any() or x.grad[:, -1].any():
            raise Wrong("with a shift, the corner (0, 0) reads the other side")

    return [
        case("one number", two[:1, :1], 1, 0),
        case("one window", two, 2, 0),
        case("one window, shifted", two, 2, 1),
        case("windows of one", grid, 1, 0),
        case("four windows", grid, 2, 0),
        case("four windows, shifted", grid, 2, 1),
        case("a wide grid", uniform(2, 6), 2, 0),
        case("a wide grid, shifted", uniform(2, 6), 2, 1),
        case("windows of 3, shift 1", uniform(6, 9, seed=1), 3, 1),
        case("windows of 3, shift 2", uniform(6, 9, seed=1), 3, 2),
        case("windows of 4, shift 2", uniform(8, 8, seed=2), 4, 2),
        case("float32", uniform(4, 4, seed=3, dtype=torch.float32), 2, 1),
        case("not contiguous", uniform(6, 4, seed=4).T, 2, 1),
        case("large numbers on one side", grid * 1e6, 2, 1),
        Case("nothing is read from the other side", test=trained),
    ]
