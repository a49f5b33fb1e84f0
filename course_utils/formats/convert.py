"""From records to what a model is trained on: tensors."""

from collections.abc import Mapping

import torch
from torchvision import tv_tensors

from course_utils.formats.coco import object_mask
from course_utils.formats.records import Image

__all__ = ["to_torchvision"]


def to_torchvision(image: Image, labels: Mapping[str, int]) -> dict:
    """The target that torchvision's detectors are trained with.

    Args:
        image: the record.
        labels: the number of each class; 0 is the background. For a data set:
            ``{c.name: i for i, c in enumerate(dataset.categories, 1)}``.

    Returns:
        ``boxes`` (N, 4), float32, xyxy half-open, as ``tv_tensors.BoundingBoxes``;
        ``labels`` (N,), int64; ``area`` (N,), float32, of the box where the record
        names none; ``iscrowd`` (N,), int64, 0 where it says nothing; ``masks``
        (N, H, W), uint8, as ``tv_tensors.Mask``, if every object has a segmentation;
        ``image_id``, if the record has an id.

    Raises:
        ValueError: a class without a label.
    """
    things, size = image.objects, (image.height, image.width)
    if unknown := {thing.category for thing in things} - set(labels):
        raise ValueError(f"{image.file_name}: no label for {sorted(unknown)}")
    boxes = torch.tensor([thing.box for thing in things], dtype=torch.float32)
    areas = [
        (thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1])
        if thing.area is None
        else thing.area
        for thing in things
    ]
    target = {
        "boxes": tv_tensors.BoundingBoxes(
            boxes.reshape(-1, 4), format="XYXY", canvas_size=size
        ),
        "labels": torch.tensor([labels[t.category] for t in things], dtype=torch.int64),
        "area": torch.tensor(areas, dtype=torch.float32),
        "iscrowd": torch.tensor([int(bool(t.crowd)) for t in things]).long(),
    }
    if all(thing.segmentation for thing in things):
        masks = torch.zeros(len(things), *size, dtype=torch.uint8)
        for mask, thing in zip(masks, things, strict=True):
            mask[:] = torch.from_numpy(object_mask(thing, *size).copy())
        target["masks"] = tv_tensors.Mask(masks)
    if image.id is not None:
        target["image_id"] = image.id
    return target
