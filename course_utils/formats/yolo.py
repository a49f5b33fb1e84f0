"""YOLO: one text file for each image, and a file with the names of the classes.

A line is an object: ``class x_center y_center width height``. Classes count from 0, in
the order of the names. The four numbers are fractions of the image's width and height:
the whole of any image is ``0.5 0.5 1 1``. The size of an image is not in the files, and
its name only without its ending, so that reading needs the images too.

Source: https://docs.ultralytics.com/datasets/detect/
"""

from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from course_utils import images as pictures
from course_utils.files import read_text, write_folder
from course_utils.formats.records import (
    Box,
    Category,
    Dataset,
    Image,
    Invalid,
    Object,
    check_box,
    check_classes,
    check_dataset,
    check_file_name,
    check_losses,
    check_number,
    check_size,
    label_files,
)

__all__ = ["read_yolo", "write_yolo"]

ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def read_yolo(
    path: str | PathLike,
    images: str | PathLike | Mapping[str, tuple[int, int]] | None = None,
    classes: str | PathLike | Sequence[str] | None = None,
    invalid: Invalid = "raise",
) -> Dataset:
    """Read a folder of labels.

    An image without a text file, or with an empty one, has no objects; a text file
    without an image is an error.

    Args:
        path: the folder that holds ``labels``, or the text files themselves; folders in
            it are searched too.
        images: the folder of the images, by default ``images`` in ``path``; or, where
            there are none, ``{file name: (width, height)}``. The size is that of the
            upright image (EXIF).
        classes: the names, or the file that holds them: a ``data.yaml`` with an entry
            ``names``, or a text file with a name a line. By default ``data.yaml`` or
            ``classes.txt`` in ``path``.
        invalid: ``"keep"`` takes boxes without area, or sticking out of the image, as
            they are.

    Returns:
        The images, sorted by name.

    Raises:
        FileNotFoundError: there is no such folder, or no file of names.
        ValueError: the file and the line or field that is wrong.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    names_file = _names_file(path) if classes is None else None
    if isinstance(classes, str | PathLike):
        names_file = Path(classes)
    names, extra = _read_names(names_file) if names_file else (classes, {})
    check_classes(str(names_file or "classes"), names)
    sizes = _sizes(path / "images" if images is None else images)
    dataset = Dataset(
        categories=[Category(name) for name in names],
        images=[Image(name, *sizes[name]) for name in sorted(sizes)],
        extra=extra,
    )
    labels = path / "labels" if (path / "labels").is_dir() else path
    wanted = label_files(dataset, ".txt")
    found = {file.relative_to(labels).as_posix() for file in labels.rglob("*.txt")}
    for name in sorted(found - set(wanted)):
        file = labels / name
        if name != "classes.txt" and not (names_file and file.samefile(names_file)):
            raise ValueError(f"{file}: there is no image of this name")
    if wanted and not found & set(wanted):
        raise ValueError(f"{labels}: no .txt file for any of {len(wanted)} images")
    for name, image in wanted.items():
        if name in found:
            _read_labels(labels / name, image, names, invalid)
    return dataset


def write_yolo(
    dataset: Dataset,
    path: str | PathLike,
    drop: Collection[str] = (),
    invalid: Invalid = "raise",
) -> None:
    """Write ``labels/*.txt``, named like the images, and ``data.yaml`` with the names.

    An image without objects gets an empty file. Fractions that come from another format
    are rounded to 15 decimals, so that integers of VOC are found again.

    Args:
        dataset: the images.
        path: a folder, new or empty.
        drop: fields out of ``LOSSES["yolo"]`` that may be left out.
        invalid: ``"keep"`` writes boxes without area, or sticking out, too.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: a field would be lost, or is wrong; nothing is written.
    """
    check_losses(dataset, "yolo", drop)
    check_dataset(dataset, invalid)
    names = [category.name for category in dataset.categories]
    entries = dataset.extra.get("yolo", {}) | {"names": dict(enumerate(names))}
    if "nc" in entries:
        entries["nc"] = len(names)
    texts = {"data.yaml": yaml.safe_dump(entries, allow_unicode=True, sort_keys=False)}
    for name, image in label_files(dataset, ".txt").items():
        lines = [_line(thing, names, image) for thing in image.objects]
        texts[f"labels/{name}"] = "".join(lines)
    write_folder(Path(path), texts)


def to_xyxy(fractions: Box, width: int, height: int) -> Box:
    """Center and size, in fractions of the image, to corners in pixels."""
    x, y, w, h = fractions
    return (
        (x - w / 2) * width,
        (y - h / 2) * height,
        (x + w / 2) * width,
        (y + h / 2) * height,
    )


def from_xyxy(box: Box, width: int, height: int) -> Box:
    """Corners in pixels to center and size, in fractions of the image."""
    x1, y1, x2, y2 = box
    fractions = (
        (x1 + x2) / 2 / width,
        (y1 + y2) / 2 / height,
        (x2 - x1) / width,
        (y2 - y1) / height,
    )
    return tuple(round(fraction, 15) for fraction in fractions)


# --- reading -------------------------------------------------------------------------


def _names_file(path: Path) -> Path:
    for name in ("data.yaml", "classes.txt"):
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(
        f"{path}: neither data.yaml nor classes.txt; pass classes=..."
    )


def _read_names(file: Path) -> tuple[list[str], dict[str, Any]]:
    """The classes that a file lists, and what else it says."""
    if file.suffix in (".yaml", ".yml"):
        return _read_yaml(file)
    return [line.strip() for line in read_text(file).rstrip().splitlines()], {}


def _read_yaml(file: Path) -> tuple[list[str], dict[str, Any]]:
    try:
        entries = yaml.safe_load(read_text(file))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        raise ValueError(f"{file}, line {line}: not YAML: {error.problem}") from error
    if not isinstance(entries, dict) or "names" not in entries:
        raise ValueError(f"{file}: missing 'names'")
    names = entries.pop("names")
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            numbers = list(names)
            raise ValueError(f"{file}: names must count from 0, got {numbers!r:.60}")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise ValueError(f"{file}: names must be a list, got {names!r:.60}")
    if entries.get("nc", len(names)) != len(names):
        raise ValueError(f"{file}: nc is {entries['nc']}, but names are {len(names)}")
    return names, {"yolo": entries} if entries else {}


def _sizes(images) -> dict[str, tuple[int, int]]:
    """(width, height) of each image, by its file name."""
    if isinstance(images, Mapping):
        for name, (width, height) in images.items():
            check_file_name(name)
            check_size(name, width, height)
        return dict(images)
    folder = Path(images)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of images")
    files = (f for f in folder.rglob("*") if f.suffix.lower() in ENDINGS)
    return {
        file.relative_to(folder).as_posix(): pictures.upright_size(file)[::-1]
        for file in files
    }


def _read_labels(file: Path, image: Image, names, invalid: Invalid) -> None:
    for number, line in enumerate(read_text(file).splitlines(), 1):
        words, where = line.split(), f"{file}, line {number}"
        if not words:
            continue
        if len(words) != 5:
            raise ValueError(
                f"{where}: must be class x_center y_center width height, "
                f"got {len(words)} numbers: {line.strip()!r:.80}"
            )
        try:
            index, fractions = int(words[0]), tuple(map(float, words[1:]))
        except ValueError:
            raise ValueError(
                f"{where}: must be an integer and four numbers, got {line.strip()!r}"
            ) from None
        if not 0 <= index < len(names):
            raise ValueError(
                f"{where}: unknown class {index}; there are {len(names)}, from 0"
            )
        for value in fractions:
            check_number(where, value)
        box = to_xyxy(fractions, image.width, image.height)
        shown = f"x_center, y_center, width, height = {fractions}"
        check_box(where, box, image.width, image.height, invalid, shown)
        image.objects.append(Object(names[index], box, as_read=("yolo", fractions)))


# --- writing -------------------------------------------------------------------------


def _line(thing: Object, names: list[str], image: Image) -> str:
    read, fractions = thing.as_read or (None, None)
    size = image.width, image.height
    if read != "yolo" or to_xyxy(fractions, *size) != tuple(thing.box):
        fractions = from_xyxy(thing.box, *size)
    return " ".join(map(str, [names.index(thing.category), *fractions])) + "\n"
