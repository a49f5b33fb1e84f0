"""datasets: the items of PennFudan, splits, odd and bad files; pedestrians()."""

import os
import pickle
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms import v2

from course_utils import datasets, images
from course_utils.datasets import penn_fudan
from course_utils.datasets.penn_fudan import split_instances
from course_utils.detection import box_ops

REAL = os.environ.get("COURSE_REAL_DATA")
PACKAGE = Path(penn_fudan.__file__).parent


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    monkeypatch.delenv("COURSE_PENN_FUDAN", raising=False)


def write(root: Path, name: str, labels, suffix=".png", image=None, **options) -> None:
    """An image, gray by default, and its mask."""
    labels = np.asarray(labels)
    (root / "PNGImages").mkdir(parents=True, exist_ok=True)
    (root / "PedMasks").mkdir(exist_ok=True)
    if image is None:
        image = np.full((*labels.shape, 3), 100, np.uint8)
    Image.fromarray(image).save(root / "PNGImages" / f"{name}{suffix}", **options)
    Image.fromarray(labels).save(root / "PedMasks" / f"{name}_mask.png")


def small(*rows) -> np.ndarray:
    return np.array(rows, np.uint8)


@pytest.fixture
def root(tmp_path) -> Path:
    """Three images: two people, nobody, one pixel."""
    folder = tmp_path / "peds"
    two = small([0, 0, 1, 1, 0], [0, 0, 1, 0, 2], [0, 0, 0, 0, 2], [2, 2, 2, 2, 2])
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    write(folder, "b_two", two, image=picture)
    write(folder, "c_none", np.zeros((3, 4), np.uint8))
    write(folder, "a_pixel", small([0, 0], [0, 1], [0, 0]))
    return folder


# --- items ---------------------------------------------------------------------------


def test_an_item_is_what_the_docstring_says(root):
    data = datasets.PennFudan(root)
    assert len(data) == 3 and data.names == ["a_pixel", "b_two", "c_none"]
    image, target = data[1]
    assert type(image) is tv_tensors.Image
    assert image.dtype == torch.uint8 and image.shape == (3, 4, 5)
    assert image[:, 0, 1].tolist() == [3, 4, 5]
    assert list(target) == ["boxes", "labels", "masks", "image_id", "area", "iscrowd"]
    assert type(target["boxes"]) is tv_tensors.BoundingBoxes
    assert target["boxes"].format is tv_tensors.BoundingBoxFormat.XYXY
    assert target["boxes"].canvas_size == (4, 5)
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"].tolist() == [[2, 0, 4, 2], [0, 1, 5, 4]]
    assert target["labels"].dtype == torch.int64 and target["labels"].tolist() == [1, 1]
    assert type(target["masks"]) is tv_tensors.Mask
    assert target["masks"].dtype == torch.uint8 and target["masks"].shape == (2, 4, 5)
    assert (
        target["masks"][0].tolist()
        == [[0, 0, 1, 1, 0], [0, 0, 1, 0, 0]] + [[0] * 5] * 2
    )
    assert type(target["image_id"]) is int and target["image_id"] == 1
    assert target["area"].dtype == torch.float32 and target["area"].tolist() == [3, 7]
    assert target["iscrowd"].dtype == torch.int64
    assert target["iscrowd"].tolist() == [0, 0]


def test_one_pixel_has_a_box_of_area_one(root):
    target = datasets.PennFudan(root)[0][1]
    assert target["boxes"].tolist() == [[1, 1, 2, 2]]
    assert box_ops.box_area(target["boxes"].as_subclass(torch.Tensor)).item() == 1
    assert target["area"].tolist() == [1]


def test_an_image_without_objects(root):
    target = datasets.PennFudan(root)[2][1]
    assert target["boxes"].shape == (0, 4) and target["boxes"].dtype == torch.float32
    assert target["masks"].shape == (0, 3, 4) and target["masks"].dtype == torch.uint8
    for name, dtype in (
        ("labels", torch.int64),
        ("area", torch.float32),
        ("iscrowd", torch.int64),
    ):
        assert target[name].shape == (0,) and target[name].dtype == dtype
    flipped = v2.Compose([v2.RandomHorizontalFlip(1), v2.Resize((6, 8))])
    image, target = datasets.PennFudan(root, transforms=flipped)[2]
    assert target["boxes"].shape == (0, 4) and target["masks"].shape == (0, 6, 8)


