"""The records, what is refused and how, files left whole, masks, pixels, targets."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from torchvision import tv_tensors
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from course_utils import formats
from course_utils.formats import Category, Dataset, Image, Object

FORMATS = ("voc", "coco", "yolo")
SIZES = {"a.jpg": (100, 80)}


def scene(**fields) -> Dataset:
    """One image of 100 x 80 pixels with one person."""
    thing = Object("person", (10.0, 20.0, 50.0, 70.0), **fields)
    image = Image("a.jpg", 100, 80, [thing])
    return Dataset([Category("person")], [image])


def read_again(dataset, format, path):
    formats.write(dataset, format, path)
    return formats.read(format, path, **({"images": SIZES} if format == "yolo" else {}))


# ------------------------------------------------------------------ by hand


def test_one_box_in_three_conventions(tmp_path):
    # 40 wide, 50 high: columns 10 .. 49 and rows 20 .. 69, counted from 0.
    formats.write(scene(), "voc", tmp_path / "voc")
    text = (tmp_path / "voc/a.xml").read_text()
    sides = re.findall(r"<([xy]m..)>(.*)</", text)
    assert sides == [("xmin", "11"), ("ymin", "21"), ("xmax", "50"), ("ymax", "70")]
    formats.write(scene(), "coco", tmp_path / "a.json")
    annotation = json.loads((tmp_path / "a.json").read_text())["annotations"][0]
    assert annotation == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [10, 20, 40, 50],
        "area": 2000,
        "iscrowd": 0,
    }
    formats.write(scene(), "yolo", tmp_path / "yolo")
    # the center is (30, 45)
    assert (tmp_path / "yolo/labels/a.txt").read_text() == "0 0.3 0.5625 0.4 0.625\n"
    assert (tmp_path / "yolo/data.yaml").read_text() == "names:\n  0: person\n"


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_without_objects_stays(tmp_path, format):
    dataset = Dataset([Category("person")], [Image("a.jpg", 100, 80)])
    drop = formats.LOSSES["voc"] if format == "voc" else ()  # of the class, too
    formats.write(dataset, format, tmp_path / "a", drop=drop)
    options = {"images": SIZES} if format == "yolo" else {}
    again = formats.read(format, tmp_path / "a", **options)
    assert [(i.file_name, i.objects) for i in again.images] == [("a.jpg", [])]


def test_coco_fills_what_its_tools_need_only_for_objects_of_other_formats(tmp_path):
    square = [[0, 0, 4, 0, 4, 5, 0, 5]]
    dataset = scene(segmentation=square)
    dataset.images.append(Image("b.jpg", 5, 5, id=1))
    formats.write(dataset, "coco", tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["annotations"][0]["area"] == 20  # of the outline
    assert [image["id"] for image in document["images"]] == [2, 1]  # 1 is taken
    del document["annotations"][0]["area"]
    (tmp_path / "a.json").write_text(json.dumps(document))
    dataset = formats.read("coco", tmp_path / "a.json")
    formats.write(dataset, "coco", tmp_path / "b.json")
    again = json.loads((tmp_path / "b.json").read_text())
    assert again["annotations"] == document["annotations"]


@pytest.mark.parametrize("format", FORMATS)
def test_numbers_as_read_are_written_until_the_box_changes(tmp_path, format):
    dataset = read_again(scene(), format, tmp_path / "a")
    thing = dataset.images[0].objects[0]
    thing.box = (10.25, 20.0, 50.0, 70.0)
    again = read_again(dataset, format, tmp_path / "b")
    assert again.images[0].objects[0].box == pytest.approx(thing.box, abs=1e-9)


def test_a_coordinate_we_compute_has_no_noise(tmp_path):
    dataset = scene()
    dataset.images[0].objects[0].box = (17.62, 3.3, 17.62 + 38.99, 7.7)
    assert 17.62 + 38.99 - 17.62 != 38.99
    formats.write(dataset, "coco", tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["annotations"][0]["bbox"] == [17.62, 3.3, 38.99, 4.4]


def test_unknown_tags_of_voc_are_kept_as_dictionaries(tmp_path):
    text = voc_text(
        "<part><name>head</name></part><part><name>hand</name></part>"
        "<point id='3'><x>1</x></point><note by='me'>hm</note><actions/>"
    )
    (tmp_path / "a.xml").write_text(text)
    extra = formats.read("voc", tmp_path / "a.xml").images[0].objects[0].extra
    assert extra["voc"] == {
        "part": [{"name": "head"}, {"name": "hand"}],
        "point": {"@id": "3", "x": "1"},
        "note": {"@by": "me", "#text": "hm"},
        "actions": "",
    }


@pytest.mark.parametrize("format", ["voc", "coco"])
def test_what_is_unknown_never_replaces_what_is_known(tmp_path, format):
    dataset = scene(extra={format: {"name": "dog", "bbox": [], "more": "1"}})
    dataset.images[0].extra = {format: {"filename": "b.jpg", "file_name": "b.jpg"}}
    again = read_again(dataset, format, tmp_path / "a").images[0]
    assert (again.file_name, again.objects[0].category) == ("a.jpg", "person")
    assert again.objects[0].extra[format]["more"] == "1"


def test_yolo_finds_names_and_images(tmp_path):
    (tmp_path / "a.txt").write_text("1 0.5 0.5 1 1\n\n")
    Picture.new("L", (4, 3)).save(tmp_path / "a.png")
    (tmp_path / "classes.txt").write_text("cat\ndog\n\n")
    dataset = formats.read("yolo", tmp_path, images=tmp_path)  # as darknet has it
    assert [c.name for c in dataset.categories] == ["cat", "dog"]
    image = dataset.images[0]
    assert (image.file_name, image.width, image.height) == ("a.png", 4, 3)
    assert image.objects == [Object("dog", (0.0, 0.0, 4.0, 3.0))]
    for names in ("[cat, dog]", "\n- cat\n- dog", "{1: dog, 0: cat}"):
        (tmp_path / "x.yaml").write_text(f"names: {names}  # two\nnc: 2\n")
        again = formats.read(
            "yolo", tmp_path, images=tmp_path, classes=tmp_path / "x.yaml"
        )
        assert (again.categories, again.images) == (dataset.categories, dataset.images)
        assert again.extra == {"yolo": {"nc": 2}}
    again = formats.read("yolo", tmp_path, images=tmp_path, classes=["cat", "dog"])
    assert again == dataset
    Picture.new("L", (4, 3)).save(tmp_path / "b.png")  # no b.txt: no objects
    again = formats.read("yolo", tmp_path, images=tmp_path)
    assert again.images == [image, Image("b.png", 4, 3)]


def test_the_number_of_classes_follows_their_list(tmp_path):
    dataset = scene()
    dataset.extra = {"yolo": {"nc": 1, "path": "here"}}
    dataset.categories.append(Category("dog"))
    again = read_again(dataset, "yolo", tmp_path / "a")
    assert again.extra == {"yolo": {"nc": 2, "path": "here"}}


def test_the_constants():
    names = MaskRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    known = {i: name for i, name in enumerate(names) if name != "N/A" and i}
    assert formats.COCO_CLASSES == known and len(known) == 80
    gaps = set(range(1, 91)) - set(known)
    assert set(formats.COCO_UNUSED) == gaps | {91} and len(gaps) == 10
    assert len(formats.VOC_CLASSES) == 20
    assert formats.VOC_CLASSES.index("horse") == 12


# ------------------------------------------------------------------ losses

FULL = {
    "category.id": 7,
    "image.id": 7,
    "image.segmented": False,
    "object.id": 7,
    "object.segmentation": [[0, 0, 4, 0, 4, 5]],
    "object.area": 0.0,
    "object.crowd": False,
    "object.difficult": False,
    "object.truncated": False,
    "object.occluded": False,
    "object.pose": "",
}


def with_field(name: str) -> Dataset:
    dataset = scene()
    if name == "dataset.categories":
        dataset.categories.append(Category("unused"))
        return dataset
    level, attribute = name.split(".")
    image = dataset.images[0]
    items = {
        "category": dataset.categories[0],
        "image": image,
        "object": image.objects[0],
    }
    if level == "extra":
        items["object" if attribute != "yolo" else "category"].extra = {attribute: {}}
        (dataset if attribute == "yolo" else image).extra = {attribute: {"note": "1"}}
    else:
        setattr(items[level], attribute, FULL[name])
    return dataset


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", formats.FIELDS)
def test_a_field_is_kept_or_refused_or_dropped(tmp_path, format, name):
    dataset = with_field(name)
    before = copy.deepcopy(dataset)
    if name in formats.LOSSES[format]:
        with pytest.raises(ValueError, match=f"{format} cannot hold {name} .*drop="):
            formats.write(dataset, format, tmp_path / "a")
        assert not list(tmp_path.iterdir())
        formats.write(dataset, format, tmp_path / "a", drop=(name,))
    else:
        again = read_again(dataset, format, tmp_path / "a")
        level, attribute = name.split(".")
        if level == "extra":
            item = again if attribute == "yolo" else again.images[0]
            assert item.extra == {attribute: {"note": "1"}}
        elif name == "dataset.categories":
            assert [c.name for c in again.categories] == ["person", "unused"]
        else:
            image = again.images[0]
            items = [again.categories[0], image, image.objects[0]]
            item = items[["category", "image", "object"].index(level)]
            assert getattr(item, attribute) == FULL[name]
    assert dataset == before


def test_all_losses_at_once_and_where(tmp_path):
    dataset = scene(crowd=True, pose="Left", difficult=True)
    with pytest.raises(ValueError) as error:
        formats.write(dataset, "yolo", tmp_path / "a", drop=["object.pose"])
    assert str(error.value) == (
        "yolo cannot hold object.crowd (a.jpg, object 0), object.difficult (a.jpg, "
        "object 0); to leave out: drop=('object.pose', 'object.crowd', "
        "'object.difficult'); 'object.crowd' leaves out 1 of 1 objects"
    )


def test_drop_names_losses_only(tmp_path):
    with pytest.raises(ValueError, match=r"drop names \['object.aera'\], but coco"):
        formats.write(scene(), "coco", tmp_path / "a", drop=["object.aera"])
    with pytest.raises(TypeError, match="tuple of names, got 'object.pose'"):
        formats.write(scene(), "coco", tmp_path / "a", drop="object.pose")


def test_the_losses_are_fields():
    for lost in formats.LOSSES.values():
        assert [name for name in formats.FIELDS if name in lost] == list(lost)


# ------------------------------------------------------------------ broken files


def voc_text(extra="", sides=(11, 21, 50, 70), size=(100, 80), name="person") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True)
    box = "".join(f"<{tag}>{side}</{tag}>" for tag, side in tags)
    width, height = size
    return (
        "<annotation>\n<filename>a.jpg</filename>\n"
        f"<size><width>{width}</width><height>{height}</height></size>\n<object>"
        f"<name>{name}</name>\n<bndbox>{box}</bndbox>{extra}</object>\n</annotation>"
    )


WHOLE = voc_text()
BAD_VOC = {
    "cut short": (WHOLE[:100], ", line 4: not XML: unclosed token"),
    "empty": ("", ", line 1: not XML: no element found"),
    "crossed tags": (
        WHOLE.replace("</size>", "</sizes>"),
        ", line 3: not XML: mismatc",
    ),
    "another file": ("<html/>", ": starts with <html>, not <annotation>"),
    "nothing in it": ("<annotation/>", ": missing <filename>"),
    "no size": (re.sub("<size>.*</size>", "", WHOLE), ": missing <size>"),
    "no width": (re.sub("<width>.*</width>", "", WHOLE), ": size: missing <width>"),
    "width 0": (voc_text(size=(0, 0)), ": size: width must be an integer > 0, got 0"),
    "half a pixel": (voc_text(size=(99.5, 80)), ": size: width must .* got 99.5"),
    "no name": (re.sub("<name>.*</name>", "", WHOLE), ": object 0: missing <name>"),
    "empty name": (voc_text(name=" "), ": object 0: <name> must hold text only"),
    "two names": (voc_text("<name>a</name>"), ": object 0: <name> found 2 times"),
    "no box": (re.sub("<bndbox>.*</bndbox>", "", WHOLE), "object 0: missing <bndbox>"),
    "two boxes": (voc_text("<bndbox/>"), ": object 0: bndbox: found 2 times"),
    "text for a box": (
        re.sub("<bndbox>.*</bndbox>", "<bndbox>1 2 3 4</bndbox>", WHOLE),
        ": object 0: bndbox: text '1 2 3 4' instead of tags",
    ),
    "no xmax": (WHOLE.replace("xmax", "x2"), ": object 0: bndbox: missing <xmax>"),
    "a word": (voc_text(sides=(1, "two", 3, 4)), "bndbox: ymin: not a number: 'two'"),
    "empty side": (voc_text(sides=(1, "", 3, 4)), "bndbox: <ymin> must hold text only"),
    "nan": (voc_text(sides=(1, "nan", 3, 4)), ": object 0: bndbox: ymin: not finite"),
    "inf": (voc_text(sides=(1, 2, "inf", 4)), ": object 0: bndbox: xmax: not finite"),
    "no area": (voc_text(sides=(12, 21, 11, 70)), "object 0: box .* has no area"),
    "turned over": (voc_text(sides=(50, 21, 11, 70)), "object 0: box .* has no area"),
    "counted from 0": (voc_text(sides=(0, 21, 50, 70)), "out of .* 100 x 80 by 1 pixe"),
    "too wide": (voc_text(sides=(1, 1, 101, 80)), "sticks out .* by 1 pixels"),
    "difficult 2": (voc_text("<difficult>2</difficult>"), "0: difficult: must be 0 or"),
    "text beside tags": (voc_text("<part>a<b/></part>"), "<part> has text beside its"),
    "folder above": (WHOLE.replace("a.jpg", "../a.jpg"), ": filename: not a file name"),
    "object of text": (WHOLE.replace("</object>", "</object><object>a</object>"), "1:"),
    "unknown class": (voc_text(name="martian"), "0: name: unknown class 'martian'"),
}


@pytest.mark.parametrize("case", BAD_VOC)
def test_bad_voc(tmp_path, case):
    text, message = BAD_VOC[case]
    (tmp_path / "000.xml").write_text(text)
    with pytest.raises(ValueError, match="000.xml.*" + message):
        formats.read("voc", tmp_path, classes=formats.VOC_CLASSES)


def test_bad_folders_of_voc(tmp_path):
    with pytest.raises(ValueError, match="no .xml file in this folder"):
        formats.read("voc", tmp_path)
    with pytest.raises(FileNotFoundError):
        formats.read("voc", tmp_path / "b")
    for name in "ab":
        (tmp_path / f"{name}.xml").write_text(WHOLE)
    with pytest.raises(ValueError, match="b.xml: filename: duplicate 'a.jpg'"):
        formats.read("voc", tmp_path)
    with pytest.raises(ValueError, match="classes: duplicate class name 'person'"):
        formats.read("voc", tmp_path / "a.xml", classes=["person", "person"])


DOCUMENT = {
    "images": [{"id": 3, "file_name": "a.jpg", "width": 100, "height": 80}],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    "annotations": [
        {"id": 5, "image_id": 3, "category_id": 1, "bbox": [10, 20, 40, 50]},
        {"id": 6, "image_id": 3, "category_id": 18, "bbox": [0, 0, 100, 80]},
    ],
}
DELETE = object()
SECOND = r": annotations\[1\] \(id 6\): "
# where in the document, what is put there, and the message
BAD_COCO = {
    "no annotations": ("annotations", DELETE, ": missing 'annotations'"),
    "no list": ("images", {}, ": images must be a list"),
    "an entry of text": ("images.0", "a.jpg", r": images\[0\]: not an object"),
    "no id": ("annotations.1.id", DELETE, r": annotations\[1\]: missing 'id'"),
    "an id of text": ("images.0.id", "3", r": images\[0\]: id must be an integer"),
    "true as id": ("images.0.id", True, r": images\[0\]: id must be an integer"),
    "duplicate id": ("annotations.1.id", 5, r"annotations\[1\] .*: duplicate id 5"),
    "duplicate class": ("categories.1.id", 1, r"categories\[1\] .*: duplicate id 1"),
    "duplicate name": ("categories.1.name", "person", "duplicate class name 'person'"),
    "no name": ("categories.1.name", DELETE, r"categories\[1\] .*missing 'name'"),
    "no file": ("images.0.file_name", DELETE, r"\(id 3\): missing 'file_name'"),
    "folder above": ("images.0.file_name", "../a", r"\(id 3\): file_name: not a file"),
    "no height": ("images.0.height", DELETE, r"\(id 3\): missing 'height'"),
    "width 0": ("images.0.width", 0, r"\(id 3\): width must be an integer > 0, got 0"),
    "width 9.5": ("images.0.width", 9.5, r"\(id 3\): width must be an integer"),
    "no image": ("annotations.1.image_id", 4, SECOND + "image_id 4 is not in the file"),
    "unknown class": ("annotations.1.category_id", 2, SECOND + "category_id 2 is not"),
    "no class": ("annotations.1.category_id", DELETE, SECOND + "missing 'category_id'"),
    "no box": ("annotations.1.bbox", DELETE, SECOND + "missing 'bbox'"),
    "three numbers": ("annotations.1.bbox", [1, 2, 3], SECOND + r"bbox must be \[x, y"),
    "a word": ("annotations.1.bbox.2", "3", SECOND + "bbox: not a number: '3'"),
    "nan": ("annotations.1.bbox.2", float("nan"), SECOND + "bbox: not finite: nan"),
    "inf": ("annotations.1.bbox.0", float("inf"), SECOND + "bbox: not finite: inf"),
    "huge": ("annotations.1.bbox.0", 10**400, SECOND + "bbox: not finite: 1000"),
    "no width": ("annotations.1.bbox.2", 0, SECOND + "box .* has no area"),
    "negative": ("annotations.1.bbox.3", -5, SECOND + "box .* has no area"),
    "outside": ("annotations.1.bbox.0", 1.5, SECOND + "box .* by 1.5 pixels"),
    "before 0": ("annotations.1.bbox.1", -1, SECOND + "box .* by 1 pixels"),
    "area nan": ("annotations.1.area", float("nan"), SECOND + "area: not finite"),
    "area of text": ("annotations.1.area", "big", SECOND + "area: not a number"),
    "crowd 2": ("annotations.1.iscrowd", 2, SECOND + "iscrowd must be 0 or 1, got 2"),
    "a polygon of 4": (
        "annotations.1.segmentation",
        [[1, 2, 3, 4]],
        SECOND + "segmentation: a polygon needs 6, 8, 10, ... numbers, got 4",
    ),
    "a polygon of 7": (
        "annotations.1.segmentation",
        [[1, 2, 3, 4, 5, 6, 7]],
        SECOND + "segmentation: a polygon needs .* got 7",
    ),
    "nan in a polygon": (
        "annotations.1.segmentation",
        [[1, 2, 3, 4, 5, float("nan")]],
        SECOND + "segmentation: not finite",
    ),
    "no polygon": ("annotations.1.segmentation", [7], SECOND + ".*not a polygon: 7"),
    "text": ("annotations.1.segmentation", "RLE", SECOND + "segmentation: run lengths"),
    "a mask of another size": (
        "annotations.1.segmentation",
        {"size": [100, 80], "counts": [8000]},
        SECOND + "segmentation: mask of 80 x 100 pixels in an image of 100 x 80",
    ),
    "too few pixels": (
        "annotations.1.segmentation",
        {"size": [80, 100], "counts": [7999]},
        SECOND + "segmentation: counts add up to 7999",
    ),
    "no counts": (
        "annotations.1.segmentation",
        {},
        SECOND + "segmentation: run lengths need 'size' and 'counts', got {}",
    ),
}


@pytest.mark.parametrize("case", BAD_COCO)
def test_bad_coco(tmp_path, case):
    place, value, message = BAD_COCO[case]
    document = copy.deepcopy(DOCUMENT)
    *path, last = [int(p) if p.isdigit() else p for p in place.split(".")]
    inner = document
    for key in path:
        inner = inner[key]
    if value is DELETE:
        del inner[last]
    else:
        inner[last] = value
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="a.json.*" + message):
        formats.read("coco", tmp_path / "a.json")


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"images": [],\n "annotations": [}', "a.json, line 2: not JSON"),
        (b"", "a.json, line 1: not JSON"),
        (json.dumps(DOCUMENT).encode()[:90], "a.json, line 1: not JSON"),
        (b"[]", "a.json: a list, not an object with images and annotations"),
        (b"\xff\xfe{}", "a.json, line 1: not JSON"),  # UTF-16
        (b"{\n\xe9}", "a.json, line 2: not text in UTF-8"),
    ],
)
def test_bad_json(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        formats.read("coco", tmp_path / "a.json")


BAD_YOLO = {
    "four numbers": ("0 0.5 0.5 1", "line 2: must be class .* got 4 numbers"),
    "six numbers": ("0 0.5 0.5 1 1 0.9", "line 2: must be class .* got 6 numbers"),
    "an outline": ("0 0 0 1 0 1 1 0 1", "line 2: must be class .* got 9 numbers"),
    "a word": ("0 0.5 x 1 1", "line 2: must be an integer and four numbers"),
    "a name": ("cat 0.5 0.5 1 1", "line 2: must be an integer and four numbers"),
    "half a class": ("0.5 0.5 0.5 1 1", "line 2: must be an integer and four numbers"),
    "unknown class": ("2 0.5 0.5 1 1", "line 2: unknown class 2; there are 2, from 0"),
    "negative class": ("-1 0.5 0.5 1 1", "line 2: unknown class -1"),
    "nan": ("0 0.5 nan 1 1", "line 2: not finite: nan"),
    "inf": ("0 0.5 0.5 1 inf", "line 2: not finite: inf"),
    "no width": ("0 0.5 0.5 0 1", "line 2: box .* has no area"),
    "outside": ("0 0.6 0.5 1 1", "line 2: box .* by 10 pixels"),
    "pixels": ("0 50 40 20 20", "line 2: box .* sticks out of the image of 100 x 80"),
}


@pytest.mark.parametrize("case", BAD_YOLO)
def test_bad_yolo(tmp_path, case):
    line, message = BAD_YOLO[case]
    (tmp_path / "a.txt").write_text(f"1 0.5 0.5 1 1\n{line}\n")
    with pytest.raises(ValueError, match="a.txt, " + message):
        formats.read("yolo", tmp_path, images=SIZES, classes=["cat", "dog"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("names: [cat, no]", "data.yaml: a class needs a name, got False"),
        ("names: [cat, cat]", "data.yaml: duplicate class name 'cat'"),
        ("names: {1: cat, 2: dog}", r"must count from 0, got \[1, 2\]"),
        ("names: cat", "data.yaml: names must be a list, got 'cat'"),
        ("names: [cat]\nnc: 2", "data.yaml: nc is 2, but names are 1"),
        ("nc: 2", "data.yaml: missing 'names'"),
        ("", "data.yaml: missing 'names'"),
        ("nc: 2\nnames: [cat", "data.yaml, line 2: not YAML"),
    ],
)
def test_bad_names_of_yolo(tmp_path, text, message):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        formats.read("yolo", tmp_path, images=SIZES)


def test_bad_folders_of_yolo(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: no such folder"):
        formats.read("yolo", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="neither data.yaml nor classes.txt"):
        formats.read("yolo", tmp_path, images=SIZES)
    with pytest.raises(FileNotFoundError, match="images: no such folder of images"):
        formats.read("yolo", tmp_path, classes=["cat"])
    with pytest.raises(ValueError, match="no .txt file for any of 1 images"):
        formats.read("yolo", tmp_path, images=SIZES, classes=["cat"])
    with pytest.raises(ValueError, match="would share the file 'a.txt'"):
        formats.read(
            "yolo", tmp_path, images=SIZES | {"a.png": (1, 1)}, classes=["cat"]
        )
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(ValueError, match="b.txt: there is no image of this name"):
        formats.read("yolo", tmp_path, images=SIZES, classes=["cat"])


def test_formats_have_names(tmp_path):
    with pytest.raises(ValueError, match=r"one of \('voc', 'coco', 'yolo'\), got 'x'"):
        formats.read("x", tmp_path)
    with pytest.raises(ValueError, match="one of .* got 'VOC'"):
        formats.write(scene(), "VOC", tmp_path)


# ------------------------------------------------------------------ boxes kept


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("box", [(-1.0, 0, 5, 6), (0, 0, 101, 80), (7, 8, 7, 9)])
def test_invalid_boxes_are_kept_if_asked(tmp_path, format, box):
    dataset = scene()
    dataset.images[0].objects[0].box = box
    with pytest.raises(ValueError, match="a.jpg: object 0: box .*invalid='keep'"):
        formats.write(dataset, format, tmp_path / "a")
    assert not list(tmp_path.iterdir())
    formats.write(dataset, format, tmp_path / "a", invalid="keep")
    options = {"images": SIZES} if format == "yolo" else {}
    with pytest.raises(ValueError, match="box .*invalid='keep'"):
        formats.read(format, tmp_path / "a", **options)
    again = formats.read(format, tmp_path / "a", **options, invalid="keep")
    assert again.images[0].objects[0].box == pytest.approx(box, abs=1e-9)
    with pytest.raises(ValueError, match="'raise' or 'keep', got 'clip'"):
        formats.read(format, tmp_path / "a", **options, invalid="clip")


def test_a_box_may_stick_out_by_its_rounding(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.166667 0.5 0.333334 1\n")
    image = formats.read("yolo", tmp_path, images=SIZES, classes=["cat"]).images[0]
    assert image.objects[0].box[0] == pytest.approx(0)
    (tmp_path / "a.txt").write_text("0 0.4999 0.5 1 1\n")  # by 0.01 pixels: enough
    with pytest.raises(ValueError, match="line 1: box"):
        formats.read("yolo", tmp_path, images={"a.jpg": (101, 80)}, classes=["cat"])


# ------------------------------------------------------------------ writing

BAD_DATASETS = {
    "nan": (("box", (0, 0, float("nan"), 5)), "a.jpg: object 0: box: not finite: nan"),
    "inf": (("box", (0, 0, float("inf"), 5)), "a.jpg: object 0: box: not finite: inf"),
    "text": (("box", (0, 0, "5", 5)), "a.jpg: object 0: box: not a number: '5'"),
    "three sides": (("box", (0, 0, 5)), "a.jpg: object 0: box must be x1, y1, x2, y2"),
    "no area": (("box", (5, 5, 5, 9)), "a.jpg: object 0: box .* has no area"),
    "class": (("category", "dog"), "a.jpg: object 0: unknown class 'dog'"),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("case", BAD_DATASETS)
def test_bad_objects_are_not_written(tmp_path, format, case):
    (attribute, value), message = BAD_DATASETS[case]
    dataset = scene()
    dataset.images.append(copy.deepcopy(dataset.images[0]))
    dataset.images[0].file_name = "b.jpg"
    setattr(dataset.images[1].objects[0], attribute, value)
    drop = formats.LOSSES[format]
    with pytest.raises(ValueError, match=message):
        formats.write(dataset, format, tmp_path / "a", drop=drop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_bad_images_are_not_written(tmp_path, format):
    for name in ("", "/a.jpg", "../a.jpg", "b/../../a.jpg", "."):
        dataset = scene()
        dataset.images[0].file_name = name
        with pytest.raises(ValueError, match=f"below .*folder: '{re.escape(name)}'"):
            formats.write(dataset, format, tmp_path / "a")
    dataset = scene()
    dataset.images[0].width = 0
    with pytest.raises(ValueError, match="a.jpg: width must be an integer > 0, got 0"):
        formats.write(dataset, format, tmp_path / "a")
    dataset = scene()
    dataset.categories *= 2
    with pytest.raises(ValueError, match="duplicate class name 'person'"):
        formats.write(dataset, format, tmp_path / "a", drop=formats.LOSSES[format])
    if format != "coco":
        dataset = scene()
        dataset.images.append(Image("a.png", 5, 5))
        with pytest.raises(ValueError, match="'a.jpg' and 'a.png' would share"):
            formats.write(dataset, format, tmp_path / "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["category", "image", "object"])
def test_duplicate_ids_are_not_written(tmp_path, kind):
    dataset = scene()
    dataset.categories.append(Category("dog"))
    dataset.images.append(Image("b.jpg", 5, 5))
    dataset.images[0].objects *= 2
    items = {
        "category": dataset.categories,
        "image": dataset.images,
        "object": [copy.copy(thing) for thing in dataset.images[0].objects],
    }
    dataset.images[0].objects = items["object"]
    for item in items[kind]:
        item.id = 4
    with pytest.raises(ValueError, match=f"duplicate {kind} id 4"):
        formats.write(dataset, "coco", tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "outline, message",
    [
        ([[1, 2, 3, 4]], "segmentation: a polygon needs"),
        ({"size": [2, 2], "counts": [4]}, "segmentation: mask of 2 x 2 pixels in"),
        ({"size": [80, 100], "counts": np.ones(3)}, "segmentation: counts must be int"),
    ],
)
def test_bad_outlines_are_not_written(tmp_path, outline, message):
    with pytest.raises(ValueError, match="a.jpg: object id 1: " + message):
        formats.write(scene(segmentation=outline), "coco", tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def test_what_a_file_cannot_hold_is_not_written(tmp_path):
    dataset = scene(pose="left\0")
    with pytest.raises(ValueError, match=r"a.jpg: XML cannot hold '\\x00'"):
        formats.write(dataset, "voc", tmp_path / "a")
    dataset = scene(extra={"coco": {"note": float("nan")}})
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        formats.write(dataset, "coco", tmp_path / "a.json")
    dataset.images.append(Image("b.jpg", 5, 5))
    with pytest.raises(ValueError, match="one file holds one image, not 2"):
        formats.write(dataset, "voc", tmp_path / "a.xml", drop=formats.LOSSES["voc"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_a_disk_that_fails_leaves_nothing_behind(tmp_path, monkeypatch, format):
    dataset = scene()
    dataset.images.append(Image("b.jpg", 5, 5))
    (tmp_path / "old.json").write_text("old")
    write_text, calls = Path.write_text, []

    def fail_late(self, text, **options):
        calls.append(self)
        write_text(self, text[: len(text) // 2], **options)
        if len(calls) == (1 if format == "coco" else 2):
            raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", fail_late)
    target = "old.json" if format == "coco" else "a"
    with pytest.raises(OSError, match="no space left"):
        formats.write(dataset, format, tmp_path / target)
    assert [file.name for file in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


def test_an_older_file_is_never_half_written(tmp_path, monkeypatch):
    (tmp_path / "old.json").write_text("old")
    monkeypatch.delattr("os.replace")  # the only way to its place
    with pytest.raises(AttributeError):
        formats.write(scene(), "coco", tmp_path / "old.json")
    assert (tmp_path / "old.json").read_text() == "old"


@pytest.mark.parametrize("format", ["voc", "yolo"])
def test_a_folder_with_files_is_not_written_to(tmp_path, format):
    (tmp_path / "empty").mkdir()
    formats.write(scene(), format, tmp_path / "empty")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileExistsError, match="empty: not a new or empty folder"):
        formats.write(scene(), format, tmp_path / "empty")
    assert sorted(tmp_path.rglob("*")) == before


def test_one_image_may_go_to_a_file_of_voc(tmp_path):
    formats.write(scene(), "voc", tmp_path / "b.xml")
    assert formats.read("voc", tmp_path / "b.xml") == scene()


# ------------------------------------------------------------------ pixels


def save(path: Path, mode: str, size=(100, 80), orientation: int | None = None):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (size[1] // 20, size[0] // 20, 3), np.uint8)
    picture = Picture.fromarray(pixels).resize(size, Picture.Resampling.NEAREST)
    exif = Picture.Exif()
    if orientation:
        exif[0x0112] = orientation
    picture.convert(mode).save(path, exif=exif)
    return pixels


def test_damaged_images_of_yolo(tmp_path):
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(ValueError, match="a.png: not an image"):
        formats.read("yolo", tmp_path, images=tmp_path, classes=["cat"])


def test_yolo_takes_the_upright_size(tmp_path):
    save(tmp_path / "a.png", "RGB", orientation=6)
    (tmp_path / "a.txt").write_text("")
    image = formats.read("yolo", tmp_path, images=tmp_path, classes=["cat"]).images[0]
    assert (image.width, image.height) == (80, 100)


def test_masks_of_objects():
    mask = np.zeros((80, 100), dtype=bool)
    mask[2:5, 3:9] = True
    for outline in ([[3, 2, 9, 2, 9, 5, 3, 5]], formats.rle.encode(mask)):
        thing = scene(segmentation=outline).images[0].objects[0]
        assert np.array_equal(formats.object_mask(thing, 80, 100), mask)
    with pytest.raises(ValueError, match="100 x 80 pixels in an image of 80 x 100"):
        formats.object_mask(thing, 100, 80)
    with pytest.raises(ValueError, match="person at .* has no segmentation"):
        formats.object_mask(scene().images[0].objects[0], 80, 100)


# ------------------------------------------------------------------ targets


def test_targets_for_torchvision():
    mask = np.zeros((80, 100), dtype=bool)
    mask[20:70, 10:50] = True
    thing = scene(segmentation=formats.rle.encode(mask), area=1999.0, crowd=True)
    image = thing.images[0]
    image.id = 8
    target = formats.to_torchvision(image, {"person": 1})
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].canvas_size == (80, 100)
    assert target["boxes"].tolist() == [[10, 20, 50, 70]]
    assert target["labels"].tolist() == [1] and target["labels"].dtype == torch.int64
    assert target["area"].tolist() == [1999.0]
    assert target["iscrowd"].tolist() == [1]
    assert target["iscrowd"].dtype == torch.int64
    assert np.array_equal(target["masks"].numpy(), mask[None])
    assert target["masks"].dtype == torch.uint8 and target["image_id"] == 8


def test_targets_say_only_what_is_known():
    image = scene().images[0]
    target = formats.to_torchvision(image, {"person": 18})
    assert set(target) == {"boxes", "labels", "area", "iscrowd"}
    assert target["area"].tolist() == [2000.0] and target["iscrowd"].tolist() == [0]


def test_targets_without_objects():
    image = Image("a.jpg", 100, 80)
    target = formats.to_torchvision(image, {})
    shapes = {name: tuple(value.shape) for name, value in target.items()}
    assert shapes == {
        "boxes": (0, 4),
        "labels": (0,),
        "area": (0,),
        "iscrowd": (0,),
        "masks": (0, 80, 100),
    }
    assert target["labels"].dtype == target["iscrowd"].dtype == torch.int64


def test_bad_targets():
    with pytest.raises(ValueError, match=r"a.jpg: no label for \['person'\]"):
        formats.to_torchvision(scene().images[0], {"dog": 1})
