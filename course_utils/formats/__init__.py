"""PASCAL VOC, COCO and YOLO, read into and written from one form in memory.

A :class:`Dataset` is a list of classes and a list of :class:`Image` records, each with
its :class:`Object` records. Boxes are xyxy, in pixels, as floats, half-open: the first
pixel of an image is the box 0, 0, 1, 1.

What is read and written in one format is the same in every field. Between formats,
what both can hold survives: boxes within 1e-6 pixels, and exactly where VOC holds
integers. What a format cannot hold, :data:`LOSSES`, it refuses to write unless
``drop=(...)`` names it. Files are written whole or not at all.

What is wrong in a file is refused, with its name and the line or field. What common
tools write, though it is wrong, is read with ``mend=True``. What a reader passed over,
found missing or mended is counted in :attr:`Dataset.report`, a
:class:`course_utils.files.Report`; nothing is printed.
"""

from collections.abc import Collection
from os import PathLike

from course_utils.formats import rle
from course_utils.formats.coco import (
    COCO_CLASSES,
    COCO_UNUSED,
    object_mask,
    read_coco,
    write_coco,
)
from course_utils.formats.convert import to_torchvision
from course_utils.formats.records import (
    FIELDS,
    LOSSES,
    Category,
    Dataset,
    Image,
    Invalid,
    Object,
)
from course_utils.formats.voc import VOC_CLASSES, read_voc, write_voc
from course_utils.formats.yolo import read_yolo, write_yolo

__all__ = [
    "COCO_CLASSES",
    "COCO_UNUSED",
    "FIELDS",
    "LOSSES",
    "VOC_CLASSES",
    "Category",
    "Dataset",
    "Image",
    "Object",
    "object_mask",
    "read",
    "read_coco",
    "read_voc",
    "read_yolo",
    "rle",
    "to_torchvision",
    "write",
    "write_coco",
    "write_voc",
    "write_yolo",
]

_READERS = {"voc": read_voc, "coco": read_coco, "yolo": read_yolo}
_WRITERS = {"voc": write_voc, "coco": write_coco, "yolo": write_yolo}


def read(format: str, path: str | PathLike, **options) -> Dataset:
    """Read a data set.

    Args:
        format: ``"voc"``, ``"coco"`` or ``"yolo"``.
        path: a folder of xml files, a json file, or a folder of labels.
        options: of :func:`read_voc`, :func:`read_coco` or :func:`read_yolo`, such as
            ``mend=True``.

    Raises:
        FileNotFoundError, ValueError: see there.
    """
    return _chosen(_READERS, format)(path, **options)


def write(
    dataset: Dataset,
    format: str,
    path: str | PathLike,
    drop: Collection[str] = (),
    invalid: Invalid = "raise",
) -> None:
    """Write a data set; see :func:`write_voc`, :func:`write_coco`, :func:`write_yolo`.

    Args:
        dataset: the images.
        format: ``"voc"``, ``"coco"`` or ``"yolo"``.
        path: a folder, new or empty, also a link to one, or ``"."``; for COCO a file.
        drop: fields that may be left out; ``LOSSES[format]`` for all of them.
        invalid: ``"keep"`` writes boxes without area, or sticking out, too.

    Raises:
        OSError, ValueError: see there.
    """
    _chosen(_WRITERS, format)(dataset, path, drop, invalid)


def _chosen(table: dict, format: str):
    if format not in table:
        raise ValueError(f"format must be one of {tuple(table)}, got {format!r}")
    return table[format]