def test_numbers_may_have_gaps_and_come_in_rising_order(tmp_path):
    write(tmp_path, "gaps", small([0, 200, 200], [7, 0, 31]))
    write(tmp_path, "wide", np.array([[0, 300], [70, 70]], np.uint16))
    target = datasets.PennFudan(tmp_path)[0][1]
    assert target["boxes"].tolist() == [[0, 1, 1, 2], [2, 1, 3, 2], [1, 0, 3, 1]]
    target = datasets.PennFudan(tmp_path)[1][1]
    assert target["boxes"].tolist() == [[0, 1, 2, 2], [1, 0, 2, 1]]


def test_transforms_get_image_and_target(root):
    seen = []

    def spy(image, target):
        seen.append((image, target))
        return "an item"

    assert datasets.PennFudan(root, transforms=spy)[1] == "an item"
    assert seen[0][1]["boxes"].shape == (2, 4)
    image, target = datasets.PennFudan(root, transforms=v2.RandomHorizontalFlip(1))[1]
    assert target["boxes"].tolist() == [[1, 0, 3, 2], [0, 1, 5, 4]]
    from_masks = box_ops.masks_to_boxes(target["masks"].as_subclass(torch.Tensor))
    assert from_masks.tolist() == target["boxes"].tolist()


def test_indices(root):
    data = datasets.PennFudan(root)
    assert data[-1][1]["image_id"] == 2
    assert data[torch.tensor(1)][1]["image_id"] == data[np.int64(1)][1]["image_id"] == 1
    assert [target["image_id"] for _, target in data] == [0, 1, 2]  # iteration ends
    for index in (3, -4):
        with pytest.raises(
            IndexError, match=f"index {index} is out of range: 3 images"
        ):
            data[index]
    for index in ("1", 1.0, slice(2)):
        with pytest.raises(TypeError):
            data[index]


def test_paths_and_sizes(root):
    data = datasets.PennFudan(str(root))
    assert data.image_path(1) == root / "PNGImages" / "b_two.png"
    assert data.mask_path(-1) == root / "PedMasks" / "c_none_mask.png"
    assert [data.size(i) for i in range(3)] == [(3, 2), (4, 5), (3, 4)]
    for i, (image, _) in enumerate(data):
        assert data.size(i) == image.shape[1:]


def test_items_do_not_share_memory(root):
    data = datasets.PennFudan(root)
    image, target = data[1]
    image.zero_(), target["masks"].zero_(), target["boxes"].zero_()
    again, target = data[1]
    assert again.any() and target["masks"].any() and target["boxes"].any()


def test_workers_load_the_same(root):
    data = pickle.loads(pickle.dumps(datasets.PennFudan(root)))
    loader = DataLoader(data, batch_size=3, num_workers=1, collate_fn=list)
    (batch,) = loader
    for (image, target), (wanted, told) in zip(batch, data, strict=True):
        assert torch.equal(image, wanted)
        assert torch.equal(target["boxes"], told["boxes"])
        assert torch.equal(target["masks"], told["masks"])


# --- label maps to instances ---------------------------------------------------------

LABELS = arrays.arrays(
    st.sampled_from([np.uint8, np.int32]),
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.sampled_from([0, 0, 0, 1, 2, 3, 32, 33, 90]),
)


@settings(max_examples=150, deadline=None)
@given(LABELS)
def test_instances_against_the_plain_way(labels):
    masks, boxes, area = split_instances(labels)
    numbers = [n for n in np.unique(labels) if n != 0]
    plain = np.array([labels == n for n in numbers]).reshape(-1, *labels.shape)
    assert masks.dtype == torch.uint8
    assert torch.equal(masks, torch.from_numpy(plain).byte())
    assert area.tolist() == plain.sum(axis=(1, 2)).tolist()
    if numbers:
        inclusive = masks_to_boxes(torch.from_numpy(plain))
        assert torch.equal(boxes, inclusive + torch.tensor([0, 0, 1, 1]))
    else:
        assert boxes.shape == (0, 4)
    assert torch.equal(boxes, box_ops.masks_to_boxes(masks))


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1)])
def test_instances_of_nothing(shape):
    masks, boxes, area = split_instances(np.zeros(shape, np.uint8))
    assert masks.shape == (0, *shape) and boxes.shape == (0, 4) and area.shape == (0,)


