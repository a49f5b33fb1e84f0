"""The one form in memory that every format is read into and written from."""

import re
import reprlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal

from course_utils.files import Report

__all__ = [
    "FIELDS",
    "LOSSES",
    "Box",
    "Category",
    "Dataset",
    "Image",
    "Invalid",
    "Object",
]

Box = tuple[float, float, float, float]
Invalid = Literal["raise", "keep"]
Extra = dict[str, dict[str, Any]]

# What a format may store of a data set, beside what all three can: the names of the
# classes and, for each image, its file name, its size, and each object's class and box.
FIELDS = {
    "dataset.categories": "the list of classes: its order, and classes without objects",
    "category.id": "a number of our own choice for each class",
    "image.id": "a number for each image",
    "image.segmented": "whether the image has masks in a file of its own",
    "object.id": "a number for each object",
    "object.segmentation": "the outline: polygons, or a mask in run lengths",
    "object.area": "the area of the outline, in pixels",
    "object.crowd": "one box around many objects, too many to tell apart",
    "object.difficult": "hard to see: a detector need not find it",
    "object.truncated": "part of the object lies outside the box",
    "object.occluded": "part of the object is hidden by something else",
    "object.pose": "the side that we see: Frontal, Left, ...",
    "extra.voc": "other tags of a VOC file: source, depth, parts, actions, ...",
    "extra.coco": "other entries of a COCO file: info, licenses, keypoints, ...",
    "extra.yolo": "other entries of a data.yaml: paths, nc, ...",
}

# The fields that a format has no place for. VOC names the classes that have objects and
# leaves the list to an agreement; YOLO leaves the size of an image, and the ending of
# its name, to the image file, which therefore counts as part of the format.
#
# What is left out is the field, and the rest of the record stays true without it: a
# difficult object is an object. Not so a crowd, whose box without the flag would be one
# object that does not exist: with "object.crowd" the crowds themselves are left out.
LOSSES: dict[str, tuple[str, ...]] = {
    "voc": (
        "dataset.categories",
        "category.id",
        "image.id",
        "object.id",
        "object.segmentation",
        "object.area",
        "object.crowd",
        "extra.coco",
        "extra.yolo",
    ),
    "coco": (
        "image.segmented",
        "object.difficult",
        "object.truncated",
        "object.occluded",
        "object.pose",
        "extra.voc",
        "extra.yolo",
    ),
    "yolo": (
        "category.id",
        "image.id",
        "image.segmented",
        "object.id",
        "object.segmentation",
        "object.area",
        "object.crowd",
        "object.difficult",
        "object.truncated",
        "object.occluded",
        "object.pose",
        "extra.voc",
        "extra.coco",
    ),
}

# A box of two decimals (COCO), or of fractions with six (YOLO), may stick out of its
# image by its own rounding.
SLACK = 0.01  # pixels

LARGEST = 2**31 - 1  # pixels a side: the most that PNG and TIFF can say
NUMBER = re.compile(
    r"[-+]?(\d+(\.\d*)?|\.\d+)(e[-+]?\d+)?|[-+]?(nan|inf|infinity)",
    re.ASCII | re.IGNORECASE,
)


@dataclass
class Category:
    """A class of objects; known by its name, whatever number a format gives it."""

    name: str
    id: int | None = None
    extra: Extra = field(default_factory=dict)


@dataclass
class Object:
    """One annotated object; None stands for what the file does not say."""

    category: str
    """The name of its class."""
    box: Box
    """x1, y1, x2, y2 in pixels, half-open: the box of the first pixel is 0, 0, 1, 1."""
    id: int | None = None
    segmentation: list | dict | None = None
    """As in COCO: polygons ``[[x, y, x, y, ...], ...]``, where pixel (0, 0) covers 0 to
    1, or run lengths ``{"size": [height, width], "counts": ...}``; see :mod:`rle`."""
    area: float | None = None
    crowd: bool | None = None
    difficult: bool | None = None
    truncated: bool | None = None
    occluded: bool | None = None
    pose: str | None = None
    extra: Extra = field(default_factory=dict)
    """By format, the entries of the file that have no field here."""
    as_read: tuple[str, Box] | None = field(default=None, compare=False, repr=False)
    """The format it was read from, and the box as it stands there. That format writes
    these numbers again, digit for digit, as long as ``box`` has not changed."""


@dataclass
class Image:
    """An image and its objects, maybe none."""

    file_name: str
    width: int
    height: int
    objects: list[Object] = field(default_factory=list)
    id: int | None = None
    segmented: bool | None = None
    extra: Extra = field(default_factory=dict)


@dataclass
class Dataset:
    """Images, and the classes of their objects in the order of their indices."""

    categories: list[Category]
    images: list[Image]
    extra: Extra = field(default_factory=dict)
    report: Report = field(default_factory=Report, compare=False, repr=False)
    """What the reader passed over, found missing or mended."""


# --- checks --------------------------------------------------------------------------


