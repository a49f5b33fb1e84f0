"""Time and memory of our metrics, pycocotools and torchmetrics, side by side.

Run by hand, on a quiet machine: ``python benchmarks/metrics.py [--masks] [sizes]``. The
sizes multiply 1,000 images with 20 classes and about 24,000 detections (default: 1 2
4 8). All score the same boxes, and their twelve numbers must agree: within 1e-9, or
1e-6 for torchmetrics, which hands on float32. Its own recall points are float32, too,
which moves AP by some 1e-5; here it gets those of COCO.

What is timed: ours, ``update`` and ``compute``, from the dictionaries to the numbers;
pycocotools, ``evaluate`` and ``accumulate`` alone, on annotations already in its index
(the time to put them there is told apart); torchmetrics, ``update`` and ``compute``.
Each run has a process of its own. Seconds are those of the processor, so that other
programs on the machine count less; medians over the rounds, and ratios are medians of
the rounds' ratios. Memory is the peak of the process above what it held before. Growth
is the time per image relative to the first size: 1 or less is linear or better.
"""

import argparse
import contextlib
import gc
import io
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from course_utils.detection.metrics import evaluate_detections  # noqa: E402

NAMES = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split()
THEIRS = (
    "map map_50 map_75 map_small map_medium map_large "
    "mar_1 mar_10 mar_100 mar_small mar_medium mar_large"
).split()


def make_images(num_images: int, num_classes: int = 20, masks: bool = False):
    """About 8 objects and 24 detections per image, one in fifty objects a crowd."""
    rng = np.random.default_rng(0)
    predictions, targets = [], []
    for _ in range(num_images):
        n = int(rng.integers(1, 16))
        corner = rng.uniform(0, 400, (n, 2))
        side = np.exp(rng.uniform(2, 5.5, (n, 2)))
        boxes = np.hstack([corner, corner + side])
        labels = rng.integers(1, num_classes + 1, n)
        copies = rng.integers(0, n, 2 * n)  # of the objects; and as many guesses
        moved = boxes[copies] + np.tile(side, 2)[copies] * rng.normal(
            0, 0.1, (2 * n, 4)
        )
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        start = rng.uniform(0, 400, (n, 2))
        guess = np.hstack([start, start + np.exp(rng.uniform(2, 5.5, (n, 2)))])
        target = {
            "boxes": torch.tensor(boxes, dtype=torch.float32),
            "labels": torch.tensor(labels),
            "iscrowd": torch.tensor((rng.random(n) < 0.02).astype(int)),
            "area": torch.tensor(side.prod(1) * 0.7, dtype=torch.float32),
        }
        prediction = {
            "boxes": torch.tensor(np.vstack([moved, guess]), dtype=torch.float32),
            "labels": torch.tensor(
                np.concatenate([labels[copies], rng.integers(1, num_classes + 1, n)])
            ),
            "scores": torch.tensor(rng.random(3 * n), dtype=torch.float32),
        }
        if masks:
            for entry in (target, prediction):
                entry["masks"] = ellipses(entry["boxes"])
        predictions.append(prediction)
        targets.append(target)
    return predictions, targets


def ellipses(boxes: torch.Tensor, height: int = 480, width: int = 640) -> torch.Tensor:
    """One filled ellipse for each box: (N, height, width) bool."""
    y = torch.arange(height)[:, None] + 0.5
    x = torch.arange(width) + 0.5
    x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
    across = (2 * x - x1 - x2) / (x2 - x1)
    down = (2 * y - y1 - y2) / (y2 - y1)
    return across**2 + down**2 <= 1


def ours(predictions, targets, kind):
    start = time.process_time()
    result = evaluate_detections(predictions, targets, kind)
    return time.process_time() - start, [result[name] for name in NAMES], 0.0


