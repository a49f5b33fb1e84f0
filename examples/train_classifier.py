"""Train a small network to classify pictures; stop and resume it at any time.

    python examples/train_classifier.py --out runs/first
    python examples/train_classifier.py --out runs/first --resume

The folder of ``--data`` has one folder of pictures for each class, under ``train`` and
under ``val``. ``--out`` receives ``settings.json``, ``log.csv`` (one line an epoch),
``last.pt`` (all that a resumed run needs) and ``best.pt`` (the weights that did best on
``val``). A resumed run ends as an uninterrupted one does, to the bit, on the same CPU.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from torchvision import datasets, transforms
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # where the course is not installed, as on Colab

from course_utils import files, runtime  # noqa: E402
from course_utils.classification import convnet, normalize  # noqa: E402
from course_utils.training import checkpoints  # noqa: E402

FREE = {"data", "out", "device", "patience", "resume"}  # a resumed run may change them


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, default=ROOT / "data/objects", help="has train and val")
    add("--out", type=Path, required=True, help="the folder of this run")
    add("--epochs", type=int, default=24)
    add("--batch-size", type=int, default=50)
    add("--rate", type=float, default=4e-3, help="the highest learning rate")
    add("--side", type=int, default=48, help="pictures are scaled to this size")
    add("--seed", type=int, default=0)
    add("--patience", type=int, default=0, help="epochs without a better one; 0: any")
    add("--device", default=None, help="cpu, cuda or mps")
    add("--bfloat16", action="store_true", help="mixed precision")
    add("--resume", action="store_true", help="go on from last.pt")
    chosen = parser.parse_args(arguments)
    for name, low in (("epochs", 1), ("batch_size", 2), ("side", 8), ("rate", 0)):
        if getattr(chosen, name) < low:
            parser.error(f"--{name.replace('_', '-')} must be at least {low}")
    chosen.device = runtime.device(chosen.device)
    return chosen


def load(folder: Path, side: int) -> tuple[tuple[Tensor, Tensor], list[str]]:
    """Pictures (N, 3, side, side), uint8, and labels (N,); the names of the classes."""
    steps = [transforms.Resize((side, side)), transforms.PILToTensor()]
    found = datasets.ImageFolder(folder, transforms.Compose(steps))
    images = [image for image, _ in tqdm(found, folder.name, disable=None)]
    return (torch.stack(images), torch.tensor(found.targets)), found.classes


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture mirrored or not, and shifted by up to a tenth of its side."""
    count, _, h, w = images.shape
    flip = torch.rand(count, generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    pad = max(1, h // 10)
    wide = F.pad(images, [pad] * 4, mode="replicate")
    at = torch.randint(0, 2 * pad + 1, (count, 2), generator=generator).tolist()
    cut = [one[:, y : y + h, x : x + w] for one, (y, x) in zip(wide, at, strict=True)]
    return torch.stack(cut)


class Means:
    """Of loss and right answers over all pictures, however these come in batches."""

    def __init__(self):
        self.loss = self.right = self.count = 0

    def add(self, loss: Tensor, right: Tensor) -> None:
        self.loss += loss.item() * len(right)
        self.right += right.sum().item()
        self.count += len(right)

    def named(self, part: str) -> dict[str, float]:
        found = {"loss": self.loss / self.count, "right": self.right / self.count}
        return {f"{part}_{name}": mean for name, mean in found.items()}


def judge(model, images, labels, chosen) -> tuple[Tensor, Tensor]:
    """The mean loss of a batch, and which answers are right, (N,)."""
    with torch.autocast(chosen.device.type, torch.bfloat16, chosen.bfloat16):
        scores = model(normalize(images.to(chosen.device))).float()
    labels = labels.to(chosen.device)
    return F.cross_entropy(scores, labels), scores.argmax(1) == labels


def batches(count: int, chosen, generator: torch.Generator | None = None) -> list:
    """All rows in a new order, in batches; one picture left over is left out."""
    rows = torch.randperm(count, generator=generator).split(chosen.batch_size)
    return [some for some in rows if len(some) > 1]


def train_epoch(model, optimizer, schedule, images, labels, chosen, epoch) -> dict:
    # Drawn from the seed and the epoch alone: a resumed run draws the same.
    generator = torch.Generator().manual_seed(chosen.seed * 100_003 + epoch)
    order, means = batches(len(images), chosen, generator), Means()
    model.train()
    for rows in tqdm(order, f"epoch {epoch + 1}", leave=False, disable=None):
        batch = moved(images[rows], generator)
        loss, right = judge(model, batch, labels[rows], chosen)
        if not loss.isfinite():
            raise FloatingPointError(f"the loss became {loss.item()}: lower --rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        means.add(loss, right)
    return means.named("train")


@torch.no_grad()
def evaluate(model, images, labels, chosen) -> tuple[dict, Tensor]:
    """The means over all pictures, and which of them are named right, (N,)."""
    means, rights = Means(), []
    model.eval()
    for x, y in zip(images.split(250), labels.split(250), strict=True):
        loss, right = judge(model, x, y, chosen)
        means.add(loss, right)
        rights.append(right.cpu())
    return means.named("val"), torch.cat(rights)


def start_or_resume(state: checkpoints.State, settings: dict, chosen) -> None:
    """Begin a run in a folder that holds none, or take up the one that it holds."""
    last, kept = chosen.out / "last.pt", chosen.out / "settings.json"
    if not chosen.resume:
        if last.exists():
            sys.exit(f"error: {last} is there: --resume goes on, another --out begins")
        chosen.out.mkdir(parents=True, exist_ok=True)
        files.write_file(kept, json.dumps(settings, indent=1) + "\n")
        return
    before = json.loads(kept.read_text(encoding="utf-8"))
    for name, value in settings.items():
        if before.get(name) != value:
            sys.exit(f"error: the run has {name} {before.get(name)!r}, not {value!r}")
    state.load(last)


def main(arguments: list[str] | None = None) -> None:
    chosen = options(arguments)
    torch.backends.cudnn.deterministic = True
    torch.manual_seed(chosen.seed)
    train, classes = load(chosen.data / "train", chosen.side)
    val, others = load(chosen.data / "val", chosen.side)
    if classes != others:
        sys.exit(f"error: train has the classes {classes}, val has {others}")
    model = convnet(len(classes)).to(chosen.device)
    optimizer = torch.optim.AdamW(model.parameters())
    steps = chosen.epochs * len(batches(len(train[0]), chosen))
    schedule = OneCycleLR(optimizer, chosen.rate, steps, pct_start=0.2)
    state = checkpoints.State(model, optimizer, schedule)
    settings = {k: v for k, v in vars(chosen).items() if k not in FREE}
    settings |= {"classes": classes, "pictures": len(train[0])}
    start_or_resume(state, settings, chosen)
    history = state.history
    while len(history) < chosen.epochs:
        rights = [line["val_right"] for line in history]
        since = len(rights) - 1 - rights.index(max(rights)) if rights else 0
        if 0 < chosen.patience <= since:
            print(f"stopped: the best of {len(rights)} epochs is {since} epochs old")
            break
        line = {"epoch": len(history) + 1, "rate": schedule.get_last_lr()[0]}
        line |= train_epoch(model, optimizer, schedule, *train, chosen, len(history))
        line |= evaluate(model, *val, chosen)[0]
        history.append(line)
        print(", ".join(f"{k} {v:.4g}" for k, v in line.items()), flush=True)
        if line["val_right"] > max(rights, default=-1.0):
            best = {"format": 1, "model": model.state_dict(), "classes": classes}
            checkpoints.write(best, chosen.out / "best.pt")
        state.save(chosen.out / "last.pt")
        rows = [",".join(map(str, row)) for row in (line, *map(dict.values, history))]
        files.write_file(chosen.out / "log.csv", "\n".join(rows) + "\n")
    checkpoints.load_model(model, chosen.out / "best.pt")
    found, right = evaluate(model, *val, chosen)
    print(f"best.pt names {found['val_right']:.3f} of val right; by class:")
    for label, name in enumerate(classes):
        mine = right[val[1] == label]
        print(f"{name:12} {int(mine.sum())} of {len(mine)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command with --resume goes on")
    except (ArithmeticError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")