def check_losses(dataset: Dataset, format: str, drop: Collection[str]) -> None:
    """Raise where the data set has a field that the format cannot hold.

    Args:
        dataset: what is to be written.
        format: ``"voc"``, ``"coco"`` or ``"yolo"``.
        drop: the fields, out of ``LOSSES[format]``, that may be left out.

    Raises:
        TypeError: ``drop`` is a string.
        ValueError: a field would be lost, or ``drop`` names one that would not.
    """
    if isinstance(drop, str):
        raise TypeError(f"drop must be a tuple of names, got {drop!r}")
    if unknown := set(drop) - set(LOSSES[format]):
        raise ValueError(
            f"drop names {sorted(unknown)}, but {format} loses only {LOSSES[format]}"
        )
    lost = {
        name: where
        for name in LOSSES[format]
        if name not in drop and (where := _first(dataset, name))
    }
    if lost:
        found = ", ".join(f"{name} ({where})" for name, where in lost.items())
        wanted = (*drop, *lost)
        text = f"{format} cannot hold {found}; to leave out: drop={wanted}"
        things = [thing for image in dataset.images for thing in image.objects]
        if "object.crowd" in lost and (count := sum(t.crowd is True for t in things)):
            text += f"; 'object.crowd' leaves out {count} of {len(things)} objects"
        raise ValueError(text)


def check_dataset(dataset: Dataset, invalid: Invalid) -> None:
    """Raise where a data set does not hold together: what any writer asks first."""
    check_classes("categories", [c.name for c in dataset.categories])
    names = {category.name for category in dataset.categories}
    for image in dataset.images:
        check_file_name(image.file_name)
        check_size(image.file_name, image.width, image.height)
        for i, thing in enumerate(image.objects):
            where = f"{image.file_name}: object {i}"
            if thing.category not in names:
                raise ValueError(f"{where}: unknown class {thing.category!r}")
            if len(thing.box) != 4:
                raise ValueError(f"{where}: box must be x1, y1, x2, y2: {thing.box}")
            for value in thing.box:
                check_number(f"{where}: box", value)
            check_box(where, thing.box, image.width, image.height, invalid, thing.box)


def check_classes(where: str, names: Collection[str]) -> None:
    """Raise unless the names are text, not empty, trimmed, all different."""
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"{where}: a class needs a name, got {shown(name)}")
        check_text(f"{where}: class name", name)
    check_unique(where, "class name", names)


def check_text(where: str, name: str) -> None:
    """Raise where a name has space at its ends, or cannot be written as UTF-8."""
    if name != name.strip():
        raise ValueError(f"{where} has space at its ends: {shown(name)}")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise ValueError(f"{where} holds half a character: {shown(name)}")


def check_unique(where: str, what: str, values: Collection) -> None:
    """Raise where a value comes twice."""
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{where}: duplicate {what} {shown(value)}")
        seen.add(value)


def check_file_name(name: str) -> None:
    """Raise unless the name is a path that stays below its folder on any system.

    ``C:\\a.jpg`` and ``..\\a.jpg`` are names of files on Linux, and lead out of the
    folder on Windows; ``b\\a.jpg`` is a file here and a folder with a file there.
    """
    _check_place(name)
    if "\\" in name:
        raise ValueError(f"a backslash in a file name: {shown(name, 200)}")
    check_text("a file name", name)


def _check_place(name: str) -> None:
    path, windows = PurePosixPath(str(name)), PureWindowsPath(str(name))
    if (
        not isinstance(name, str)
        or not path.name
        or not windows.name
        or name.endswith(("/", "\\"))
        or path.is_absolute()
        or windows.drive
        or windows.root
        or ".." in windows.parts  # forward slashes count there, too
        or "\0" in name
    ):
        raise ValueError(
            f"not a file name below the data set's folder: {shown(name, 200)}"
        )


