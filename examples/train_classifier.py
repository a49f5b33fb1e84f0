"""Train a small network to classify pictures; stop and resume it at any time.

    python examples/train_classifier.py --out runs/first
    python examples/train_classifier.py --out runs/first --resume

The folder of ``--data`` has one folder of pictures for each class, under ``train`` and
under ``val``. ``--out`` receives ``log.csv`` (one line an epoch), ``last.pt`` (all that
a resumed run needs) and ``best.pt`` (the weights that did best on ``val``).
"""

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import datasets, transforms
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # where the course is not installed, as on Colab

from course_utils.classification import convnet, normalize  # noqa: E402
from course_utils.training.checkpoints import CheckpointError, write  # noqa: E402

COLUMNS = ("epoch", "rate", "train_loss", "train_right", "val_loss", "val_right")


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, default=ROOT / "data/objects", help="train/ and val/")
    add("--out", type=Path, required=True, help="where the run is written")
    add("--epochs", type=int, default=24)
    add("--batch-size", type=int, default=50)
    add("--rate", type=float, default=4e-3, help="the highest learning rate")
    add("--decay", type=float, default=0.01, help="weight decay")
    add("--smoothing", type=float, default=0.0, help="of the labels")
    add("--side", type=int, default=64, help="pixels of the pictures' sides")
    add("--seed", type=int, default=0)
    add("--patience", type=int, default=0, help="stop after so many epochs, 0: never")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--bfloat16", action="store_true", help="mixed precision")
    add("--resume", action="store_true", help="go on from last.pt")
    chosen = parser.parse_args(arguments)
    for name in ("epochs", "batch_size", "side"):
        if getattr(chosen, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return chosen


def load(folder: Path, side: int) -> tuple[Tensor, Tensor, list[str]]:
    """All pictures of a folder in memory: (N, 3, side, side), (N,), the classes."""
    scale = transforms.Resize((side, side), antialias=True)
    found = datasets.ImageFolder(folder, transforms.PILToTensor())
    images = [
        image if image.shape[1:] == (side, side) else scale(image) for image, _ in found
    ]
    return torch.stack(images), torch.tensor(found.targets), found.classes


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture mirrored or not, and shifted by up to a tenth of its side."""
    n, _, height, width = images.shape
    flip = torch.rand(n, generator=generator) < 0.5
    images = torch.where(
        flip.to(images.device)[:, None, None, None], images.flip(3), images
    )
    pad = max(1, height // 10)
    wide = F.pad(images, [pad] * 4, mode="replicate")
    down, right = torch.randint(0, 2 * pad + 1, (2, n), generator=generator).tolist()
    parts = [
        one[:, y : y + height, x : x + width]
        for one, y, x in zip(wide, down, right, strict=True)
    ]
    return torch.stack(parts)


class Average:
    """The mean over all pictures, however they were cut into batches."""

    def __init__(self):
        self.total, self.count = {}, 0

    def add(self, count: int, **means: Tensor) -> None:
        for name, mean in means.items():
            self.total[name] = self.total.get(name, 0.0) + mean.item() * count
        self.count += count

    def __getitem__(self, name: str) -> float:
        return self.total[name] / self.count


def forward(model, images, labels, chosen) -> tuple[Tensor, Tensor]:
    """The mean loss and the share of right answers."""
    device = torch.device(chosen.device)
    with torch.autocast(device.type, torch.bfloat16, enabled=chosen.bfloat16):
        scores = model(normalize(images))
    smoothing = chosen.smoothing if model.training else 0.0
    loss = F.cross_entropy(scores.float(), labels, label_smoothing=smoothing)
    return loss, (scores.argmax(1) == labels).float().mean()


def train_one_epoch(model, data, optimizer, schedule, chosen, epoch) -> Average:
    images, labels = data
    # Drawn from the seed and the epoch alone: a resumed run draws the same.
    generator = torch.Generator().manual_seed(chosen.seed * 100_003 + epoch)
    order = torch.randperm(len(images), generator=generator)
    average = Average()
    model.train()
    bar = tqdm(
        order.split(chosen.batch_size), f"epoch {epoch}", leave=False, disable=None
    )
    for rows in bar:
        batch = moved(images[rows].to(chosen.device), generator)
        loss, right = forward(model, batch, labels[rows].to(chosen.device), chosen)
        if not loss.isfinite():
            raise FloatingPointError(f"the loss of epoch {epoch} became {loss.item()}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.add(len(rows), loss=loss.detach(), right=right)
        bar.set_postfix(loss=f"{average['loss']:.3f}")
    return average


@torch.no_grad()
def evaluate(model, data, chosen) -> Average:
    average = Average()
    model.eval()
    for images, labels in zip(*(part.split(250) for part in data), strict=True):
        images, labels = images.to(chosen.device), labels.to(chosen.device)
        loss, right = forward(model, images, labels, chosen)
        average.add(len(images), loss=loss, right=right)
    return average


def resume(file: Path, parts: dict, settings: dict) -> list[dict]:
    """Give the parts the states of ``file``; return the lines of its log."""
    if not file.is_file():
        raise SystemExit(f"nothing to resume: there is no {file}")
    stored = torch.load(file, map_location="cpu", weights_only=True)
    for name, value in settings.items():
        if stored["settings"].get(name) != value:
            was = stored["settings"].get(name)
            raise SystemExit(f"{file} was made with {name} {was!r}, not {value!r}")
    for name, part in parts.items():
        part.load_state_dict(stored[name])
    return stored["log"]


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = options(arguments)
    torch.manual_seed(chosen.seed)
    *train, classes = load(chosen.data / "train", chosen.side)
    *val, others = load(chosen.data / "val", chosen.side)
    if classes != others:
        raise SystemExit(f"train/ has the classes {classes}, val/ has {others}")
    model = convnet(len(classes)).to(chosen.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), chosen.rate, weight_decay=chosen.decay
    )
    steps = chosen.epochs * -(-len(train[0]) // chosen.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, chosen.rate, steps, pct_start=0.2
    )
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    free = {"data", "out", "resume", "device", "patience"}
    settings = {k: v for k, v in vars(chosen).items() if k not in free}
    settings["classes"] = classes
    chosen.out.mkdir(parents=True, exist_ok=True)
    last = chosen.out / "last.pt"
    if last.exists() and not chosen.resume:
        raise SystemExit(f"{last} is there; --resume goes on, another --out begins")
    log = resume(last, parts, settings) if chosen.resume else []
    best = max([line["val_right"] for line in log], default=-1.0)
    for epoch in range(len(log), chosen.epochs):
        start, rate = time.perf_counter(), schedule.get_last_lr()[0]
        trained = train_one_epoch(model, train, optimizer, schedule, chosen, epoch)
        tested = evaluate(model, val, chosen)
        values = (
            epoch,
            rate,
            trained["loss"],
            trained["right"],
            tested["loss"],
            tested["right"],
        )
        log.append(dict(zip(COLUMNS, values, strict=True)))
        if tested["right"] > best:
            best = tested["right"]
            weights = {"model": model.state_dict(), "classes": classes}
            write(weights, chosen.out / "best.pt")
        states = {name: part.state_dict() for name, part in parts.items()}
        write(states | {"settings": settings, "log": log}, last)
        with open(chosen.out / "log.csv", "w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(log)
        print(
            f"epoch {epoch:3}: loss {trained['loss']:.3f}, val {tested['right']:.3f}"
            f" (best {best:.3f}), {time.perf_counter() - start:.0f} s",
            flush=True,
        )
        since = epoch - [line["val_right"] for line in log].index(best)
        if 0 < chosen.patience <= since:
            print(f"no better for {since} epochs: stopped")
            break
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; the same command with --resume goes on")
    except (FloatingPointError, CheckpointError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
