"""Exercises of chapter 27, fine-tuning Mask R-CNN."""

import contextlib
import os
import tempfile
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from course_utils.checks.core import Case, Wrong, exercise

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


def _run(start: str, images: int, *points: tuple, seed: int = 0) -> dict:
    curve = [
        {"step": step, "bbox/AP": box, "segm/AP": round(box / 2, 4)}
        for step, box in points
    ]
    return {"start": start, "images": images, "seed": seed, "curve": curve}


@exercise(
    "27.steps_to_reach",
    hint="First keep the runs of that start and that number of images. Then look "
    "at one curve alone: which record is the first to reach the goal?",
)
def steps_to_reach() -> list[Case]:
    rising = _run("shapes", 120, (30, 0.25), (60, 0.5), (90, 0.75))
    slow = _run("shapes", 120, (30, 0.0), (60, 0.25), (90, 0.5), seed=1)
    dips = _run("shapes", 120, (30, 0.5), (60, 0.25), (90, 0.75), seed=2)
    ready = _run("shapes", 120, (0, 0.75), (30, 0.75), seed=3)
    few = _run("shapes", 8, (30, 0.5), (60, 0.75))
    other = _run("scratch", 120, (30, 0.75), (60, 0.75))

    def case(says, runs, expect, start="shapes", images=120, name="bbox/AP", goal=0.5):
        return Case(says, args=(runs, start, images, name, goal), expect=expect)

    return [
        case("no runs", [], []),
        case("one run", [rising], [60]),
        case("a goal that is met exactly", [rising], [30], goal=0.25),
        case("a goal that is missed by little", [rising], [60], goal=0.2501),
        case("a goal that is never met", [rising], [None], goal=0.9),
        case("two seeds", [rising, slow], [60, 90]),
        case("a curve that falls again: the first time counts", [dips], [30]),
        case("another start among them", [other, rising], [60]),
        case("another number of images among them", [few, rising], [60]),
        case("a larger number of images among them", [rising, few], [30], images=8),
        case("mask AP", [rising, slow], [60, 90], name="segm/AP", goal=0.25),
        case("one of three never", [rising, slow, dips], [90, None, 90], goal=0.75),
        case("the order of the list, not of the seeds", [slow, rising], [90, 60]),
        case("a goal that is met at step 0", [ready, rising], [0, 60]),
    ]


# --- 2 ------------------------------------------------------------------------


def _network() -> nn.Module:
    body = nn.Sequential(*[nn.Linear(2, 2) for _ in range(12)])
    neck = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2))
    return nn.ModuleDict({"body": body, "bodywork": nn.Linear(2, 3), "neck": neck})


def _freeze(says: str, prefixes: list[str], frozen: set[str], thawed=True) -> Case:
    def test(answer):
        model = _network()
        for name, parameter in model.named_parameters():
            # What was frozen before and is not named must train afterwards.
            parameter.requires_grad_(thawed or name not in ("bodywork.bias",))
        result = answer(model, list(prefixes))
        wrong = []
        for name, parameter in model.named_parameters():
            if parameter.requires_grad == (name in frozen):
                wrong.append(f"{name} {'trains' if name in frozen else 'is frozen'}")
        if wrong:
            raise Wrong(f"freeze(model, {prefixes}): {wrong[0]}; it should not")
        if result is None:
            raise Wrong("None was returned (does the function end with a return?)")
        sizes = {name: p.numel() for name, p in model.named_parameters()}
        off = sum(sizes[name] for name in frozen)
        right = (off, sum(sizes.values()) - off)
        try:
            got = tuple(int(value) for value in result)
        except (TypeError, ValueError):
            raise Wrong(f"a pair of numbers is wanted, got {result!r}") from None
        if got != right:
            raise Wrong(f"freeze(model, {prefixes}) must return {right}, got {got}")

    return Case(says, test=test)


@exercise(
    "27.freeze",
    hint="`named_parameters` gives full names. A parameter belongs to a prefix "
    "if its name is the prefix, or goes on after it with a dot.",
)
def freeze() -> list[Case]:
    def of(*modules):
        return {f"{m}.{part}" for m in modules for part in ("weight", "bias")}

    body = [f"body.{i}" for i in range(12)]
    return [
        _freeze("nothing to freeze", [], set()),
        _freeze("one layer", ["body.2"], of("body.2")),
        _freeze("body.1 is not body.10", ["body.1"], of("body.1")),
        _freeze("a module whose name begins alike", ["body"], of(*body)),
        _freeze(
            "a module whose layers lie one level deeper", ["neck.0"], of("neck.0.0")
        ),
        _freeze("two prefixes", ["body.0", "bodywork"], of("body.0", "bodywork")),
        _freeze(
            "one that names both a part and the whole", ["body", "body.3"], of(*body)
        ),
        _freeze("a parameter by its full name", ["body.4.bias"], {"body.4.bias"}),
        _freeze("what was frozen before trains again", ["body.5"], of("body.5"), False),
    ]


