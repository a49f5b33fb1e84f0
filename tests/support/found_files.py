"""Small inputs as people have them: how each is built, and what came and comes of it.

A variant is a reader, files, and outcomes: what the readers gave before (``before``,
recorded by running them), what they give (``after``), and what with ``mend=True``
(``mended``), where that differs. Every outcome was wrong before, or told less.

An outcome is one line: images with their number of objects, classes, and what the
report counts; or the error. In ``after`` and ``mended``, ``...`` stands for anything.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from course_utils import formats
from course_utils.datasets import PennFudan

LABEL = "0 .5 .5 .2 .2\n"
GRAY = object()  # a gray image of 64 x 48 pixels
FOLDER = object()  # an empty folder
BOX = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>"


@dataclass
class Link:
    """A link, relative to where it lies."""

    to: str


@dataclass
class Variant:
    reader: str
    files: dict
    before: str
    after: str
    mended: str | None = None
    options: dict = field(default_factory=dict)


def voc(name="cup", file="a.jpg", width=64, box=BOX, more="") -> str:
    return (
        f"<annotation><filename>{file}</filename><size><width>{width}</width>"
        f"<height>48</height></size><object><name>{name}</name>{box}</object>{more}"
        "</annotation>"
    )


def declared(encoding: str, text: str, written: str | None = None) -> bytes:
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    return (head + text).encode(written or encoding)


def coco(image=None, categories=None, document=None, **thing) -> str:
    image = {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48} | (image or {})
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 4, 20, 30]}
    return json.dumps(
        {
            "images": [image],
            "categories": categories or [{"id": 1, "name": "cup"}],
            "annotations": [box | thing],
        }
        | (document or {})
    )


def yolo(files=None, names: str | bytes | None = "names: [cup]\n", **labels) -> dict:
    """data.yaml, an image a.jpg and its label, and more files."""
    there = {"data.yaml": names} if names is not None else {}
    there |= {"images/a.jpg": GRAY, "labels/a.txt": labels.get("a", LABEL)}
    return there | (files or {})


def penn(files) -> dict:
    there = {f"PNGImages/{n}.png": GRAY for n in "ab"}
    return there | {f"PedMasks/{n}_mask.png": GRAY for n in "ab"} | files


def build(folder: Path, files: dict) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is FOLDER:
            path.mkdir()
        elif content is GRAY:
            Image.new("L", (64, 48)).save(path)
        elif isinstance(content, Link):
            path.symlink_to(content.to)
        else:
            path.write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )


def outcome(folder: Path, call: Callable) -> str:
    """What came, in one line, without the folder's own name."""
    try:
        text = summary(call())
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    text = text.replace(str(folder) + os.sep, "").replace(str(folder), "here")
    return " ".join(text.split())[:300]


def summary(data) -> str:
    if isinstance(data, PennFudan):
        images = ", ".join(data.names)
    else:
        images = ", ".join(f"{i.file_name} {len(i.objects)}" for i in data.images)
        images += " | " + ", ".join(category.name for category in data.categories)
    report = getattr(data, "report", None)
    kinds = (
        {
            kind: len(places)
            for part in (report.skipped, report.missing, report.mended)
            for kind, places in part.items()
        }
        if report
        else {}
    )
    counts = "; ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"{images} | {counts}" if counts else images


def read(variant: Variant, folder: Path, **options):
    options = variant.options | options
    if variant.reader == "penn":
        return PennFudan(folder, "train")
    if variant.reader == "coco":
        return formats.read("coco", folder / "a.json", **options)
    return formats.read(variant.reader, folder, **options)


def crowd_to(format: str, **drop):
    """Read a crowd of COCO and write it in another format."""

    def call(folder: Path):
        data = formats.read("coco", folder / "a.json")
        formats.write(data, format, folder / "out", **drop)
        size = {"a.jpg": (64, 48)}
        options = {"images": size} if format == "yolo" else {}
        return formats.read(format, folder / "out", **options)

    return call


