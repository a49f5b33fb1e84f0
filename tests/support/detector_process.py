"""``examples/train_detector.py`` as one of several processes, without torchrun."""

import contextlib
import runpy
import sys
from pathlib import Path

import torch
import torch.distributed as dist

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "train_detector.py"


def enter(rank, world, folder, arguments):
    """Join the others, run the script as a program; its output is ``folder/rank``."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    sys.argv = [str(SCRIPT), *arguments]
    with open(f"{folder}/{rank}", "w", encoding="utf-8") as out:
        with contextlib.redirect_stdout(out):
            runpy.run_path(str(SCRIPT), run_name="__main__")
