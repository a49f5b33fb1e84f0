"""Chapter 16's losses against the library's, values and slopes, and that it bites.

The functions come out of the notebook. Cross entropy is tried on every combination of
its settings; all losses on empty, tiny, huge, strided and one-sample input, in float64
and float32, and on the stand-in device.
"""

import itertools
import math
import warnings

import pytest
import torch
from torch.nn import functional as F
from torchvision import ops

from booktools import chapter_code, notebook

CHAPTER = "16_losses"
NAMES = [
    *("log_sum_exp", "cross_entropy", "binary_cross_entropy", "focal", "one_hot"),
    *("kl_divergence", "hinge", "triplet", "dice", "stable", "tried", "LOSSES"),
]
OURS = chapter_code.definitions(CHAPTER, *NAMES)
WITHIN = {torch.float64: 1e-12, torch.float32: 4e-6}
DTYPES = pytest.mark.parametrize("dtype", WITHIN, ids=str)

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(*shape, seed=0, size=4.0):
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(shape, generator=generator, dtype=torch.float64)


def choose(*shape, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, classes, shape, generator=generator)


def with_slope(loss, logits, *args, **named):
    leaf = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    value = loss(leaf, *args, **named)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def agree(ours, theirs, within, sizes=(1.0, 1.0)):
    """Values and slopes are equal, but for what numbers of these sizes round."""
    for mine, library, size in zip(ours, theirs, sizes, strict=True):
        scale = max(1.0, size)
        assert mine.shape == library.shape and mine.dtype == library.dtype
        torch.testing.assert_close(
            mine, library, rtol=within, atol=within * scale, equal_nan=True
        )


def strided(x):
    """The same values in another memory order."""
    return x.transpose(0, -1).contiguous().transpose(0, -1)


# --- cross entropy -------------------------------------------------------------------

SHAPES = [(6, 4), (1, 4), (0, 4), (5, 1), (2, 4, 3, 5), (2, 4, 0, 5)]
INPUTS = {
    "plain": lambda x: x,
    "strided": strided,
    "tiny": lambda x: x * 1e-20,
    "huge": lambda x: x * 1e15,
    "a class that cannot be": lambda x: torch.where(x > 6, -math.inf, x),
}
WEIGHTS = (None, (1.0, 3.0, 0.5, 2.0), (0.0, 1.0, 1.0, 0.0))


@DTYPES
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cross_entropy_of_labels(shape, kind, dtype):
    logits = INPUTS[kind](draw(*shape)).to(dtype)
    labels = choose(shape[0], *shape[2:], classes=shape[1])
    some = labels.where(choose(*labels.shape, seed=1) > 0, -100)
    for target, weight, smoothing, reduction in itertools.product(
        (labels, some), WEIGHTS, (0.0, 0.1), ("mean", "sum", "none")
    ):
        if kind == "a class that cannot be" and smoothing:
            continue  # infinite or nan, by the order of additions
        if weight is not None:
            weight = torch.tensor(weight[: shape[1]], dtype=dtype)
            if smoothing and not weight[target[target >= 0]].sum():
                continue  # something divided by 0: ours is infinite, torch's nan
        named = {"label_smoothing": smoothing, "reduction": reduction}
        agree(
            with_slope(OURS.cross_entropy, logits, target, weight, **named),
            with_slope(F.cross_entropy, logits, target, weight, **named),
            WITHIN[dtype],
        )


@DTYPES
@pytest.mark.parametrize("kind", list(INPUTS)[:4])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cross_entropy_of_shares(shape, kind, dtype):
    logits = INPUTS[kind](draw(*shape)).to(dtype)
    shares = draw(*shape, seed=1).softmax(1).to(dtype)
    for weight, smoothing, reduction in itertools.product(
        WEIGHTS, (0.0, 0.1), ("mean", "sum", "none")
    ):
        if weight is not None:
            weight = torch.tensor(weight[: shape[1]], dtype=dtype)
        named = {"label_smoothing": smoothing, "reduction": reduction}
        agree(
            with_slope(OURS.cross_entropy, logits, shares, weight, **named),
            with_slope(F.cross_entropy, logits, shares, weight, **named),
            WITHIN[dtype],
        )


def test_cross_entropy_changes_no_input():
    logits, labels = draw(3, 4), torch.tensor([0, -100, 2])
    weight = torch.ones(4, dtype=torch.float64)
    before = logits.clone(), labels.clone(), weight.clone()
    OURS.cross_entropy(logits, labels, weight, label_smoothing=0.1)
    for kept, now in zip(before, (logits, labels, weight), strict=True):
        assert torch.equal(kept, now)


def test_cross_entropy_of_uint8_labels():
    logits, labels = draw(6, 4), choose(6)
    agree(
        with_slope(OURS.cross_entropy, logits, labels.byte()),
        with_slope(F.cross_entropy, logits, labels.byte()),
        1e-12,
    )


@pytest.mark.parametrize("gap", [0.0, 30.0, 1e4, 1e30, -1e30])
def test_stable_where_the_formula_breaks(gap):
    logits = torch.tensor([gap, 0.0, 0.0])
    agree(
        with_slope(OURS.stable, logits),
        with_slope(lambda z: F.cross_entropy(z[None], torch.tensor([0])), logits),
        1e-6,
    )


def test_log_sum_exp():
    for shape, dim in itertools.product(((3, 4), (2, 3, 4), (1, 1)), (0, 1, -1)):
        x = draw(*shape, size=300.0)
        agree(
            with_slope(OURS.log_sum_exp, x, dim),
            with_slope(torch.logsumexp, x, dim, keepdim=True),
            1e-12,
        )


