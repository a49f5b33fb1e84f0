"""The bundled pictures to classify: what is there, that it is whole, and no leak."""

import hashlib

import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder

from course_utils.datasets import objects


@pytest.fixture(scope="module")
def splits():
    return {split: objects.load(split) for split in objects.SPLITS}


def test_every_file_is_listed_and_unchanged():
    lines = (objects.FOLDER / "SHA256SUMS").read_text().splitlines()
    sums = {path: digest for digest, path in (line.split("  ") for line in lines)}
    there = {
        str(file.relative_to(objects.FOLDER).as_posix()): file
        for file in objects.FOLDER.rglob("*.png")
    }
    assert sums.keys() == there.keys() and len(sums) == 12 * 130
    for path, file in there.items():
        assert hashlib.sha256(file.read_bytes()).hexdigest() == sums[path], path


def test_at_most_6_megabytes():
    assert sum(file.stat().st_size for file in objects.FOLDER.rglob("*")) < 6_000_000


@pytest.mark.parametrize("split", objects.SPLITS)
def test_load_is_what_imagefolder_reads(splits, split):
    images, labels = splits[split]
    folder = ImageFolder(objects.FOLDER / split)
    assert tuple(folder.classes) == objects.CLASSES
    assert images.shape == (len(folder), 3, objects.SIDE, objects.SIDE)
    assert images.dtype == torch.uint8 and labels.dtype == torch.int64
    assert labels.tolist() == folder.targets
    for k in (0, 7, len(folder) - 1):
        picture, _ = folder[k]
        pixels = torch.from_numpy(np.array(picture))
        assert torch.equal(pixels.permute(2, 0, 1), images[k])


def test_the_first_of_each_class(splits):
    images, labels = objects.load("train", each=2)
    assert labels.tolist() == [k for k in range(12) for _ in range(2)]
    everything, _ = splits["train"]
    assert torch.equal(
        images, everything.reshape(12, 100, 3, 64, 64)[:, :2].flatten(0, 1)
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("test",), r"split must be one of \('train', 'val'\), got 'test'"),
        (("val", 0), r"each must lie in 1 \.\. 30, got 0"),
        (("val", 31), r"each must lie in 1 \.\. 30, got 31"),
        (("train", 2.5), r"each must be an integer, got 2\.5"),
        (("train", True), r"each must be an integer, got True"),
    ],
)
def test_bad_arguments_are_quoted(arguments, said):
    with pytest.raises(ValueError, match=said):
        objects.load(*arguments)


def test_no_picture_twice_and_none_of_train_in_val(splits):
    """By hash, and by the nearest neighbor: none of val is almost one of train."""
    seen = {split: {x.numpy().tobytes() for x in splits[split][0]} for split in splits}
    assert len(seen["train"]) == 1200 and len(seen["val"]) == 360
    assert not seen["train"] & seen["val"]
    train, val = (splits[s][0].float().flatten(1) for s in ("train", "val"))
    nearest = torch.cdist(val, train).amin(1) / val.shape[1] ** 0.5  # RMS per value
    assert nearest.min() > 10  # of 255


def test_backgrounds_are_not_those_of_the_pedestrians():
    """Streets are made from a seed and a number; no seed is used twice."""
    from experiments import objects as drawing
    from experiments.scenes.files import SEED

    assert SEED not in drawing.SEEDS.values()
    assert len(set(drawing.SEEDS.values())) == 2