# --- 3 ------------------------------------------------------------------------


def _repaired(target: dict, height: int, width: int) -> dict:
    rows, kept = [], []
    for i, (x1, y1, x2, y2) in enumerate(target["boxes"].double().tolist()):
        x1, x2 = (min(max(v, 0), width) for v in (x1, x2))
        y1, y2 = (min(max(v, 0), height) for v in (y1, y2))
        if x1 < x2 and y1 < y2:
            rows.append([x1, y1, x2, y2])
            kept.append(i)
    return {
        "boxes": torch.tensor(rows, dtype=torch.float32).reshape(-1, 4),
        "labels": target["labels"][kept].to(torch.int64),
        "masks": (target["masks"][kept] != 0).to(torch.uint8),
    }


@exercise(
    "27.repair",
    hint="Cut first, then ask which boxes still have a width and a height. One "
    "mask of booleans picks boxes, labels and masks alike.",
)
def repair() -> list[Case]:
    def case(
        says,
        boxes,
        height=4,
        width=6,
        dtype=torch.float32,
        mask=torch.uint8,
        top=1,
        labels=torch.int64,
    ):
        boxes = torch.tensor(boxes, dtype=dtype).reshape(-1, 4)
        generator = torch.Generator().manual_seed(len(boxes))
        masks = torch.randint(2, (len(boxes), height, width), generator=generator)
        target = {
            "boxes": boxes,
            "labels": torch.arange(1, len(boxes) + 1).to(labels),
            "masks": (masks * top).to(mask),
        }
        args = (target, height, width)
        return Case(says, args=args, expect=_repaired(*args))

    inside = [1.0, 1, 3, 3]
    return [
        case("a good target", [inside]),
        case("a box that leaves at the right: x is cut to the width", [[4.0, 1, 9, 3]]),
        case("a box that leaves at the bottom", [[1.0, 2, 3, 9]]),
        case("a box that leaves at the left and above", [[-2.0, -1, 3, 3]]),
        case("a box without width", [inside, [2.0, 1, 2, 3]]),
        case("a box without height", [[2.0, 3, 4, 3], inside]),
        case("corners in the wrong order", [inside, [3.0, 1, 1, 3]]),
        case("both corners in the wrong order", [inside, [3.0, 3, 1, 1]]),
        case("a box half a pixel wide stays", [[1.0, 1, 1.5, 3], inside]),
        case("a box wholly outside", [[7.0, 1, 9, 3], inside]),
        case("nothing is left", [[7.0, 1, 9, 3]]),
        case("no objects", []),
        case("boxes in float16", [inside], dtype=torch.float16),
        case("whole numbers", [[0, 0, 6, 4]], dtype=torch.int64),
        case("labels in int32", [inside, inside], labels=torch.int32),
        case("masks as booleans", [inside], mask=torch.bool),
        case("masks of 0 and 255", [inside], top=255),
    ]


# --- 4 ------------------------------------------------------------------------


class Detector(nn.Module):
    """A stand-in: losses in training mode, detections in evaluation mode.

    It has two parameters, so that gradients clipped one by one are told from those
    clipped together.

    Args:
        third: the name of the third head's loss, of masks by default; None: no such
            head.
    """

    def __init__(self, third: str | None = "loss_mask") -> None:
        super().__init__()
        self.body = nn.Parameter(torch.tensor(1.0))
        self.head = nn.Parameter(torch.tensor(-2.0))
        self.third = third

    def forward(self, images, targets=None):
        if not self.training:
            return [{"scores": image.mean().reshape(1)} for image in images]
        if targets is None:
            raise AssertionError("targets should not be none when in training mode")
        x = torch.stack([image.mean() for image in images]).mean()
        u, v = self.body, self.head
        losses = {
            "loss_classifier": (u * x - 1) ** 2,
            "loss_box_reg": v**2,
            self.third: 3 * (v + x) ** 2,
            "loss_objectness": u**2 / 2,
            "loss_rpn_box_reg": (u - v) ** 2,
        }
        losses.pop(None, None)
        return losses


