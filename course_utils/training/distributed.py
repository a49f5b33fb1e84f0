"""One process or several: the few questions that training asks about its company.

Without ``torchrun`` there is one process, of rank 0, and nothing to gather.
"""

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

__all__ = [
    "choose_backend",
    "gather",
    "is_main",
    "rank",
    "start",
    "stop",
    "together",
    "world_size",
]


def choose_backend(places: Sequence[tuple[int, int]]) -> str:
    """The backend that serves all processes of a group.

    Args:
        places: for each process the number of processes on its machine, and that of
            the GPUs which it sees.

    Returns:
        ``"nccl"`` if every machine has a GPU for each of its processes, otherwise
        ``"gloo"``: NCCL refuses two processes on one GPU, and the backend of a group
        is one.

    Raises:
        ValueError: no process.
    """
    if not places:
        raise ValueError("there is no process to choose a backend for")
    enough = all(processes <= devices for processes, devices in places)
    return "nccl" if enough else "gloo"


def start() -> None:
    """Join the processes that ``torchrun`` started.

    All tell each other what their machines have, so that all take the same backend
    (:func:`choose_backend`). Where there are GPUs, a process's own becomes torch's
    current device; more processes than GPUs share them. A process alone, or one that
    has joined already, does nothing.

    Raises:
        ValueError: ``WORLD_SIZE`` is above 1, but ``RANK``, ``LOCAL_RANK`` or
            ``LOCAL_WORLD_SIZE`` is not set.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    if dist.is_initialized() or world == 1:
        return
    for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        if name not in os.environ:
            raise ValueError(f"WORLD_SIZE is set, {name} is not: start with torchrun")
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    usable = devices if dist.is_nccl_available() else 0
    own = f"{os.environ['LOCAL_WORLD_SIZE']} {usable}"
    store, number, _ = next(dist.rendezvous("env://"))
    store.set(f"place/{number}", own)
    texts = [store.get(f"place/{r}").decode() for r in range(world)]
    places = [tuple(map(int, text.split())) for text in texts]
    if devices:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % devices)
    dist.init_process_group(
        choose_backend(places), store=store, rank=number, world_size=world
    )


def stop() -> None:
    """Leave the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes, at least 1."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the one process that prints and writes."""
    return rank() == 0


def gather(value: Any) -> list:
    """Return the values of all processes, by rank, to each of them.

    Args:
        value: anything that can be pickled; keep tensors on the CPU.
    """
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def together() -> Iterator[None]:
    """A block whose errors are everybody's: what one process raises, all raise.

    Otherwise the others would wait for it at their next exchange, for ever. All
    processes must come to the block, and inside it none may exchange anything that
    depends on how far another one came.

    Raises:
        Exception: this process's own error; or else that of the lowest rank that has
            one, with a note that says where it comes from.
    """
    if world_size() == 1:
        yield
        return
    own = None
    try:
        yield
    except Exception as error:
        own = error
    for number, error in enumerate(gather(_portable(own))):
        if own is not None:
            raise own
        if error is not None:
            error.add_note(f"raised in process {number}; this is process {rank()}")
            raise error


def _portable(error: Exception | None) -> Exception | None:
    """The error, or one of the same words where it does not survive pickling."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # a constructor of its own may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
