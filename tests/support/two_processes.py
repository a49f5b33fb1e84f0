"""What two processes do with each other's errors, scenario after scenario.

RANK=0 .. python tests/support/two_processes.py FOLDER

Each process writes FOLDER/RANK.json: for each scenario the error it ended with.
"""

import json
import os
import sys
from functools import partial
from pathlib import Path

import small_training as small
import torch
from torch import nn
from torch.utils.data import DataLoader

from course_utils.training import checkpoints, distributed, engine

RANK = int(os.environ.get("RANK", 0))  # tests import this file for its place


class Line(nn.Module):
    """One weight; its loss is what the target says. A buffer makes forward exchange."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images, targets=None):
        if not self.training:
            return [
                {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=int)}
                | {"scores": torch.zeros(0)}
                for _ in images
            ]
        return {"loss_a": self.weight * sum(t["value"] for t in targets)}


def item(number, value=1.0, **change):
    target = {
        "boxes": torch.tensor([[1.0, 1.0, 5.0, 5.0]]),
        "labels": torch.tensor([1]),
        "image_id": number,
        "value": value,
    }
    return torch.zeros(3, 8, 8), target | change


def loader(items):
    return DataLoader(items, 1, collate_fn=small.collate)


def train(items, folder=None, **options):
    model = Line()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    if folder is None:
        wrapped = nn.parallel.DistributedDataParallel(model)
        engine.train_one_epoch(
            wrapped, optimizer, loader(items), "cpu", progress=False, **options
        )
    else:
        engine.fit(
            model, loader(items), optimizer=optimizer, epochs=2, device="cpu",
            folder=folder, progress=False, **options,
        )  # fmt: skip


class Unreadable(list):
    def __getitem__(self, index):
        if index == 1:
            raise OSError("image 1 is truncated")
        return super().__getitem__(index)


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([item(0)])


class Local(Exception):
    """Cannot be pickled: its constructor takes no words."""

    def __init__(self):
        super().__init__("of this process only")


def good():
    return [item(10 * RANK + i) for i in range(3)]


def bad_on(rank, bad):
    """Three items, the second of them bad in one process."""
    items = good()
    if rank == RANK:
        items[1] = bad
    return items


def local_error():
    with distributed.together():
        if RANK == 1:
            raise Local


def unwritable(folder):
    """The first process cannot save; the second one does not try."""
    if RANK == 0:

        def write(content, file):
            raise checkpoints.CheckpointError("no space left")

        checkpoints.write = write
    train(good(), folder / "unwritable")


def elsewhere(folder):
    """A checkpoint that only the first process sees."""
    train(good(), folder / "seen")
    train(good(), folder / ("seen" if RANK == 0 else "unseen"))


def scenarios(folder):
    nan = item(7, float("nan"))
    yield "nothing", lambda: train(good())
    background = item(8, labels=torch.tensor([0]))
    for rank in (0, 1):
        yield f"nan {rank}", partial(train, bad_on(rank, nan))
        yield f"label {rank}", partial(train, bad_on(rank, background))
        items = Unreadable(good()) if rank == RANK else good()
        yield f"file {rank}", partial(train, items)
    yield "lengths", lambda: train(good()[: 3 - RANK])
    yield "local", local_error
    yield "stream", lambda: train(Stream(), folder / "stream")
    same = [item(3), item(3)] if RANK == 1 else good()
    yield (
        "evaluate",
        partial(
            engine.evaluate,
            Line(),
            loader(same),
            "cpu",
            iou_types=["bbox"],
            progress=False,
        ),  # fmt: skip
    )
    (folder / "file").write_text("no folder")
    yield "folder", lambda: train(good(), folder / "file")
    yield "elsewhere", lambda: elsewhere(folder)
    write = checkpoints.write
    yield "unwritable", lambda: unwritable(folder)
    checkpoints.write = write
    yield "at the end", lambda: train(good(), folder / "end")


def main():
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    # The first process sees two GPUs, the second one none.
    torch.cuda.is_available = lambda: RANK == 0
    torch.cuda.device_count = lambda: 2
    torch.cuda.set_device = lambda index: None
    distributed.start()
    torch.cuda.is_available = lambda: False
    found = {"backend": torch.distributed.get_backend()}
    for name, scenario in scenarios(folder):
        try:
            scenario()
            found[name] = "fine"
        except Exception as error:
            notes = " | ".join(getattr(error, "__notes__", []))
            found[name] = f"{type(error).__name__}: {error} {notes}"
    (folder / f"{RANK}.json").write_text(json.dumps(found))
    distributed.stop()


if __name__ == "__main__":
    main()
