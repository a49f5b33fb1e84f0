"""Chapter 30's small DETR: trained on the bundled scenes, scored on the test scenes.

    python -m experiments.detr                 train, write the weights and the result
    python -m experiments.detr --check         two steps on a few scenes, write nothing

The model, its loss and its training are the chapter's own, taken out of the notebook.
The body, pretrained on drawn objects (:mod:`experiments.pretrain`), stays as it is, so
its maps are computed once: of the 120 training scenes and of :data:`VARIANTS` changed
versions of each. One thread, on the CPU. Seconds are CPU-seconds of the reference
machine (:mod:`benchmarks.yardstick`).
"""

import json
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from booktools import chapter_code
from course_utils.datasets.penn_fudan import BUNDLED, PennFudan
from course_utils.detection import augment
from experiments import stored

__all__ = ["EACH", "FLOOR", "STEPS", "WEIGHTS", "Shift", "chapter", "main", "train"]

SEED, VARIANTS, STEPS, EACH, RATE = 0, 10, 2500, 250, 5e-4
FLOOR = 0.5  # AP50 on the test scenes
SIZE = 288
GRAY = [124, 116, 104]  # ImageNet's mean color
WEIGHTS = Path(__file__).resolve().parents[1] / "data/weights/detr.safetensors"


@cache
def chapter() -> SimpleNamespace:
    """The chapter's functions: body, model, training, detection."""
    return chapter_code.definitions(
        "30_detr",
        *("Detr", "train", "read_maps", "as_targets", "detect", "score", "ways"),
    )


class Shift:
    """A random transform: the scene is resized by up to a quarter, and moved.

    What leaves the picture is cut off; people of whom fewer than ``least`` pixels are
    left are left out.
    """

    def __init__(self, least: int = 40) -> None:
        self.least = least

    def __call__(self, image, target: dict) -> tuple:
        scale = 0.75 + 0.5 * torch.rand(()).item()
        height, width = image.shape[-2:]
        right = (torch.rand(()).item() - 0.5) * 0.25 * width
        down = (torch.rand(()).item() - 0.5) * 0.15 * height
        moved = [0, [right, down], scale, [0, 0]]
        image = v2.functional.affine(
            image, *moved, interpolation=v2.InterpolationMode.BILINEAR, fill=GRAY
        )
        masks = target["masks"].as_subclass(Tensor)
        masks = v2.functional.affine(
            masks, *moved, interpolation=v2.InterpolationMode.NEAREST
        )
        return image, augment._with_masks(target, masks, self.least)


def _maps(samples: Sequence[tuple]) -> tuple[Tensor, Tensor, list[Tensor]]:
    images, targets = zip(*samples, strict=True)
    return *chapter().read_maps(images), chapter().as_targets(targets)


def _joined(parts: Sequence[tuple]) -> tuple[Tensor, Tensor, list[Tensor]]:
    maps, sizes, targets = zip(*parts, strict=True)
    return torch.cat(maps), torch.cat(sizes), sum(targets, [])


def training_maps(count: int, variants: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Maps, sizes and targets of the first scenes, and of changed versions of each."""
    torch.manual_seed(SEED)
    resize = augment.resized(SIZE)
    data = PennFudan(BUNDLED, "train", resize)
    samples = augment.InMemory(data[k] for k in range(count))
    change, shift = augment.augmentation(True, samples.items), Shift()
    parts = [_maps(samples.items)]
    for _ in range(variants):
        items = []
        for item in samples.items:
            item = change(*item)
            items.append(shift(*item) if torch.rand(()) < 0.6 else item)
        parts.append(_maps(items))
    return _joined(parts)


def train(
    data: tuple[Tensor, Tensor, list[Tensor]], test: tuple, steps: int, each: int
) -> tuple[nn.Module, dict]:
    """Train one model, and score it along the way.

    Returns:
        The model; ``curve``: ``step``, mean ``loss`` since the last one, ``AP`` and
        ``AP50`` on the test scenes, every ``each`` steps; ``ways``: what the chapter's
        ``ways`` returns at the end; and ``seconds`` of training (CPU time).
    """
    own = chapter()
    torch.manual_seed(SEED)
    model = own.Detr()
    curve, losses, spent = [], [], 0.0

    def watch(step, model, loss):
        nonlocal spent
        losses.append(loss)
        if step % each == 0:
            start = time.process_time()
            record = {"step": step, "loss": sum(losses) / len(losses)}
            maps, sizes, truths = test
            found = own.detect(model.eval(), maps, sizes)
            record |= dict(zip(("AP", "AP50"), own.score(found, truths), strict=True))
            model.train()
            losses.clear()
            curve.append(stored.significant(record))
            print(json.dumps(curve[-1]), flush=True)
            spent += time.process_time() - start

    start = time.process_time()
    own.train(model, *data, steps, RATE, seed=SEED, watch=watch)
    seconds = time.process_time() - start - spent
    ways = own.ways(model.eval(), *test)
    return model, {"curve": curve, "ways": ways, "seconds": seconds}


def main(arguments: Sequence[str] | None = None) -> int:
    options = stored.options(
        "detr",
        "Train chapter 30's small DETR on the bundled scenes.",
        "two steps on a few scenes, write nothing",
        arguments,
    )
    few = options.check
    speed = stored.reference_speed()
    start = time.process_time()
    data = training_maps(*((8, 1) if few else (120, VARIANTS)))
    seconds = time.process_time() - start
    scenes = PennFudan(BUNDLED, "test", augment.resized(SIZE))
    scenes = [scenes[k] for k in range(4 if few else len(scenes))]
    maps, sizes, _ = _maps(scenes)
    test = maps, sizes, [target for _, target in scenes]
    model, run = train(data, test, *((2, 1) if few else (STEPS, EACH)))
    run |= {"seconds": run["seconds"] * speed, "seconds_maps": seconds * speed}
    run = {"seed": SEED, **stored.significant(run)}
    reached = run["curve"][-1]["AP50"]
    missed = [] if few or reached >= FLOOR else [f"AP50 {reached} below {FLOOR}"]
    if not few and not missed:
        stored.save_weights(WEIGHTS, model)
    return stored.store("detr", [run], missed, write=not few, variants=VARIANTS)


if __name__ == "__main__":
    sys.exit(main())
