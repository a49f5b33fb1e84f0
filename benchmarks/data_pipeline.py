"""Penn-Fudan items: PennFudan of this course against the same as in tutorials.

    python -m benchmarks.data_pipeline [--rounds 7] [--threads 1]

Two other ways are written here: with Pillow and NumPy, a loop over the objects, as the
torchvision tutorial did for years; and with torchvision's reader and broadcasting, as
it does now. All read the same files and return the same tensors: images and masks are
asserted to be equal, and boxes to be so after 1 is added to x2 and y2 of the others.

The ways take turns at every image, so that a busy machine slows all alike; the time of
an image is the best of the rounds, for what a neighbor takes away can only add to it.
Decoding is what turns the two files into arrays of pixels; it is timed apart. The
bundled scenes are read, and the real data set where COURSE_REAL_DATA names the folder
that holds PennFudanPed.
"""

import argparse
import os
import statistics
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision import tv_tensors
from torchvision.io import read_image
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2 import functional as F

from course_utils.datasets import PennFudan
from course_utils.datasets.penn_fudan import BUNDLED, split_instances

OBJECTS = (1, 2, 4, 8, 16, 32)
HEIGHT, WIDTH = 400, 500


class Ours:
    """PennFudan of this course, in its two steps."""

    name = "course_utils"

    def __init__(self, data: PennFudan):
        self.data = data

    def decode(self, index: int):
        return self.data._decoded(index)

    def finish(self, index: int, pixels, labels):
        return self.data._item(index, pixels, labels)

    @staticmethod
    def instances(labels: np.ndarray):
        return split_instances(labels)


class Loop:
    """Pillow, NumPy, and a loop over the objects."""

    name = "Pillow, loop"

    def __init__(self, data: PennFudan):
        self.data = data

    def decode(self, index: int):
        image = Image.open(self.data.image_path(index)).convert("RGB")
        return F.pil_to_tensor(image), np.array(Image.open(self.data.mask_path(index)))

    def finish(self, index: int, pixels, labels):
        masks, boxes, area = self.instances(labels)
        return tv_tensors.Image(pixels), targets(index, pixels, masks, boxes, area)

    @staticmethod
    def instances(labels: np.ndarray):
        numbers = np.unique(labels)[1:]
        masks = labels == numbers[:, None, None]
        boxes = []
        for mask in masks:
            y, x = np.where(mask)
            boxes.append([x.min(), y.min(), x.max(), y.max()])
        boxes = torch.as_tensor(boxes, dtype=torch.float32)
        masks = torch.as_tensor(masks, dtype=torch.uint8)
        return masks, boxes, area_of(boxes)


class Broadcast:
    """torchvision's reader, torch.unique, one comparison, masks_to_boxes."""

    name = "read_image, torch"

    def __init__(self, data: PennFudan):
        self.data = data

    def decode(self, index: int):
        image = read_image(str(self.data.image_path(index)))
        return image, read_image(str(self.data.mask_path(index)))

    def finish(self, index: int, pixels, labels):
        masks, boxes, area = self.instances(labels)
        return tv_tensors.Image(pixels), targets(index, pixels, masks, boxes, area)

    @staticmethod
    def instances(labels):
        labels = torch.as_tensor(labels)
        numbers = torch.unique(labels)[1:]
        masks = (labels == numbers[:, None, None]).to(torch.uint8)
        boxes = masks_to_boxes(masks)
        return masks, boxes, area_of(boxes)


WAYS = (Loop, Broadcast, Ours)


def area_of(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 2] - boxes[:, 0])


def targets(index: int, pixels, masks, boxes, area) -> dict:
    size = F.get_size(pixels)
    n = len(masks)
    return {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "masks": tv_tensors.Mask(masks),
        "labels": torch.ones((n,), dtype=torch.int64),
        "image_id": index,
        "area": area,
        "iscrowd": torch.zeros((n,), dtype=torch.int64),
    }


def assert_same(ours, other) -> None:
    """Masks and boxes of one image, boxes of which theirs are inclusive."""
    (masks, boxes, area), (their_masks, their_boxes, _) = ours, other
    assert torch.equal(masks, their_masks), "masks differ"
    one = torch.tensor([0, 0, 1, 1])
    assert torch.equal(boxes, their_boxes + one), "boxes differ"
    assert torch.equal(area, masks.flatten(1).sum(1).float()), "areas differ"


def parts(item) -> tuple:
    plain = (item[1][k].as_subclass(torch.Tensor) for k in ("masks", "boxes", "area"))
    return tuple(plain)


