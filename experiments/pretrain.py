"""Pretrain the small detector on drawn objects, and store it for the chapters.

    python -m experiments.pretrain RUN [--scenes 3000] [--epochs 8] [--out FILE]

RUN is a folder for checkpoints and the log: killed at any moment, the same command
goes on after the last whole epoch. The result holds 16-bit floats.
"""

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from course_utils import runtime
from course_utils.detection import models
from course_utils.detection.augment import InMemory, collate
from course_utils.files import replacing
from course_utils.training import engine
from experiments.fine_tuning import CLIP_NORM, one_cycle
from experiments.shapes import CLASSES, Shapes

__all__ = ["main", "pretrain"]

TRAIN_SEED, TEST_SEED, BATCH, RATE, SIZE = 1, 2, 4, 1e-3, 288


def _cloned(target: dict) -> dict:
    """A copy: what comes from a worker lies in shared memory, which is scarce."""
    return {k: v.clone() if torch.is_tensor(v) else v for k, v in target.items()}


def drawn(source: Dataset, progress: bool = True) -> Iterator[tuple]:
    """The items of a data set, drawn by several processes."""
    loader = DataLoader(source, None, num_workers=os.cpu_count() or 1)
    for image, target in tqdm(loader, "draw", disable=not progress):
        yield image.clone(), _cloned(target)


def pretrain(
    folder: Path, scenes: int = 3000, epochs: int = 8, progress: bool = True
) -> tuple[torch.nn.Module, list[dict[str, float]]]:
    """Train :func:`models.mask_rcnn_mobilenet` on :class:`Shapes`, or go on with it.

    Args:
        folder: holds the checkpoint and the log of this run.
        scenes: number of different training scenes; a twentieth as many are the test.
        epochs: how often each is shown.
        progress: show bars.

    Returns:
        The model, and a dictionary of losses and AP for each epoch, as
        :func:`engine.fit` returns it.

    Raises:
        ValueError: ``scenes`` or ``epochs`` below 1.
        FileNotFoundError: torchvision's weights are not in the cache.
        checkpoints.CheckpointError: ``folder`` cannot be written to, or holds a run
            with other numbers.
    """
    for name, value in (("scenes", scenes), ("epochs", epochs)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    transforms = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.3, 0.3, 0.3),
            v2.RandomGrayscale(0.1),
        ]
    )
    train = InMemory(drawn(Shapes(scenes, TRAIN_SEED), progress), transforms)
    test = InMemory(drawn(Shapes(max(1, scenes // 20), TEST_SEED), progress))
    generator = runtime.seed_everything(0)
    device = runtime.device()
    model = models.mask_rcnn_mobilenet(
        len(CLASSES) + 1,
        "imagenet",
        trainable_from=2,
        min_size=SIZE,
        max_size=SIZE,
    )
    model.to(device)
    loader = DataLoader(
        train, BATCH, shuffle=True, generator=generator, collate_fn=collate
    )
    optimizer, schedule = one_cycle(model, RATE, epochs * len(loader))
    history = engine.fit(
        model,
        loader,
        optimizer=optimizer,
        schedule=schedule,
        epochs=epochs,
        device=device,
        folder=folder,
        test_loader=DataLoader(test, BATCH, collate_fn=collate),
        clip_norm=CLIP_NORM,
        progress=progress,
    )
    return model, history


def store(model: torch.nn.Module, file: Path) -> None:
    """Write the weights, 16-bit."""
    state = {
        name: value.detach().cpu().half().contiguous()
        for name, value in model.state_dict().items()
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        save_file(state, part, metadata={"classes": json.dumps(list(CLASSES))})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.pretrain",
        description="Pretrain the small detector on drawn objects.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="checkpoints and log")
    parser.add_argument("--scenes", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=models.SHAPES_FILE)
    chosen = parser.parse_args(arguments)
    model, history = pretrain(chosen.folder, chosen.scenes, chosen.epochs)
    store(model, chosen.out)
    last = {k: round(v, 3) for k, v in history[-1].items()}
    print(f"{chosen.out}: {chosen.out.stat().st_size / 1e6:.1f} MB, {last}")


if __name__ == "__main__":
    main()
