"""Random data sets for the tests of course_utils.formats, as documents of each format.

They are built without the package, so that its readers meet files that its writers did
not make.
"""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import yaml
from hypothesis import strategies as st

# What XML can hold, without the characters that a line of text ends in.
LETTERS = st.characters(
    codec="utf-8",
    exclude_categories=("Cc", "Cs", "Zl", "Zp"),
    exclude_characters="\ufffe\uffff",
)
NAMES = st.text(LETTERS, min_size=1, max_size=6).map(str.strip).filter(bool)
WORDS = st.text("abcxyzé<&>'\" ", max_size=6)
FILE_NAMES = st.tuples(
    st.sampled_from(["", "train/", "a/b/"]),
    st.text("abé01_-", min_size=1, max_size=3),
    st.sampled_from([".jpg", ".png"]),
).map("".join)
FLAGS = st.sampled_from(["0", "1"])


# Unknown entries of a json object.
EXTRAS = st.fixed_dictionaries(
    {},
    optional={
        "note": WORDS,
        "keypoints": st.lists(st.floats(0, 1) | st.integers(), max_size=2),
        "": st.sampled_from([None, True, {"é": [{}]}, -2.5e-300, 10**30]),
    },
)
IDS = st.sampled_from([range(12), range(900100581904, 0, -(10**9)), range(-3, 99, 7)])


@st.composite
def boxes(draw, width: int, height: int):
    """x1, y1, x2, y2 inside the image: whole pixels, two decimals, or any floats."""
    kind = draw(st.sampled_from(["whole", "decimals", "any"]))
    sides = []
    for size in (width, height):
        if kind == "whole":
            low = draw(st.integers(0, size - 1))
            sides.append((low, draw(st.integers(low + 1, size))))
        elif kind == "decimals":
            low = draw(st.integers(0, 100 * size - 1))
            high = draw(st.integers(low + 1, 100 * size))
            sides.append((low / 100, high / 100))
        else:
            low = draw(st.floats(0, size - 0.5))
            sides.append((low, draw(st.floats(low + 0.25, size))))
    (x1, x2), (y1, y2) = sides
    return x1, y1, x2, y2


SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40)) | st.sampled_from(
    [(500, 375), (4000, 6000)]
)


@st.composite
def sizes(draw):
    """{file name: (width, height)}, such that no two images share a label file."""
    names = draw(
        st.lists(FILE_NAMES, max_size=3, unique_by=lambda name: name.rsplit(".")[0])
    )
    return {name: draw(SIZES) for name in names}


def class_names():
    return st.lists(NAMES, min_size=1, max_size=4, unique=True)


# --- COCO ----------------------------------------------------------------------------


@st.composite
def outlines(draw, width: int, height: int):
    kind = draw(st.sampled_from(["none", "empty", "polygon", "counts", "string"]))
    if kind == "polygon":
        points = st.lists(st.floats(-5, 50), min_size=6, max_size=8)
        return draw(st.lists(points.filter(lambda p: len(p) % 2 == 0), min_size=1))
    if kind in ("none", "empty") or width * height > 2000:
        return None if kind == "none" else []
    first = draw(st.integers(0, width * height))
    counts = [first, width * height - first]
    if kind == "string":
        from pycocotools import mask

        size = [height, width]
        counts = mask.frPyObjects({"size": size, "counts": counts}, *size)["counts"]
        counts = counts.decode()
    return {"size": [height, width], "counts": counts}


@st.composite
def coco_documents(draw):
    names, numbers = draw(class_names()), draw(IDS)
    document = draw(EXTRAS)
    document["categories"] = [
        draw(EXTRAS) | {"id": id, "name": name}
        for id, name in zip(numbers, names, strict=False)
    ]
    document["images"] = [
        draw(EXTRAS) | {"id": id, "file_name": name, "width": width, "height": height}
        for id, (name, (width, height)) in zip(
            draw(IDS), draw(sizes()).items(), strict=False
        )
    ]
    document["annotations"] = annotations = []
    for id in draw(IDS)[: draw(st.integers(0, 4)) * bool(document["images"])]:
        image = draw(st.sampled_from(document["images"]))
        x1, y1, x2, y2 = draw(boxes(image["width"], image["height"]))
        width, height = round(x2 - x1, 12), round(y2 - y1, 12)
        annotation = draw(EXTRAS) | {
            "id": id,
            "image_id": image["id"],
            "category_id": draw(st.sampled_from(document["categories"]))["id"],
            "bbox": [x1, y1, width, height],
        }
        if draw(st.booleans()):
            outline = draw(outlines(image["width"], image["height"]))
            annotation |= {
                "iscrowd": draw(st.integers(0, 1)),
                "area": draw(st.floats(0, 1e6)),
                "segmentation": outline,
            }
        annotations.append(annotation)
    return document


def save_coco(document, path: Path) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def load_coco(path: Path):
    """The document; the order of annotations of different images has no meaning."""
    document = json.loads(path.read_text(encoding="utf-8"))
    document["annotations"].sort(key=lambda entry: entry["id"])
    return document


