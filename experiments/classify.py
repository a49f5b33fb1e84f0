"""How hard ``data/objects`` is: a linear model and a small convnet, three seeds each.

    python -m experiments.classify            train all, write data/results/objects.json
    python -m experiments.classify --check    train the convnet once, assert its floor
    python -m experiments.classify --weights  train it once, store what it learned

One thread, on the CPU. Seconds are CPU-seconds of the reference machine
(:mod:`benchmarks.yardstick`).
"""

import argparse
import datetime
import json
import sys
import time
from collections.abc import Sequence

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import yardstick
from course_utils import classification, files
from course_utils.classification import convnet, normalize
from course_utils.datasets import objects, results

__all__ = ["CEILING", "FLOOR", "MODELS", "convnet", "linear", "main", "moved", "train"]

SEEDS = (0, 1, 2)
EPOCHS, BATCH, DECAY = 24, 50, 0.01
FLOOR, CEILING = 0.82, 0.30  # of the convnet and of the linear model, on val


def linear() -> nn.Module:
    """One layer from the pixels to the classes."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, len(objects.CLASSES)))


MODELS = {"linear": (linear, 1e-3), "convnet": (convnet, 4e-3)}  # with its peak rate


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
        name: ``"linear"`` or ``"convnet"``; the convnet's pictures are moved.
        seed: of the weights and the order of the pictures.
        epochs: passes over the training pictures.
        each: take the first so many of each class; default: all.

    Returns:
        ``model``, ``seed``, ``weights`` (how many), ``train`` and ``val`` (shares of
        right answers), ``seconds`` (CPU time of this process) and ``trained``, the
        network itself, in evaluation mode.

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
    images, labels = objects.load("train", each)
    images = normalize(images)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=DECAY)
    steps = epochs * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=0.2
    )
    start = time.process_time()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            batch = images[chosen]
            if name == "convnet":
                batch = moved(batch, generator)
            loss = F.cross_entropy(model(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    seconds = time.process_time() - start
    weights = sum(p.numel() for p in model.parameters())
    found = {"model": name, "seed": seed, "weights": weights}
    found |= {split: _accuracy(model, split) for split in ("train", "val")}
    return found | {"seconds": seconds, "trained": model}


@torch.no_grad()
def _accuracy(model: nn.Module, split: str) -> float:
    images, labels = objects.load(split)
    model.eval()
    return (model(normalize(images)).argmax(1) == labels).double().mean().item()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.classify", description="How hard data/objects is."
    )
    parser.add_argument("--check", action="store_true", help="one seed, and the floor")
    parser.add_argument(
        "--weights", action="store_true", help="one seed, stored for the chapters"
    )
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    speed = yardstick.factor(yardstick.measure())
    runs = []
    wanted = (
        [("convnet", 0)]
        if chosen.check or chosen.weights
        else [(m, s) for m in MODELS for s in SEEDS]
    )
    for name, seed in wanted:
        run = train(name, seed)
        model = run.pop("trained")
        run["seconds"] = round(run["seconds"] * speed, 1)
        run |= {split: round(run[split], 4) for split in ("train", "val")}
        runs.append(run)
        print(json.dumps(run), flush=True)
    missed = [r for r in runs if r["model"] == "convnet" and r["val"] < FLOOR]
    missed += [r for r in runs if r["model"] == "linear" and r["val"] > CEILING]
    if missed:
        print(f"beyond the bounds: {missed}", file=sys.stderr)
        return 1
    if chosen.weights:
        state = {name: value.contiguous() for name, value in model.state_dict().items()}
        with files.replacing(classification.OBJECTS_FILE) as new:
            save_file(state, new)
    elif not chosen.check:
        found = {
            "command": "python -m experiments.classify",
            "date": datetime.date.today().isoformat(),
            "epochs": EPOCHS,
            "runs": runs,
        }
        text = json.dumps(found, indent=1) + "\n"
        files.write_file(results.FOLDER / "objects.json", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