def check_size(where: str, width: Any, height: Any) -> None:
    """Raise unless width and height are positive integers, as large as files allow."""
    for name, value in (("width", width), ("height", height)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            got = shown(value)
            raise ValueError(f"{where}: {name} must be an integer > 0, got {got}")
        if value > LARGEST:
            got = shown(value)
            raise ValueError(f"{where}: {name} must be at most {LARGEST}, got {got}")


def check_number(where: str, value: Any) -> None:
    """Raise unless the value is an integer or a finite float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: not a number: {shown(value)}")
    if not abs(value) < 1e300:  # nan neither; and sums stay finite, too
        raise ValueError(f"{where}: not finite: {shown(value)}")


def parse_number(where: str, text: str) -> int | float:
    """The number that a text says, an integer where it is written as one.

    Python's own ``float`` and ``int`` also take ``1_0`` for 10, and digits of any
    alphabet, which other programs do not.

    Raises:
        ValueError: no number, or not finite.
    """
    text = text.strip()
    if not NUMBER.fullmatch(text):
        raise ValueError(f"{where}: not a number: {shown(text)}")
    number = float(text)
    check_number(where, number)
    if re.fullmatch(r"[-+]?\d+", text, re.ASCII):
        sign, digits = text.rstrip("0123456789"), text.lstrip("+-").lstrip("0")
        return int(sign + (digits or "0"))  # Python limits the digits of an integer
    return number


def check_box(
    where: str, box: Box, width: int, height: int, invalid: Invalid, shown: Any
) -> None:
    """Raise where a box has no area, or sticks out of its image.

    Args:
        where: how the message begins.
        box: xyxy, half-open, finite.
        width, height: of the image.
        invalid: ``"keep"`` lets such boxes pass.
        shown: the box as the message quotes it.
    """
    if invalid not in ("raise", "keep"):
        raise ValueError(f"invalid must be 'raise' or 'keep', got {invalid!r}")
    if invalid == "keep":
        return
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        raise ValueError(
            f"{where}: box {shown} has no area ({x2 - x1:g} x {y2 - y1:g} pixels); "
            "invalid='keep' takes such boxes as they are"
        )
    if (out := max(-x1, -y1, x2 - width, y2 - height)) > SLACK:
        raise ValueError(
            f"{where}: box {shown} sticks out of the image of {width} x {height} "
            f"by {out:g} pixels; invalid='keep' takes such boxes as they are"
        )


def _first(dataset: Dataset, name: str) -> str | None:
    """Where the field is first present: neither None nor empty."""
    if name == "dataset.categories":
        names = [category.name for category in dataset.categories]
        return None if names == used_classes(dataset.images) else f"{len(names)} names"
    level, attribute = name.split(".")
    for kind, where, item in _items(dataset):
        if level == "extra":
            value = item.extra.get(attribute)
        else:
            value = getattr(item, attribute) if kind == level else None
        if value not in (None, [], {}):
            return where
    return None


def _items(dataset: Dataset) -> Iterator[tuple[str, str, Any]]:
    yield "dataset", "data set", dataset
    for category in dataset.categories:
        yield "category", f"class {category.name}", category
    for image in dataset.images:
        yield "image", image.file_name, image
        for i, thing in enumerate(image.objects):
            yield "object", f"{image.file_name}, object {i}", thing


# --- what readers and writers share --------------------------------------------------


def used_classes(images: Collection[Image]) -> list[str]:
    """The classes that have objects, sorted: the list where a format has none."""
    return sorted({thing.category for image in images for thing in image.objects})


def without_crowds(image: Image, drop: Collection[str]) -> list[Object]:
    """The objects to write: with ``"object.crowd"`` in ``drop``, all but the crowds."""
    kept = [thing for thing in image.objects if thing.crowd is not True]
    return kept if "object.crowd" in drop else image.objects


def shown(value: Any, length: int = 60) -> str:
    """A value as a message quotes it: short, however large or deep the value is."""
    quoting = reprlib.Repr()
    quoting.maxstring = quoting.maxother = quoting.maxlong = length
    try:
        text = quoting.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"<{type(value).__name__}>"
    return text if len(text) <= length else text[: length - 3] + "..."


class Mender:
    """What a reader does with files as common tools write them: refuse, or mend.

    Args:
        on: whether to mend.

    Attributes:
        report: of what was mended, and what the reader adds to it.
    """

    def __init__(self, on: bool):
        if not isinstance(on, bool):
            raise TypeError(f"mend must be True or False, got {on!r}")
        self.on, self.report = on, Report()

    def mend(self, kind: str, where: str, problem: str) -> None:
        """Note what is mended, or raise.

        Args:
            kind: what is done about it, such as ``"left out"``.
            where: the file and the line or field.
            problem: what is wrong there.

        Raises:
            ValueError: nothing is to be mended; the message offers it.
        """
        if not self.on:
            raise ValueError(f"{where}: {problem} (with mend=True: {kind})")
        self.report.add("mended", kind, where)

    def name(self, where: str, name: str) -> str:
        """A name without the space around it."""
        if name != name.strip():
            self.report.add("mended", "trimmed", where)
        return name.strip()

    def file_name(self, where: str, name: str) -> str:
        """The name of an image's file, trimmed and with forward slashes.

        Raises:
            ValueError: it leads out of its folder, or has backslashes.
        """
        name = self.name(where, name)
        try:
            _check_place(name)
            check_text("a file name", name)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if "\\" in name:
            problem = f"a backslash in a file name: {shown(name, 200)}"
            self.mend("read as a slash", where, problem)
        return name.replace("\\", "/")


def tidy(value: float) -> float:
    """A coordinate that we computed, without the noise of its arithmetic.

    Nine decimals are kept, and a whole number becomes an integer: 256.61 - 217.62 is
    38.99000000000001, and 38.99 was meant.
    """
    value = round(value, 9)
    return int(value) if value == int(value) else value


def label_files(dataset: Dataset, suffix: str) -> dict[str, Image]:
    """For formats with a file for each image: that file's name, and the image.

    Raises:
        ValueError: two images would share a file.
    """
    files: dict[str, Image] = {}
    for image in dataset.images:
        name = PurePosixPath(image.file_name).with_suffix(suffix).as_posix()
        if name in files:
            both = f"{files[name].file_name!r} and {image.file_name!r}"
            raise ValueError(f"{both} would share the file {name!r}")
        files[name] = image
    return files