# --- VOC -----------------------------------------------------------------------------


def leaf(tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.Element(tag, attributes)
    element.text = text
    return element


def node(tag: str, *children: ET.Element, **attributes: str) -> ET.Element:
    element = ET.Element(tag, attributes)
    element.extend(children)
    return element


@st.composite
def unknown_tags(draw):
    choices = [
        leaf("folder", "VOC2012"),
        node("source", leaf("database", draw(WORDS)), leaf("image", "flickr")),
        leaf("path", draw(WORDS)),
        leaf("note", draw(WORDS), by="é&"),
        node("point", leaf("x", "1"), leaf("y", "2"), id="7"),
        node("part", leaf("name", "head"), node("bndbox", leaf("xmin", "1.5"))),
        node("part", leaf("name", "hand")),
        ET.Element("actions"),
    ]
    return draw(st.lists(st.sampled_from(choices), max_size=3))


@st.composite
def voc_documents(draw):
    """The root elements of some xml files."""
    names = draw(class_names())
    roots = []
    for file_name, (width, height) in draw(sizes()).items():
        size = [leaf("width", str(width)), leaf("height", str(height))]
        if draw(st.booleans()):
            size.append(leaf("depth", "3"))
        children = [leaf("filename", file_name), node("size", *size)]
        if draw(st.booleans()):
            children.append(leaf("segmented", draw(FLAGS)))
        for _ in range(draw(st.integers(0, 2))):
            x1, y1, x2, y2 = draw(boxes(width, height))
            sides = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
            bndbox = [leaf(tag, repr(value)) for tag, value in sides.items()]
            fields = [
                leaf("name", draw(st.sampled_from(names))),
                node("bndbox", *draw(st.permutations(bndbox))),
            ]
            for tag in ("difficult", "truncated", "occluded"):
                if draw(st.booleans()):
                    fields.append(leaf(tag, draw(FLAGS)))
            if draw(st.booleans()):
                fields.append(leaf("pose", draw(WORDS)))
            fields += draw(unknown_tags())
            children.append(node("object", *draw(st.permutations(fields))))
        children += draw(unknown_tags())
        verified = {"verified": "yes"} if draw(st.booleans()) else {}
        roots.append(node("annotation", *draw(st.permutations(children)), **verified))
    return roots


def save_voc(roots, path: Path) -> Path:
    path.mkdir()
    for i, root in enumerate(roots):
        text = ET.tostring(root, encoding="utf-8", xml_declaration=True)
        (path / f"{i}.xml").write_bytes(text)
    return path


def load_voc(path: Path):
    """What the files say; only the order among tags of the same name has a meaning."""
    return sorted(meaning(ET.parse(file).getroot()) for file in path.rglob("*.xml"))


def meaning(element: ET.Element):
    children = [meaning(child) for child in element]
    children.sort(key=lambda child: child[0])  # stable
    text = element.text or ""
    try:
        text = repr(float(text)) if element.tag in BOX_TAGS else text
    except ValueError:
        pass
    return (element.tag, sorted(element.items()), "" if children else text, children)


BOX_TAGS = ("xmin", "ymin", "xmax", "ymax")


# --- YOLO ----------------------------------------------------------------------------


@st.composite
def yolo_documents(draw):
    """The entries of data.yaml, and {file name: ((width, height), lines)}."""
    names = draw(class_names())
    entries = {"names": draw(st.sampled_from([names, dict(enumerate(names))]))}
    if draw(st.booleans()):
        entries |= {"path": draw(WORDS), "nc": len(names), "train": ["a", 1.5, None]}
    files = {}
    for file_name, (width, height) in draw(sizes()).items():
        lines = []
        for _ in range(draw(st.integers(0, 2))):
            x1, y1, x2, y2 = draw(boxes(width, height))
            digits = draw(st.sampled_from([17, 9]))
            values = [
                (x1 + x2) / 2 / width,
                (y1 + y2) / 2 / height,
                (x2 - x1) / width,
                (y2 - y1) / height,
            ]
            values = [round(value, digits) for value in values]
            lines.append([draw(st.integers(0, len(names) - 1)), *values])
        files[file_name] = (width, height), lines
    return entries, files


def save_yolo(document, path: Path) -> Path:
    entries, files = document
    path.mkdir()
    (path / "labels").mkdir()
    (path / "data.yaml").write_text(yaml.safe_dump(entries), encoding="utf-8")
    for name, (_, lines) in files.items():
        file = path / "labels" / Path(name).with_suffix(".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(" ".join(map(repr, line)) for line in lines))
    return path


def load_yolo(path: Path):
    entries = yaml.safe_load((path / "data.yaml").read_text(encoding="utf-8"))
    if isinstance(entries["names"], list):
        entries["names"] = dict(enumerate(entries["names"]))
    lines = {
        file.relative_to(path).as_posix(): [
            [float(word) for word in line.split()]
            for line in file.read_text().splitlines()
        ]
        for file in sorted(path.rglob("*.txt"))
    }
    return entries, lines