def _stepped(limit: float, third: bool, steps: int) -> tuple[list[float], list[float]]:
    """What right steps return and leave behind, on numbers."""
    u, v, x, out = 1.0, -2.0, 0.5, []
    a = 3 if third else 0
    for _ in range(steps):
        boxes = v**2 + u**2 / 2 + (u - v) ** 2
        out.append((u * x - 1) ** 2 + a * (v + x) ** 2 + boxes)
        du = 2 * x * (u * x - 1) + u + 2 * (u - v)
        dv = 2 * a * (v + x) + 2 * v - 2 * (u - v)
        scale = min(1.0, limit / ((du**2 + dv**2) ** 0.5 + 1e-6))
        u, v = u - 0.1 * scale * du, v - 0.1 * scale * dv
    return out, [u, v]


def _step(
    says: str, limit=100.0, training=True, stale=0.0, steps=1, third="loss_mask"
) -> Case:
    def test(answer):
        model = Detector(third).train(training)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if stale:
            for parameter in model.parameters():
                parameter.grad = torch.tensor(stale)
        images, targets = [torch.full((3, 2, 2), 0.5)], [{}]
        got = [answer(model, optimizer, images, targets, limit) for _ in range(steps)]
        losses, weights = _stepped(limit, third is not None, steps)
        if got[0] is None:
            raise Wrong("None was returned (does the function end with a return?)")
        if not all(type(value) in (float, int) for value in got):
            kind = type(got[0]).__name__
            raise Wrong(f"a Python number must be returned, got a {kind}")
        for number, (mine, right) in enumerate(zip(got, losses, strict=True), 1):
            if abs(mine - right) > 1e-4:
                raise Wrong(f"step {number} must return {right:.4f}, got {mine:.4f}")
        left = [parameter.item() for parameter in model.parameters()]
        if any(abs(a - b) > 1e-4 for a, b in zip(left, weights, strict=True)):
            shown = [round(v, 4) for v in left]
            right = [round(v, 4) for v in weights]
            raise Wrong(
                f"after {steps} step(s) the weights must be {right}, they are {shown}"
            )

    return Case(says, test=test)


@exercise(
    "27.fixed_step",
    hint="Go through the lines and ask what each needs from the lines before: in "
    "which mode the model is, which losses are added, whose gradients lie "
    "there, when they are clipped.",
)
def fixed_step() -> list[Case]:
    return [
        _step("one step, nothing to clip"),
        _step("right after an evaluation", training=False),
        _step("old gradients lie there", stale=5.0),
        _step("gradients to be clipped", limit=0.5),
        _step("clipped, with old gradients", limit=0.5, stale=-3.0),
        _step("a detector without masks has four losses", third=None),
        _step("a detector of keypoints names one otherwise", third="loss_keypoint"),
        _step("three steps", steps=3),
        _step("three clipped steps after an evaluation", 0.5, False, 2.0, 3),
    ]


# --- 5 ------------------------------------------------------------------------


def _map(masks, scores, threshold):
    ranked = sorted(
        (i for i, s in enumerate(scores.tolist()) if s >= threshold),
        key=lambda i: -scores[i].item(),
    )
    result = torch.zeros(masks.shape[1:], dtype=torch.int64)
    for number, i in enumerate(ranked, 1):
        result[(masks[i] > 0.5) & (result == 0)] = number
    return result


@exercise(
    "27.instance_map",
    hint="Sort the scores first. Then paint: from the last number down to 1, or "
    "from 1 up and only where nothing is painted yet.",
)
def instance_map() -> list[Case]:
    def case(says, masks, scores, threshold=0.5):
        if isinstance(masks, list):
            masks = torch.tensor(masks)
        scores = torch.tensor(scores, dtype=torch.float32)
        args = (masks, scores, threshold)
        return Case(says, args=args, expect=_map(*args))

    left, right = [[0.9, 0.8, 0.1]], [[0.2, 0.7, 0.9]]
    generator = torch.Generator().manual_seed(1)
    many = torch.rand(6, 5, 7, generator=generator)
    return [
        case("one person", [left], [0.9]),
        case("below the threshold", [left], [0.4]),
        case("exactly at the threshold", [left], [0.5]),
        case("exactly one half is not inside", [[[0.5, 0.6]]], [0.9]),
        case("two that overlap, best first", [left, right], [0.9, 0.8]),
        case("two that overlap, best last", [left, right], [0.6, 0.8]),
        case("equal scores", [left, right], [0.75, 0.75]),
        case("a gap: numbers without a hole", [left, right, right], [0.9, 0.1, 0.7]),
        case(
            "a person wholly hidden keeps the number",
            [left, [[0.8, 0.7, 0.2]], right],
            [0.9, 0.8, 0.7],
        ),
        case("no detections", torch.zeros(0, 2, 3), []),
        case("six of them", many, [0.6, 0.9, 0.2, 0.7, 0.95, 0.5]),
    ]