def test_every_label_a_mask_can_hold():
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    masks, boxes, area = split_instances(labels)
    assert masks.shape == (255, 16, 16) and area.tolist() == [1] * 255
    assert boxes[254].tolist() == [15, 15, 16, 16]


def test_the_label_map_is_not_changed():
    labels = small([0, 1], [2, 2])
    split_instances(labels)
    assert labels.tolist() == [[0, 1], [2, 2]]


# --- splits --------------------------------------------------------------------------


def test_splits_come_from_the_folder(root):
    (root / "train.txt").write_text("c_none\n\nb_two.png\n")
    (root / "test.txt").write_text("# comment\na_pixel\n")
    assert datasets.PennFudan(root, "train").names == ["c_none", "b_two"]
    assert datasets.PennFudan(root, "test").names == ["a_pixel"]
    assert len(datasets.PennFudan(root)) == 3
    assert datasets.PennFudan(root, "train")[0][1]["image_id"] == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_splits_in_every_encoding_of_an_editor(root, encoding, end):
    write(root, "zoë\x85", small([1]))  # str.splitlines would cut it in two
    text = end.join(["c_none", " b_two.png ", "zoë\x85x"[:-1] + ".png", ""])
    (root / "train.txt").write_bytes(text.encode(encoding))
    names = datasets.PennFudan(root, "train").names
    assert names == ["c_none", "b_two", "zoë\x85"]


def test_a_split_that_is_no_text_is_named(root):
    (root / "train.txt").write_bytes(b"a_pixel\n\xe9\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 2: not text in UTF-8"):
        datasets.PennFudan(root, "train")
    (root / "train.txt").write_bytes("a_pixel\n".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"train\.txt, line 1: .* a zero byte"):
        datasets.PennFudan(root, "train")


def test_our_split_of_the_real_names():
    lists = {}
    for split in ("train", "test"):
        text = (PACKAGE / f"penn_fudan_{split}.txt").read_text()
        lists[split] = [line for line in text.split("\n") if line and line[0] != "#"]
    manifest = (PACKAGE / "penn_fudan_sha256.txt").read_text().split()[1::2]
    names = sorted(Path(n).stem for n in manifest if "/PNGImages/" in n)
    assert len(names) == 170
    random.Random(0).shuffle(names)
    assert lists["train"] == sorted(names[:120])
    assert lists["test"] == sorted(names[120:])


@pytest.mark.parametrize("split", ["val", "", "Train", 0, True])
def test_unknown_splits_are_refused(root, split):
    with pytest.raises(ValueError, match=f"'train', 'test' or None, got {split!r}"):
        datasets.PennFudan(root, split)


