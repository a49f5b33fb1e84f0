"""Five ways to use ImageNet's MobileNetV2 on ``data/objects``, and one without it.

    python -m experiments.transfer            write data/results/transfer.json
    python -m experiments.transfer --check    one seed, 20 pictures a class

With 2, 5, 20 and 100 pictures of each of the twelve kinds, three seeds each; a seed
chooses the pictures, the new layers and the order. Pictures stay 64 x 64 pixels. What
trains more than a head takes :data:`STEPS` of 16 pictures, half of them mirrored, by
AdamW with one cycle. The first parts of the body, before :data:`FIRST`, stay as they
are in every run: they hold 1 % of its weights and cost half of the time, and what they
give is computed once. ``"scratch"`` is the small network of
:mod:`course_utils.classification`; all of its weights train. Shares of right answers
are those of the 360 pictures of ``val``, after the last step. One thread, on the CPU.
Seconds are CPU-seconds of the reference machine (:mod:`benchmarks.yardstick`).
"""

import json
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from course_utils import classification, weights
from course_utils.datasets import objects
from experiments import stored

__all__ = [
    "CUT",
    "EACH",
    "FIRST",
    "METHODS",
    "RATES",
    "STEPS",
    "main",
    "network",
    "probe",
    "run",
    "train",
]

METHODS = ("nearest", "probe", "scratch", "last", "two rates", "probe, then all")
EACH, SEEDS = (2, 5, 20, 100), (1, 2, 3)
STEPS, BATCH = {2: 8, 5: 16, 20: 40, 100: 40}, 16
FIRST, CUT = 4, 14  # parts of the body that train: from here on; for "last" from CUT
RATES = {  # of the body and of the head
    "scratch": (0.004,),
    "last": (0.001, 0.01),
    "two rates": (0.001, 0.01),
    "probe, then all": (0.001, 0.001),
}
GAP = 0.2  # between the probe and the net from scratch, 20 pictures a class
CENTER, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FAST = torch.channels_last  # the order in memory that takes less time here


def prepared(images: Tensor) -> Tensor:
    """Bytes (N, 3, H, W) as the weights expect them: ImageNet's mean and spread."""
    center, spread = (
        images.new_tensor(v, dtype=torch.float32)[:, None, None]
        for v in (CENTER, SPREAD)
    )
    return ((images / 255 - center) / spread).contiguous(memory_format=FAST)


def network(classes: int, seed: int) -> nn.Module:
    """MobileNetV2 with ImageNet's weights and a new linear layer, without dropout."""
    weights.ensure()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.mobilenet_v2(weights=models.MobileNet_V2_Weights.IMAGENET1K_V1)
        model.classifier = nn.Linear(model.last_channel, classes)
    return model.to(memory_format=FAST)


@torch.no_grad()
def cached(body: nn.Sequential, images: Tensor) -> dict[int, Tensor]:
    """What goes into the parts FIRST and CUT, and the means of the last maps.

    Args:
        body: in evaluation mode afterwards.
        images: bytes, (N, 3, H, W).

    Returns:
        Under :data:`FIRST` and :data:`CUT` the maps, and under ``len(body)`` the
        features, (N, C).
    """
    body.eval()
    found: dict[int, list[Tensor]] = {FIRST: [], CUT: [], len(body): []}
    for part in images.split(100):
        x = prepared(part)
        for k, layer in enumerate(body):
            if k in found:
                found[k].append(x)
            x = layer(x)
        found[len(body)].append(x.mean((2, 3)))
    return {k: torch.cat(parts) for k, parts in found.items()}


def probe(known: Tensor, labels: Tensor, head: nn.Linear, steps: int = 100) -> None:
    """Train ``head`` in place on features, all of them in each step."""
    optimizer = torch.optim.AdamW(head.parameters(), 0.003)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(head(known), labels).backward()
        optimizer.step()


def pick(seed: int, each: int, of: int, classes: int) -> Tensor:
    """Rows of ``each`` pictures of each class, where a class has ``of`` rows."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(of, generator=generator)[:each] for _ in range(classes)]
    return torch.cat([k * of + part for k, part in enumerate(rows)])


def train(
    parts: Sequence[nn.Module],
    rates: Sequence[float],
    score: Callable[[Tensor], Tensor],
    both: Sequence[Tensor],
    labels: Tensor,
    steps: int,
    seed: int,
) -> None:
    """Train the parts, each with its rate; ``both``: the inputs, and mirrored."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW([{"params": part.parameters()} for part in parts])
    schedule = stored.one_cycle(optimizer, list(rates), steps)
    queue: list[int] = []
    for _ in range(steps):
        while len(queue) < BATCH:
            queue += torch.randperm(len(labels), generator=generator).tolist()
        rows, queue = queue[:BATCH], queue[BATCH:]
        mirrored = torch.rand(BATCH, generator=generator) < 0.5
        batch = torch.where(mirrored[:, None, None, None], both[1][rows], both[0][rows])
        optimizer.zero_grad()
        F.cross_entropy(score(batch), labels[rows]).backward()
        optimizer.step()
        schedule.step()


