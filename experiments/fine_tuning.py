"""One fine-tuning run, the recipe of chapter 27, as a function.

:func:`fine_tune` is what the experiments repeat (:mod:`experiments.starts`) and
what the tests run on real photographs. Everything that varies is in a :class:`Recipe`.
"""

import time
from dataclasses import dataclass
from os import PathLike

import torch
from torch.utils.data import DataLoader, RandomSampler

from course_utils import runtime
from course_utils.datasets import PennFudan
from course_utils.detection import models
from course_utils.detection.augment import InMemory, augmentation, collate, resized
from course_utils.training import engine

__all__ = ["CLIP_NORM", "Recipe", "fine_tune", "one_cycle"]

BATCH, WEIGHT_DECAY = 4, 0.01
CLIP_NORM = 5.0  # the largest norm of all gradients of a step together
# People in groups overlap: soft-NMS keeps them, and low scores may be right.
DETECTING = {"soft_nms": 0.5, "box_score_thresh": 0.01}


@dataclass(frozen=True)
class Recipe:
    """What a run is made of.

    Attributes:
        weights: the start, as in :func:`models.mask_rcnn_mobilenet`.
        rate: the highest learning rate of the one-cycle schedule.
        steps: optimizer steps, of 4 images each.
        images: the first so many training images are used.
        size: the longer side of an image, in pixels.
        color: whether training changes colors at random; mirror images it always does.
        paste: whether training pastes people of other images, see
            :class:`course_utils.detection.augment.CopyPaste`.
    """

    weights: str | None
    rate: float
    steps: int
    images: int = 120
    size: int = 288
    color: bool = True
    paste: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "images", "size"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if not self.rate > 0:
            raise ValueError(f"rate must be positive, got {self.rate!r}")


def one_cycle(
    model: torch.nn.Module, rate: float, steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    """The optimizer and the schedule of all our trainings: AdamW and one cycle.

    Args:
        model: the parameters that require a gradient are trained.
        rate: the highest learning rate, reached after a tenth of the steps.
        steps: optimizer steps, at least 1. Up to 10, where a tenth is too short for
            ``OneCycleLR``, the rate rises for three tenths.

    Returns:
        Both; gradients are meant to be clipped to :data:`CLIP_NORM`.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate, weight_decay=WEIGHT_DECAY)
    rising = 0.1 if steps > 10 else 0.3  # of 10, 0.1 divides by zero
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, steps, pct_start=rising
    )


def fine_tune(
    recipe: Recipe,
    root: str | PathLike,
    seed: int,
    *,
    evaluations: int = 1,
    held_out: int = 0,
    log: engine.Log | None = None,
    progress: bool = True,
) -> tuple[torch.nn.Module, list[dict[str, float]]]:
    """Train a Mask R-CNN on pedestrians, and score it along the way.

    Args:
        recipe: how to train.
        root: a folder in the layout of Penn-Fudan (see
            :class:`course_utils.datasets.PennFudan`), with both splits.
        seed: decides the fresh weights, the order of the images, their augmentation.
        evaluations: how often to score the model, at equal distances; must divide
            the recipe's steps. The last is at the end.
        held_out: 0: score on the test split. More: on the last so many images of the
            training split, which then are not trained on; for choosing a rate.
        log: is told each loss and the learning rate, with the step's number.
        progress: show bars.

    Returns:
        The model, a Mask R-CNN of two classes on :func:`runtime.device`, in training
        mode; and for each evaluation a dictionary of numbers: ``step``, the steps
        taken, ``seconds`` and ``cpu_seconds`` spent on training until then, the mean
        ``loss`` since the last evaluation, and ``bbox/AP``, ``bbox/AP50``,
        ``segm/AP`` and ``segm/AP50``, from 0 to 1, or -1 without any pedestrian.

    Raises:
        ValueError: more images asked for than there are, a negative ``held_out``, or
            ``evaluations`` is below 1 or does not divide the steps.
        FileNotFoundError: ``root`` or the weights are not there.
        engine.NonFiniteLoss: the rate is too high for this start.
    """
    if evaluations < 1 or recipe.steps % evaluations:
        raise ValueError(f"{evaluations} evaluations do not divide {recipe.steps}")
    if held_out < 0:
        raise ValueError(f"held_out must not be negative, got {held_out}")
    data = PennFudan(root, "train", resized(recipe.size))
    if recipe.images + held_out > len(data):
        raise ValueError(
            f"{recipe.images} images and {held_out} held out, of {len(data)}"
        )
    train = InMemory(data[i] for i in range(recipe.images))
    train.transforms = augmentation(recipe.color, train.items if recipe.paste else None)
    if held_out:
        test = InMemory(data[i] for i in range(len(data) - held_out, len(data)))
    else:
        test = InMemory(PennFudan(root, "test", resized(recipe.size)))

    generator = runtime.seed_everything(seed)
    device = runtime.device()
    size = {"min_size": recipe.size, "max_size": recipe.size}
    model = models.mask_rcnn_mobilenet(2, recipe.weights, **size, **DETECTING)
    model.to(device)
    optimizer, schedule = one_cycle(model, recipe.rate, recipe.steps)
    steps = recipe.steps // evaluations
    sampler = RandomSampler(train, num_samples=steps * BATCH, generator=generator)
    loader = DataLoader(train, BATCH, sampler=sampler, collate_fn=collate)
    test_loader = DataLoader(test, BATCH, collate_fn=collate)
    records, seconds, cpu_seconds = [], 0.0, 0.0
    for number in range(1, evaluations + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        losses = engine.train_one_epoch(
            model,
            optimizer,
            loader,
            device,
            schedule=schedule,
            clip_norm=CLIP_NORM,
            first_step=(number - 1) * steps,
            log=log,
            progress=progress,
        )
        seconds += time.perf_counter() - wall
        cpu_seconds += time.process_time() - cpu
        record = {"step": number * steps, "loss": losses["loss"]}
        record |= {"seconds": seconds, "cpu_seconds": cpu_seconds}
        results = engine.evaluate(model, test_loader, device, progress=progress)
        for kind, numbers in results.items():
            record |= {f"{kind}/{name}": numbers[name] for name in ("AP", "AP50")}
        records.append(record)
    return model, records
