"""PASCAL VOC: one xml file for each image.

Pixels are counted from 1, and a box includes its last row and column: the whole of an
image of 500 x 375 is ``xmin 1, ymin 1, xmax 500, ymax 375``. So x1 = xmin - 1 and
x2 = xmax, fractions included. There is no list of classes.

Source: https://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Collection, Sequence
from os import PathLike
from pathlib import Path
from typing import Any
from xml.parsers.expat import ErrorString

from course_utils.files import decode, find_files, write_file, write_folder
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
    check_losses,
    check_size,
    label_files,
    parse_number,
    shown,
    tidy,
    used_classes,
    without_crowds,
)

__all__ = ["VOC_CLASSES", "read_voc", "write_voc"]

VOC_CLASSES = tuple(
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse "
    "motorbike person pottedplant sheep sofa train tvmonitor".split()
)
"""The 20 classes of VOC 2007 to 2012, sorted: 0 to 19 in files of YOLO."""

SIDES = ("xmin", "ymin", "xmax", "ymax")
# An element in memory: its text; or a dictionary of its attributes ("@name"), its text
# beside these ("#text") and its children, those that share a tag in a list.
Tree = str | dict[str, Any]
ENCODING = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([^"']*)["']""")
FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_voc(
    path: str | PathLike,
    classes: Sequence[str] | None = None,
    invalid: Invalid = "raise",
    mend: bool = False,
) -> Dataset:
    """Read a folder of xml files (``Annotations``), or one file.

    Tags without a field of their own are kept in ``extra["voc"]`` of the image or the
    object, as text and dictionaries: ``extra["voc"]["source"]["database"]``.

    Args:
        path: the folder, searched with the folders in it, also linked ones, or the
            file. Hidden files and folders, and files of another suffix, are passed
            over; ``report.skipped`` of the data set lists them.
        classes: the names allowed, in order, such as :data:`VOC_CLASSES`; by default
            the names found, sorted.
        invalid: ``"keep"`` takes boxes without area, or sticking out of the image, as
            they are.
        mend: whether backslashes in file names become slashes; ``report.mended`` of
            the data set says where.

    Returns:
        The images, sorted by the paths of their xml files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file and the line or field that is wrong; a folder without xml
            files.
    """
    path, mender = Path(path), Mender(mend)
    files = [path]
    if path.is_dir():
        files = find_files(path, (".xml",), mender.report).values()
    if not files:
        raise ValueError(f"{path}: no .xml file in this folder")
    images: dict[str, Image] = {}
    for file in files:
        image = _read_image(file, classes, invalid, mender)
        if image.file_name in images:
            raise ValueError(f"{file}: filename: duplicate {image.file_name!r}")
        images[image.file_name] = image
    names = used_classes(images.values()) if classes is None else classes
    check_classes("classes", names)
    for image in images.values():
        if not image.objects:
            mender.report.add("missing", "images without objects", image.file_name)
    categories = [Category(name) for name in names]
    return Dataset(categories, list(images.values()), report=mender.report)


def write_voc(
    dataset: Dataset,
    path: str | PathLike,
    drop: Collection[str] = (),
    invalid: Invalid = "raise",
) -> None:
    """Write one xml file for each image, named like the image.

    A tag that the data set says nothing about is left out. Coordinates that come from
    another format are rounded to nine decimals.

    Args:
        dataset: the images.
        path: a folder, new or empty; or, for one image, a file ``*.xml``.
        drop: fields out of ``LOSSES["voc"]`` that may be left out. With
            ``"object.crowd"``, objects that are crowds are left out themselves.
        invalid: ``"keep"`` writes boxes without area, or sticking out, too.

    Raises:
        FileExistsError: the folder is not empty.
        OSError: it cannot be written there.
        ValueError: a field would be lost, or is wrong; nothing is written.
    """
    path = Path(path)
    check_losses(dataset, "voc", drop)
    check_dataset(dataset, invalid)
    files = label_files(dataset, ".xml")
    texts = {
        name: _text(image, without_crowds(image, drop)) for name, image in files.items()
    }
    if path.suffix.lower() != ".xml":
        write_folder(path, texts)
    elif len(texts) == 1:
        write_file(path, *texts.values())
    else:
        raise ValueError(f"{path}: one file holds one image, not {len(texts)}")


