"""Exercises of chapter 16, losses."""

import math
import weakref

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from course_utils.checks.core import Case, Wrong, difference, exercise
from course_utils.checks.samples import uniform
from course_utils.checks.watch import Watch, by_hand

__all__: list[str] = []


def _labels(*shape: int, classes: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, classes, shape, generator=generator)


def _double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


WEIGHT = _double(1.0, 3.0, 0.5, 2.0)


# --- 1 ------------------------------------------------------------------------


@exercise(
    "16.constant_loss",
    hint="Count how often each class occurs, and divide by the number of labels. A "
    "sample of a class with share p costs -log p; how many such samples are there?",
)
def constant_loss() -> list[Case]:
    def case(says, labels, expect):
        return Case(says, args=(torch.tensor(labels),), expect=expect, within=1e-6)

    return [
        case("one class only", [3], 0.0),
        case("two classes, equally often", [0, 1], math.log(2)),
        case(
            "three to one",
            [0, 0, 0, 1],
            -0.75 * math.log(0.75) - 0.25 * math.log(0.25),
        ),
        case("class 0 is missing", [1, 2, 2, 1], math.log(2)),
        case("gaps between the classes", [7, 255, 7, 7, 19, 255], 1.0114042647073518),
        case("a picture of labels", [[[0, 1], [2, 3]]], math.log(4)),
        Case(
            "uint8, as a file holds them",
            args=(torch.tensor([0, 0, 255, 255], dtype=torch.uint8),),
            expect=math.log(2),
        ),
        Case(
            "three hundred of one class",
            args=(torch.zeros(300, dtype=torch.uint8),),
            expect=0.0,
        ),
        Case(
            "many labels",
            args=(torch.arange(100_000) % 10,),
            expect=math.log(10),
        ),
        Case(
            "no labels",
            args=(torch.zeros(0, dtype=torch.int64),),
            expect=ValueError,
        ),
        Case("a plain float", test=_plain_float),
    ]


def _plain_float(answer) -> None:
    got = answer(torch.tensor([0, 1]))
    if type(got) is not float:
        raise Wrong(f"a Python float is wanted, got {type(got).__name__}")


# --- 2 ------------------------------------------------------------------------


