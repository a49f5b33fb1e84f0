"""One fine-tuning run, the recipe of chapter 27, as a function.

:func:`fine_tune` is what the experiments repeat (:mod:`course_utils.experiments`) and
what the tests run on real photographs. Everything that varies is in a :class:`Recipe`.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike

import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_utils import engine, models, runtime
from course_utils.boxes import masks_to_boxes
from course_utils.datasets import PennFudan

__all__ = [
    "InMemory",
    "Recipe",
    "CopyPaste",
    "augmentation",
    "collate",
    "fine_tune",
    "resized",
]

BATCH, WEIGHT_DECAY, CLIP_NORM = 4, 0.01, 5.0
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
        paste: whether training pastes people of other images, see :class:`CopyPaste`.
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


class InMemory(Dataset):
    """The items of a data set, made once and kept.

    Args:
        items: pairs ``(image, target)``.
        transforms: called with ``(image, target)`` each time an item is asked for.
    """

    def __init__(self, items: Iterable, transforms: Callable | None = None) -> None:
        self.items, self.transforms = list(items), transforms

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple:
        image, target = self.items[index]
        return self.transforms(image, target) if self.transforms else (image, target)


def resized(size: int) -> Callable:
    """Return a transform: the longer side becomes ``size`` pixels, boxes and masks too.

    Masks are shrunk with ``nearest-exact``; v2's own ``nearest`` moves them by up to
    half a pixel against the picture (chapter 6). The boxes are taken from the resized
    masks, for a mask loses thin parts when it shrinks; a person whose mask vanishes
    altogether is left out.
    """

    def resize(image, target):
        image = v2.functional.resize(image, None, max_size=size)
        masks = target["masks"].as_subclass(torch.Tensor)
        return image, _with_masks(target, _resized_masks(masks, image.shape[-2:]))

    return resize


def _resized_masks(masks: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Masks (N, H, W) of another height and width, in their place."""
    exact = v2.InterpolationMode.NEAREST_EXACT
    return v2.functional.resize(masks, list(size), interpolation=exact)


class CopyPaste:
    """A random transform: people of other pictures stand in front of those here.

    Each is mirrored at random, made smaller or larger, and moved sideways; its feet
    stay at their height. Whoever is covered keeps the pixels that still show. Source:
    Ghiasi and others, 2021, https://arxiv.org/abs/2012.07177

    Args:
        samples: the pairs ``(image, target)`` to take people from, at least one.
        most: 0 to this many are pasted, each number equally often.
        scale: the smallest and the largest factor of a pasted person's size.
        least: who shows fewer pixels than this is not pasted, or left out.

    Raises:
        ValueError: no samples, or numbers that make no sense.
    """

    def __init__(
        self,
        samples: Sequence,
        most: int = 3,
        scale: tuple[float, float] = (0.7, 1.3),
        least: int = 40,
    ) -> None:
        if not len(samples):
            raise ValueError("there are no samples to take people from")
        if most < 0 or least < 0 or not 0 < scale[0] <= scale[1]:
            raise ValueError(
                "most and least must not be negative, scale a rising pair above 0, "
                f"got {most!r}, {least!r} and {scale!r}"
            )
        self.samples, self.most, self.scale, self.least = samples, most, scale, least

    def __call__(self, image, target):
        for _ in range(_random(self.most + 1)):
            other, people = self.samples[_random(len(self.samples))]
            if len(people["masks"]):
                who = _random(len(people["masks"]))
                image, target = self._paste(image, target, other, people, who)
        return image, target

    def _paste(self, image, target, other, people, who: int):
        x1, y1, x2, y2 = people["boxes"][who].int().tolist()
        person = other.as_subclass(torch.Tensor)[:, y1:y2, x1:x2]
        mask = people["masks"].as_subclass(torch.Tensor)[[who], y1:y2, x1:x2]
        if _random(2):
            person, mask = person.flip(-1), mask.flip(-1)
        low, high = self.scale
        factor = low + (high - low) * torch.rand(()).item()
        size = [max(1, round(side * factor)) for side in mask.shape[1:]]
        person = v2.functional.resize(person, size)
        mask = _resized_masks(mask, size)

        height, width = image.shape[-2:]
        feet = min(y2, height)
        hidden = size[1] // 4  # at most this much is left or right of the picture
        left = _random(max(1, width - size[1] + 2 * hidden + 1)) - hidden
        window = size[0] - feet, -left, height, width
        cover = v2.functional.crop(mask, *window)  # 0 beyond its border
        if cover.sum() < self.least:
            return image, target
        source = v2.functional.crop(person, *window)
        image = tv_tensors.Image(torch.where(cover.bool(), source, image))
        masks = target["masks"].as_subclass(torch.Tensor) * (1 - cover)
        joined = {
            name: torch.cat([target[name], people[name][[who]]])
            for name in ("labels", "iscrowd")
        }
        masks = torch.cat([masks, cover])
        return image, _with_masks({**target, **joined}, masks, self.least)


def _random(end: int) -> int:
    """A random whole number from 0 to ``end - 1``."""
    return int(torch.randint(end, ()))


def _with_masks(target: dict, masks: torch.Tensor, least: int = 1) -> dict:
    """The target with other masks (N, H, W), and boxes and areas made of them.

    Objects with fewer than ``least`` pixels are left out.
    """
    area = masks.sum((1, 2))
    seen = area >= least
    masks = masks[seen]
    kept = {
        name: value[seen] if isinstance(value, torch.Tensor) else value
        for name, value in target.items()
        if name not in ("boxes", "masks", "area")
    }
    boxes = tv_tensors.BoundingBoxes(
        masks_to_boxes(masks), format="XYXY", canvas_size=masks.shape[-2:]
    )
    masks = tv_tensors.Mask(masks)
    return {**kept, "boxes": boxes, "masks": masks, "area": area[seen].float()}


def augmentation(color: bool = True, paste_from: Sequence | None = None) -> Callable:
    """Return the random transform of training.

    Args:
        color: change colors at random; mirror images it always makes.
        paste_from: samples to take people from, see :class:`CopyPaste`.
    """
    steps = [] if paste_from is None else [CopyPaste(paste_from)]
    steps.append(v2.RandomHorizontalFlip())
    if color:
        steps.append(v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.4))
    return v2.Compose(steps)


def collate(batch: list) -> tuple:
    """Join items into a batch without stacking: images differ in size."""
    return tuple(zip(*batch, strict=True))


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
        root: a folder in the layout of Penn-Fudan.
        seed: decides the fresh weights, the order of the images, their augmentation.
        evaluations: how often to score the model, at equal distances; must divide
            the recipe's steps. The last is at the end.
        held_out: 0: score on the test split. More: on the last so many images of the
            training split, which then are not trained on; for choosing a rate.
        log: is told each loss and the learning rate, with the step's number.
        progress: show bars.

    Returns:
        The model, and for each evaluation a dictionary: ``step``, ``seconds`` and
        ``cpu_seconds`` spent on training until then, the mean ``loss`` since the
        last, and ``bbox/AP``, ``bbox/AP50``, ``segm/AP`` and ``segm/AP50``.

    Raises:
        ValueError: more images asked for than there are, or ``evaluations`` does not
            divide the steps.
    """
    if recipe.steps % evaluations:
        raise ValueError(f"{evaluations} evaluations do not divide {recipe.steps}")
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
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad],
        recipe.rate,
        weight_decay=WEIGHT_DECAY,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        recipe.rate,
        recipe.steps,
        pct_start=0.1 if recipe.steps > 10 else 0.3,  # of 10, 0.1 divides by zero
    )
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