def test_bad_split_files_are_named(root):
    (root / "train.txt").write_text("a_pixel\nnobody\n")
    with pytest.raises(
        FileNotFoundError, match=r"train\.txt, line 2: no image .*PNGImages.nobody"
    ):
        datasets.PennFudan(root, "train")
    with pytest.raises(FileNotFoundError, match=r"test\.txt"):
        datasets.PennFudan(root, "test")  # there is a train.txt: nothing is guessed
    (root / "train.txt").write_text("a_pixel\nb_two\na_pixel.png\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 3: a_pixel a second time"):
        datasets.PennFudan(root, "train")
    (root / "train.txt").write_text("# all out\n")
    with pytest.raises(ValueError, match=r"train\.txt: no names"):
        datasets.PennFudan(root, "train")
    (root / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no train\.txt and test\.txt"):
        datasets.PennFudan(root, "train")  # ours names the real images


# --- odd images ----------------------------------------------------------------------


def test_gray_cmyk_alpha_and_palette_are_handled(tmp_path):
    labels = np.zeros((16, 12), np.uint8)
    labels[4:8, 2:5] = 1
    picture = np.full((16, 12, 3), 102, np.uint8)  # a color of palettes
    for name, mode, suffix in (
        ("gray", "L", ".png"),
        ("alpha", "RGBA", ".png"),
        ("palette", "P", ".png"),
        ("cmyk", "CMYK", ".jpg"),
        ("rgb", "RGB", ".JPEG"),
    ):
        write(tmp_path, name, labels)
        (tmp_path / "PNGImages" / f"{name}.png").unlink()
        path = tmp_path / "PNGImages" / f"{name}{suffix}"
        Image.fromarray(picture).convert(mode).save(path)
    data = datasets.PennFudan(tmp_path)
    assert len(data) == 5
    for image, target in data:
        assert image.shape == (3, 16, 12) and image.dtype == torch.uint8
        assert (image.int() - 102).abs().max() <= 3
        assert target["boxes"].tolist() == [[2, 4, 5, 8]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_of_turned_images(tmp_path, orientation):
    """A mask of the upright size stays; one of the stored size turns with the image."""
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[0, 5] = 255  # one white pixel, and a mask on it
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    stored = picture[..., 0].clip(0, 1)
    write(tmp_path, "turned", stored, image=picture, exif=exif)
    image, target = datasets.PennFudan(tmp_path)[0]
    white = (image[0] == 255).to(torch.uint8)
    if orientation >= 5:
        assert image.shape == (3, 6, 4)
        assert torch.equal(target["masks"][0], white)
        Image.fromarray(white.numpy()).save(tmp_path / "PedMasks" / "turned_mask.png")
        image, target = datasets.PennFudan(tmp_path)[0]
        assert torch.equal(target["masks"][0], white)
    else:  # the sizes agree: the mask is taken as that of the upright image
        assert target["masks"][0].tolist() == stored.tolist()
    assert target["boxes"].canvas_size == image.shape[1:]


def test_other_files_do_not_matter(root):
    for name in ("Thumbs.db", ".DS_Store", "._b_two.png", "notes.txt"):
        (root / "PNGImages" / name).write_bytes(b"junk")
    write(root, "orphan", small([1]))
    (root / "PNGImages" / "orphan.png").unlink()
    data = datasets.PennFudan(root)
    assert data.names == ["a_pixel", "b_two", "c_none"]
    count = {kind: len(files) for kind, files in data.report.skipped.items()}
    assert count == {"hidden": 2, "of another suffix": 2}
    orphan = str(root / "PedMasks" / "orphan_mask.png")
    assert data.report.missing == {"masks without an image": [orphan]}


def test_suffixes_in_any_case(root):
    (root / "PNGImages/b_two.png").rename(root / "PNGImages/b_two.PNG")
    (root / "PedMasks/b_two_mask.png").rename(root / "PedMasks/b_two_MASK.PNG")
    data = datasets.PennFudan(root)
    assert data.names == ["a_pixel", "b_two", "c_none"]
    assert data.mask_path(1).name == "b_two_MASK.PNG"
    assert data[1][1]["boxes"].tolist() == [[2, 0, 4, 2], [0, 1, 5, 4]]
    assert not data.report


# --- bad input -----------------------------------------------------------------------


def test_bad_folders(tmp_path, root):
    with pytest.raises(FileNotFoundError, match=r"no folder .*none.PNGImages"):
        datasets.PennFudan(tmp_path / "none")
    (tmp_path / "bare" / "PNGImages").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"PNGImages: no images"):
        datasets.PennFudan(tmp_path / "bare")
    shutil.copy(root / "PNGImages" / "b_two.png", root / "PNGImages" / "b_two.jpg")
    with pytest.raises(ValueError, match=r"b_two\.png: b_two\.jpg has the same name"):
        datasets.PennFudan(root)
    (root / "PNGImages" / "b_two.jpg").unlink()
    (root / "PedMasks" / "b_two_mask.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"b_two_mask\.png: the image's mask"):
        datasets.PennFudan(root)
    (root / "test.txt").write_text("a_pixel")
    assert len(datasets.PennFudan(root, "test")) == 1  # that one is whole
    shutil.rmtree(root / "PedMasks")
    with pytest.raises(FileNotFoundError, match=r"no folder .*PedMasks"):
        datasets.PennFudan(root)


def test_bad_files_are_named(root):
    data = datasets.PennFudan(root)
    image, mask = data.image_path(1), data.mask_path(1)
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) - 30])
    with pytest.raises(ValueError, match=r"b_two\.png: damaged or cut short"):
        data[1]
    image.write_bytes(whole)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(mask)
    with pytest.raises(
        ValueError,
        match=r"b_two_mask\.png: the mask is 5 by 5 \(height by width\), its image "
        r"b_two\.png is 4 by 5",
    ):
        data[1]
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(mask)
    with pytest.raises(ValueError, match=r"b_two_mask\.png: cannot use .* 'RGB'"):
        data[1]
    mask.write_bytes(b"")
    with pytest.raises(ValueError, match=r"b_two_mask\.png: not an image"):
        data[1]
    mask.unlink()
    with pytest.raises(FileNotFoundError, match=r"b_two_mask\.png"):
        data[1]