# --- 6 ------------------------------------------------------------------------


def _kept(file: Path) -> str:
    if not file.exists():
        return "nothing"
    try:
        return repr(torch.load(file, weights_only=True)["score"])
    except Exception as error:  # half a file has many kinds of errors
        return f"a file that cannot be loaded ({type(error).__name__})"


@contextlib.contextmanager
def _never_gone(file: Path):
    """Refuse what takes the file away, if only for a moment."""

    def watched(work):
        def call(path, *arguments, **options):
            if arguments and Path(os.fsdecode(arguments[0])) == file:
                beside = os.path.dirname(os.path.abspath(path))
                if os.path.exists(beside) and not file.parent.samefile(beside):
                    raise Wrong(
                        "the new file was moved here from another folder; on another "
                        "disk that is a copy, not one step: write beside the old one"
                    )
            if Path(os.fsdecode(path)) == file and file.exists():
                raise Wrong(
                    "the old file was taken away before the new one was in its place: "
                    "killed there, nothing is left; replace() does both in one step"
                )
            return work(path, *arguments, **options)

        return call

    with contextlib.ExitStack() as stack:
        for name in ("unlink", "remove", "rename", "replace"):
            stack.enter_context(mock.patch.object(os, name, watched(getattr(os, name))))
        yield


def _second_name(file: Path, name: Path) -> Path | None:
    """Another name for the same file, if there is one and its disk knows how."""
    try:
        os.link(file, name)
    except OSError:
        return None
    return name


def _keep(says: str, scores: list, kept: list[bool], final) -> Case:
    def test(answer):
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "models" / "best.pt"
            file.parent.mkdir()
            for number, (score, right) in enumerate(zip(scores, kept, strict=True), 1):
                state = {"weight": torch.full((2,), float(number))}
                old = _second_name(file, Path(name) / str(number))
                with _never_gone(file):
                    got = answer(state, score, file)
                if got is None:
                    raise Wrong("None was returned (is there a return?)")
                if bool(got) != right:
                    raise Wrong(f"scores {scores[:number]}: it must return {right}")
                if right and old and file.exists() and old.samefile(file):
                    raise Wrong(
                        "the old file itself was written into: killed half-way, it "
                        "would be half a file; write beside it and move"
                    )
            shown = _kept(file)
            if shown != repr(final) and not (final is None and shown == "nothing"):
                raise Wrong(f"scores {scores}: {final} must be kept, there is {shown}")
            if final is not None:
                content = torch.load(file, weights_only=True)
                place = 1 + max(i for i, keep in enumerate(kept) if keep)
                if set(content) != {"score", "state"} or not torch.equal(
                    content["state"]["weight"], torch.full((2,), float(place))
                ):
                    raise Wrong("the file must hold 'score', and the 'state' with it")
            _alone(file)

    return Case(says, test=test)


def _alone(file: Path) -> None:
    beside = sorted(p.name for p in file.parent.iterdir() if p != file)
    if beside:
        raise Wrong(f"besides the file there is {beside[0]}")


def _crash(says: str, first: bool) -> Case:
    def test(answer):
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "best.pt"
            if first:
                answer({"weight": torch.ones(2)}, 0.25, file)
            state = {"weight": torch.ones(5000), "bad": lambda: None}  # not to be saved
            try:
                answer(state, 0.75, file)
            except Exception:
                pass
            else:
                raise Wrong("torch.save failed, and no error was raised")
            shown = _kept(file)
            if shown != ("0.25" if first else "nothing"):
                was = "the old file with 0.25" if first else "no file"
                raise Wrong(
                    f"after a failed save there must be {was}, there is {shown}"
                )
            _alone(file)

    return Case(says, test=test)


@exercise(
    "27.keep_best",
    hint="Decide first whether to store at all; compare so that a NaN says no. "
    "Then `torch.save` goes to another name in the same folder.",
)
def keep_best() -> list[Case]:
    nan = float("nan")
    return [
        _keep("the first one", [0.5], [True], 0.5),
        _keep("a better one", [0.5, 0.75], [True, True], 0.75),
        _keep("a worse one", [0.5, 0.25], [True, False], 0.5),
        _keep("an equal one: the stored is not lower", [0.5, 0.5], [True, False], 0.5),
        _keep("a first score of 0", [0.0], [True], 0.0),
        _keep("negative scores", [-2.0, -1.0], [True, True], -1.0),
        _keep("NaN after a number", [0.5, nan], [True, False], 0.5),
        _keep("NaN first", [nan], [False], None),
        _crash("saving fails, nothing there yet", False),
        _crash("saving fails, the old file stays", True),
    ]
