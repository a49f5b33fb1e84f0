"""How hard ``data/objects`` is: three models, three seeds each.

A linear model, a network of two linear layers and a small convnet of as many weights
as that, all trained on the same moved pictures. The linear ones have the best of the
rates 0.0003, 0.001 and 0.003 (seed 0).

    python -m experiments.classify            train all, write data/results/objects.json
    python -m experiments.classify --check    train the convnet once, assert its floor
    python -m experiments.classify --weights  train it once, store what it learned

One thread, on the CPU. Seconds are CPU-seconds of the reference machine
(:mod:`benchmarks.yardstick`).
"""

import json
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils import classification
from course_utils.classification import convnet, normalize
from course_utils.datasets import objects
from experiments import stored

__all__ = [
    "CEILING",
    "FLOOR",
    "MODELS",
    "convnet",
    "linear",
    "main",
    "mlp",
    "moved",
    "train",
]

SEEDS = (0, 1, 2)
EPOCHS, BATCH, DECAY = 24, 50, 0.01
FLOOR, CEILING = 0.82, 0.35  # of the convnet, and of the other two, on val


def linear() -> nn.Module:
    """One layer from the pixels to the classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, len(objects.CLASSES)))


def mlp() -> nn.Module:
    """Two layers, from the pixels to 47 units to the classes; 0.6 million weights."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(3 * 64 * 64, 47),
        nn.ReLU(),
        nn.Linear(47, len(objects.CLASSES)),
    )


# With its peak rate.
MODELS = {"linear": (linear, 3e-3), "mlp": (mlp, 3e-3), "convnet": (convnet, 4e-3)}


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the images mirrored, all of them shifted by the same up to 6 pixels.

    Args:
        images: (N, 3, H, W); left as they are.
        generator: draws what is mirrored and by how much is shifted.

    Returns:
        The images, (N, 3, H, W); what leaves on one side comes in on the other.
    """
    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    down, right = torch.randint(-6, 7, (2,), generator=generator).tolist()
    return images.roll((down, right), (2, 3))


def train(name: str, seed: int, epochs: int = EPOCHS, each: int | None = None) -> dict:
    """Train one of :data:`MODELS`.

    Args:
        name: ``"linear"``, ``"mlp"`` or ``"convnet"``.
        seed: of the weights and the order of the pictures.
        epochs: passes over the training pictures.
        each: take the first so many of each class; default: all.

    Returns:
        ``model``, ``seed``, ``weights`` (how many), ``train`` and ``val`` (shares of
        right answers, of pictures that are not moved), ``curve`` (the same two after
        each epoch, as lists), ``seconds`` (CPU time of this process for training) and
        ``trained``, the network itself, in evaluation mode.

    Raises:
        ValueError: an unknown name.
    """
    if name not in MODELS:
        raise ValueError(f"name must be one of {tuple(MODELS)}, got {name!r}")
    make, rate = MODELS[name]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
    (images, labels), held = (_read(*which) for which in (("train", each), ("val",)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=DECAY)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=0.2
    )
    seconds, curve = 0.0, {"train": [], "val": []}
    for _ in range(epochs):
        start = time.process_time()
        model.train()
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            batch = moved(images[chosen], generator)
            loss = F.cross_entropy(model(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        seconds += time.process_time() - start
        curve["train"].append(stored.accuracy(model, images, labels))
        curve["val"].append(stored.accuracy(model, *held))
    weights = sum(p.numel() for p in model.parameters())
    found = {"model": name, "seed": seed, "weights": weights}
    found |= {split: curve[split][-1] for split in curve}
    return found | {"curve": curve, "seconds": seconds, "trained": model}


def _read(split: str, each: int | None = None) -> tuple[Tensor, Tensor]:
    images, labels = objects.load(split, each)
    return normalize(images), labels


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    chosen = stored.options(
        "classify",
        "How hard data/objects is.",
        "one seed, and the floor",
        arguments,
        weights="one seed, stored for the chapters",
    )
    speed = stored.reference_speed()
    few = chosen.check or chosen.weights
    runs = []
    for name, seed in (
        [("convnet", 0)] if few else [(m, s) for m in MODELS for s in SEEDS]
    ):
        run = train(name, seed)
        model = run.pop("trained")
        run["seconds"] = round(run["seconds"] * speed, 1)
        runs.append(stored.significant(run))
        print(json.dumps(runs[-1]), flush=True)
    missed = [r for r in runs if r["model"] == "convnet" and r["val"] < FLOOR]
    missed += [r for r in runs if r["model"] != "convnet" and r["val"] > CEILING]
    if chosen.weights and not missed:
        stored.save_weights(classification.OBJECTS_FILE, model)
    return stored.store(
        "objects", runs, missed, not few, module="classify", epochs=EPOCHS
    )


if __name__ == "__main__":
    sys.exit(main())