def to_xyxy(sides: Box) -> Box:
    """Counted from 1, inclusive, to counted from 0, half-open."""
    xmin, ymin, xmax, ymax = sides
    return float(xmin - 1), float(ymin - 1), float(xmax), float(ymax)


def from_xyxy(box: Box) -> Box:
    """Counted from 0, half-open, to counted from 1, inclusive."""
    x1, y1, x2, y2 = box
    return tidy(x1 + 1), tidy(y1 + 1), tidy(x2), tidy(y2)


# --- reading -------------------------------------------------------------------------


def _read_image(
    file: Path, classes: Sequence[str] | None, invalid: Invalid, mender: Mender
) -> Image:
    root, where = _root(file), str(file)
    if root.tag != "annotation":
        got = shown(root.tag).strip("'\"")
        raise ValueError(f"{file}: starts with <{got}>, not <annotation>")
    try:
        fields = _children(where, _to_tree(where, root))
    except RecursionError as error:
        raise ValueError(f"{file}: tags nested too deep") from error
    things = fields.pop("object", [])
    file_name = _take(where, fields, "filename")
    file_name = mender.file_name(f"{where}: filename", file_name)
    size = _children(f"{where}: size", _required(where, fields, "size"))
    width, height = (_integer(f"{where}: size", size, n) for n in ("width", "height"))
    check_size(f"{where}: size", width, height)
    if size:  # the depth
        fields["size"] = size
    image = Image(file_name, width, height)
    image.segmented = _flag(where, fields, "segmented")
    image.extra = {"voc": fields} if fields else {}
    for i, tree in enumerate(things if isinstance(things, list) else [things]):
        at = f"{where}: object {i}"
        image.objects.append(_object(at, tree, image, invalid, mender))
        if classes is not None and (name := image.objects[-1].category) not in classes:
            raise ValueError(f"{where}: object {i}: name: unknown class {name!r}")
    return image


def _root(file: Path) -> ET.Element:
    """The first tag; whatever the parser says becomes a ValueError.

    Expat knows four encodings. Python knows all that files are written in, so the text
    is decoded first: by its byte order mark, or as its first line says.
    """
    data, encoding = file.read_bytes(), "utf-8"
    if data[:2] in (b"<\0", b"\0<"):  # no mark, though the standard asks for one
        encoding = "utf-16-le" if data[:1] == b"<" else "utf-16-be"
    elif said := ENCODING.match(data):
        encoding = said[1].decode("latin-1")
    text = decode(data, str(file), encoding)
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        line, what = error.position[0], ErrorString(error.code)
        raise ValueError(f"{file}, line {line}: not XML: {what}") from error


def _object(
    where: str, tree: Tree, image: Image, invalid: Invalid, mender: Mender
) -> Object:
    fields = _children(where, tree)
    name = mender.name(f"{where}: name", _take(where, fields, "name"))
    bndbox = _children(f"{where}: bndbox", _required(where, fields, "bndbox"))
    sides = tuple(_number(f"{where}: bndbox", bndbox, side) for side in SIDES)
    if bndbox:
        fields["bndbox"] = bndbox
    box = to_xyxy(sides)
    check_box(where, box, image.width, image.height, invalid, f"{SIDES} = {sides}")
    return Object(
        category=name,
        box=box,
        difficult=_flag(where, fields, "difficult"),
        truncated=_flag(where, fields, "truncated"),
        occluded=_flag(where, fields, "occluded"),
        pose=_take(where, fields, "pose", required=False),
        extra={"voc": fields} if fields else {},
        as_read=("voc", sides),
    )


