"""YOLO: one text file for each image, and a file with the names of the classes.

A line is an object: ``class x_center y_center width height``. Classes count from 0, in
the order of the names. The four numbers are fractions of the image's width and height:
the whole of any image is ``0.5 0.5 1 1``. The size of an image is not in the files, and
its name only without its ending, so that reading needs the images too.

Source: https://docs.ultralytics.com/datasets/detect/
"""

from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from course_utils import images as pictures
from course_utils.files import find_files, read_lines, read_text, write_folder
from course_utils.formats.records import (
    Box,
    Category,
    Dataset,
    Image,
    Invalid,
    Mender,
    Object,
    check_box,
    check_classes,
    check_dataset,
    check_file_name,
    check_losses,
    check_size,
    label_files,
    parse_number,
    shown,
    without_crowds,
)

__all__ = ["read_yolo", "write_yolo"]

ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
NAMES_FILES = ("data.yaml", "data.yml", "classes.txt")
YAML = (".yaml", ".yml")


def read_yolo(
    path: str | PathLike,
    images: str | PathLike | Mapping[str, tuple[int, int]] | None = None,
    classes: str | PathLike | Sequence[str] | None = None,
    invalid: Invalid = "raise",
    mend: bool = False,
) -> Dataset:
    """Read a folder of labels.

    An image without a text file, or with an empty one, has no objects; a text file
    without an image is an error. Folders are searched with the folders in them, also
    linked ones; suffixes count in any case; hidden files and folders, and files of
    another suffix, are passed over. The data set's ``report`` lists these, and the
    images without a text file.

    Args:
        path: the folder that holds ``labels``, or the text files themselves.
        images: the folder of the images, by default ``images`` in ``path``; or, where
            there are none, ``{file name: (width, height)}``. The size is that of the
            upright image (EXIF).
        classes: the names, or the file that holds them: a ``data.yaml`` with an entry
            ``names``, or a text file with a name a line. By default ``data.yaml`` or
            ``classes.txt`` in ``path``.
        invalid: ``"keep"`` takes boxes without area, or sticking out of the image, as
            they are.
        mend: whether to read what common tools write, though it is wrong, and say so
            in ``report.mended`` of the data set: classes such as ``1.0`` become
            integers; names may lie in ``labels/classes.txt``; text files without an
            image are left out.

    Returns:
        The images, sorted by name.

    Raises:
        FileNotFoundError: there is no such folder, or no file of names.
        ValueError: the file and the line or field that is wrong; no images, or no text
            file for any of them.
    """
    path, mender = Path(path), Mender(mend)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    labels = path / "labels" if (path / "labels").is_dir() else path
    names_file = _names_file(path, labels, mender) if classes is None else None
    if isinstance(classes, str | PathLike):
        names_file = Path(classes)
    names, extra = _read_names(names_file, mender) if names_file else (classes, {})
    check_classes(str(names_file or "classes"), names)
    found = find_files(labels, (".txt",), mender.report)
    sizes, pictures_found = _sizes(path, images, mender)
    dataset = Dataset(
        categories=[Category(name) for name in names],
        images=[Image(name, *sizes[name]) for name in sorted(sizes)],
        extra=extra,
        report=mender.report,
    )
    wanted, texts = label_files(dataset, ".txt"), {}
    for name, file in found.items():
        if names_file and file.name == names_file.name and file.samefile(names_file):
            continue
        key = PurePosixPath(name).with_suffix(".txt").as_posix()
        if key in texts:
            raise ValueError(f"{file}: {texts[key].name} has the same name")
        if key in wanted:
            texts[key] = file
        elif name.lower() != "classes.txt":
            mender.mend("left out", str(file), "there is no image of this name")
    if wanted and not texts:
        raise ValueError(f"{labels}: no .txt file for any of {len(wanted)} images")
    for name, image in wanted.items():
        if name in texts:
            _read_labels(texts[name], image, names, invalid, mender)
        else:
            mender.report.add("missing", "images without labels", image.file_name)
    _tidy_report(mender, {*found.values(), *pictures_found, names_file})
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
        drop: fields out of ``LOSSES["yolo"]`` that may be left out. With
            ``"object.crowd"``, objects that are crowds are left out themselves.
        invalid: ``"keep"`` writes boxes without area, or sticking out, too.

    Raises:
        FileExistsError: the folder is not empty.
        OSError: it cannot be written there.
        ValueError: a field would be lost, or is wrong; nothing is written.
    """
    check_losses(dataset, "yolo", drop)
    check_dataset(dataset, invalid)
    names = [category.name for category in dataset.categories]
    entries = dataset.extra.get("yolo", {}) | {"names": dict(enumerate(names))}
    if "nc" in entries:
        entries["nc"] = len(names)
    try:
        text = yaml.safe_dump(entries, allow_unicode=True, sort_keys=False)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"{path}: cannot be written as YAML: {error}") from error
    texts = {"data.yaml": text}
    for name, image in label_files(dataset, ".txt").items():
        things = without_crowds(image, drop)
        lines = [_line(thing, names, image) for thing in things]
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


def _names_file(path: Path, labels: Path, mender: Mender) -> Path:
    for folder in (path, labels):
        there = {file.name.lower(): file for file in folder.iterdir()}
        for name in NAMES_FILES:
            if name not in there or not there[name].is_file():
                continue
            if folder != path:
                problem = f"no names in {path}, but here; pass classes=..."
                mender.mend("taken", str(there[name]), problem)
            return there[name]
    raise FileNotFoundError(
        f"{path}: neither data.yaml nor classes.txt; pass classes=..."
    )


def _read_names(file: Path, mender: Mender) -> tuple[list[str], dict[str, Any]]:
    """The classes that a file lists, trimmed, and what else it says."""
    if file.suffix.lower() in YAML:
        names, extra = _read_yaml(file)
    else:
        names, extra = "\n".join(read_lines(file)).rstrip().split("\n"), {}
    return [
        mender.name(f"{file}: class {i}", name) if isinstance(name, str) else name
        for i, name in enumerate(names)
    ], extra


class _Loader(yaml.SafeLoader):
    """Refuses a name that comes twice in one place; YAML does, PyYAML does not."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if (key.tag, key.value) in seen:
                    problem = f"{key.value!r} comes twice"
                    mark = key.start_mark
                    raise yaml.constructor.ConstructorError(None, None, problem, mark)
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _parse(file: Path) -> Any:
    """What a yaml file holds; whatever the parser says becomes a ValueError."""
    text = read_text(file)
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{file}, line {line}: not YAML: {error.problem}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character {chr(error.character)!r}: {error.reason}"
        raise ValueError(f"{file}, line {line}: not YAML: {problem}") from error
    except RecursionError as error:
        raise ValueError(f"{file}: nested too deep for YAML") from error
    except MemoryError:
        raise
    except Exception as error:  # its makers of numbers and dates let theirs through
        raise ValueError(f"{file}: not YAML: {error!r:.80}") from error


