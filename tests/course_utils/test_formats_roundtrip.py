"""Read and write, within a format and between all pairs, on random and real files."""

import copy
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from formats_samples import (
    coco_documents,
    load_coco,
    load_voc,
    load_yolo,
    save_coco,
    save_voc,
    save_yolo,
    voc_documents,
    yolo_documents,
)
from hypothesis import HealthCheck, Phase, given, settings

from course_utils import formats, images

FORMATS = ("voc", "coco", "yolo")
PAIRS = [(a, b) for a in FORMATS for b in FORMATS if a != b]
DOCUMENTS = {"voc": voc_documents, "coco": coco_documents, "yolo": yolo_documents}
SAVE = {"voc": save_voc, "coco": save_coco, "yolo": save_yolo}
LOAD = {"voc": load_voc, "coco": load_coco, "yolo": load_yolo}
# Which fields both can hold, beside names, sizes, classes and boxes.
BOTH = {
    pair: [f for f in formats.FIELDS if all(f not in formats.LOSSES[p] for p in pair)]
    for pair in PAIRS
}
PROFILE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # shrinking a failure may take minutes
    suppress_health_check=list(HealthCheck),
)
EXAMPLES = [15, pytest.param(60, marks=pytest.mark.slow)]


@contextmanager
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def options(format, dataset):
    """What reading YOLO needs beside its files."""
    if format != "yolo":
        return {}
    return {"images": {im.file_name: (im.width, im.height) for im in dataset.images}}


def read_document(format, document, path):
    SAVE[format](document, path)
    if format == "yolo":
        images = {name: size for name, (size, _) in document[1].items()}
        return formats.read("yolo", path, images=images)
    return formats.read(format, path)


def through(dataset, format, path):
    """Written in a format, and read again."""
    formats.write(dataset, format, path, drop=formats.LOSSES[format])
    return formats.read(format, path, **options(format, dataset))


def by_name(dataset):
    return {image.file_name: image for image in dataset.images}


def without_crowds(dataset):
    """What VOC and YOLO can hold of it."""
    dataset = copy.deepcopy(dataset)
    for image in dataset.images:
        image.objects = [thing for thing in image.objects if thing.crowd is not True]
    return dataset


def assert_same_shared_fields(a, b, within=1e-6):
    """Images, their sizes, classes and boxes; the boxes' largest difference."""
    one, other = by_name(a), by_name(b)
    assert one.keys() == other.keys()
    for name, image in one.items():
        twin = other[name]
        assert (image.width, image.height) == (twin.width, twin.height)
        classes = [thing.category for thing in image.objects]
        assert classes == [thing.category for thing in twin.objects]
        for thing, same in zip(image.objects, twin.objects, strict=True):
            np.testing.assert_allclose(thing.box, same.box, rtol=0, atol=within)


def is_empty(format, document):
    return format == "voc" and not document


# ------------------------------------------------------------------ random files


def round_trip(format, document):
    if is_empty(format, document):
        return
    with folder() as path:
        first = read_document(format, document, path / "a")
        formats.write(first, format, path / "b")  # nothing to drop
        again = formats.read(format, path / "b", **options(format, first))
        assert LOAD[format](path / "b") == LOAD[format](path / "a")
        images = sorted(first.images, key=lambda image: image.file_name)
        if format != "coco":  # their files are sorted by other names
            again.images.sort(key=lambda image: image.file_name)
            first.images = images
        assert again == first


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("format", DOCUMENTS)
def test_a_round_trip_changes_nothing(format, examples):
    @settings(PROFILE, max_examples=examples)
    @given(DOCUMENTS[format]())
    def there_and_back(document):
        round_trip(format, document)

    there_and_back()


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("a, b", PAIRS)
def test_what_both_formats_can_hold_survives(a, b, examples):
    @settings(PROFILE, max_examples=examples)
    @given(DOCUMENTS[a]())
    def there_and_back(document):
        if is_empty(a, document):
            return
        with folder() as path:
            first = read_document(a, document, path / "a")
            if not first.images:
                return
            there = through(first, b, path / "b")
            first = without_crowds(first)
            assert_same_shared_fields(first, there)
            names = [category.name for category in first.categories]
            if "dataset.categories" in BOTH[a, b]:
                assert [category.name for category in there.categories] == names
            back = through(there, a, path / "c")
            assert_same_shared_fields(first, back)
            for image in first.images:
                for thing, same in zip(
                    image.objects, by_name(back)[image.file_name].objects, strict=True
                ):
                    if all(isinstance(side, int) for side in thing.as_read[1]):
                        assert same.as_read[1] == thing.as_read[1]  # exactly

    there_and_back()


