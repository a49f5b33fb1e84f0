"""Scratch against transfer on the real photographs of ants and bees, three seeds.

    python -m experiments.transfer_photos            train, write the result
    python -m experiments.transfer_photos --check    the same, and write nothing

The result is ``data/results/transfer_photos.json``: shares of right answers, and
nothing else. The photographs are found through the environment variable
COURSE_REAL_DATA, a folder that holds hymenoptera_data; without them one line says
SKIPPED and why. They are prepared as ImageNet's weights expect them, 224 x 224 pixels;
``"scratch"``, the small network of :mod:`course_utils.classification`, sees them at
64 x 64. Nothing is chosen by a look at ``val``: each share is that after the last step.
One thread, on the CPU. Seconds are CPU-seconds of the reference machine
(:mod:`benchmarks.yardstick`).
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models

from course_utils import classification
from experiments import stored, transfer

__all__ = ["FLOOR", "LIMIT", "METHODS", "SEEDS", "main", "photographs", "read"]

METHODS = ("scratch", "nearest", "probe", "last")
CLASSES, SEEDS = ("ants", "bees"), (1, 2, 3)
STEPS = {"scratch": 80, "last": 30}
FLOOR, GAP, LIMIT = 0.85, 0.1, 300.0  # of the probe; above scratch; seconds in all


def photographs() -> Path:
    """The folder of the photographs; FileNotFoundError says why there is none."""
    folder = os.environ.get("COURSE_REAL_DATA")
    if not folder:
        raise FileNotFoundError("COURSE_REAL_DATA is not set")
    root = Path(folder, "hymenoptera_data")
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}")
    return root


def read(root: Path, split: str) -> tuple[Tensor, Tensor]:
    """A split's photographs, (N, 3, 224, 224), prepared, and labels, (N,).

    Raises:
        ValueError: a class has no photographs.
    """
    prepare = models.MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    images, labels = [], []
    for label, name in enumerate(CLASSES):
        files = sorted((root / split / name).glob("*.jpg"))
        if not files:
            raise ValueError(f"no photographs in {root / split / name}")
        for file in files:
            with Image.open(file) as picture:
                pixels = torch.from_numpy(np.array(picture.convert("RGB")))
            images.append(prepare(pixels.permute(2, 0, 1)))
            labels.append(label)
    return torch.stack(images), torch.tensor(labels)


def _small(x: Tensor) -> Tensor:
    """As the small network takes them: 64 x 64, from -0.5 to 0.5."""
    center, spread = (
        torch.tensor(v)[:, None, None] for v in (transfer.CENTER, transfer.SPREAD)
    )
    x = F.interpolate(x * spread + center, size=(64, 64), mode="area")
    return classification.normalize(x)


@torch.no_grad()
def _known(body: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """What goes into the last parts, and the features."""
    body.eval()
    x = x.contiguous(memory_format=torch.channels_last)
    maps = torch.cat([body[: transfer.CUT](part) for part in x.split(20)])
    last = [body[transfer.CUT :](part).mean((2, 3)) for part in maps.split(20)]
    return maps, torch.cat(last)


def run(method: str, seed: int, data: dict[str, tuple]) -> float:
    """The share of right answers on ``val``.

    Args:
        method: one of :data:`METHODS`.
        seed: of the new layers and the order.
        data: for ``train``, ``mirrored`` and ``val``: photographs at 64 x 64, maps,
            features and labels.

    Raises:
        ValueError: an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    small, maps, features, answers = data["val"]
    _, _, known, y = data["train"]
    if method == "nearest":
        similar = F.normalize(features, dim=1) @ F.normalize(known, dim=1).T
        return (y[similar.argmax(1)] == answers).double().mean().item()
    model = transfer.network(len(CLASSES), seed)
    head, body = model.classifier, model.features
    if method == "probe":
        transfer.probe(known, y, head)
        return stored.accuracy(head, features, answers)
    if method == "scratch":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = classification.convnet(len(CLASSES))
        parts: list[nn.Module] = [net]
        seen, held = 0, small
    else:
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        net = nn.Sequential(body[transfer.CUT :], pool, head).train()
        parts = [body[transfer.CUT :], head]
        seen, held = 1, maps
    both = [data[side][seen] for side in ("train", "mirrored")]
    rates = transfer.RATES[method]
    transfer.train(parts, rates, net, both, y, STEPS[method], seed)
    return stored.accuracy(net, held, answers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    chosen = stored.options(
        "transfer_photos",
        "Scratch against transfer on photographs.",
        "write nothing",
        arguments,
    )
    try:
        root = photographs()
    except FileNotFoundError as error:
        print(f"SKIPPED transfer on real photographs: {error}")
        return 0
    speed = stored.reference_speed()
    start = time.process_time()
    body = transfer.network(len(CLASSES), 0).features
    data, counts = {}, {}
    for split in ("train", "val"):
        x, y = read(root, split)
        counts[split] = len(x)
        data[split] = (_small(x), *_known(body, x), y)
        if split == "train":
            data["mirrored"] = (_small(x.flip(3)), *_known(body, x.flip(3)), y)
    runs = []
    for seed in SEEDS:
        for method in METHODS:
            share = run(method, seed, data)
            runs.append({"method": method, "seed": seed, "val": round(share, 4)})
            print(json.dumps(runs[-1]), flush=True)
    speed = (speed + stored.reference_speed()) / 2
    seconds = round((time.process_time() - start) * speed, 1)
    right = {(r["method"], r["seed"]): r["val"] for r in runs}
    missed = [
        (method, seed, right[method, seed])
        for method in ("probe", "last")
        for seed in SEEDS
        if right[method, seed] < max(FLOOR, right["scratch", seed] + GAP)
    ]
    if seconds > LIMIT:
        missed.append(f"{seconds} s")
    print(f"{seconds} reference seconds")
    more = {"seeds": list(SEEDS), "counts": counts, "steps": STEPS, "seconds": seconds}
    return stored.store("transfer_photos", runs, missed, not chosen.check, **more)


if __name__ == "__main__":
    sys.exit(main())
