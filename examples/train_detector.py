"""Fine-tune a small Mask R-CNN in one process or in many; stop and restart at any time.

    python examples/train_detector.py --out runs/people
    torchrun --nproc-per-node=2 examples/train_detector.py --out runs/people
    sbatch examples/train_detector.slurm

It is the recipe of chapter 27: a detector that knows drawn objects learns to find
people. ``--data`` is a folder in the layout of Penn-Fudan, ``--out`` receives
``settings.json``, ``last.pt`` after each epoch, and a log for TensorBoard. Started
again with the same ``--out`` the script goes on from ``last.pt``, and on the same CPUs
it ends with the weights of an uninterrupted run, to the bit. All processes need one
``--out`` that they all see. With ``--max-restarts``, ``torchrun`` needs
``TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1`` in its environment: its store is kept over
restarts otherwise, with the addresses of processes that are gone.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import torch
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, DistributedSampler

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # where the course is not installed, as on Colab

from course_utils import datasets, files, runtime  # noqa: E402
from course_utils.detection import augment, models  # noqa: E402
from course_utils.training import distributed, engine  # noqa: E402

FREE = {"data", "out", "device", "workers"}  # a run that goes on may change them
LEAST = {"epochs": 1, "batch_size": 1, "images": 1, "tests": 1, "size": 32}


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, default=None, help="default: the bundled street scenes")
    add("--out", type=Path, required=True, help="the folder of this run")
    add("--epochs", type=int, default=8)
    add("--batch-size", type=int, default=4, help="pictures a step, of all processes")
    add("--images", type=int, default=120, help="the first so many to train on")
    add("--tests", type=int, default=50, help="the first so many to judge on")
    add("--size", type=int, default=288, help="of a picture's longer side")
    add("--rate", type=float, default=1e-3, help="the highest learning rate")
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=0, help="that load pictures, of each process")
    add("--device", default=None, help="cpu or cuda")
    add("--half", action="store_true", help="mixed precision, on a GPU")
    chosen = parser.parse_args(arguments)
    for name, low in LEAST.items():
        if getattr(chosen, name) < low:
            parser.error(f"--{name.replace('_', '-')} must be at least {low}")
    if not chosen.rate > 0 or chosen.seed < 0 or chosen.workers < 0:
        parser.error("--rate must be above 0, --seed and --workers not below it")
    if chosen.batch_size % distributed.world_size():
        parser.error(
            f"--batch-size {chosen.batch_size} cannot be shared equally by "
            f"{distributed.world_size()} processes"
        )
    return chosen


def load(folder: Path, split: str, count: int, size: int) -> augment.InMemory:
    """The first ``count`` samples of a split, shrunk, in memory."""
    found = datasets.PennFudan(folder, split, augment.resized(size))
    if count > len(found):
        raise ValueError(f"{split} has {len(found)} pictures, not {count}")
    return augment.InMemory(found[i] for i in range(count))


def share(data, chosen, shuffle: bool) -> DataLoader:
    """A loader of this process's share of the data.

    Drawn from the seed and the epoch alone, the order is the same in every process, and
    in a run that goes on; the sampler then hands each process every n-th picture.
    """
    world, rank = distributed.world_size(), distributed.rank()
    order = DistributedSampler(data, world, rank, shuffle, seed=chosen.seed)
    return DataLoader(
        data,
        chosen.batch_size // world,
        sampler=order,
        num_workers=chosen.workers,
        collate_fn=augment.collate,
    )


def same_settings(chosen) -> None:
    """Write the settings of a new run, or raise where an old one had others."""
    file = chosen.out / "settings.json"
    mine = {k: v for k, v in vars(chosen).items() if k not in FREE}
    mine["processes"] = distributed.world_size()
    with distributed.together():
        if distributed.is_main():
            if not file.exists():
                chosen.out.mkdir(parents=True, exist_ok=True)
                files.write_file(file, json.dumps(mine, indent=1) + "\n")
            before = json.loads(file.read_text(encoding="utf-8"))
            for name, value in mine.items():
                if before.get(name) != value:
                    old = before.get(name)
                    raise ValueError(f"the run has {name} {old!r}, not {value!r}")


def main(arguments: list[str] | None = None) -> torch.nn.Module:
    distributed.start()  # alone it does nothing
    chosen = options(arguments)
    device = runtime.device(chosen.device)
    folder = chosen.data or datasets.pedestrians()
    train = load(folder, "train", chosen.images, chosen.size)
    test = load(folder, "test", chosen.tests, chosen.size)
    train.transforms = augment.augmentation(True, train.items)
    same_settings(chosen)

    runtime.seed_everything(chosen.seed)  # alike everywhere, for the weights
    sides = {"min_size": chosen.size, "max_size": chosen.size}
    model = models.mask_rcnn_mobilenet(
        2, "shapes", **sides, soft_nms=0.5, box_score_thresh=0.01
    ).to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, chosen.rate, weight_decay=0.01)
    loader, test_loader = share(train, chosen, True), share(test, chosen, False)
    steps = chosen.epochs * len(loader)
    rising = 0.1 if steps > 10 else 0.3  # of 10 steps a tenth divides by zero
    schedule = OneCycleLR(optimizer, chosen.rate, steps, pct_start=rising)

    # DistributedDataParallel says so of filters of one pixel; it costs a copy, no more.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
    # Different in each process, or all would mirror and paste alike.
    runtime.seed_everything(chosen.seed * 1009 + distributed.rank())
    history = engine.fit(
        model,
        loader,
        optimizer=optimizer,
        schedule=schedule,
        epochs=chosen.epochs,
        device=device,
        folder=chosen.out,
        test_loader=test_loader,
        clip_norm=5.0,
        mixed_precision=chosen.half,
        progress=sys.stderr.isatty(),
    )
    if distributed.is_main():
        for line in history:
            kinds = [f"{k} {line[k]:.3f}" for k in ("loss", "bbox/AP", "segm/AP")]
            print(f"epoch {line['epoch']}: {', '.join(kinds)}", flush=True)
    return model


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
    except (ArithmeticError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")
    finally:
        distributed.stop()