def test_two_formats_share_the_list_of_classes_at_most():
    assert BOTH["coco", "yolo"] == ["dataset.categories"]
    assert BOTH["voc", "coco"] == BOTH["voc", "yolo"] == []


@pytest.mark.parametrize("size", [(500, 375), (1, 1), (4000, 3000), (10_000, 7)])
@pytest.mark.parametrize("between", ["coco", "yolo"])
def test_integers_of_voc_come_back_exactly(tmp_path, size, between):
    generator = np.random.default_rng(0)
    width, height = size
    image = formats.Image("a.jpg", width, height)
    for _ in range(200):
        x1, x2 = np.sort(generator.integers(0, width, 2))
        y1, y2 = np.sort(generator.integers(0, height, 2))
        box = tuple(map(float, (x1, y1, x2 + 1, y2 + 1)))
        image.objects.append(formats.Object("a", box))
    dataset = formats.Dataset([formats.Category("a")], [image])
    formats.write(dataset, "voc", tmp_path / "a")
    there = through(dataset, between, tmp_path / "b")
    through(there, "voc", tmp_path / "c")
    text = (tmp_path / "a/a.xml").read_text()
    assert (tmp_path / "c/a.xml").read_text() == text and "." not in text.split(">", 5)


# ------------------------------------------------------------------ real files

REAL = os.environ.get("COURSE_REAL_DATA")
needs_real = pytest.mark.skipif(not REAL, reason="COURSE_REAL_DATA is not set")
VOC_FOLDERS = [
    "voc_icevision_samples/voc/Annotations",
    "voc_icevision_samples/fridge/odFridgeObjects/annotations",
]
COCO_FILES = [
    "voc_icevision_samples/annotations.json",
    *(
        f"tiny_coco/annotations/{kind}_{split}2017.json"
        for kind in ("instances", "person_keypoints")
        for split in ("train", "val")
    ),
]


@needs_real
@pytest.mark.parametrize("name", VOC_FOLDERS)
def test_real_voc_is_unchanged(tmp_path, name):
    dataset = formats.read("voc", Path(REAL, name))
    formats.write(dataset, "voc", tmp_path / "a")
    assert load_voc(tmp_path / "a") == load_voc(Path(REAL, name))
    assert formats.read("voc", tmp_path / "a") == dataset


@needs_real
@pytest.mark.parametrize("name", COCO_FILES)
def test_real_coco_is_unchanged(tmp_path, name):
    dataset = formats.read("coco", Path(REAL, name))
    formats.write(dataset, "coco", tmp_path / "a.json")
    assert load_coco(tmp_path / "a.json") == load_coco(Path(REAL, name))
    assert formats.read("coco", tmp_path / "a.json") == dataset


@needs_real
@pytest.mark.parametrize("b", FORMATS)
@pytest.mark.parametrize("name", VOC_FOLDERS + COCO_FILES)
def test_real_files_through_another_format_and_back(tmp_path, name, b):
    a = "coco" if name.endswith("json") else "voc"
    first = formats.read(a, Path(REAL, name))
    there = through(first, b, tmp_path / "b")
    first = first if a == b else without_crowds(first)
    assert_same_shared_fields(first, there)
    assert_same_shared_fields(first, through(there, a, tmp_path / "c"))


@needs_real
def test_real_classes_are_the_constants():
    coco = formats.read("coco", Path(REAL, COCO_FILES[1]))
    assert {c.id: c.name for c in coco.categories} == formats.COCO_CLASSES
    voc = Path(REAL, VOC_FOLDERS[0])
    assert len(formats.read("voc", voc, classes=formats.VOC_CLASSES).images) == 2


@needs_real
def test_real_images_have_the_sizes_of_their_records():
    for name, folder in [
        (COCO_FILES[1], "tiny_coco/train2017"),
        (VOC_FOLDERS[0], "voc_icevision_samples/voc/JPEGImages"),
    ]:
        dataset = formats.read("coco" if "json" in name else "voc", Path(REAL, name))
        for image in dataset.images[:10]:
            file = Path(REAL, folder, image.file_name)
            assert images.upright_size(file) == (image.height, image.width)


@needs_real
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pycocotools")
def test_real_masks_of_coco_are_those_of_pycocotools():
    from pycocotools.coco import COCO

    file = Path(REAL, COCO_FILES[1])
    coco = COCO()
    coco.dataset = load_coco(file)
    coco.createIndex()
    for image in formats.read("coco", file).images:
        for thing in image.objects:
            ours = formats.object_mask(thing, image.height, image.width)
            assert np.array_equal(ours, coco.annToMask(coco.anns[thing.id]))
