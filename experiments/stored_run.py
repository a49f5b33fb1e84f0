"""The stored run of chapter 27: its losses, and what it finds in the test images.

    python -m experiments.stored_run [--out FILE]

Training ends a little differently on each machine, and a picture of its detections
would, too. So the chapter draws those of one run of its recipe, made by this command,
and checks that its own run agrees with them.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from course_utils import runtime
from course_utils.datasets.penn_fudan import BUNDLED, PennFudan
from course_utils.datasets.results import FOLDER
from course_utils.detection.augment import resized
from course_utils.files import write_file
from course_utils.formats import rle
from experiments.fine_tuning import Recipe, fine_tune
from experiments.starts import FILE as STARTS_FILE
from experiments.starts import STEPS, made_by

__all__ = ["FILE", "main"]

FILE = FOLDER / "detections_27.json"
LEAST = 0.05  # detections of a lower score are not stored


def _encoded(name: str, prediction: dict) -> dict:
    """An image's detections in whole tenths of a pixel, masks as runs."""
    kept = prediction["scores"] >= LEAST
    prediction = {key: value[kept] for key, value in prediction.items()}
    masks = prediction["masks"][:, 0].cpu().numpy() > 0.5
    return {
        "name": name,
        "size": list(masks.shape[1:]),
        "boxes": (prediction["boxes"].double() * 10).round().div(10).tolist(),
        "labels": prediction["labels"].tolist(),
        "scores": [round(score, 4) for score in prediction["scores"].tolist()],
        "masks": [rle.encode(mask)["counts"] for mask in masks],
    }


@torch.inference_mode()
def _detections(model: torch.nn.Module, data: PennFudan) -> list[dict]:
    model.eval()
    found = []
    for name, (image, _) in zip(data.names, data, strict=True):
        image = image.as_subclass(torch.Tensor).to(runtime.device())
        found.append(_encoded(name, model([image / 255])[0]))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.stored_run",
        description="Train chapter 27's detector once, and store what it finds.",
    )
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--images", type=int, default=120)
    chosen = parser.parse_args(arguments)
    rate = json.loads(STARTS_FILE.read_text())["rates"]["shapes"]
    recipe = Recipe("shapes", rate, chosen.steps, chosen.images)
    losses: dict[str, list[float]] = {}

    def log(name: str, value: float, step: int) -> None:
        if "loss" in name:
            losses.setdefault(name.removeprefix("train/"), []).append(round(value, 4))

    root, seed = BUNDLED, 0
    model, records = fine_tune(recipe, root, seed, log=log)
    content = {
        **made_by("python -m experiments.stored_run"),
        "recipe": asdict(recipe),
        "seed": seed,
        "result": {k: round(v, 4) for k, v in records[-1].items() if "/" in k},
        "losses": losses,
        "images": _detections(model, PennFudan(root, "test", resized(recipe.size))),
    }
    lines = [json.dumps(image) for image in content.pop("images")]
    head = json.dumps(content)[:-1]
    write_file(chosen.out, head + ', "images": [\n' + ",\n".join(lines) + "\n]}\n")
    print(f"wrote {chosen.out}: {content['result']}")


if __name__ == "__main__":
    main()