def check(data: PennFudan) -> int:
    """Every image, all ways: equal; the number of objects."""
    ours, found = Ours(data), 0
    for i in range(len(data)):
        item = data[i]
        assert torch.equal(item[0], ours.finish(i, *ours.decode(i))[0])
        found += len(item[1]["labels"])
        for way in WAYS[:-1]:
            other = way(data)
            theirs = other.finish(i, *other.decode(i))
            assert torch.equal(item[0], theirs[0]), "images differ"
            assert_same(parts(item), parts(theirs))
    return found


def measure(data: PennFudan, rounds: int) -> list[tuple[float, float]]:
    """Seconds an image takes to decode and after it, for every way."""
    ways = [way(data) for way in WAYS]
    best = [([], []) for _ in ways]  # seconds of every image
    for index in range(len(data)):
        times = [([], []) for _ in ways]
        for turn in range(rounds + 1):
            for k in range(len(ways)):
                k = (k + turn) % len(ways)
                start = time.perf_counter()
                decoded = ways[k].decode(index)
                middle = time.perf_counter()
                item = ways[k].finish(index, *decoded)
                end = time.perf_counter()
                del decoded, item
                if turn:  # the first warms up
                    times[k][0].append(middle - start)
                    times[k][1].append(end - middle)
        for way, parts_of in zip(best, times, strict=True):
            for kept, measured in zip(way, parts_of, strict=True):
                kept.append(min(measured))
    return [(statistics.fmean(a), statistics.fmean(b)) for a, b in best]


def report(title: str, data: PennFudan, rounds: int) -> None:
    """One data set: a line for each way, then the ratios."""
    found = check(data)
    print(f"\n{title}: {len(data)} images, {found} instances; all equal")
    print(" " * 20 + "decode [ms]  after [ms]  whole [ms]  images/s   after    whole")
    seconds = measure(data, rounds)
    *_, (our_decode, our_after) = seconds
    for way, (decode, after) in zip(WAYS, seconds, strict=True):
        whole, ours = decode + after, our_decode + our_after
        print(
            f"{way.name:20}{decode * 1e3:11.3f}{after * 1e3:12.3f}{whole * 1e3:12.3f}"
            f"{1 / whole:10.0f}{after / our_after:8.2f} x{whole / ours:7.2f} x"
        )
    limit = sum(seconds[0]) / our_decode
    print(f"were nothing to do after decoding, {WAYS[0].name}: {limit:.2f} x")


def people(n: int, generator: np.random.Generator) -> np.ndarray:
    """A label map with n upright ellipses, each of them visible."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    while len(np.unique(labels)) != n + 1:
        labels[:] = 0
        for number in range(1, n + 1):
            tall = generator.uniform(0.15, 0.45) * HEIGHT
            cy, cx = generator.uniform(0, HEIGHT), generator.uniform(0, WIDTH)
            inside = ((y - cy) / tall * 2) ** 2 + ((x - cx) / tall * 5) ** 2 < 1
            labels[inside] = number
    return labels


def report_growth(rounds: int) -> None:
    """The cost of an image's masks, boxes and areas as its objects grow in number."""
    print(f"\nMasks, boxes and areas of one label map of {HEIGHT} by {WIDTH} [ms]")
    print("objects" + "".join(way.name.rjust(19) for way in WAYS) + "  ratios to ours")
    for n in OBJECTS:
        maps = [people(n, np.random.default_rng(seed)) for seed in range(5)]
        times = [[] for _ in WAYS]
        for labels in maps:
            wanted = split_instances(labels)
            for way in WAYS[:-1]:
                assert_same(wanted, way.instances(labels))
        for turn in range(rounds * len(maps)):
            for k in range(len(WAYS)):
                k = (k + turn) % len(WAYS)
                start = time.perf_counter()
                result = WAYS[k].instances(maps[turn % len(maps)])
                times[k].append(time.perf_counter() - start)
                del result
        count = len(maps)  # they differ: the best of each, and then the mean
        best = [statistics.fmean(min(t[i::count]) for i in range(count)) for t in times]
        ratios = "".join(f"{m / best[-1]:7.1f} x" for m in best[:-1])
        print(f"{n:7}" + "".join(f"{m * 1e3:19.3f}" for m in best) + ratios)


def main() -> None:
    """Check, time, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of torch, as a worker")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", "The image decoding", DeprecationWarning)
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    print(f"{versions}, NumPy {np.__version__}, Pillow {Image.__version__}")
    print(f"{args.threads} threads, {args.rounds} rounds; ratios: how many times ours")
    report("bundled scenes", PennFudan(BUNDLED), args.rounds)
    real = Path(os.environ.get("COURSE_REAL_DATA") or "nowhere") / "PennFudanPed"
    if real.is_dir():
        report("Penn-Fudan", PennFudan(real), args.rounds)
    else:
        print("\nPenn-Fudan: COURSE_REAL_DATA does not name its folder")
    report_growth(args.rounds)


if __name__ == "__main__":
    main()
