"""Save the state of a training so that it goes on as if nothing had happened.

A checkpoint is one file, written beside its place and moved there in one step: whoever
is killed while saving keeps the earlier one. It holds tensors and plain values only,
so that ``torch.load(..., weights_only=True)`` reads it.
"""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from course_utils.files import replacing
from course_utils.training import distributed

__all__ = ["CheckpointError", "State", "load_model", "write"]

FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read, or is of something else."""


class State:
    """All that decides how a training goes on.

    Args:
        model, optimizer, schedule, scaler: whose states are kept; the last two may be
            None.
        loader: its generators, if it has any, are kept too, with those of Python,
            NumPy and torch.

    Attributes:
        epoch: epochs done.
        step: optimizer steps done.
        history: a dictionary of floats for each epoch.
    """

    def __init__(self, model, optimizer, schedule=None, scaler=None, loader=None):
        parts = {"optimizer": optimizer, "schedule": schedule, "scaler": scaler}
        self.model = model
        self.parts = {k: v for k, v in parts.items() if v is not None}
        self.generators = _own_generators(loader)
        self.epoch, self.step, self.history = 0, 0, []

    def save(self, file: str | Path) -> None:
        """Write the state to ``file``; with several processes, the first one writes.

        Raises:
            CheckpointError: it cannot be written; an earlier file is as it was.
        """
        generators = distributed.gather(_generator_states(self.generators))
        if not distributed.is_main():
            return
        content = {
            "format": FORMAT,
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "generators": generators,
            "model": self.model.state_dict(),
            **{name: part.state_dict() for name, part in self.parts.items()},
        }
        write(content, file)

    def load(self, file: str | Path) -> None:
        """Take the state from ``file``, or, if it does not fit, change nothing.

        Raises:
            CheckpointError: the file is damaged, of another model, or of a training
                with other parts or another number of processes.
        """
        content = _read(file)
        for name in sorted({"optimizer", "schedule", "scaler"} | self.parts.keys()):
            if (name in content) != (name in self.parts):
                place = "the checkpoint" if name in content else "this training"
                raise CheckpointError(f"{file}: only {place} has a {name}")
        mine, its = distributed.world_size(), len(content["generators"])
        if mine != its:
            raise CheckpointError(f"{file}: made by {its} processes, here are {mine}")
        _check_model(self.model, content["model"], file)
        groups = [
            [len(group["params"]) for group in state["param_groups"]]
            for state in (content["optimizer"], self.parts["optimizer"].state_dict())
        ]
        if groups[0] != groups[1]:
            raise CheckpointError(
                f"{file}: the optimizer has groups of {groups[0]} parameters, "
                f"this one of {groups[1]}"
            )
        self.model.load_state_dict(content["model"])
        for name, part in self.parts.items():
            part.load_state_dict(content[name])
        _restore(self.generators, content["generators"][distributed.rank()])
        self.epoch, self.step = content["epoch"], content["step"]
        self.history = content["history"]


def load_model(model: nn.Module, file: str | Path) -> nn.Module:
    """Load the weights of a checkpoint into ``model``, and return it.

    Raises:
        CheckpointError: the file is damaged or of another model; then ``model`` is
            as it was.
    """
    state = _read(file)["model"]
    _check_model(model, state, file)
    model.load_state_dict(state)
    return model


def write(content: dict[str, Any], file: str | Path) -> None:
    """``torch.save`` in one step: ``file`` is the new one, whole, or as it was.

    Raises:
        CheckpointError: there is no space, no permission, or no folder.
    """
    file = Path(file)
    try:
        with replacing(file) as part, open(part, "wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:
        kept = "; the earlier one is as it was" if file.exists() else ""
        raise CheckpointError(f"could not write {file}: {error}{kept}") from error


def _read(file: str | Path) -> dict[str, Any]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {file}") from None
    except Exception as error:  # what torch raises for a damaged file has many types
        raise CheckpointError(
            f"{file} is no checkpoint, or damaged ({type(error).__name__})"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{file} is no checkpoint of course_utils.training.engine"
        )
    return content


def _check_model(model: nn.Module, state: dict, file: str | Path) -> None:
    own = model.state_dict()
    odd = [f"{n} is missing" for n in own if n not in state]
    odd += [f"{n} is unknown" for n in state if n not in own]
    odd += [
        f"{n} is {tuple(state[n].shape)}, not {tuple(own[n].shape)}"
        for n in own
        if n in state and state[n].shape != own[n].shape
    ]
    if odd:
        more = f", and {len(odd) - 1} more" if len(odd) > 1 else ""
        raise CheckpointError(f"{file} is of another model: {odd[0]}{more}")


def _own_generators(loader) -> dict[str, torch.Generator]:
    """The generators that a loader draws from, by name."""
    found = {}
    for name in ("", "sampler", "batch_sampler", "batch_sampler.sampler"):
        part = loader
        for step in filter(None, name.split(".")):
            part = getattr(part, step, None)
        generator = getattr(part, "generator", None)
        if isinstance(generator, torch.Generator):
            found[name or "loader"] = generator
    return found


def _generator_states(own: dict[str, torch.Generator]) -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        "python": random.getstate(),
        "own": {name: generator.get_state() for name, generator in own.items()},
    }


def _restore(own: dict[str, torch.Generator], state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])
    for name, generator in own.items():
        if name in state["own"]:
            generator.set_state(state["own"][name])