CROWD = coco(
    document={
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 4, 8, 20]},
            {
                "id": 2,
                "image_id": 1,
                "category_id": 1,
                "bbox": [0, 0, 64, 48],
                "iscrowd": 1,
            },
        ]
    }
)
TWINS = [{"id": 0, "name": "cup"}, {"id": 1, "name": "cup"}]
BOMB = (
    "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    + "names: [*a8]\n"
)
DIGITS = "1" * 5000
SQUARE = [3, 4, 23, 4, 23, 34, 3, 34]
NONE = [[{}], []]
NOT_BELOW = "not a file name below the data set's folder: "

V = Variant
VARIANTS: dict[str, Variant] = {
    # --- finding files ---------------------------------------------------------------
    "yolo: linked folders": V(
        "yolo",
        yolo(
            {
                "images/val": Link("../store/images"),
                "labels/val": Link("../store/labels"),
                "store/images/b.jpg": GRAY,
                "store/labels/b.txt": LABEL,
            }
        ),
        "a.jpg 1 | cup",
        "a.jpg 1, val/b.jpg 1 | cup",
    ),
    "yolo: only the labels are linked": V(
        "yolo",
        yolo(
            {
                "images/val/b.jpg": GRAY,
                "labels/val": Link("../store"),
                "store/b.txt": LABEL,
            }
        ),
        "a.jpg 1, val/b.jpg 0 | cup",
        "a.jpg 1, val/b.jpg 1 | cup",
    ),
    "yolo: linked in a circle": V(
        "yolo",
        yolo({"images/again": Link("../images"), "labels/up": Link("..")}),
        "a.jpg 1 | cup",
        "a.jpg 1 | cup | ...3 linked in a circle",
    ),
    "yolo: two folders that link to each other": V(
        "yolo",
        yolo(
            {
                "images/x/b.jpg": GRAY,
                "images/y/c.jpg": GRAY,
                "images/x/y": Link("../y"),
                "images/y/x": Link("../x"),
            }
        ),
        "a.jpg 1, x/b.jpg 0, y/c.jpg 0 | cup",
        "a.jpg 1, x/b.jpg 0, x/y/c.jpg 0, y/c.jpg 0, y/x/b.jpg 0 | cup | "
        "2 linked in a circle; 4 images without labels",
    ),
    "yolo: an image linked to nothing": V(
        "yolo",
        yolo({"images/b.jpg": Link("gone.jpg")}),
        "FileNotFoundError: [Errno 2] No such file or directory: 'images/b.jpg'",
        "ValueError: images/b.jpg: a link to gone.jpg: nothing",
    ),
    "yolo: a folder linked to nothing": V(
        "yolo",
        yolo({"labels/val": Link("/gone/val")}),
        "a.jpg 1 | cup",
        "ValueError: labels/val: a link to /gone/val: nothing",
    ),
    "yolo: checkpoints of a notebook": V(
        "yolo",
        yolo({"images/.ipynb_checkpoints/a-checkpoint.jpg": GRAY}),
        ".ipynb_checkpoints/a-checkpoint.jpg 0, a.jpg 1 | cup",
        "a.jpg 1 | cup | 1 hidden",
    ),
    "yolo: checkpoints of labels": V(
        "yolo",
        yolo({"labels/.ipynb_checkpoints/a-checkpoint.txt": LABEL}),
        "ValueError: labels/.ipynb_checkpoints/a-checkpoint.txt: there "
        "is no image of this name",
        "a.jpg 1 | cup | 1 hidden",
    ),
    "yolo: what macOS puts beside an image": V(
        "yolo",
        yolo({"images/._a.jpg": b"\0\5\x16\7Mac OS X", "images/.DS_Store": b"\0"}),
        "ValueError: images/._a.jpg: not an image that can be read",
        "a.jpg 1 | cup | 2 hidden",
    ),
    "yolo: what macOS puts beside a label": V(
        "yolo",
        yolo({"labels/._a.txt": b"\0\5\x16\7Mac OS X"}),
        "ValueError: labels/._a.txt: there is no image of this name",
        "a.jpg 1 | cup | 1 hidden",
    ),
    "yolo: a label with a capital suffix": V(
        "yolo",
        yolo({"images/b.jpg": GRAY, "labels/b.TXT": LABEL}),
        "a.jpg 1, b.jpg 0 | cup",
        "a.jpg 1, b.jpg 1 | cup",
    ),
    "yolo: a label twice": V(
        "yolo",
        yolo({"labels/a.TXT": LABEL}),
        "a.jpg 1 | cup",
        "ValueError: labels/a...: a... has the same name",
    ),
    "yolo: no images": V(
        "yolo",
        {"data.yaml": "names: [cup]\n", "images": FOLDER, "labels": FOLDER},
        "| cup",
        "ValueError: ...images: no images (.bmp, ...) in this folder",
    ),
    "yolo: images of an unknown kind": V(
        "yolo",
        {"data.yaml": "names: [cup]\n", "images/a.heic": b"x", "labels": FOLDER},
        "| cup",
        "ValueError: ...images: no images (.bmp, ...) in this folder",
    ),
    "yolo: one image of an unknown kind": V(
        "yolo",
        yolo({"images/b.heic": b"x", "labels/a.cache": b"x"}),
        "a.jpg 1 | cup",
        "a.jpg 1 | cup | 2 of another suffix",
    ),
    "yolo: an image without labels": V(
        "yolo",
        yolo({"images/b.jpg": GRAY}),
        "a.jpg 1, b.jpg 0 | cup",
        "a.jpg 1, b.jpg 0 | cup | 1 images without labels",
    ),
    "yolo: labels without an image": V(
        "yolo",
        yolo({"labels/b.txt": LABEL}),
        "ValueError: labels/b.txt: there is no image of this name",
        "ValueError: labels/b.txt: there is no image of this name "
        "(with mend=True: left out)",
        "a.jpg 1 | cup | 1 left out",
    ),
    "yolo: a folder called a.txt": V(
        "yolo",
        yolo({"labels/b.txt/c.cache": b"x"}),
        "ValueError: labels/b.txt: there is no image of this name",
        "a.jpg 1 | cup | 1 of another suffix",
    ),
    "yolo: data.YAML": V(
        "yolo",
        yolo({"data.YAML": "names: [cup]\n"}, names=None),
        "FileNotFoundError: here: neither data.yaml nor classes.txt; pass classes=...",
        "a.jpg 1 | cup",
    ),
    "yolo: Roboflow's folders": V(
        "yolo",
        {"data.yaml": "names: [cup]\n", "train/images/a.jpg": GRAY},
        "FileNotFoundError: images: no such folder of images",
        "FileNotFoundError: ...images: no such folder of images; there is "
        "train/images: read ...train with classes=...",
    ),
    "voc: a linked folder": V(
        "voc",
        {
            "a.xml": voc(),
            "more": Link("../other"),
            "../other/b.xml": voc(file="b.jpg"),
        },
        "a.jpg 1 | cup",
        "a.jpg 1, b.jpg 1 | cup",
    ),
    "voc: linked in a circle": V(
        "voc",
        {"a.xml": voc(), "up/again": Link("..")},
        "a.jpg 1 | cup",
        "a.jpg 1 | cup | 1 linked in a circle",
    ),
    "voc: checkpoints of a notebook": V(
        "voc",
        {
            "a.xml": voc(),
            ".ipynb_checkpoints/a-checkpoint.xml": voc(file="older.jpg"),
        },
        "older.jpg 1, a.jpg 1 | cup",
        "a.jpg 1 | cup | 1 hidden",
    ),
    "voc: what macOS puts beside a file": V(
        "voc",
        {"a.xml": voc(), "._a.xml": b"\0\5\x16\7Mac OS X"},
        "ValueError: ._a.xml, line 1: not XML: not well-formed (invalid token)",
        "a.jpg 1 | cup | 1 hidden",
    ),
    "voc: a capital suffix": V(
        "voc",
        {"a.xml": voc(), "b.XML": voc(file="b.jpg")},
        "a.jpg 1 | cup",
        "a.jpg 1, b.jpg 1 | cup",
    ),
    "voc: only capital suffixes": V(
        "voc",
        {"b.XML": voc(file="b.jpg")},
        "ValueError: here: no .xml file in this folder",
        "b.jpg 1 | cup",
    ),
    "voc: a link to nothing": V(
        "voc",
        {"a.xml": voc(), "b.xml": Link("gone.xml")},
        "FileNotFoundError: [Errno 2] No such file or directory: 'b.xml'",
        "ValueError: b.xml: a link to gone.xml: nothing",
    ),
    "voc: a folder called b.xml": V(
        "voc",
        {"a.xml": voc(), "b.xml/c.xml": voc(file="c.jpg")},
        "IsADirectoryError: [Errno 21] Is a directory: 'b.xml'",
        "a.jpg 1, c.jpg 1 | cup",
    ),
    "voc: images beside the files": V(
        "voc",
        {"a.xml": voc(), "a.jpg": GRAY},
        "a.jpg 1 | cup",
        "a.jpg 1 | cup | 1 of another suffix",
    ),
    "penn: a byte order mark": V(
        "penn",
        penn({"train.txt": b"\xef\xbb\xbfa\nb\n"}),
        "FileNotFoundError: train.txt, line 1: no image PNGImages/\ufeffa",
        "a, b",
    ),
    "penn: UTF-16": V(
        "penn",
        penn({"train.txt": "a\r\nb\r\n".encode("utf-16")}),
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in "
        "position 0: invalid start byte",
        "a, b",
    ),
    "penn: another encoding": V(
        "penn",
        penn({"train.txt": b"a\n\xe9\n"}),
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xe9 in "
        "position 2: invalid continuation byte",
        "ValueError: train.txt, line 2: not text in UTF-8...",
    ),
    "penn: a mask with a capital suffix": V(
        "penn",
        penn({"train.txt": "a\nc\n", "PNGImages/c.PNG": GRAY})
        | {"PedMasks/c_mask.PNG": GRAY},
        "FileNotFoundError: PedMasks/c_mask.png: the image's mask is missing",
        "a, c",
    ),
    "penn: a mask without an image": V(
        "penn",
        penn({"train.txt": "a\nb\n", "PedMasks/c_mask.png": GRAY}),
        "a, b",
        "a, b | 1 masks without an image",
    ),
    # --- what parsers say ------------------------------------------------------------
    "voc: gb2312": V(
        "voc",
        {"a.xml": declared("gb2312", voc("杯"))},
        "ValueError: multi-byte encodings are not supported",
        "a.jpg 1 | 杯",
    ),
    "voc: Shift JIS": V(
        "voc",
        {"a.xml": declared("Shift_JIS", voc("猫"))},
        "ValueError: multi-byte encodings are not supported",
        "a.jpg 1 | 猫",
    ),
    "voc: UTF-32 with a mark": V(
        "voc",
        {"a.xml": voc("猫").encode("utf-32")},
        "ValueError: a.xml, line 1: not XML: not well-formed (invalid token)",
        "a.jpg 1 | 猫",
    ),
    "voc: an unknown encoding": V(
        "voc",
        {"a.xml": declared("utf-88", voc(), "ascii")},
        "LookupError: unknown encoding: utf-88",
        "ValueError: a.xml: no encoding of text: 'utf-88'",
    ),
    "voc: an encoding that is none of text": V(
        "voc",
        {"a.xml": declared("base64", voc(), "ascii")},
        "LookupError: 'base64' is not a text encoding; use "
        "codecs.decode() to handle arbitrary codecs",
        "ValueError: a.xml: no encoding of text: 'base64'",
    ),
    "voc: half a character": V(
        "voc",
        {"a.xml": declared("utf-7", voc("+2AA-"), "ascii")},
        "ValueError: multi-byte encodings are not supported",
        "ValueError: a.xml: not text in UTF-7...",
    ),
    "voc: nested too deep": V(
        "voc",
        {"a.xml": voc(more="<a>" * 5000 + "</a>" * 5000)},
        "RecursionError: maximum recursion depth exceeded while calling "
        "a Python object",
        "ValueError: a.xml: tags nested too deep",
    ),
    "voc: a number with a line in it": V(
        "voc",
        {"a.xml": voc(box=BOX.replace("20", "1_0"))},
        "a.jpg 1 | cup",
        "ValueError: a.xml: object 0: bndbox: xmax: not a number: '1_0'",
    ),
    "voc: digits of another alphabet": V(
        "voc",
        {"a.xml": voc(box=BOX.replace("20", "２０"))},
        "a.jpg 1 | cup",
        "ValueError: a.xml: object 0: bndbox: xmax: not a number: '２０'",
    ),
    "voc: thousands of zeros": V(
        "voc",
        {"a.xml": voc(box=BOX.replace("20", "0" * 5000 + "20"))},
        "ValueError: Exceeds the limit (4300 digits) for integer string "
        "conversion: value has 5002 digits; use "
        "sys.set_int_max_str_digits() to increase the ...",
        "a.jpg 1 | cup",
    ),
    "voc: an image as wide as the universe": V(
        "voc",
        {"a.xml": voc(width="1" + "0" * 250)},
        "a.jpg 1 | cup",
        "ValueError: a.xml: size: width must be at most 2147483647, got 1000...",
    ),
    "coco: nested too deep": V(
        "coco",
        {"a.json": '{"images": ' + "[" * 100_000},
        "RecursionError: maximum recursion depth exceeded while decoding "
        "a JSON array from a unicode string",
        "ValueError: a.json: nested too deep for JSON",
    ),
    "coco: an integer of 5,000 digits": V(
        "coco",
        {"a.json": coco().replace('"width": 64', f'"width": {DIGITS}')},
        "ValueError: Exceeds the limit (4300 digits) for integer string "
        "conversion: value has 5000 digits; use "
        "sys.set_int_max_str_digits() to increase the ...",
        "ValueError: a.json: not JSON: ...",
    ),
    "coco: an integer of 400 digits": V(
        "coco",
        {"a.json": coco({"width": 10**400})},
        "OverflowError: int too large to convert to float",
        "ValueError: a.json: images[0] (id 1): width must be at most 2147483647, ...",
    ),
    "coco: a list twice": V(
        "coco",
        {"a.json": '{"annotations": [], ' + coco()[1:]},
        "a.jpg 1 | cup",
        "ValueError: a.json: not JSON: an object: duplicate name 'annotations'",
    ),
    "coco: UTF-16": V(
        "coco",
        {"a.json": coco().encode("utf-16")},
        "ValueError: a.json: not text in UTF-8 ('utf-8' codec can't "
        "decode byte 0xff in position 0: invalid start byte)",
        "a.jpg 1 | cup",
    ),
    "coco: a zero byte": V(
        "coco",
        {"a.json": coco().encode("utf-16-le")},
        "ValueError: a.json, line 1: not JSON: Expecting property name "
        "enclosed in double quotes",
        "ValueError: a.json, line 1: not text in UTF-8: a zero byte",
    ),
    "coco: run lengths beyond all memory": V(
        "coco",
        {"a.json": coco(segmentation={"size": [10**5] * 2, "counts": [10**10]})},
        "TimeoutError: did not end in 20 s",
        "ValueError: a.json: annotations[0] (id 1): segmentation: size must have fewer "
        "than 2^31 pixels, got [100000, 100000]",
    ),
    "yolo: a control character": V(
        "yolo",
        yolo(names="# \u00e2\u0094\u009c datasets\nnames: [cup]\n"),
        "ReaderError: unacceptable character #x0094: special characters "
        'are not allowed in "<unicode string>", position 3',
        "ValueError: data.yaml, line 1: not YAML: the character '\\x94': ...",
    ),
    "yolo: nested too deep": V(
        "yolo",
        yolo(names="names: " + "[" * 5000),
        "RecursionError: maximum recursion depth exceeded",
        "ValueError: data.yaml: nested too deep for YAML",
    ),
    "yolo: names twice": V(
        "yolo",
        yolo(names="names: [cup]\nnames: [dog]\n"),
        "a.jpg 1 | dog",
        "ValueError: data.yaml, line 2: not YAML: 'names' comes twice",
    ),
    "yolo: an impossible date": V(
        "yolo",
        yolo(names="names: [cup]\nmade: 2020-13-45\n"),
        "ValueError: month must be in 1..12",
        "ValueError: data.yaml: not YAML: ValueError('month must be in 1..12...",
    ),
    "yolo: an integer of no digits": V(
        "yolo",
        yolo(names='names: [cup]\nnc: !!int ""\n'),
        "IndexError: string index out of range",
        "ValueError: data.yaml: not YAML: IndexError(...",
    ),
    "yolo: a time that is none": V(
        "yolo",
        yolo(names='names: [cup]\nmade: !!timestamp "x"\n'),
        "AttributeError: 'NoneType' object has no attribute 'groupdict'",
        "ValueError: data.yaml: not YAML: AttributeError(...",
    ),
    "yolo: a truth that is none": V(
        "yolo",
        yolo(names='names: [cup]\nmade: !!bool "x"\n'),
        "KeyError: 'x'",
        "ValueError: data.yaml: not YAML: KeyError('x')",
    ),
    "yolo: an integer of 5,000 digits": V(
        "yolo",
        yolo(names=f"names: [cup]\nnc: {DIGITS}\n"),
        "ValueError: Exceeds the limit (4300 digits) for integer string "
        "conversion: value has 5000 digits; use "
        "sys.set_int_max_str_digits() to increase the ...",
        "ValueError: data.yaml: not YAML: ValueError(...",
    ),
    "yolo: numbers that are true and false": V(
        "yolo",
        yolo(names="names: {no: cup, yes: dog}\n"),
        "a.jpg 1 | cup, dog",
        "ValueError: data.yaml: names must count from 0, got [False, True]",
    ),
    "yolo: names that unfold to a billion": V(
        "yolo",
        yolo(names=BOMB),
        "TimeoutError: did not end in 20 s",
        "ValueError: data.yaml: a class needs a name, got [[[...",
    ),
    "yolo: a class with a line in it": V(
        "yolo",
        yolo(a="0_0 .5 .5 .2 .2\n"),
        "a.jpg 1 | cup",
        "ValueError: labels/a.txt, line 1: must be an integer and four numbers, ...",
    ),
    "yolo: digits of another alphabet": V(
        "yolo",
        yolo(a="０ .5 .5 .2 .2\n"),
        "a.jpg 1 | cup",
        "ValueError: labels/a.txt, line 1: must be an integer and four numbers, ...",
    ),
    "yolo: labels in UTF-16": V(
        "yolo",
        yolo(a=LABEL.encode("utf-16")),
        "ValueError: labels/a.txt: not text in UTF-8 ('utf-8' codec "
        "can't decode byte 0xff in position 0: invalid start byte)",
        "a.jpg 1 | cup",
    ),
    "yolo: names in UTF-16": V(
        "yolo",
        yolo({"classes.txt": "杯\r\n".encode("utf-16")}, names=None),
        "ValueError: classes.txt: not text in UTF-8 ('utf-8' codec can't "
        "decode byte 0xff in position 0: invalid start byte)",
        "a.jpg 1 | 杯",
    ),
    "yolo: a zero byte": V(
        "yolo",
        yolo({"classes.txt": b"cup\nd\0g\n"}, names=None),
        "a.jpg 1 | cup, d\x00g",
        "ValueError: classes.txt, line 2: not text in UTF-8: a zero byte",
    ),
    "yolo: a name with a rare end of line": V(
        "yolo",
        yolo({"classes.txt": "cup\u2028or mug\ndog\n"}, names=None),
        "a.jpg 1 | cup, or mug, dog",
        "a.jpg 1 | cup or mug, dog",
    ),
    # --- names -----------------------------------------------------------------------
    "voc: a class with space around it": V(
        "voc",
        {"a.xml": voc(" cup\n"), "b.xml": voc("cup", "b.jpg")},
        "a.jpg 1, b.jpg 1 | cup , cup",
        "a.jpg 1, b.jpg 1 | cup | 1 trimmed",
    ),
    "voc: a file name with space around it": V(
        "voc",
        {"a.xml": voc(file="\n a.jpg ")},
        "a.jpg 1 | cup",
        "a.jpg 1 | cup | 1 trimmed",
    ),
    "voc: a drive": V(
        "voc",
        {"a.xml": voc(file="C:\\pics\\a.jpg")},
        "C:\\pics\\a.jpg 1 | cup",
        rf"ValueError: a.xml: filename: {NOT_BELOW}'C:\\pics\\a.jpg'",
    ),
    "voc: a drive with a slash": V(
        "voc",
        {"a.xml": voc(file="C:/pics/a.jpg")},
        "C:/pics/a.jpg 1 | cup",
        f"ValueError: a.xml: filename: {NOT_BELOW}'C:/pics/a.jpg'",
    ),
    "voc: a backslash": V(
        "voc",
        {"a.xml": voc(file="pics\\a.jpg")},
        "pics\\a.jpg 1 | cup",
        r"ValueError: a.xml: filename: a backslash in a file name: 'pics\\a.jpg' "
        "(with mend=True: read as a slash)",
        "pics/a.jpg 1 | cup | 1 read as a slash",
    ),
    "coco: a class with space around it": V(
        "coco",
        {"a.json": coco(categories=[{"id": 1, "name": " cup"}])},
        "a.jpg 1 | cup",
        "a.jpg 1 | cup | 1 trimmed",
    ),
    "coco: a class of space": V(
        "coco",
        {"a.json": coco(categories=[{"id": 1, "name": "  "}])},
        "a.jpg 1 |",
        "ValueError: a.json: categories: a class needs a name, got ''",
    ),
    "coco: classes that differ in space": V(
        "coco",
        {
            "a.json": coco(
                categories=[{"id": 1, "name": "cup"}, {"id": 2, "name": "cup "}]
            )
        },
        "a.jpg 1 | cup, cup",
        "ValueError: a.json: categories: duplicate class name 'cup'...",
        "a.jpg 1 | cup | 1 trimmed; 1 left out",
    ),
    "coco: half a character": V(
        "coco",
        {"a.json": coco(categories=[{"id": 1, "name": "\ud83d"}])},
        "a.jpg 1 | \\ud83d",
        "ValueError: a.json: categories: class name holds half a character: ...",
    ),
    "coco: a backslash": V(
        "coco",
        {"a.json": coco({"file_name": "images\\1/a.jpg"})},
        "images\\1/a.jpg 1 | cup",
        "ValueError: a.json: images[0] (id 1): file_name: a backslash in a file name: "
        r"'images\\1/a.jpg' (with mend=True: read as a slash)",
        "images/1/a.jpg 1 | cup | 1 read as a slash",
    ),
    **{
        f"coco: {what}": V(
            "coco",
            {"a.json": coco({"file_name": name})},
            f"{name} 1 | cup",
            f"ValueError: a.json: images[0] (id 1): file_name: {NOT_BELOW}...",
            f"ValueError: a.json: images[0] (id 1): file_name: {NOT_BELOW}...",
        )
        for what, name in {
            "a drive": "C:\\a.jpg",
            "a drive without a folder": "C:a.jpg",
            "a root of Windows": "\\a.jpg",
            "a disk in the network": "\\\\server\\pics\\a.jpg",
            "a folder above, in Windows": "..\\a.jpg",
            "a folder above, further in": "b\\..\\..\\a.jpg",
            "a folder instead of a file": "images/",
            "a zero byte in a name": "a.jpg\0.png",
        }.items()
    },
    "yolo: a name with space around it": V(
        "yolo",
        yolo(names="names: [' cup ']\n"),
        "a.jpg 1 | cup",
        "a.jpg 1 | cup | 1 trimmed",
    ),
    # --- exports ---------------------------------------------------------------------
    "coco: Roboflow's root category": V(
        "coco",
        {"a.json": coco(categories=TWINS)},
        "ValueError: a.json: categories: duplicate class name 'cup'",
        "ValueError: a.json: categories: duplicate class name 'cup', of which no "
        "object has the id 0 (with mend=True: left out)",
        "a.jpg 1 | cup | 1 left out",
    ),
    "coco: no polygon": V(
        "coco",
        {"a.json": coco(segmentation=[[]])},
        "ValueError: a.json: annotations[0] (id 1): segmentation: a "
        "polygon needs 6, 8, 10, ... numbers, got 0",
        "ValueError: a.json: annotations[0] (id 1): segmentation: a polygon needs 6, "
        "8, 10, ... numbers, got 0 (with mend=True: left out)",
        "a.jpg 1 | cup | 1 left out",
    ),
    "coco: a polygon of two points": V(
        "coco",
        {"a.json": coco(segmentation=[[3, 4, 23, 34], SQUARE])},
        "ValueError: a.json: annotations[0] (id 1): segmentation: a "
        "polygon needs 6, 8, 10, ... numbers, got 4",
        "ValueError: a.json: annotations[0] (id 1): segmentation: a polygon needs 6, "
        "8, 10, ... numbers, got 4 (with mend=True: left out)",
        "a.jpg 1 | cup | 1 left out",
    ),
    "coco: numbers with a decimal point": V(
        "coco",
        {"a.json": coco({"width": 64.0}, category_id=1.0)},
        "ValueError: a.json: images[0] (id 1): width must be an integer, got 64.0",
        "ValueError: a.json: annotations[0] (id 1): category_id must be an integer, "
        "got 1.0 (with mend=True: read as an integer)",
        "a.jpg 1 | cup | 2 read as an integer",
    ),
    "yolo: a class with a decimal point": V(
        "yolo",
        yolo(a="0.000000000000000000e+00 5e-01 5e-01 2e-01 4e-01\n"),
        "ValueError: labels/a.txt, line 1: must be an integer and four "
        "numbers, got '0.000000000000000000e+00 5e-01 5e-01 2e-01 4e-01'",
        "ValueError: labels/a.txt, line 1: must be an integer and four numbers, got "
        "... (with mend=True: read as an integer)",
        "a.jpg 1 | cup | 1 read as an integer",
    ),
    "yolo: classes.txt beside the labels": V(
        "yolo",
        yolo({"labels/classes.txt": "cup\n"}, names=None),
        "FileNotFoundError: here: neither data.yaml nor classes.txt; pass classes=...",
        "ValueError: labels/classes.txt: no names in ..., but here; pass classes=... "
        "(with mend=True: taken)",
        "a.jpg 1 | cup | 1 taken",
    ),
    # --- crowds ----------------------------------------------------------------------
    "coco: a crowd to YOLO": V(
        "crowd to yolo",
        {"a.json": CROWD},
        "a.jpg 2 | cup",
        "a.jpg 1 | cup",
        options={"drop": formats.LOSSES["yolo"]},
    ),
    "coco: a crowd to VOC": V(
        "crowd to voc",
        {"a.json": CROWD},
        "a.jpg 2 | cup",
        "a.jpg 1 | cup",
        options={"drop": formats.LOSSES["voc"]},
    ),
    "coco: a crowd to YOLO, not dropped": V(
        "crowd to yolo",
        {"a.json": CROWD},
        "ValueError: yolo cannot hold category.id (class cup), image.id "
        "(a.jpg), object.id (a.jpg, object 0), object.crowd (a.jpg, "
        "object 1); to leave out: ...",
        "ValueError: yolo cannot hold ... 'object.crowd' leaves out 1 of 2 objects",
    ),
}


def run(variant: Variant, folder: Path, **options) -> str:
    """The outcome of a variant in an empty folder."""
    build(folder, variant.files)
    if variant.reader.startswith("crowd"):
        call = crowd_to(variant.reader.rsplit(" ", 1)[-1], **variant.options)
        return outcome(folder, lambda: call(folder))
    return outcome(folder, lambda: read(variant, folder, **options))


def matches(pattern: str, text: str) -> bool:
    """Whether the text is the pattern, in which ``...`` stands for anything."""
    first, *others = pattern.split("...")
    if not text.startswith(first):
        return False
    at = len(first)
    for piece in others:
        found = text.rfind(piece) if piece == "" else text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return at == len(text) or pattern.endswith("...")
