"""Save the state of a training so that it goes on as if nothing had happened.

A checkpoint is one file, written beside its place and moved there in one step: whoever
is killed while saving keeps the earlier one. It holds tensors and plain values only,
so that ``torch.load(..., weights_only=True)`` reads it.
"""

import copy
import inspect
import os
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

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
        step: batches trained on, in all epochs.
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
            CheckpointError: it cannot be written; an earlier file is as it was. All
                processes raise it.
        """
        generators = distributed.gather(_generator_states(self.generators))
        with distributed.together():
            if distributed.is_main():
                content = {
                    "format": FORMAT,
                    "epoch": self.epoch,
                    "step": self.step,
                    "history": self.history,
                    "generators": generators,
                    "built": self._built(),
                    **self._states(),
                }
                write(content, file)

    def load(self, file: str | Path) -> None:
        """Take the state from ``file``, or, if it does not fit, change nothing.

        A training goes on only as what it was: optimizer, schedule and scaler must be
        of the same classes and built with the same numbers, a schedule made of others
        all the way down, and the optimizer must hold the same parameters in the same
        order. Not compared are functions, such as those of ``LambdaLR``, and of a class
        that is not torch's whatever has not the name of one of its arguments. GPUs'
        generators are restored where there are as many as there were.

        Raises:
            CheckpointError: the file is damaged, of another model, of a training with
                other parts or another number of processes, or older than the rule
                above (:func:`load_model` reads its weights). The message says what
                differs; model, parts and generators are as they were, in every
                process.
        """
        with distributed.together():
            content = _read(file)
            self._check(content, file)
            own = content["generators"][distributed.rank()]
        before = copy.deepcopy(self._states())
        generators = _generator_states(self.generators)
        try:
            with distributed.together():
                try:
                    self._set(content, own)
                except Exception as error:  # a part's own load_state_dict
                    raise CheckpointError(
                        f"{file} does not fit: {type(error).__name__}: {error}"
                    ) from error
        except Exception:
            self._set(before, generators)
            raise
        self.epoch, self.step = content["epoch"], content["step"]
        self.history = content["history"]

    def _states(self) -> dict[str, Any]:
        parts = {"model": self.model, **self.parts}
        return {name: part.state_dict() for name, part in parts.items()}

    def _set(self, states: dict[str, Any], generators: dict[str, Any]) -> None:
        for name, part in {"model": self.model, **self.parts}.items():
            part.load_state_dict(states[name])
        _restore(self.generators, generators)

    def _built(self) -> dict[str, Any]:
        """What the parts were built with, in plain values."""
        schedule = self.parts.get("schedule")
        optimizer = self.parts["optimizer"]
        built = {
            "optimizer": _describe_optimizer(optimizer, schedule, self.model),
            "generators": sorted(self.generators),
        }
        if schedule is not None:
            built["schedule"] = _describe_schedule(schedule)
        if scaler := self.parts.get("scaler"):
            built["scaler"] = _describe_scaler(scaler)
        return built

    def _check(self, content: dict[str, Any], file: str | Path) -> None:
        """Raise if a file that could be read is not of this training."""
        whole = {"epoch", "step", "history", "generators", "model"}
        if missing := sorted(whole - content.keys()):
            raise CheckpointError(f"{file} is damaged: it has no {', '.join(missing)}")
        if "built" not in content:
            raise CheckpointError(
                f"{file} is of an earlier version of this course and does not say what "
                "its training was built with; load_model reads its weights"
            )
        for name in sorted({"optimizer", "schedule", "scaler"} | self.parts.keys()):
            if (name in content) != (name in self.parts):
                place = "the checkpoint" if name in content else "this training"
                raise CheckpointError(f"{file}: only {place} has a {name}")
        mine, its = distributed.world_size(), len(content["generators"])
        if mine != its:
            raise CheckpointError(f"{file}: made by {its} processes, here are {mine}")
        _check_model(self.model, content["model"], file)
        if difference := _difference(content["built"], self._built()):
            raise CheckpointError(f"{file} is of another training: {difference}")


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


# How a step is computed, not what it is.
IMPLEMENTATION = {"foreach", "fused", "capturable", "differentiable"}
# What torch's schedules change in themselves and in the optimizer's groups.
MOVING = {
    *("last_epoch", "_step_count", "_last_lr", "_is_initial", "verbose"),
    *("_get_lr_called_within_step", "best", "num_bad_epochs", "cooldown_counter"),
    *("T_cur", "T_i"),
}
SCHEDULED = {"lr", "momentum", "betas"}


def _describe_optimizer(optimizer, schedule, model: nn.Module) -> dict[str, Any]:
    names = {id(p): name for name, p in model.named_parameters()}
    left_out = IMPLEMENTATION | {"params"}
    if schedule is not None:
        left_out |= SCHEDULED
        if not all(map(_is_of_torch, _all_schedules(schedule))):
            left_out |= optimizer.defaults.keys()  # it may change any of them
    return {
        "class": type(optimizer).__qualname__,
        "defaults": {
            name: _plain(value)
            for name, value in optimizer.defaults.items()
            if name not in IMPLEMENTATION | {"lr"}  # that of the groups counts
        },
        "group_sizes": [len(group["params"]) for group in optimizer.param_groups],
        "groups": [
            {
                "parameters": [names.get(id(p), "unknown") for p in group["params"]],
                **{k: _plain(v) for k, v in group.items() if k not in left_out},
            }
            for group in optimizer.param_groups
        ],
    }


def _describe_schedule(schedule) -> dict[str, Any]:
    state = getattr(schedule, "__dict__", {})
    if not _is_of_torch(schedule):
        arguments = inspect.signature(type(schedule)).parameters
        state = {k: v for k, v in state.items() if k.removeprefix("_") in arguments}
    left_out = MOVING | {"optimizer", "lr_lambdas", "lr_lambda"}
    return {
        "class": type(schedule).__qualname__,
        **{k: _plain(v) for k, v in state.items() if k not in left_out},
    }


def _describe_scaler(scaler) -> dict[str, Any]:
    state = scaler.state_dict()  # empty where it is not enabled
    numbers = ("growth_factor", "backoff_factor", "growth_interval")
    return {
        "class": type(scaler).__qualname__,
        "enabled": bool(state),
        **{name: state[name] for name in numbers if name in state},
    }


def _is_of_torch(part) -> bool:
    return type(part).__module__.startswith("torch.")


def _all_schedules(schedule):
    """A schedule, and all that it is made of."""
    yield schedule
    for value in getattr(schedule, "__dict__", {}).values():
        for part in value if isinstance(value, list | tuple) else [value]:
            if isinstance(part, LRScheduler):
                yield from _all_schedules(part)


def _plain(value: Any) -> Any:
    """The value as numbers, words, lists and dictionaries; of others only the class."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Counter):  # milestones
        return sorted(value.elements())
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, LRScheduler):
        return _describe_schedule(value)
    return type(value).__qualname__


def _difference(there: Any, here: Any, name: str = "") -> str | None:
    """The first difference of two descriptions, in words.

    What only one of them has is left out: versions of torch differ in it.
    """
    if isinstance(there, dict) and isinstance(here, dict):
        pairs = [(f"{name}.{k}".lstrip("."), k) for k in there if k in here]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = [(f"{name}[{i}]", i) for i in range(len(there))]
    else:
        same = there == here or (there != there and here != here)  # nan is nan
        return None if same else f"{name} is {there!r} in the checkpoint, {here!r} here"
    found = (_difference(there[k], here[k], inner) for inner, k in pairs)
    return next(filter(None, found), None)


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