def _read_yaml(file: Path) -> tuple[list[str], dict[str, Any]]:
    entries = _parse(file)
    if not isinstance(entries, dict) or "names" not in entries:
        raise ValueError(f"{file}: missing 'names'")
    names = entries.pop("names")
    if isinstance(names, dict):
        whole = all(type(number) is int for number in names)  # and no True for 1
        if not whole or set(names) != set(range(len(names))):
            numbers = shown(list(names))
            raise ValueError(f"{file}: names must count from 0, got {numbers}")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise ValueError(f"{file}: names must be a list, got {shown(names)}")
    if (count := entries.get("nc", len(names))) != len(names):
        raise ValueError(f"{file}: nc is {shown(count)}, but names are {len(names)}")
    return names, {"yolo": entries} if entries else {}


def _sizes(
    path: Path, images, mender: Mender
) -> tuple[dict[str, tuple[int, int]], list[Path]]:
    """(width, height) of each image by its file name; and the files."""
    if isinstance(images, Mapping):
        for name, size in images.items():
            check_file_name(name)
            if not isinstance(size, list | tuple) or len(size) != 2:
                raise ValueError(f"{name}: must be (width, height), got {shown(size)}")
            check_size(name, *size)
        return dict(images), []
    folder = path / "images" if images is None else Path(images)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of images{_advice(path)}")
    files = find_files(folder, ENDINGS, mender.report)
    if not files:
        known = ", ".join(ENDINGS)
        raise ValueError(f"{folder}: no images ({known}) in this folder")
    return {
        name: pictures.upright_size(file)[::-1] for name, file in files.items()
    }, list(files.values())


def _advice(path: Path) -> str:
    """Where the images are in the layout of Roboflow: ``train/images``."""
    parts = sorted(p.parent.name for p in path.glob("*/images") if p.is_dir())
    if not parts:
        return ""
    return (
        f"; there is {parts[0]}/images: read {path / parts[0]} with "
        f"classes={str(path / 'data.yaml')!r}"
    )


def _tidy_report(mender: Mender, used: set[Path | None]) -> None:
    """Images and labels may lie in one folder: then each was passed over for once."""
    kinds, known = mender.report.skipped, {str(file) for file in used}
    for kind, places in list(kinds.items()):
        places = [place for place in dict.fromkeys(places) if place not in known]
        if places:
            kinds[kind] = places
        else:
            del kinds[kind]


def _read_labels(
    file: Path, image: Image, names: Sequence[str], invalid: Invalid, mender: Mender
) -> None:
    for number, line in enumerate(read_lines(file), 1):
        words, where = line.split(), f"{file}, line {number}"
        if not words:
            continue
        if len(words) != 5:
            raise ValueError(
                f"{where}: must be class x_center y_center width height, "
                f"got {len(words)} numbers: {shown(line.strip(), 80)}"
            )
        try:
            index, *fractions = (parse_number("", word) for word in words)
        except ValueError as error:
            if "not finite" in str(error):
                raise ValueError(f"{where}{error}") from None
            raise ValueError(
                f"{where}: must be an integer and four numbers, got "
                f"{shown(line.strip(), 80)}"
            ) from None
        if isinstance(index, float):
            quoted = shown(line.strip(), 80)
            problem = f"must be an integer and four numbers, got {quoted}"
            if not index.is_integer():
                raise ValueError(f"{where}: {problem}")
            mender.mend("read as an integer", where, problem)
            index = int(index)
        if not 0 <= index < len(names):
            raise ValueError(
                f"{where}: unknown class {shown(index)}; there are {len(names)}, from 0"
            )
        fractions = tuple(map(float, fractions))
        box = to_xyxy(fractions, image.width, image.height)
        quoted = f"x_center, y_center, width, height = {fractions}"
        check_box(where, box, image.width, image.height, invalid, quoted)
        image.objects.append(Object(names[index], box, as_read=("yolo", fractions)))


# --- writing -------------------------------------------------------------------------


def _line(thing: Object, names: list[str], image: Image) -> str:
    read, fractions = thing.as_read or (None, None)
    size = image.width, image.height
    if read != "yolo" or to_xyxy(fractions, *size) != tuple(thing.box):
        fractions = from_xyxy(thing.box, *size)
    return " ".join(map(str, [names.index(thing.category), *fractions])) + "\n"
