"""What changes samples on their way to a detector: resizing, copy-paste, batches.

A sample is a pair ``(image, target)`` as :class:`course_utils.datasets.PennFudan`
returns it: the image ``tv_tensors.Image``, uint8, (3, H, W); ``boxes`` (N, 4), float32,
xyxy in pixels, half-open; ``labels`` (N,); ``masks`` (N, H, W), uint8, 0 or 1; ``area``
and ``iscrowd`` (N,); ``image_id``. Chapters 7 and 27 write these by hand.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_utils.detection.box_ops import check_format, masks_to_boxes

__all__ = ["CopyPaste", "InMemory", "augmentation", "collate", "resized"]


class InMemory(Dataset):
    """The items of a data set, made once and kept.

    Items are handed out as they were given, not copied: a transform must not write into
    them, which those of v2 and of this module do not.

    Args:
        items: pairs ``(image, target)``; all are made now, in their order.
        transforms: called with ``(image, target)`` each time an item is asked for; its
            result is the item. Default: the pair itself.

    Attributes:
        items: the pairs, a list.
        transforms: as given; may be set later.

    Raises:
        IndexError: for an index beyond the last item.
    """

    def __init__(self, items: Iterable, transforms: Callable | None = None) -> None:
        self.items, self.transforms = list(items), transforms

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple:
        image, target = self.items[index]
        return self.transforms(image, target) if self.transforms else (image, target)


def resized(size: int) -> Callable:
    """Return a transform that makes the longer side of an image ``size`` pixels long.

    Masks are shrunk with ``nearest-exact``; v2's own ``nearest`` moves them by up to
    half a pixel against the picture (chapter 6). The boxes are taken from the resized
    masks, for a mask loses thin parts when it shrinks; a person whose mask vanishes
    altogether is left out.

    Args:
        size: of the longer side, in pixels, at least 1; the ratio of the sides is kept.

    Returns:
        A function of ``(image, target)`` that returns a new pair. The target needs
        ``masks`` (N, H, W) and one value per object in every tensor; its ``boxes``,
        (N, 4), xyxy, half-open, and ``area``, (N,), are made anew.

    Raises:
        ValueError: ``size`` is not a positive integer; in the function, boxes of
            another format, or a target without masks.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"size must be a positive integer, got {size!r}")

    def resize(image, target):
        _check(target)
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
        ValueError: no samples, or numbers that make no sense; when called, boxes of
            another format, or a target without masks.
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
        """The picture and target with people pasted: new ones, or the same if none."""
        _check(target)
        for _ in range(_random(self.most + 1)):
            other, people = self.samples[_random(len(self.samples))]
            _check(people)
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


def _check(target: dict) -> None:
    if "masks" not in target:
        raise ValueError(f"the target has no 'masks', only {sorted(target)}")
    check_format(target.get("boxes"), "the target's boxes")


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
        paste_from: samples to take people from, see :class:`CopyPaste`. Default: nobody
            is pasted.

    Returns:
        A ``v2.Compose``, called with ``(image, target)``; it draws from torch's global
        generator.

    Raises:
        ValueError: as :class:`CopyPaste`.
    """
    steps = [] if paste_from is None else [CopyPaste(paste_from)]
    steps.append(v2.RandomHorizontalFlip())
    if color:
        steps.append(v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.4))
    return v2.Compose(steps)


def collate(batch: list) -> tuple:
    """Join items into a batch without stacking: images differ in size.

    Args:
        batch: B items of one length each, such as ``(image, target)``.

    Returns:
        A tuple of B for each part: ``(images, targets)``.

    Raises:
        ValueError: items of different lengths.
    """
    return tuple(zip(*batch, strict=True))