def run(
    method: str,
    each: int,
    seed: int,
    images: dict[str, Tensor],
    known: dict[str, dict[int, Tensor]],
    steps: int | None = None,
) -> dict:
    """One entry of the table.

    Args:
        method: one of :data:`METHODS`.
        each: pictures of each class.
        seed: of the pictures, the new layers and the order.
        images: bytes, of ``train`` and ``val``: as many of each class, class by class.
        known: what :func:`cached` gives for ``train``, ``mirrored`` and ``val``.
        steps: default: :data:`STEPS`.

    Returns:
        ``method``, ``each``, ``seed``, ``val`` (share of right answers) and
        ``seconds`` (CPU time of this process, without :func:`cached`).

    Raises:
        ValueError: an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    classes = len(objects.CLASSES)
    of = {split: len(images[split]) // classes for split in ("train", "val")}
    y, answers = (torch.arange(classes).repeat_interleave(n) for n in of.values())
    rows = pick(seed, each, of["train"], classes)
    steps = STEPS[each] if steps is None else steps
    start = time.process_time()
    model = network(classes, seed)
    body, head = model.features, model.classifier
    features = {split: known[split][len(body)] for split in of}
    if method == "nearest":
        one, other = (F.normalize(means, dim=1) for means in features.values())
        right = y[rows][(other @ one[rows].T).argmax(1)] == answers
        val = right.double().mean().item()
    elif method == "scratch":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = classification.convnet()
        x, held = (classification.normalize(images[split]) for split in of)
        both = [x[rows], x[rows].flip(3)]
        train([net], RATES[method], net, both, y[rows], steps, seed)
        val = stored.accuracy(net, held, answers)
    else:
        if method.startswith("probe"):
            probe(features["train"][rows], y[rows], head)
        if method == "probe":
            val = stored.accuracy(head, features["val"], answers)
        else:
            cut = CUT if method == "last" else FIRST
            pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            net = nn.Sequential(body[cut:], pool, head).train()
            both = [known[side][cut][rows] for side in ("train", "mirrored")]
            parts, rates = [body[cut:], head], RATES[method]
            train(parts, rates, net, both, y[rows], steps, seed)
            val = stored.accuracy(net, known["val"][cut], answers)
    seconds = time.process_time() - start
    return {
        "method": method,
        "each": each,
        "seed": seed,
        "val": val,
        "seconds": seconds,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    chosen = stored.options(
        "transfer",
        "Five ways to use pretrained weights.",
        "one seed, 20 pictures a class, and the gap",
        arguments,
    )
    stored.reference_speed()
    images = {split: objects.load(split)[0] for split in ("train", "val")}
    body = network(1, 0).features
    start = time.process_time()
    known = {split: cached(body, x) for split, x in images.items()}
    spent = (time.process_time() - start) * stored.reference_speed()
    known["mirrored"] = cached(body, images["train"].flip(3))
    runs = []
    for seed in SEEDS[:1] if chosen.check else SEEDS:
        speed = stored.reference_speed()
        for each in (20,) if chosen.check else EACH:
            for method in METHODS[:3] if chosen.check else METHODS:
                one = run(method, each, seed, images, known)
                one["seconds"] = round(one["seconds"] * speed, 2)
                runs.append(stored.significant(one))
                print(json.dumps(runs[-1]), flush=True)
    right = {(r["method"], r["each"], r["seed"]): r["val"] for r in runs}
    missed = [
        (seed, each)
        for method, each, seed in right
        if method == "probe"
        and each == 20
        and right["probe", each, seed] - right["scratch", each, seed] < GAP
    ]
    return stored.store(
        "transfer",
        runs,
        missed,
        not chosen.check,
        seeds=sorted({r["seed"] for r in runs}),
        steps=STEPS,
        first=FIRST,
        batch=BATCH,
        rates=RATES,
        cut=CUT,
        features_seconds=round(spent, 1),
    )


if __name__ == "__main__":
    sys.exit(main())
