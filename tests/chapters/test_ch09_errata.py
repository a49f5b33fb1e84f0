"""Errata of chapter 9 that a test settles: misprints, and facts no cell shows."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from booktools import chapter_code
from course_utils import formats

OURS = chapter_code.definitions("09_annotation_formats", "voc_tree", "to_voc")


def test_E_173():
    """The second corner is (xmax, ymax): taken as (ymin, ymax) most boxes are lost."""
    root = OURS.voc_tree("a", 100, 80, [(10, 20, 60, 70)])
    sides = {tag.tag: int(tag.text) for tag in root.find("object/bndbox")}
    assert sides == {"xmin": 11, "ymin": 21, "xmax": 60, "ymax": 70}
    width = sides["xmax"] - sides["xmin"] + 1
    assert width == 50
    assert sides["ymin"] - sides["xmin"] + 1 == 11  # what (ymin, ymax) would give


def test_E_182():
    """pose belongs to an object, and two objects may have different ones."""
    root = OURS.voc_tree("a", 100, 80, [(0, 0, 10, 10), (20, 20, 30, 30)])
    assert root.find("pose") is None
    assert len(root.findall("object/pose")) == 2


def test_E_184(tmp_path):
    """difficult survives in VOC only: elsewhere it must be dropped by name."""
    things = [formats.Object("person", (1.0, 2.0, 5.0, 9.0), difficult=True)]
    image = formats.Image("a.png", 20, 20, things)
    dataset = formats.Dataset([formats.Category("person")], [image])
    formats.write(dataset, "voc", tmp_path / "voc")
    again = formats.read("voc", tmp_path / "voc")
    assert again.images[0].objects[0].difficult is True
    for other in ("coco", "yolo"):
        with pytest.raises(ValueError, match="cannot hold object.difficult"):
            formats.write(dataset, other, tmp_path / other)


def test_E_185(tmp_path):
    """The class in a YOLO file counts from 0: a horse is 12 of VOC's names."""
    names = list(formats.VOC_CLASSES)
    things = [formats.Object("horse", (69.0, 172.0, 270.0, 330.0))]
    image = formats.Image("a.jpg", 500, 375, things)
    dataset = formats.Dataset([formats.Category(n) for n in names], [image])
    formats.write(dataset, "yolo", tmp_path / "yolo")
    line = (tmp_path / "yolo" / "labels" / "a.txt").read_text().split()
    assert line[0] == "12"
    numbers = [round(float(v), 3) for v in line[1:]]
    assert numbers == [0.339, 0.669, 0.402, 0.421]  # E-186: width before height


def test_E_188():
    """80 classes, ids 1 to 90, ten gaps; the paper's list goes to 91."""
    ids = list(formats.COCO_CLASSES)
    gaps = sorted(set(range(1, 91)) - set(ids))
    assert (len(ids), min(ids), max(ids)) == (80, 1, 90)
    assert gaps == [12, 26, 29, 30, 45, 66, 68, 69, 71, 83]
    assert set(formats.COCO_UNUSED) == {*gaps, 91}


def test_E_180(tmp_path):
    """Pictures of VOC are .jpg; the record keeps the ending, the xml has its own."""
    image = formats.Image("2007_000039.jpg", 500, 375)
    dataset = formats.Dataset([], [image])
    formats.write(dataset, "voc", tmp_path / "voc")
    (file,) = (tmp_path / "voc").iterdir()
    assert file.name == "2007_000039.xml"
    assert ET.parse(file).getroot().find("filename").text == "2007_000039.jpg"


def test_E_187():
    """COCO 2014 and 2017: as many pictures and objects, cut in another place."""
    pictures = np.array([[82_783, 40_504], [118_287, 5_000]])
    objects = np.array([[604_907, 291_875], [860_001, 36_781]])
    assert pictures.sum(1).tolist() == [123_287] * 2
    assert objects.sum(1).tolist() == [896_782] * 2