# --- the folder of the chapters ------------------------------------------------------


def test_pedestrians_are_the_bundled_scenes(root, monkeypatch, tmp_path):
    assert penn_fudan.BUNDLED == PACKAGE.parents[1] / "data" / "pedestrians"
    monkeypatch.setattr(penn_fudan, "BUNDLED", root)
    assert datasets.pedestrians() == root
    monkeypatch.setattr(penn_fudan, "BUNDLED", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="from a copy of its repository"):
        datasets.pedestrians()


@pytest.mark.skipif(
    not (penn_fudan.BUNDLED / "PNGImages").is_dir(), reason="data/pedestrians: not yet"
)
def test_the_bundled_scenes_can_be_read():
    root = datasets.pedestrians()
    assert root.is_absolute()
    train, test = (datasets.PennFudan(root, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (120, 50)
    assert not set(train.names) & set(test.names)
    assert sorted(train.names + test.names) == datasets.PennFudan(root).names
    for image, target in (train[0], test[-1]):
        assert image.shape[1:] == target["boxes"].canvas_size
        assert len(target["boxes"]) == len(target["masks"]) >= 1


def test_pedestrians_of_the_full_profile(root, monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_PROFILE", "full")
    monkeypatch.setenv("COURSE_PENN_FUDAN", str(root))
    assert datasets.pedestrians() == root
    monkeypatch.setenv("COURSE_PENN_FUDAN", str(tmp_path / "none"))
    with pytest.raises(
        FileNotFoundError,
        match=r"none.PNGImages: download it with python -m course_utils\.datasets\.",
    ):
        datasets.pedestrians()


def test_the_package_is_lazy():
    code = (
        "import sys; from course_utils import datasets; "
        "assert not {'torch', 'PIL', 'pooch'} & set(sys.modules), 'too early'; "
        "assert {'PennFudan', 'pedestrians'} <= set(dir(datasets))"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Coco'"):
        _ = datasets.Coco


# --- the real data set ---------------------------------------------------------------


@pytest.mark.skipif(not REAL, reason="COURSE_REAL_DATA is not set")
def test_the_real_data_set():
    root = Path(REAL) / "PennFudanPed"
    everything = datasets.PennFudan(root)
    train, test = (datasets.PennFudan(root, split) for split in ("train", "test"))
    assert (len(everything), len(train), len(test)) == (170, 120, 50)
    assert sorted(train.names + test.names) == everything.names
    added = (root / "added-object-list.txt").read_text().splitlines()
    added = [line.split("\t") for line in added if line and line[0] != "#"]
    assert len(added) == 78
    people = dict.fromkeys(everything.names, 0)
    for i in range(len(everything)):
        labels = images.read_mask(everything.mask_path(i))
        masks, boxes, area = split_instances(labels.numpy())
        people[everything.names[i]] = len(masks)
        inclusive = masks_to_boxes(masks)
        assert torch.equal(boxes, inclusive + torch.tensor([0, 0, 1, 1]))
        assert everything.size(i) == labels.shape
    assert sum(people.values()) == 423 == 345 + 78
    for name, number in added:
        assert 1 <= int(number) <= people[Path(name).stem]
    image, target = everything[0]
    assert target["boxes"].canvas_size == image.shape[1:] == (536, 559)
    # readme.txt gives this image's boxes: from 1, last pixel included.
    given = torch.tensor([[160, 182, 302, 431], [420, 171, 535, 486]])
    assert torch.equal(target["boxes"], given - torch.tensor([1.0, 1, 0, 0]))
