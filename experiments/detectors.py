"""Chapter 22's detectors by centers and by a grid: three seeds, and what they cost.

    python -m experiments.detectors            train, write data/results/detectors.json
    python -m experiments.detectors --check    train once each, assert the floors

Models, targets, losses and training are the chapter's own, taken out of the notebook.
One thread, on the CPU. Seconds are CPU-seconds of the reference machine
(:mod:`benchmarks.yardstick`).
"""

import json
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from booktools import chapter_code
from course_utils import runtime
from course_utils.detection import models
from experiments import stored

__all__ = ["FLOORS", "SEEDS", "chapter", "main"]

SEEDS = (0, 1, 2)
FLOORS = {"center": 0.6, "grid": 0.45}  # AP50 on the test scenes
PICTURES = (3, 11, 20)  # test scenes that the chapter draws
LEAST = 0.3  # score from which a box is drawn


def chapter():
    """The chapter's functions and models."""
    return chapter_code.definitions(
        "22_detection_overview",
        *("load_scenes", "mirrored", "load_body", "look", "train", "evaluate"),
        *("CenterDetector", "center_targets", "center_loss", "center_decode"),
        *("GridDetector", "grid_targets", "grid_loss", "grid_decode"),
    )


def clocked(function: Callable, *args) -> tuple:
    """What a function returns, and the CPU-seconds that it took."""
    start = time.process_time()
    with torch.no_grad():
        value = function(*args)
    return value, time.process_time() - start


def weights(*parts: nn.Module) -> int:
    """Parameters of all parts."""
    return sum(p.numel() for part in parts for p in part.parameters())


def found(own, name: str, model: nn.Module, features: Tensor) -> tuple:
    """Boxes and scores of each picture."""
    decode = own.center_decode if name == "center" else own.grid_decode
    with torch.no_grad():
        return decode(model(features))


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = stored.options(
        "detectors", "Chapter 22's two detectors.", "one seed, no file", arguments
    )
    speed = stored.reference_speed()
    own = chapter()
    images, boxes, sizes = own.load_scenes("train")
    test_images, test_boxes, test_sizes = own.load_scenes("test")
    turned, moved = own.mirrored(images, boxes, sizes)
    body = own.load_body()
    features, spent = clocked(own.look, body, torch.cat([images, turned]))
    test_features, each = clocked(own.look, body, test_images)
    each /= len(test_images)
    centers = zip(*map(own.center_targets, boxes + moved), strict=True)
    targets = {
        "center": [torch.stack(parts) for parts in centers],
        "grid": [torch.stack([own.grid_targets(b) for b in boxes + moved])],
    }
    kinds = {
        "center": (own.CenterDetector, own.center_loss),
        "grid": (own.GridDetector, own.grid_loss),
    }
    fpn = body.fpn
    used = (body.body, *fpn.inner_blocks[1:], fpn.layer_blocks[1])
    runs, cost, shown = [], {}, [{"picture": k} for k in PICTURES]
    for name, (kind, loss) in kinds.items():
        for seed in SEEDS[:1] if chosen.check else SEEDS:
            runtime.seed_everything(seed)
            start = time.process_time()
            model = own.train(kind(), features, targets[name], loss, seed)
            seconds = time.process_time() - start
            (got, scores), decoding = clocked(found, own, name, model, test_features)
            marks = own.evaluate(got, scores, test_boxes, test_sizes)
            run = {"detector": name, "seed": seed}
            run |= {key: round(marks[key], 4) for key in ("AP", "AP50", "AP75")}
            runs.append(run | {"seconds": round(seconds * speed, 1)})
            print(json.dumps(runs[-1]), flush=True)
            if seed:
                continue
            cost[name] = {
                "seconds": (each + decoding / len(test_images)) * speed,
                "trained": weights(model),
                "parameters": weights(model, *used),
            }
            for picture in shown:
                k = picture["picture"]
                rows = torch.cat([got[k], scores[k][:, None]], dim=1)
                rows = rows[scores[k] >= LEAST].tolist()
                picture[name] = [[round(v, 2) for v in row] for row in rows]
                if name == "center":
                    with torch.no_grad():
                        heat = model(test_features[k : k + 1])[0][0].sigmoid() * 100
                    picture["heat"] = heat.round().int().tolist()
    masked = models.mask_rcnn_mobilenet(2, "shapes", min_size=288, max_size=288).eval()
    own_images = [
        i[:, :h, :w] for i, (h, w) in zip(test_images, test_sizes, strict=True)
    ]
    _, seconds = clocked(lambda: [masked([image]) for image in own_images[:20]])
    cost["Mask R-CNN"] = {
        "seconds": seconds / 20 * speed,
        "parameters": weights(masked),
    }
    missed = [r for r in runs if r["AP50"] < FLOORS[r["detector"]]]
    return stored.store(
        "detectors",
        runs,
        missed,
        not chosen.check,
        steps=160,
        batch=16,
        pictures=len(features),
        features_seconds=round(spent * speed, 1),
        cost=stored.significant(cost, 3),
        shown=shown,
    )


if __name__ == "__main__":
    sys.exit(main())