# --- yes or no -----------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 4, 5), (0,), ()], ids=str)
@pytest.mark.parametrize("size", [0.0, 1.0, 30.0, 1e30])
def test_yes_or_no(shape, size, dtype):
    z = draw(*shape, size=size).to(dtype)
    hard = (draw(*shape, seed=1) > 1).to(dtype)
    soft = draw(*shape, seed=2).sigmoid().to(dtype)
    for target, weight in itertools.product((hard, soft), (1.0, 3.0, 99.0)):
        agree(
            with_slope(OURS.binary_cross_entropy, z, target, weight),
            with_slope(
                F.binary_cross_entropy_with_logits,
                z,
                target,
                pos_weight=torch.tensor(weight, dtype=dtype),
                reduction="none",
            ),
            WITHIN[dtype],
            (weight * size, weight),  # torch subtracts numbers of these sizes
        )


@DTYPES
@pytest.mark.parametrize("alpha", [-1, 0.0, 0.25, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("size", [0.0, 1.0, 30.0])
def test_focal(size, gamma, alpha, dtype):
    z = draw(40, 3, size=size).to(dtype)
    target = (draw(40, 3, seed=1) > 1).to(dtype)
    agree(
        with_slope(OURS.focal, z, target, alpha, gamma),
        with_slope(ops.sigmoid_focal_loss, z, target, alpha, gamma),
        WITHIN[dtype],
        (size, 1.0),
    )


# --- the others ----------------------------------------------------------------------


@DTYPES
def test_the_others(dtype):
    within = WITHIN[dtype]
    z, other, third = (draw(20, 5, seed=seed).to(dtype) for seed in range(3))
    labels = choose(20, classes=5)
    log_q, p = z.log_softmax(1), other.softmax(1)
    sparse = OURS.one_hot(labels, 5).to(dtype)
    for target in (p, sparse):
        agree(
            with_slope(OURS.kl_divergence, log_q, target),
            with_slope(F.kl_div, log_q, target, reduction="batchmean"),
            within,
        )
    for scale in (1e-10, 1.0, 1e20):
        agree(
            with_slope(OURS.hinge, scale * z, labels),
            with_slope(F.multi_margin_loss, scale * z, labels),
            within,
        )
    for margin in (0.1, 1.0, 10.0):
        agree(
            with_slope(OURS.triplet, z, other, third, margin),
            with_slope(F.triplet_margin_loss, z, other, third, margin),
            within,
        )


def test_triplet_of_equal_points_has_a_slope():
    z = torch.zeros(2, 3, dtype=torch.float64)
    agree(
        with_slope(OURS.triplet, z, z, z + 1, 3.0),
        with_slope(F.triplet_margin_loss, z, z, z + 1, 3.0),
        1e-12,
    )


def test_dice():
    mask = torch.zeros(2, 4, 4, dtype=torch.float64)
    mask[0, :2, :2] = 1  # the second mask is empty
    assert OURS.dice(mask, mask).item() == 0.0
    assert OURS.dice(mask[1:], mask[1:]).item() == 0.0
    half = mask.clone()
    half[0, 0] = 0  # two of four pixels: 1 - (2 * 2 + 1) / (2 + 4 + 1)
    assert math.isclose(OURS.dice(half[:1], mask[:1]).item(), 1 - 5 / 7)
    leaf = torch.full_like(mask, 0.5, requires_grad=True)
    OURS.dice(leaf, mask).backward()
    assert (leaf.grad[mask == 1] < 0).all() and (leaf.grad[mask == 0] > 0).all()


# --- it bites ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("counts = weight[target] * kept", "counts = kept.to(weight)"),
        ("counts = torch.ones_like(losses)", "counts = (target @ weight)"),
        ("even.where(kept, 0)", "even"),
        ("/ classes", "/ (classes - 1)"),
        ("logits - log_sum_exp(logits, 1)", "logits.softmax(1).log()"),
    ],
)
def test_a_changed_function_differs(right, wrong):
    source = next(
        "".join(cell.source)
        for cell in notebook.read(notebook.CHAPTERS / f"{CHAPTER}.ipynb").cells
        if "def cross_entropy(" in cell.source
    )
    assert right in source
    names = {"torch": torch, "log_sum_exp": OURS.log_sum_exp}
    exec(source.replace(right, wrong), names)
    logits, weight = draw(6, 4, size=300.0), torch.tensor([1.0, 3, 0.5, 2]).double()
    labels = choose(6).where(torch.arange(6) > 1, -100)
    different = False
    for target in (labels, draw(6, 4).softmax(1)):
        given = (logits, target, weight)
        theirs = F.cross_entropy(*given, label_smoothing=0.1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = names["cross_entropy"](*given, label_smoothing=0.1)
        different |= not torch.allclose(ours, theirs)
    assert different


# --- the table -----------------------------------------------------------------------


def test_tried_tells_what_happened():
    tried = OURS.tried
    two = torch.zeros(2, 3)
    assert tried(F.cross_entropy, two, torch.tensor([0, 2])) == "ok"
    assert tried(F.cross_entropy, two, torch.tensor([0, 3])) == "Index"
    assert tried(F.cross_entropy, two, torch.tensor([0, 1], dtype=torch.int32)) == (
        "Runtime"
    )
    assert tried(F.binary_cross_entropy, two, torch.zeros(2)) == "Value"
    assert tried(F.mse_loss, torch.zeros(8, 1), torch.zeros(8)) == "warns"
    assert all(callable(loss) for loss, _ in OURS.LOSSES.values())