def _to_tree(where: str, element: ET.Element) -> Tree:
    text = element.text or ""
    tree: dict[str, Any] = {f"@{key}": value for key, value in element.items()}
    if not len(element):
        if not tree:
            return text
        return tree | {"#text": text} if text else tree
    if "".join([text, *(child.tail or "" for child in element)]).strip():
        raise ValueError(f"{where}: <{element.tag}> has text beside its tags")
    for child in element:
        value = _to_tree(where, child)
        if child.tag not in tree:
            tree[child.tag] = value
        elif isinstance(tree[child.tag], list):
            tree[child.tag].append(value)
        else:
            tree[child.tag] = [tree[child.tag], value]
    return tree


def _children(where: str, tree: Tree | list) -> dict[str, Any]:
    """A copy, out of which the fields with a place of their own are taken."""
    if isinstance(tree, list):
        raise ValueError(f"{where}: found {len(tree)} times")
    if isinstance(tree, str) and tree.strip():
        raise ValueError(f"{where}: text {shown(tree)} instead of tags")
    return {} if isinstance(tree, str) else dict(tree)


def _required(where: str, fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise ValueError(f"{where}: missing <{name}>")
    return fields.pop(name)


def _take(where, fields: dict[str, Any], name: str, required=True) -> str | None:
    if not required and name not in fields:
        return None
    value = _required(where, fields, name)
    if isinstance(value, list):
        raise ValueError(f"{where}: <{name}> found {len(value)} times")
    if isinstance(value, dict) or (required and not value.strip()):
        raise ValueError(f"{where}: <{name}> must hold text only, got {shown(value)}")
    return value


def _number(where: str, fields: dict[str, Any], name: str) -> float:
    return parse_number(f"{where}: {name}", _take(where, fields, name))


def _integer(where: str, fields: dict[str, Any], name: str) -> int:
    number = _number(where, fields, name)
    return int(number) if number == int(number) else number


def _flag(where: str, fields: dict[str, Any], name: str) -> bool | None:
    text = _take(where, fields, name, required=False)
    if text is None:
        return None
    if text.strip() not in ("0", "1"):
        raise ValueError(f"{where}: {name}: must be 0 or 1, got {shown(text)}")
    return text.strip() == "1"


# --- writing -------------------------------------------------------------------------


def _text(image: Image, things: list[Object]) -> str:
    tree = {
        "folder": None,
        "filename": image.file_name,
        "source": None,
        "size": {"width": image.width, "height": image.height},
        "segmented": _written(image.segmented),
        "object": [_object_tree(thing) for thing in things],
    }
    root = ET.Element("annotation")
    try:
        _fill(root, _merged(tree, image.extra.get("voc", {})))
        ET.indent(root, "\t")
        text = ET.tostring(root, encoding="unicode") + "\n"
    except RecursionError as error:
        raise ValueError(f"{image.file_name}: tags nested too deep") from error
    if found := FORBIDDEN.search(text):
        raise ValueError(f"{image.file_name}: XML cannot hold {found.group()!r}")
    return text


def _object_tree(thing: Object) -> dict[str, Any]:
    read, sides = thing.as_read or (None, None)
    if read != "voc" or to_xyxy(sides) != tuple(thing.box):
        sides = from_xyxy(thing.box)
    tree = {
        "name": thing.category,
        "pose": thing.pose,
        "truncated": _written(thing.truncated),
        "occluded": _written(thing.occluded),
        "bndbox": dict(zip(SIDES, sides, strict=True)),
        "difficult": _written(thing.difficult),
    }
    return _merged(tree, thing.extra.get("voc", {}))


def _merged(tree: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """What a field does not say, size and bndbox maybe in part, comes from extra."""
    for tag, value in extra.items():
        if isinstance(tree.get(tag), dict):
            tree[tag] = tree[tag] | value
        elif tree.get(tag) is None:
            tree[tag] = value
    return tree


def _written(flag: bool | None) -> int | None:
    return None if flag is None else int(flag)


def _fill(element: ET.Element, tree: Any) -> None:
    if not isinstance(tree, dict):
        element.text = str(tree)
        return
    for key, value in tree.items():
        if key.startswith("@"):
            element.set(key[1:], value)
        elif key == "#text":
            element.text = value
        elif value is not None:
            for one in value if isinstance(value, list) else [value]:
                _fill(ET.SubElement(element, key), one)