def cocoeval(predictions, targets, kind):
    from pycocotools import mask as rle
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def annotations(entries):
        for image, entry in enumerate(entries, 1):
            n = len(entry["labels"])
            boxes = entry["boxes"].double()
            boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()
            labels = entry["labels"].tolist()
            scores = entry["scores"].tolist() if "scores" in entry else [0] * n
            crowd = entry["iscrowd"].tolist() if "iscrowd" in entry else [0] * n
            area = entry["area"].tolist() if "area" in entry else [0] * n
            for i in range(n):
                yield {
                    "image_id": image,
                    "category_id": labels[i],
                    "score": scores[i],
                    "iscrowd": crowd[i],
                    "area": area[i],
                    **(
                        {"bbox": boxes[i]}
                        if kind == "bbox"
                        else {
                            "segmentation": rle.encode(
                                np.asfortranarray(entry["masks"][i].byte().numpy())
                            )
                        }
                    ),
                }

    with contextlib.redirect_stdout(io.StringIO()):
        start = time.process_time()
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [
                {"id": i + 1, "height": 480, "width": 640} for i in range(len(targets))
            ],
            "categories": [{"id": c} for c in range(1, 21)],
            "annotations": [
                {**a, "id": i} for i, a in enumerate(annotations(targets), 1)
            ],
        }
        truth.createIndex()
        found = truth.loadRes(list(annotations(predictions)))
        evaluation = COCOeval(truth, found, kind)
        loaded = time.process_time()
        evaluation.evaluate()
        evaluation.accumulate()
        done = time.process_time()
        evaluation.summarize()
    return done - loaded, evaluation.stats.tolist(), loaded - start


def torchmetrics(predictions, targets, kind):
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(
        iou_type=kind,
        backend="pycocotools",
        iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
    )
    start = time.process_time()
    metric.update(predictions, targets)
    result = metric.compute()
    seconds = time.process_time() - start
    return seconds, [float(result[name]) for name in THEIRS], 0.0


TOOLS = {"ours": ours, "pycocotools": cocoeval, "torchmetrics": torchmetrics}


def peak() -> float:
    """The most memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(tool: str, size: int, kind: str) -> None:
    """Run one tool once, in this process; print seconds, numbers and memory."""
    images = make_images(BASE[kind] * size, masks=kind == "segm")
    TOOLS[tool](*make_images(3, masks=kind == "segm"), kind)  # imports, first calls
    gc.collect()
    before = peak()
    seconds, numbers, loading = TOOLS[tool](*images, kind)
    memory = peak() - before
    print(json.dumps([seconds, numbers, loading, memory]))


BASE = {"bbox": 1000, "segm": 100}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--masks", action="store_true", help="100 images of 640 x 480")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=TOOLS)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        tool, size, kind = options.child
        return child(tool, int(size), kind)
    kind = "segm" if options.masks else "bbox"
    print("size  images  tool           seconds  times ours     MB  loading  growth")
    first = {}
    for size in options.sizes:
        seconds = {tool: [] for tool in options.tools}
        numbers, loading, memory = {}, {}, {}
        for _ in range(options.rounds):
            for tool in options.tools:
                command = [sys.executable, __file__, "--child", tool, str(size), kind]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise SystemExit(done.stderr)
                answer = json.loads(done.stdout.splitlines()[-1])
                s, numbers[tool], loading[tool], memory[tool] = answer
                seconds[tool].append(s)
        for tool in options.tools:
            gap = np.abs(np.subtract(numbers[tool], numbers["ours"])).max()
            bound = 1e-6 if tool == "torchmetrics" else 1e-9
            if gap > bound:
                raise SystemExit(f"{tool} differs from ours by {gap}")
            median = statistics.median(seconds[tool])
            ratio = statistics.median(
                a / b for a, b in zip(seconds[tool], seconds["ours"], strict=True)
            )
            per_size = median / size
            growth = per_size / first.setdefault(tool, per_size)
            print(
                f"{size:4}  {BASE[kind] * size:6}  {tool:12} {median:9.2f} "
                f"{ratio:11.1f} {memory[tool]:6.0f} {loading[tool]:8.2f} {growth:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
