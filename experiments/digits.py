"""Real pictures: handwritten digits, by three models, 20 and 200 a class.

One linear layer, the small convnet from scratch, and the same convnet from what it
learned on ``data/objects``.

    python -m experiments.digits            train all, write data/results/digits.json
    python -m experiments.digits --check    train each once, assert the bounds

The digits are MNIST's 10,000 test pictures, found through the environment variable
COURSE_REAL_DATA, a folder that holds ``mnist_t10k``; without them one line says SKIPPED
and why. One thread, on the CPU; seconds are CPU-seconds of the reference machine
(:mod:`benchmarks.yardstick`).
"""

import gzip
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.classification import convnet
from experiments import stored

__all__ = ["FLOORS", "HELD", "MODELS", "NUMBERS", "SEEDS", "main", "read", "train"]

SEEDS, NUMBERS = (0, 1, 2), (20, 200)
HELD = 500  # pictures of each digit that nothing is trained on
STEPS, BATCH = 320, 50
FLOORS = {("linear", 200): 0.85, ("convnet", 200): 0.95, ("objects", 20): 0.80}


def linear() -> nn.Module:
    """One layer from the pixels to the digits."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 10))


# With its peak rate.
MODELS = {
    "linear": (linear, 3e-3),
    "convnet": (lambda: convnet(10), 4e-3),
    "objects": (lambda: convnet(10, "objects"), 4e-3),
}


def read(
    folder: Path, each: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The first ``each`` pictures of every digit, and the last :data:`HELD`.

    Args:
        folder: that holds ``mnist_t10k``.
        each: pictures of a digit to train on, from 1 to 392: the 5 is there 892 times.

    Returns:
        Twice images (N, 3, 28, 28), floats from -0.5 to 0.5, and labels (N,), int64.

    Raises:
        ValueError: ``each`` is out of range, or the files do not hold what they should.
        FileNotFoundError: they are not there.
    """
    if not 1 <= each <= 392:
        raise ValueError(f"each must be from 1 to 392, got {each!r}")
    content = []
    for name, header in (("images-idx3", 16), ("labels-idx1", 8)):
        file = Path(folder) / "mnist_t10k" / f"t10k-{name}-ubyte.gz"
        with gzip.open(file) as stream:
            content.append(np.frombuffer(stream.read(), np.uint8, offset=header))
    sizes = [len(values) for values in content]
    if sizes != [10_000 * 28 * 28, 10_000]:
        raise ValueError(f"{folder}: 10,000 pictures of 28 x 28 expected, got {sizes}")
    images = torch.tensor(content[0]).view(-1, 1, 28, 28).expand(-1, 3, -1, -1)
    labels = torch.tensor(content[1]).long()
    first, last = [], []
    for digit in range(10):
        places = (labels == digit).nonzero().flatten()
        first.append(places[:each])
        last.append(places[-HELD:])
    parts = (torch.cat(first), torch.cat(last))
    known, held = ((images[part] / 255 - 0.5, labels[part]) for part in parts)
    return known, held


def train(folder: Path, name: str, each: int, seed: int, steps: int = STEPS) -> dict:
    """Train one of :data:`MODELS`.

    Args:
        folder: that holds ``mnist_t10k``.
        name: ``"linear"``, ``"convnet"`` or ``"objects"``.
        each: pictures of a digit to train on.
        seed: of the weights and the order of the pictures.
        steps: of training.

    Returns:
        ``model``, ``each``, ``seed``, ``train`` and ``held`` (shares of right answers)
        and ``seconds`` (CPU time of this process for training).

    Raises:
        ValueError: an unknown name, or ``each`` out of range.
    """
    if name not in MODELS:
        raise ValueError(f"name must be one of {tuple(MODELS)}, got {name!r}")
    (images, labels), held = read(folder, each)
    make, rate = MODELS[name]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)  # the weights of "objects" began with seed 0
        model = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    schedule = stored.one_cycle(optimizer, rate, steps)
    start = time.process_time()
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(images), (BATCH,), generator=generator)
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.process_time() - start
    found = {"model": name, "each": each, "seed": seed}
    found["train"] = stored.accuracy(model, images, labels)
    return found | {"held": stored.accuracy(model, *held), "seconds": seconds}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    chosen = stored.options(
        "digits", "Real handwritten digits.", "one seed, and the bounds", arguments
    )
    folder = os.environ.get("COURSE_REAL_DATA")
    if not folder or not (Path(folder) / "mnist_t10k").is_dir():
        why = f"no mnist_t10k in {folder}" if folder else "COURSE_REAL_DATA is not set"
        print(f"SKIPPED: {why}")
        return 0
    speed = stored.reference_speed()
    runs = []
    for seed in SEEDS[:1] if chosen.check else SEEDS:
        for each in NUMBERS:
            for name in MODELS:
                run = train(Path(folder), name, each, seed)
                run["seconds"] = round(run["seconds"] * speed, 1)
                runs.append(stored.significant(run))
                print(json.dumps(runs[-1]), flush=True)
    missed = [r for r in runs if r["held"] < FLOORS.get((r["model"], r["each"]), 0)]
    settings = {"steps": STEPS, "batch": BATCH, "held": 10 * HELD}
    return stored.store("digits", runs, missed, not chosen.check, **settings)


if __name__ == "__main__":
    sys.exit(main())