@exercise(
    "16.dataset_loss",
    hint='`reduction="sum"` gives the weighted sum of a batch. What does the mean of '
    "the whole divide by, and what does each batch add to that?",
)
def dataset_loss() -> list[Case]:
    logits = uniform(9, 4, low=-3, high=3)
    labels = _labels(9)
    ignored = labels.where(torch.arange(9) % 3 != 1, -100)
    none_left = labels.where(torch.arange(9) > 3, -100)

    def run(answer, logits, labels, sizes, weight):
        def batches():
            yield from zip(logits.split(sizes), labels.split(sizes), strict=True)

        return answer(batches(), weight)

    def case(says, labels, sizes, weight=WEIGHT, logits=logits):
        def test(answer):
            expect = F.cross_entropy(logits, labels, weight).item()
            got = run(answer, logits.clone(), labels.clone(), sizes, weight.clone())
            why = difference(got, expect, 1e-6)
            if type(got) is not float:
                raise Wrong(f"a Python float is wanted, got {got!r}")
            if why:
                raise Wrong(
                    f"batches of {sizes}, labels {labels.tolist()}, weights "
                    f"{weight.tolist()}: expected {expect:.6f}, got {got:.6f}"
                )

        return Case(says, test=test)

    def nothing(answer):
        got = run(answer, logits, torch.full((9,), -100), [5, 4], WEIGHT)
        if not (isinstance(got, float) and math.isnan(got)):
            raise Wrong(f"every label is -100: expected nan, got {got!r}")

    def no_weight(answer):
        weight = _double(0.0, 1, 2, 3)
        got = run(answer, logits, torch.zeros(9, dtype=torch.int64), [5, 4], weight)
        if not (isinstance(got, float) and math.isnan(got)):
            raise Wrong(f"every label has weight 0: expected nan, got {got!r}")

    def no_batches(answer):
        got = answer(iter([]), WEIGHT)
        if not (isinstance(got, float) and math.isnan(got)):
            raise Wrong(f"no batches: expected nan, got {got!r}")

    def not_kept(answer):
        given, most = [], 0

        def batches():
            nonlocal most
            for seed in range(20):
                batch = uniform(2, 4, seed=seed)
                given.append(weakref.ref(batch))
                most = max(most, sum(ref() is not None for ref in given))
                yield batch, _labels(2)
                del batch

        answer(batches(), WEIGHT)
        if most > 6:
            raise Wrong(
                f"up to {most} batches of 20 were alive at once: they must not be kept"
            )

    ones = torch.ones(4, dtype=torch.float64)
    return [
        case("one batch", labels, [9], ones),
        case("two equal batches", labels[:8], [4, 4], ones, logits[:8]),
        case("a smaller last batch", labels, [8, 1], ones),
        case("weights", labels, [9]),
        case("weights, unequal batches", labels, [4, 4, 1]),
        case("ignored labels", ignored, [4, 4, 1]),
        case("a batch with nothing to count", none_left, [4, 5]),
        case("an empty batch", labels, [4, 0, 5]),
        case("a class of weight 0", labels, [5, 4], _double(0.0, 1, 2, 3)),
        Case("nothing counts at all", test=nothing),
        Case("only labels of weight 0", test=no_weight),
        Case("no batches", test=no_batches),
        Case("batches are not kept", test=not_kept),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "16.fixed_loss",
    hint="Ask of each line what this chapter shows: which axis holds the classes, what "
    "happens at large logits, what the mean divides by. And who owns `labels`?",
)
def fixed_loss() -> list[Case]:
    refused = ("cross_entropy", "nll_loss", "cross_entropy_loss", "nll_loss2d")
    refused += ("nll_loss_nd", "linear_cross_entropy")
    logits = uniform(2, 3, 4, 5, low=-3, high=3)
    labels = _labels(2, 4, 5, classes=3)
    unknown = labels.clone()
    unknown[0, 1] = 255
    unknown[1, :, 2] = 255
    weight = _double(1.0, 4.0, 0.5)
    ones = torch.ones(3, dtype=torch.float64)

    def case(says, logits, labels, weight):
        def test(answer):
            expect = F.cross_entropy(logits, labels, weight, ignore_index=255).item()
            given = labels.clone()
            with Watch(*refused):
                got = answer(logits, given, weight.clone())
            if not isinstance(got, torch.Tensor) or got.dim():
                raise Wrong(f"the loss is a tensor without dimensions, got {got!r}")
            if difference(got.item(), expect, 1e-5):
                raise Wrong(
                    f"logits {tuple(logits.shape)}, labels {labels.tolist()}, weights "
                    f"{weight.tolist()}: expected {expect:.6f}, got {got.item():.6f}"
                )
            if not torch.equal(given, labels):
                raise Wrong(
                    f"the labels of the caller were changed: {labels.tolist()} became "
                    f"{given.tolist()}"
                )

        return Case(says, test=test)

    def gradient(answer):
        leaves = [logits.clone().requires_grad_() for _ in range(2)]
        answer(leaves[0], unknown.clone(), weight).backward()
        F.cross_entropy(leaves[1], unknown, weight, ignore_index=255).backward()
        if leaves[0].grad is None:
            raise Wrong("no gradient reaches the logits")
        why = difference(leaves[0].grad, leaves[1].grad, 1e-5)
        if why:
            raise Wrong(f"the slope of the logits: {why}")

    def nothing_known(answer):
        got = answer(logits.clone(), torch.full((2, 4, 5), 255), weight.clone())
        if not (isinstance(got, torch.Tensor) and got.dim() == 0 and got.isnan()):
            raise Wrong(f"no pixel is known: torch's mean is nan, got {got!r}")

    huge = torch.zeros(1, 3, 1, 2)
    huge[0, 0, 0, 0], huge[0, 1, 0, 1] = 1000.0, -1000.0
    return [
        case("one pixel", logits[:1, :, :1, :1], labels[:1, :1, :1], ones),
        case("two pixels, axes", logits[:1, :, :1, :2], labels[:1, :1, :2], ones),
        case("two pictures", logits, labels, ones),
        case("unknown pixels", logits, unknown, ones),
        Case("no pixel is known", test=nothing_known),
        case("weights", logits[:1, :, :1, :2], torch.tensor([[[0, 1]]]), weight),
        case("weights, unknown pixels", logits, unknown, weight),
        case("logits of a thousand", huge, torch.tensor([[[1, 1]]]), torch.ones(3)),
        case(
            "another memory order",
            logits.to(memory_format=torch.channels_last),
            labels.mT.contiguous().mT,
            weight,
        ),
        Case("the slope", test=gradient),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "16.ce_backward",
    hint="Write the loss of a row as a sum of weights times -log p. The slope of "
    "-log p_c in the logits is softmax minus the one-hot row of c.",
)
def ce_backward() -> list[Case]:
    logits = uniform(6, 4, low=-3, high=3)
    labels = _labels(6)
    ignored = labels.where(torch.arange(6) % 3 != 1, -100)
    ones = torch.ones(4, dtype=torch.float64)

    def case(says, logits, labels, weight, smoothing, within=1e-6):
        leaf = logits.clone().requires_grad_()
        with torch.enable_grad():
            loss = F.cross_entropy(leaf, labels, weight, label_smoothing=smoothing)
            (expect,) = torch.autograd.grad(loss, leaf)

        def test(answer):
            given = [t.clone() for t in (logits, labels, weight)]
            with by_hand():
                got = answer(*given, smoothing)
            why = difference(got, expect, within)
            if why:
                raise Wrong(
                    f"logits {_short(logits)}, labels {labels.tolist()}, weights "
                    f"{weight.tolist()}, smoothing {smoothing}:\n"
                    f"expected {_short(expect)}\n{why}"
                )
            for before, after in zip((logits, labels, weight), given, strict=True):
                if not torch.equal(before, after):
                    raise Wrong("an input was changed on the way")

        return Case(says, test=test)

    return [
        case("one row", torch.zeros(1, 2).double(), torch.tensor([0]), ones[:2], 0.0),
        case("six rows", logits, labels, ones, 0.0),
        case("weights", logits, labels, WEIGHT, 0.0),
        case("ignored rows", logits, ignored, ones, 0.0),
        case("weights, ignored rows", logits, ignored, WEIGHT, 0.0),
        case("smoothing", logits[:2], labels[:2], ones, 0.1),
        case("smoothing, ignored rows", logits, ignored, ones, 0.3),
        case("smoothing, weights", logits, labels, WEIGHT, 0.3),
        case("everything", logits, ignored, WEIGHT, 0.1),
        case("large logits", 400 * logits, ignored, WEIGHT, 0.1),
        case("float32", logits.float(), ignored, WEIGHT.float(), 0.1, 1e-5),
    ]


