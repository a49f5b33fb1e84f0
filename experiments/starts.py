"""The experiments of chapter 27: three starts, few and many images, three seeds.

    python -m experiments.starts RUNS [--start scratch] [--out FILE]

RUNS is a folder that gets one file for each run, so that the same command goes on
where it was stopped, and several may share the work (``--start``). A file names its
start, its steps and so on, and is taken only for the run that it says it holds. When
all runs are there, FILE is written: ``data/results/fine_tuning.json``, which the
chapter draws.

Each start gets its own learning rate first: the best of :data:`RATES` after half the
steps, trained on 100 of the training images and scored on the other 20. The test split
takes no part in this choice.
"""

import argparse
import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import torchvision

from course_utils.datasets import pedestrians
from course_utils.datasets.results import FOLDER
from course_utils.files import write_file
from experiments.fine_tuning import Recipe, fine_tune

__all__ = ["main"]

FILE = FOLDER / "fine_tuning.json"

STEPS, POINTS = 240, 8  # a long run is scored so often
STARTS = {"scratch": None, "imagenet": "imagenet", "shapes": "shapes"}
RATES = (3e-4, 1e-3, 3e-3)
ALL_IMAGES = 120
IMAGES = {"scratch": (120,), "imagenet": (120,), "shapes": (120, 30, 8)}
SEEDS = (0, 1, 2)
SEARCH_SEED, SEARCH_IMAGES, HELD_OUT = 100, 100, 20


def save_json(file: Path, value: object) -> None:
    """Write JSON; a file that is there is whole."""
    write_file(file, json.dumps(value, indent=1) + "\n")


def made_by(command: str) -> dict[str, str | int]:
    """What a file of results says first: how, when and with what it was made."""
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "threads": torch.get_num_threads(),
    }


def rounded(records: list[dict[str, float]]) -> list[dict[str, float]]:
    """Records with the digits that mean something: 4, seconds 1."""
    return [
        {k: round(v, 1 if "seconds" in k else 4) for k, v in record.items()}
        for record in records
    ]


def _run(file: Path, recipe: Recipe, seed: int, points: int, **options) -> dict:
    """The stored result of a run, or a new one, scored ``points`` times.

    Raises:
        ValueError: the file holds another run than this.
    """
    made_of = {"seed": seed, **asdict(recipe)}
    steps = [recipe.steps * k // points for k in range(1, points + 1)]
    if file.exists():
        result = json.loads(file.read_text())
        there = {name: result.get(name) for name in made_of}
        there_steps = [record["step"] for record in result["curve"]]
        if (there, there_steps) != (made_of, steps):
            raise ValueError(
                f"{file} holds another run, {there} scored at {there_steps}, not "
                f"{made_of} scored at {steps}: take another folder"
            )
        return result
    _, records = fine_tune(recipe, pedestrians(), seed, evaluations=points, **options)
    result = {**made_of, "curve": rounded(records)}
    save_json(file, result)
    last = result["curve"][-1]
    print(f"{file.stem}: box AP {last['bbox/AP']}, mask AP {last['segm/AP']}")
    return result


def search(folder: Path, start: str, steps: int) -> list[dict]:
    """The runs that choose a start's learning rate."""
    return [
        _run(
            folder / f"search_{start}_{rate}_{steps}.json",
            Recipe(STARTS[start], rate, steps, SEARCH_IMAGES),
            SEARCH_SEED,
            1,
            held_out=HELD_OUT,
        )
        for rate in RATES
    ]


def best_rate(runs: list[dict]) -> float:
    """The rate whose box AP and mask AP, added, are highest."""
    return max(
        runs, key=lambda r: r["curve"][-1]["bbox/AP"] + r["curve"][-1]["segm/AP"]
    )["rate"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.starts",
        description="Run the experiments of chapter 27.",
    )
    parser.add_argument("folder", type=Path, metavar="RUNS", help="a file for each run")
    parser.add_argument("--start", choices=STARTS, nargs="*", default=list(STARTS))
    parser.add_argument(
        "--steps", type=int, default=STEPS, help=f"a multiple of {POINTS}"
    )
    parser.add_argument("--out", type=Path, default=FILE)
    chosen = parser.parse_args(arguments)
    if chosen.steps < 1 or chosen.steps % POINTS:
        parser.error(
            f"--steps must be a multiple of {POINTS}, the number of evaluations, "
            f"got {chosen.steps}"
        )
    searched = {s: search(chosen.folder, s, chosen.steps // 2) for s in chosen.start}
    runs = [
        _run(
            chosen.folder / f"{start}_{images}_{seed}_{chosen.steps}.json",
            Recipe(STARTS[start], best_rate(searched[start]), chosen.steps, images),
            seed,
            POINTS if images == ALL_IMAGES else 1,
        )
        | {"start": start}
        for start in chosen.start
        for images in IMAGES[start]
        for seed in SEEDS
    ]
    if set(chosen.start) != set(STARTS):
        return
    save_json(
        chosen.out,
        {
            **made_by("make experiments"),
            "search": [
                run | {"start": start} for start in searched for run in searched[start]
            ],
            "rates": {start: best_rate(searched[start]) for start in searched},
            "runs": runs,
        },
    )
    print(f"wrote {chosen.out}")


if __name__ == "__main__":
    main()
