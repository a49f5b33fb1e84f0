"""What the commands that store a result share: clock, options, bounds and the file.

A command trains, prints one line for each run, and writes ``data/results/NAME.json``:
``command``, ``date``, its settings, and ``runs``, one a line. With ``--check`` it runs
less and writes nothing. A run beyond the bounds is said, and nothing is written.
"""

import argparse
import datetime
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks import yardstick
from course_utils import files
from course_utils.datasets import results

__all__ = [
    "accuracy",
    "one_cycle",
    "options",
    "reference_speed",
    "save_weights",
    "significant",
    "store",
]


def options(
    module: str, does: str, check: str, arguments: Sequence[str] | None, **flags: str
) -> argparse.Namespace:
    """Read the command line.

    Args:
        module: the command's name, ``"residual"`` for ``python -m
            experiments.residual``.
        does: what it does, for ``--help``.
        check: what ``--check`` does.
        arguments: of the command line; default: those of this process.
        flags: further options without a value, each with its help.

    Returns:
        ``check`` and each of ``flags``, True or False.
    """
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{module}")
    parser.description = does
    for name, text in {"check": check, **flags}.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    return parser.parse_args(arguments)


def reference_speed() -> float:
    """Reference seconds in a CPU-second of this machine, now; one thread from here on.

    See :mod:`benchmarks.yardstick`.
    """
    torch.set_num_threads(1)
    return yardstick.factor(yardstick.measure())


def significant(value: Any, digits: int = 4) -> Any:
    """Round every float in lists and dictionaries to so many significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: significant(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [significant(item, digits) for item in value]
    return value


def store(
    name: str,
    runs: Sequence[dict],
    missed: Iterable[Any],
    write: bool = True,
    *,
    module: str | None = None,
    **more: Any,
) -> int:
    """Write a result, unless a run is beyond the bounds.

    Args:
        name: of the file in ``data/results``, without its suffix.
        runs: one dictionary for each run.
        missed: what is beyond the bounds; printed as it is.
        write: False for ``--check``.
        module: the command's name where it is not ``name``.
        more: settings and further results, each under its own key.

    Returns:
        The exit status: 1 where something is missed, else 0.
    """
    missed = list(missed)
    if missed:
        print(f"beyond the bounds, nothing is written: {missed}", file=sys.stderr)
        return 1
    if write:
        head = {
            "command": f"python -m experiments.{module or name}",
            "date": datetime.date.today().isoformat(),
            **more,
        }
        lines = [f"{json.dumps(key)}: {json.dumps(head[key])}" for key in head]
        each = ",\n".join(json.dumps(run) for run in runs)
        text = "{" + ",\n".join([*lines, f'"runs": [\n{each}\n]']) + "}\n"
        json.loads(text)
        files.write_file(results.FOLDER / f"{name}.json", text)
    return 0


def save_weights(file: Path, model: nn.Module) -> None:
    """Write the model's state as safetensors; the old file stays until all is there."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    with files.replacing(file) as new:
        save_file(state, new)


def one_cycle(
    optimizer: torch.optim.Optimizer,
    rate: float | Sequence[float],
    steps: int,
    rising: float = 0.3,
) -> torch.optim.lr_scheduler.LRScheduler:
    """Up to ``rate`` in the first share ``rising`` of the steps, then down to zero.

    ``rate``: one for all, or a list with one for each parameter group.
    """
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=rising, cycle_momentum=False
    )


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of right answers, in evaluation mode; each part's mode is put back.

    Args:
        model: maps (N, ...) to scores, (N, classes).
        images: (N, ...).
        labels: (N,), integers.

    Raises:
        ValueError: no images.
    """
    if not len(images):
        raise ValueError(f"accuracy needs images, got a batch of {tuple(images.shape)}")
    modes = {part: part.training for part in model.modules()}
    right = model.eval()(images).argmax(1) == labels
    for part, mode in modes.items():
        part.training = mode
    return right.double().mean().item()
