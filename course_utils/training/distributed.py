"""One process or several: the few questions that training asks about its company.

Without ``torchrun`` there is one process, of rank 0, and nothing to gather.
"""

import os
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["gather", "is_main", "rank", "start", "stop", "world_size"]


def start() -> None:
    """Join the processes that ``torchrun`` started; alone, do nothing.

    The backend is NCCL where each process has a GPU of its own, otherwise gloo.

    Raises:
        ValueError: ``WORLD_SIZE`` is set, but ``RANK`` or ``LOCAL_RANK`` is not.
    """
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    for name in ("RANK", "LOCAL_RANK"):
        if name not in os.environ:
            raise ValueError(f"WORLD_SIZE is set, {name} is not: start with torchrun")
    local = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available() and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
        dist.init_process_group("nccl")
    else:
        dist.init_process_group("gloo")


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
