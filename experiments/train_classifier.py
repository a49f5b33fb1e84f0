"""What ``examples/train_classifier.py`` reaches, with its own settings, three seeds.

    python -m experiments.train_classifier          run all, write the result
    python -m experiments.train_classifier --check  run them, assert the floor

The result is ``data/results/train_classifier.json``. One thread, on the CPU; seconds
are CPU-seconds of the whole program, from its start, on the reference machine
(:mod:`benchmarks.yardstick`).
"""

import csv
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import yardstick
from experiments import stored

__all__ = ["FLOOR", "LIMIT", "SCRIPT", "SEEDS", "main", "run"]

SCRIPT = Path(__file__).resolve().parents[1] / "examples/train_classifier.py"
SEEDS = (0, 1, 2)
FLOOR, LIMIT = 0.80, 60.0  # of the best epoch on val; CPU-seconds


def run(seed: int, *options: str) -> dict:
    """Run the script once, in a process and a folder of its own.

    Args:
        seed: of the run.
        options: further ones, such as ``"--epochs", "1"``.

    Returns:
        ``seed``, ``best`` (the best share of right answers on val), ``seconds`` and
        ``log``: a list of numbers for each column.

    Raises:
        RuntimeError: the script failed; the message is its own.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    speed = yardstick.factor(yardstick.measure())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(SCRIPT), "--out", folder, "--seed", str(seed)]
        command += ["--device", "cpu", *options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        with open(Path(folder) / "log.csv", newline="") as file:
            rows = list(csv.DictReader(file))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    speed = (speed + yardstick.factor(yardstick.measure())) / 2
    seconds = sum(
        getattr(after, k) - getattr(before, k) for k in ("ru_utime", "ru_stime")
    )
    log = {name: [float(f"{float(r[name]):.6g}") for r in rows] for name in rows[0]}
    return {
        "seed": seed,
        "best": max(log["val_right"]),
        "seconds": round(seconds * speed, 1),
        "log": log,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    chosen = stored.options(
        "train_classifier", "What the example reaches.", "write nothing", arguments
    )
    runs = []
    for seed in SEEDS:
        runs.append(run(seed))
        print({k: v for k, v in runs[-1].items() if k != "log"}, flush=True)
    missed = [r["seed"] for r in runs if r["best"] < FLOOR or r["seconds"] > LIMIT]
    return stored.store("train_classifier", runs, missed, not chosen.check)


if __name__ == "__main__":
    sys.exit(main())
