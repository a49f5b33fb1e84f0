"""Fine-tune over several seeds, assert floors, and compare with the figures on file.

    python -m experiments.floors bundled               part of make test-slow
    python -m experiments.floors real [--update]       make test-real

``real`` are the photographs of Penn-Fudan, found through the environment variable
COURSE_REAL_DATA, a folder that holds PennFudanPed; without them one line says SKIPPED
and why. Means over the seeds must reach the floors, and lie within :data:`NEAR` of the
means on file. ``data/results/penn_fudan.json`` is written by ``--update`` alone; the
figures of the bundled scenes are those of ``make experiments``.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from course_utils.datasets import pedestrians
from course_utils.datasets.results import FOLDER
from experiments import starts
from experiments.fine_tuning import Recipe, fine_tune
from experiments.starts import made_by, rounded, save_json

__all__ = ["main", "problems"]

REAL_FILE = FOLDER / "penn_fudan.json"
REAL = Recipe("shapes", 1e-3, 500, 120, 288, color=False)
FLOORS = {
    "real": {"bbox/AP": 0.55, "bbox/AP50": 0.93, "segm/AP": 0.44},
    "bundled": {"bbox/AP": 0.54, "bbox/AP50": 0.86, "segm/AP": 0.43},
}
NEAR = 0.05
SEEDS = 3
ONE_SEED = 0.02  # fewer seeds than SEEDS may miss a floor by this much: they scatter


def means(runs: Sequence[dict]) -> dict[str, float]:
    """The mean over runs of each number that has a floor, after the last step."""
    return {n: round(mean(r["curve"][-1][n] for r in runs), 4) for n in FLOORS["real"]}


def problems(
    found: dict[str, float],
    floors: dict[str, float],
    stored: dict[str, float] | None,
    slack: float = 0.0,
) -> list[str]:
    """What is wrong with means: a floor missed, or far from those on file."""
    said = [
        f"{name} is {found[name]:.3f}, the floor is {floor}"
        for name, floor in floors.items()
        if not found[name] >= floor - slack
    ]
    if stored is not None:
        said += [
            f"{name} is {found[name]:.3f}, more than {NEAR} from the "
            f"{stored[name]:.3f} on file"
            for name in floors
            if not abs(found[name] - stored[name]) <= NEAR
        ]
    return said


def bundled() -> tuple[Path, Recipe, dict[str, float]]:
    """The scenes, the recipe of the chapter, and the means on file."""
    stored = json.loads(starts.FILE.read_text())
    runs = [
        run
        for run in stored["runs"]
        if run["start"] == "shapes" and run["images"] == 120
    ]
    recipe = Recipe("shapes", stored["rates"]["shapes"], starts.STEPS)
    return pedestrians(), recipe, means(runs)


def photographs() -> Path:
    """The folder of the real Penn-Fudan; FileNotFoundError says why there is none."""
    folder = os.environ.get("COURSE_REAL_DATA")
    if not folder:
        raise FileNotFoundError("COURSE_REAL_DATA is not set")
    root = Path(folder, "PennFudanPed")
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}")
    return root


def train(recipe: Recipe, root: Path, seeds: int) -> list[dict]:
    """Run the recipe with seeds 0, 1, ...; print a line for each."""
    runs = []
    for seed in range(seeds):
        _, records = fine_tune(recipe, root, seed)
        runs.append({"seed": seed, "curve": rounded(records)})
        last = runs[-1]["curve"][-1]
        numbers = ", ".join(f"{name} {last[name]:.3f}" for name in FLOORS["real"])
        print(f"seed {seed}: {numbers}, {last['seconds']:.0f} s of training")
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.floors",
        description="Fine-tune, and assert what the book promises.",
    )
    parser.add_argument("data", choices=["bundled", "real"])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--update", action="store_true", help="real: write the file")
    chosen = parser.parse_args(arguments)
    if chosen.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {chosen.seeds}")
    if chosen.update and (chosen.data != "real" or chosen.seeds != SEEDS):
        parser.error(f"--update is for real, and for {SEEDS} seeds")
    if chosen.data == "bundled":
        root, recipe, expected = bundled()
    else:
        try:
            root = photographs()
        except FileNotFoundError as error:
            print(f"SKIPPED training on the real Penn-Fudan: {error}")
            return 0
        recipe, expected = REAL, None
        if not chosen.update:
            expected = json.loads(REAL_FILE.read_text())["mean"]
    runs = train(recipe, root, chosen.seeds)
    found = means(runs)
    slack = ONE_SEED if chosen.seeds < SEEDS else 0.0
    if said := problems(found, FLOORS[chosen.data], expected, slack):
        print("FAILED: " + "; ".join(said))
        return 1
    if chosen.update:
        record = {
            **made_by("make test-real UPDATE=1"),
            "recipe": asdict(recipe),
            "runs": runs,
            "mean": found,
        }
        save_json(REAL_FILE, record)
    print(
        "passed: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
