"""Chapter 29's small ViT, small Swin and convnet, by number of pictures.

    python -m experiments.small_transformers            write data/results
    python -m experiments.small_transformers --check    one seed, assert the order

Four kinds of ``data/objects`` at 32 x 32 pixels, 25 or 100 pictures of each, with and
without augmentation, three seeds; then the ViT and the convnet on pictures whose
patches are scrambled, all in the same way. Every run sees 5,400 pictures. The models
and their training are the chapter's own, taken out of the notebook. The first ViT
trained with augmentation on 100 pictures of each kind is stored in ``data/weights``.

One thread, on the CPU. Seconds are CPU-seconds of the reference machine
(:mod:`benchmarks.yardstick`).
"""

import json
import sys
import time
from collections.abc import Sequence

import torch
from torch import nn

from booktools import chapter_code
from course_utils import classification
from experiments import stored

__all__ = ["AHEAD", "EACH", "MODELS", "PASSES", "SEEDS", "chapter", "main", "train"]

MODELS, SEEDS, EACH, PASSES = ("ViT", "Swin", "convnet"), (0, 1, 2), (25, 100), 5400
AHEAD = 0.1  # of the convnet before the ViT: 100 pictures of each kind, augmented
FILE = classification.OBJECTS_FILE.with_name("small_vit.safetensors")


def chapter():
    """The chapter's functions: what is drawn, moved, scrambled and trained."""
    names = ("SMALL", "pictures", "train_small", "scrambled")
    return chapter_code.definitions("29_vision_transformers", *names)


def train(
    name: str,
    seed: int,
    each: int,
    augment: bool,
    scramble: bool = False,
    passes: int = PASSES,
) -> tuple[nn.Module, dict]:
    """Train one model.

    Args:
        name: one of :data:`MODELS`.
        seed: of the weights, the order of the pictures and how they are moved.
        each: take the first so many pictures of each kind.
        augment: whether pictures are mirrored and shifted.
        scramble: whether the 64 patches of all pictures change places, in one order.
        passes: how many pictures the model sees.

    Returns:
        The model, and its ``model``, ``seed``, ``each``, ``augment``, ``scramble``,
        ``weights`` (how many), ``train`` and ``val`` (shares of right answers) and
        ``seconds`` (CPU time of this process).
    """
    own = chapter()
    change = None
    if scramble:
        order = torch.randperm(64, generator=torch.Generator().manual_seed(0))

        def change(images):
            return own.scrambled(images, order)

    (images, labels), (held, right) = (
        own.pictures(*which) for which in (("train", each), ("val",))
    )
    start = time.process_time()
    model = own.train_small(name, images, labels, seed, augment, passes, change)
    seconds = time.process_time() - start
    if scramble:
        images, held = change(images), change(held)
    return model, {
        "model": name,
        "seed": seed,
        "each": each,
        "augment": augment,
        "scramble": scramble,
        "weights": sum(p.numel() for p in model.parameters()),
        "train": round(stored.accuracy(model, images, labels), 4),
        "val": round(stored.accuracy(model, held, right), 4),
        "seconds": seconds,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = stored.options(
        "small_transformers",
        "Chapter 29's small models.",
        "one seed, and the order",
        arguments,
    )
    speed = stored.reference_speed()
    wanted = [
        (name, seed, each, augment, False)
        for seed in SEEDS
        for each in EACH
        for augment in (False, True)
        for name in MODELS
    ]
    wanted += [(m, s, 100, True, True) for s in SEEDS for m in ("ViT", "convnet")]
    if chosen.check:
        wanted = [(name, 0, 100, True, False) for name in ("ViT", "convnet")]
    runs, kept = [], None
    for case in wanted:
        model, run = train(*case)
        run["seconds"] = round(run["seconds"] * speed, 1)
        if case == ("ViT", 0, 100, True, False):
            kept = model
        runs.append(run)
        print(json.dumps(run), flush=True)
    status = stored.store(
        "small_transformers", runs, _missed(runs), not chosen.check, passes=PASSES
    )
    if not status and not chosen.check:
        stored.save_weights(FILE, kept)
    return status


def _missed(runs: Sequence[dict]) -> list[int]:
    """The seeds for which the convnet is not ahead of the ViT."""
    most = [r for r in runs if r["each"] == 100 and r["augment"] and not r["scramble"]]
    val = {(r["model"], r["seed"]): r["val"] for r in most}
    seeds = {r["seed"] for r in most}
    return [s for s in seeds if val["convnet", s] < val["ViT", s] + AHEAD]


if __name__ == "__main__":
    sys.exit(main())