def _short(values: torch.Tensor) -> str:
    rows = [[round(v, 4) for v in row] for row in values[:2].tolist()]
    return str(rows)[:-1] + (", ...]" if len(values) > 2 else "]")


# --- 5 ------------------------------------------------------------------------


@exercise(
    "16.chunked_loss",
    hint="The loss needs two numbers for each sample: log-sum-exp over all classes, "
    "and the label's logit. `torch.logaddexp(a, b)` joins two parts of the first.",
)
def chunked_loss() -> list[Case]:
    def case(says, samples, width, classes, size, scale=1.0, labels=None, dtype=None):
        def test(answer):
            features = scale * uniform(samples, width, dtype=dtype or torch.float64)
            matrix = uniform(classes, width, seed=1, dtype=dtype or torch.float64)
            target = _labels(samples, classes=classes) if labels is None else labels
            expect = F.cross_entropy(features @ matrix.T, target)
            got = answer(features, matrix, target, size)
            why = difference(got, expect, 1e-4 if dtype else 1e-6)
            if why:
                raise Wrong(
                    f"{samples} samples, {classes} classes, {size} at a time, labels "
                    f"{target[:8].tolist()}: expected {expect.item():.6f}; {why}"
                )

        return Case(says, test=test)

    def memory(answer):
        features, matrix = uniform(50, 4), uniform(1000, 4, seed=1)
        labels = _labels(50, classes=1000)
        with Watch() as watch:
            answer(features, matrix, labels, 80)
        if watch.largest > 50 * 80:  # as many as the matrix has, which may be a view
            raise Wrong(
                f"50 samples, 1000 classes, 80 at a time: a tensor of {watch.largest} "
                f"elements was made; at most {50 * 80} are allowed"
            )

    def total_memory(answer):
        """Logits kept in pieces are the whole table, too."""
        features, matrix = uniform(50, 4), uniform(1000, 4, seed=1)
        labels, keep = _labels(50, classes=1000), _Alive()
        with keep, torch.no_grad():
            answer(features, matrix, labels, 16)
        if keep.most > 10:
            raise Wrong(
                f"50 samples, 1000 classes, 16 at a time: {keep.most} of 63 pieces of "
                "logits were alive at once; drop each before the next"
            )

    def gradient(answer):
        sides = []
        for loss in (
            lambda f, m, t: answer(f, m, t, 4),
            lambda f, m, t: F.cross_entropy(f @ m.T, t),
        ):
            f = uniform(5, 3).requires_grad_()
            m = uniform(10, 3, seed=1).requires_grad_()
            loss(f, m, _labels(5, classes=10)).backward()
            if f.grad is None or m.grad is None:
                raise Wrong("no gradient reaches features and matrix")
            sides.append([f.grad, m.grad])
        why = difference(*sides, 1e-6)
        if why:
            raise Wrong(f"the slopes of features and matrix: {why}")

    first, last = torch.tensor([0, 3, 4, 7]), torch.tensor([9, 9, 8, 9])
    return [
        case("one piece", 2, 2, 3, 3),
        case("two equal pieces", 4, 3, 8, 4),
        case("the last piece is smaller", 4, 3, 10, 4),
        case("labels at the edges of a piece", 4, 3, 10, 4, labels=first),
        case("labels in the last piece", 4, 3, 10, 4, labels=last),
        case("fewer classes than a piece", 4, 3, 5, 64),
        case("logits of a thousand", 6, 4, 20, 7, scale=1000.0),
        case("logits far below zero", 6, 1, 20, 7, scale=-1000.0),
        case("float32", 6, 4, 20, 7, dtype=torch.float32),
        Case("no large tensor", test=memory),
        Case("no pieces are kept", test=total_memory),
        Case("the slope", test=gradient),
    ]


class _Alive(TorchFunctionMode):
    """Counts the products that are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list = []
        self.most = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.numel() >= 50 * 8:
            self.held = [ref for ref in self.held if ref() is not None]
            self.held.append(weakref.ref(result))
            self.most = max(self.most, len(self.held))
        return result
