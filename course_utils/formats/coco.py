"""COCO: one json file for all images.

A box is ``[x, y, width, height]`` in pixels, where x and y count from 0, from the
image's left and top edge: the whole of an image is ``[0, 0, 500, 375]``. Classes,
images and objects have ids of their own, in any order and with gaps.

Source: https://cocodataset.org/#format-data
"""

import json
from collections.abc import Collection
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from course_utils.files import read_text, write_file
from course_utils.formats import rle
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
    check_number,
    check_size,
    check_unique,
    shown,
    tidy,
)

__all__ = ["COCO_CLASSES", "COCO_UNUSED", "object_mask", "read_coco", "write_coco"]

COCO_UNUSED = {
    12: "street sign",
    26: "hat",
    29: "shoe",
    30: "eye glasses",
    45: "plate",
    66: "mirror",
    68: "window",
    69: "desk",
    71: "door",
    83: "blender",
    91: "hair brush",
}
"""The ids of the paper's 91 classes that no object of the files has."""

_NAMES = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat,
traffic light, fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse,
sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase,
frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard,
surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana,
apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch,
potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors,
teddy bear, hair drier, toothbrush""".replace("\n", " ").split(", ")

COCO_CLASSES = dict(
    zip((i for i in range(1, 92) if i not in COCO_UNUSED), _NAMES, strict=True)
)
"""The 80 classes that have objects, by their ids, 1 to 90 with ten gaps."""


def read_coco(
    path: str | PathLike, invalid: Invalid = "raise", mend: bool = False
) -> Dataset:
    """Read a file such as ``instances_val2017.json``.

    Entries without a field of their own are kept in ``extra["coco"]`` of the data set
    (info, licenses), the category, the image or the object (keypoints).

    Args:
        path: the file.
        invalid: ``"keep"`` takes boxes without area, or sticking out of the image, as
            they are.
        mend: whether to read what common tools write, though it is wrong, and say so
            in ``report.mended`` of the data set: a class that no object has and whose
            name another one has (Roboflow's root category) is left out, and so are
            polygons of fewer than three points; ids and sizes such as ``1.0`` become
            integers; backslashes in file names become slashes.

    Returns:
        The images in the file's order, also those without objects, which
        ``report.missing`` counts.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file and the line or field that is wrong.
    """
    path, mender = Path(path), Mender(mend)
    document = _parse(path)
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise ValueError(f"{path}: a {kind}, not an object with images and annotations")
    parts = {
        name: _entries(path, name, _take(str(path), document, name, list), mender)
        for name in ("categories", "images", "annotations")
    }
    categories = {}
    for where, entry in parts["categories"]:
        id = entry.pop("id")
        name = mender.name(f"{where}: name", _take(where, entry, "name", str))
        categories[id] = Category(name, id, _extra(entry))
    used = {_take_id(*pair, "category_id", mender) for pair in parts["annotations"]}
    _drop_roots(path, categories, used, mender)
    check_classes(f"{path}: categories", [c.name for c in categories.values()])
    images = {}
    for where, entry in parts["images"]:
        image = _read_image(where, entry, mender)
        images[image.id] = image
    for where, entry in parts["annotations"]:
        image = _known(where, entry, "image_id", images, mender)
        category = _known(where, entry, "category_id", categories, mender)
        thing = _read_object(where, entry, category, image, invalid, mender)
        image.objects.append(thing)
    for image in images.values():
        if not image.objects:
            mender.report.add("missing", "images without objects", image.file_name)
    return Dataset(
        list(categories.values()),
        list(images.values()),
        _extra(document),
        mender.report,
    )


def write_coco(
    dataset: Dataset,
    path: str | PathLike,
    drop: Collection[str] = (),
    invalid: Invalid = "raise",
) -> None:
    """Write one json file, image by image; an older one is replaced.

    Ids that are missing become the smallest numbers, from 1, that are free. An object
    that another format has brought gets what COCO's tools ask for: ``iscrowd`` 0 and an
    ``area``, of its outline if it has one, else of its box. Coordinates of such an
    object are rounded to nine decimals.

    Args:
        dataset: the images.
        path: the file; its folder is made.
        drop: fields out of ``LOSSES["coco"]`` that may be left out.
        invalid: ``"keep"`` writes boxes without area, or sticking out, too.

    Raises:
        OSError: the file cannot be written there.
        ValueError: a field would be lost, or is wrong; nothing is written.
    """
    check_losses(dataset, "coco", drop)
    check_dataset(dataset, invalid)
    names = [category.name for category in dataset.categories]
    category_ids = _ids("category", [category.id for category in dataset.categories])
    numbers = dict(zip(names, category_ids, strict=True))
    image_ids = _ids("image", [image.id for image in dataset.images])
    objects = [thing for image in dataset.images for thing in image.objects]
    object_ids = iter(_ids("object", [thing.id for thing in objects]))
    document = dataset.extra.get("coco", {}) | {
        "categories": [
            category.extra.get("coco", {})
            | {"id": numbers[category.name], "name": category.name}
            for category in dataset.categories
        ],
        "images": [],
        "annotations": [],
    }
    for image, image_id in zip(dataset.images, image_ids, strict=True):
        entry = {"id": image_id, "file_name": image.file_name}
        size = {"width": image.width, "height": image.height}
        document["images"].append(image.extra.get("coco", {}) | entry | size)
        for thing in image.objects:
            id = next(object_ids)
            entry = {"id": id, "image_id": image_id}
            entry |= {"category_id": numbers[thing.category]}
            entry |= _object_entry(f"{image.file_name}: object id {id}", thing, image)
            document["annotations"].append(thing.extra.get("coco", {}) | entry)
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        if any("\ud800" <= character <= "\udfff" for character in text):
            text = json.dumps(document, allow_nan=False)  # halves of a character
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be written as JSON: {error}") from error
    write_file(Path(path), text + "\n")


def object_mask(thing: Object, height: int, width: int) -> np.ndarray:
    """The pixels of an object's segmentation.

    Args:
        thing: with polygons or run lengths.
        height, width: of its image.

    Returns:
        (H, W), bool.

    Raises:
        ValueError: it has no segmentation, or one of another size.
    """
    if not thing.segmentation:
        raise ValueError(f"{thing.category} at {thing.box} has no segmentation")
    return _mask(thing.segmentation, height, width)


def _mask(outline: list | dict, height: int, width: int) -> np.ndarray:
    if isinstance(outline, list):
        return rle.from_polygons(outline, height, width)
    size = rle.size_of(outline)  # before a mask of it takes any memory
    if size != (height, width):
        raise ValueError(
            f"mask of {size[1]} x {size[0]} pixels in an image of {width} x {height}"
        )
    return rle.decode(outline)


def to_xyxy(bbox: Box) -> Box:
    """Left, top, width, height to corners."""
    x, y, width, height = bbox
    return float(x), float(y), float(x + width), float(y + height)


def from_xyxy(box: Box) -> Box:
    """Corners to left, top, width, height."""
    x1, y1, x2, y2 = box
    return tidy(x1), tidy(y1), tidy(x2 - x1), tidy(y2 - y1)


# --- reading -------------------------------------------------------------------------


def _parse(path: Path) -> Any:
    """What a json file holds; whatever the parser says becomes a ValueError."""
    text = read_text(path)
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}"
        raise ValueError(f"{place}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deep for JSON") from error
    except ValueError as error:  # a name twice, an integer of thousands of digits
        raise ValueError(f"{path}: not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A json object; json itself would keep the last of entries with one name."""
    entry = dict(pairs)
    if len(entry) < len(pairs):
        check_unique("an object", "name", [name for name, _ in pairs])
    return entry


def _entries(
    path: Path, name: str, values: list, mender: Mender
) -> list[tuple[str, dict]]:
    """How messages name each entry, and a copy of it."""
    seen, entries = set(), []
    for i, entry in enumerate(values):
        where = f"{path}: {name}[{i}]"
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: not an object: {shown(entry)}")
        id = _take_id(where, entry, "id", mender)
        where += f" (id {shown(id)})"
        if id in seen:
            raise ValueError(f"{where}: duplicate id {shown(id)}")
        seen.add(id)
        entries.append((where, entry | {"id": id}))
    return entries


def _drop_roots(
    path: Path, categories: dict[int, Category], used: set[int], mender: Mender
) -> None:
    """Leave out classes without objects whose name another class has."""
    for id, category in list(categories.items()):
        twins = [c for c in categories.values() if c.name == category.name]
        if len(twins) > 1 and id not in used:
            problem = (
                f"duplicate class name {shown(category.name)}, of which no object has "
                f"the id {shown(id)}"
            )
            mender.mend("left out", f"{path}: categories", problem)
            del categories[id]


def _read_image(where: str, entry: dict[str, Any], mender: Mender) -> Image:
    file_name = _take(where, entry, "file_name", str)
    file_name = mender.file_name(f"{where}: file_name", file_name)
    width, height = (_take_id(where, entry, n, mender) for n in ("width", "height"))
    del entry["width"], entry["height"]
    check_size(where, width, height)
    id = entry.pop("id")
    return Image(file_name, width, height, id=id, extra=_extra(entry))


def _read_object(
    where: str,
    entry: dict[str, Any],
    category: Category,
    image: Image,
    invalid: Invalid,
    mender: Mender,
) -> Object:
    bbox = tuple(_take(where, entry, "bbox", list))
    if len(bbox) != 4:
        got = shown(list(bbox))
        raise ValueError(f"{where}: bbox must be [x, y, width, height]: {got}")
    for value in bbox:
        check_number(f"{where}: bbox", value)
    box = to_xyxy(bbox)
    quoted = f"[x, y, width, height] = {list(bbox)}"
    check_box(where, box, image.width, image.height, invalid, quoted)
    if (area := _optional(entry, "area")) is not None:
        check_number(f"{where}: area", area)
    crowd = _optional(entry, "iscrowd")
    if not (crowd is None or (isinstance(crowd, int | float) and crowd in (0, 1))):
        raise ValueError(f"{where}: iscrowd must be 0 or 1, got {shown(crowd)}")
    outline = _optional(entry, "segmentation")
    if isinstance(outline, list) and outline:
        outline = _mend_polygons(f"{where}: segmentation", outline, mender)
    _check_outline(f"{where}: segmentation", outline, image)
    return Object(
        category=category.name,
        box=box,
        id=entry.pop("id"),
        segmentation=outline,
        area=area,
        crowd=None if crowd is None else bool(crowd),
        extra=_extra(entry),
        as_read=("coco", bbox),
    )


def _mend_polygons(where: str, polygons: list, mender: Mender) -> list | None:
    """The polygons without those of no, one or two points; None if no other is left."""
    kept = []
    for polygon in polygons:
        if isinstance(polygon, list) and len(polygon) in (0, 2, 4):
            problem = f"a polygon needs 6, 8, 10, ... numbers, got {len(polygon)}"
            mender.mend("left out", where, problem)
        else:
            kept.append(polygon)
    return kept or None


def _check_outline(where: str, outline: Any, image: Image) -> None:
    """Raise unless this is None, polygons, or run lengths of the image's size."""
    if isinstance(outline, list):
        for polygon in outline:
            if not isinstance(polygon, list):
                raise ValueError(f"{where}: not a polygon: {shown(polygon)}")
            if len(polygon) < 6 or len(polygon) % 2:
                raise ValueError(
                    f"{where}: a polygon needs 6, 8, 10, ... numbers, "
                    f"got {len(polygon)}"
                )
            for value in polygon:
                check_number(where, value)
    elif outline is not None:
        try:
            _mask(outline, image.height, image.width)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _known(
    where: str, entry: dict, name: str, known: dict[int, Any], mender: Mender
) -> Any:
    id = _take_id(where, entry, name, mender)
    del entry[name]
    if id not in known:
        raise ValueError(f"{where}: {name} {shown(id)} is not in the file")
    return known[id]


def _take(where: str, entry: dict[str, Any], name: str, kind: type) -> Any:
    if name not in entry:
        raise ValueError(f"{where}: missing {name!r}")
    value = entry.pop(name)
    _check_type(where, name, value, kind)
    return value


def _take_id(where: str, entry: dict[str, Any], name: str, mender: Mender) -> int:
    """An integer, which stays in its entry."""
    if name not in entry:
        raise ValueError(f"{where}: missing {name!r}")
    value = entry[name]
    if isinstance(value, float) and value.is_integer():
        problem = f"{name} must be an integer, got {value!r}"
        mender.mend("read as an integer", where, problem)
        value = entry[name] = int(value)
    _check_type(where, name, value, int)
    return value


def _optional(entry: dict[str, Any], name: str) -> Any:
    """The value, if any; a null stays where it is, and is written again."""
    return None if entry.get(name) is None else entry.pop(name)


def _check_type(where: str, name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {list: "a list", int: "an integer", str: "a string"}
        raise ValueError(f"{where}: {name} must be {words[kind]}, got {shown(value)}")


def _extra(entry: dict[str, Any]) -> dict[str, dict]:
    return {"coco": entry} if entry else {}


# --- writing -------------------------------------------------------------------------


def _ids(what: str, ids: list[int | None]) -> list[int]:
    """The ids, with the smallest free numbers in place of those missing."""
    given = [id for id in ids if id is not None]
    check_unique("COCO", f"{what} id", given)
    taken = set(given)
    free = (id for id in range(1, len(ids) + len(taken) + 1) if id not in taken)
    return [next(free) if id is None else id for id in ids]


def _object_entry(where: str, thing: Object, image: Image) -> dict[str, Any]:
    read, bbox = thing.as_read or (None, None)
    if read != "coco" or to_xyxy(bbox) != tuple(thing.box):
        bbox = from_xyxy(thing.box)
    _check_outline(f"{where}: segmentation", thing.segmentation, image)
    area, crowd = thing.area, thing.crowd
    if area is None and read != "coco":
        if thing.segmentation:
            area = int(object_mask(thing, image.height, image.width).sum())
        else:
            area = tidy(bbox[2] * bbox[3])
    if crowd is None and read != "coco":
        crowd = False
    fields = {
        "bbox": list(bbox),
        "segmentation": thing.segmentation,
        "area": area,
        "iscrowd": None if crowd is None else int(crowd),
    }
    return {name: value for name, value in fields.items() if value is not None}
