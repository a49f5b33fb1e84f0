"""From records to what a model is trained on: pixels, masks, tensors."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor
from torchvision import tv_tensors

from course_utils import images as pictures
from course_utils.formats import rle
from course_utils.formats.coco import object_mask
from course_utils.formats.records import Image, Object

__all__ = ["from_torchvision", "load_image", "read_voc_masks", "to_torchvision"]

VOID = 255  # VOC's label of the border around objects, which counts for no class
TURNED_BACK = {6: 8, 8: 6}  # a quarter turn is undone by the other one


def load_image(image: Image, folder: str | PathLike) -> Tensor:
    """The pixels that an image's boxes refer to.

    Boxes refer to the upright image (EXIF) if it has the size that the annotations
    name, else to the pixels as they are stored. Gray, palette, CMYK and alpha become
    RGB, as :func:`course_utils.images.read_image` does it.

    Args:
        image: the record.
        folder: where ``image.file_name`` lies.

    Returns:
        (3, H, W), uint8, of the record's height and width.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or has another size.
    """
    file = Path(folder) / image.file_name
    upright, stored = pictures.upright_size(file), pictures.stored_size(file)
    if upright == (image.height, image.width):
        return pictures.read_image(file)
    if stored == (image.height, image.width):
        turn = pictures.orientation(file)
        return pictures.upright(pictures.read_image(file), TURNED_BACK.get(turn, turn))
    raise ValueError(
        f"{file}: the image has {upright[1]} x {upright[0]} pixels, its annotations "
        f"say {image.width} x {image.height}"
    )


def read_voc_masks(path: str | PathLike, image: Image) -> tuple[Tensor, Tensor]:
    """The masks of a png of VOC's ``SegmentationObject`` or ``SegmentationClass``.

    Such a picture has a palette; its indices are the labels: 0 the background, 1 .. N
    the objects in the order of the xml file (or the classes in that of VOC), 255 the
    border between them.

    Args:
        path: the png.
        image: the record of its image, for the size.

    Returns:
        masks (N, H, W), bool, one for each label that occurs, sorted; and the void
        pixels (H, W), bool.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, has colors instead of labels, or another size
            than the image.
    """
    labels = pictures.read_mask(path)
    if labels.shape != (image.height, image.width):
        raise ValueError(
            f"{path}: the mask has {labels.shape[1]} x {labels.shape[0]} pixels, the "
            f"image {image.file_name} {image.width} x {image.height}"
        )
    found = [value for value in labels.unique() if value not in (0, VOID)]
    masks = torch.zeros(len(found), *labels.shape, dtype=torch.bool)
    for mask, value in zip(masks, found, strict=True):
        mask[:] = labels == value
    return masks, labels == VOID


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


def from_torchvision(
    target: Mapping, file_name: str, names: Mapping[int, str]
) -> Image:
    """The record of an image whose target is known; masks become run lengths.

    Args:
        target: as :func:`to_torchvision` returns it; ``area``, ``iscrowd``, ``masks``
            and ``image_id`` may be missing.
        file_name: of the image.
        names: the class of each label.

    Returns:
        The record, with the size that ``boxes`` know as ``tv_tensors.BoundingBoxes``.

    Raises:
        TypeError: ``boxes`` are no ``tv_tensors.BoundingBoxes``.
        ValueError: these are not XYXY, or a label has no name.
    """
    boxes = target["boxes"]
    if not isinstance(boxes, tv_tensors.BoundingBoxes):
        got = type(boxes).__name__
        raise TypeError(f"boxes must be tv_tensors.BoundingBoxes, got {got}")
    if boxes.format.name != "XYXY":
        raise ValueError(f"boxes must be XYXY, got {boxes.format.name}")
    height, width = boxes.canvas_size
    id = target.get("image_id")
    image = Image(file_name, width, height, id=None if id is None else int(id))
    for i, (label, box) in enumerate(
        zip(target["labels"].tolist(), boxes.tolist(), strict=True)
    ):
        if label not in names:
            raise ValueError(f"{file_name}: label {label} has no name")
        thing = Object(names[label], tuple(box))
        if "area" in target:
            thing.area = target["area"][i].item()
        if "iscrowd" in target:
            thing.crowd = bool(target["iscrowd"][i])
        if "masks" in target:
            thing.segmentation = rle.encode(target["masks"][i].cpu().numpy())
        image.objects.append(thing)
    return image
