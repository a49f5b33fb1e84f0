"""Plain and residual nets of 8, 20 and 44 layers on ``data/objects``, three seeds each.

    python -m experiments.residual            write data/results/residual.json
    python -m experiments.residual --check    train one pair, assert the gap

The two nets of a pair have the same layers and start from the same weights; the
residual one adds each block's input to its output, and nothing else differs. They learn
240 pictures of 16 x 16 pixels in 100 steps, by Adam at one rate; the nets of 20 layers
by SGD, too, so that the two causes can be told apart. One thread, on the CPU. Seconds
are CPU-seconds of the reference machine (:mod:`benchmarks.yardstick`).
"""

import json
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_utils.datasets import objects
from experiments import stored

__all__ = ["DEPTHS", "GAP", "KINDS", "RATES", "Net", "gradients", "main", "train"]

KINDS, DEPTHS, SEEDS = ("plain", "residual"), (8, 20, 44), (0, 1, 2)
WIDTHS = (8, 16, 32)
EACH, EPOCHS, BATCH = 20, 20, 48  # 240 pictures, 100 steps
RATES = {"Adam": 0.01, "SGD": 0.03}  # peaks of the one-cycle schedule
GAP = 0.1  # of the accuracies on the training pictures, 20 layers, Adam


class Block(nn.Module):
    """Two convolutions, and the way around them where ``around`` is true."""

    def __init__(self, inputs: int, outputs: int, stride: int, around: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more, self.around = stride, outputs - inputs, around

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        change = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.around:  # every other pixel, and channels of zeros: no weights
            skipped = x[:, :, :: self.stride, :: self.stride]
            change = change + F.pad(skipped, (0, 0, 0, 0, 0, self.more))
        return F.relu(change)


class Net(nn.Module):
    """A net of ``depth`` layers for pictures of 16 x 16: 8, 14, 20, 26 and so on.

    Raises:
        ValueError: an unknown kind, or a depth that is not 6 n + 2.
    """

    def __init__(self, kind: str, depth: int, classes: int = len(objects.CLASSES)):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
        if depth < 8 or depth % 6 != 2:
            raise ValueError(f"depth must be 8, 14, 20 and so on, got {depth!r}")
        self.stem = nn.Conv2d(3, WIDTHS[0], 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(WIDTHS[0])
        blocks, before = [], WIDTHS[0]
        for width in WIDTHS:
            for place in range(depth // 6):
                stride = 2 if place == 0 and width != WIDTHS[0] else 1
                blocks.append(Block(before, width, stride, kind == "residual"))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(before, classes)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 16, 16) to scores, (N, classes)."""
        x = self.blocks(F.relu(self.bn(self.stem(x))))
        return self.fc(x.mean((2, 3)))


def pictures(split: str, each: int | None = None) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 16, 16), values from -2 to 2, and labels (N,)."""
    images, labels = objects.load(split, each)
    return F.avg_pool2d(images / 255, 4) * 4 - 2, labels


def gradients(model: Net, images: Tensor, labels: Tensor) -> list[float]:
    """Norms of the loss's gradient at the output of each block, in training mode.

    The statistics of the normalization and the gradients of ``model`` stay as they are.
    """
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    outputs: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda *args: outputs.append(args[-1]))
        for block in model.blocks
    ]
    mode = model.training
    loss = F.cross_entropy(model.train()(images), labels)
    norms = [g.norm().item() for g in torch.autograd.grad(loss, outputs)]
    for handle in handles:
        handle.remove()
    model.train(mode).load_state_dict(kept)
    return norms


def train(
    kind: str,
    depth: int,
    seed: int,
    optimizer: str = "Adam",
    epochs: int = EPOCHS,
    each: int = EACH,
) -> dict:
    """Train one net.

    Args:
        kind: ``"plain"`` or ``"residual"``.
        depth: number of layers with weights, 6 n + 2.
        seed: of the weights and of the order of the pictures.
        optimizer: a key of :data:`RATES`.
        epochs: passes over the training pictures.
        each: take the first so many pictures of each class.

    Returns:
        ``kind``, ``depth``, ``optimizer``, ``seed``, ``weights`` (how many),
        ``losses`` (mean of each epoch), ``train`` and ``val`` (shares of right answers
        in evaluation mode, of the pictures trained with and of the split val),
        ``before`` and ``after`` (:func:`gradients` on the training pictures) and
        ``seconds`` (CPU time of this process).

    Raises:
        ValueError: an unknown kind, optimizer, or a depth that does not exist.
    """
    if optimizer not in RATES:
        raise ValueError(f"optimizer must be one of {tuple(RATES)}, got {optimizer!r}")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Net(kind, depth)
    images, labels = pictures("train", each)
    before = gradients(model, images, labels)
    if optimizer == "SGD":
        steps = torch.optim.SGD(
            model.parameters(), RATES["SGD"], momentum=0.9, weight_decay=1e-4
        )
    else:
        steps = torch.optim.Adam(model.parameters(), RATES["Adam"])
    schedule = stored.one_cycle(
        steps, RATES[optimizer], epochs * -(-len(images) // BATCH)
    )
    start, losses = time.process_time(), []
    for _ in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            steps.zero_grad()
            loss.backward()
            steps.step()
            schedule.step()
            total += loss.item() * len(chosen)
        losses.append(total / len(images))
    seconds = time.process_time() - start
    return {
        "kind": kind,
        "depth": depth,
        "optimizer": optimizer,
        "seed": seed,
        "weights": sum(p.numel() for p in model.parameters()),
        "losses": losses,
        "train": stored.accuracy(model, images, labels),
        "val": stored.accuracy(model, *pictures("val")),
        "before": before,
        "after": gradients(model, images, labels),
        "seconds": seconds,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    chosen = stored.options(
        "residual", "Plain and residual nets.", "one pair, and the gap", arguments
    )
    speed = stored.reference_speed()
    wanted = [(kind, 20, 0, "Adam") for kind in KINDS]
    if not chosen.check:
        nets = [(depth, "Adam") for depth in DEPTHS] + [(20, "SGD")]
        wanted = [
            (kind, depth, seed, optimizer)
            for seed in SEEDS
            for depth, optimizer in nets
            for kind in KINDS
        ]
    runs = []
    for one in wanted:
        run = train(*one)
        run["seconds"] = round(run["seconds"] * speed, 1)
        runs.append(stored.significant(run))
        print(json.dumps(runs[-1]), flush=True)
    pair = {
        run["kind"]: run["train"]
        for run in runs
        if (run["depth"], run["optimizer"], run["seed"]) == (20, "Adam", 0)
    }
    missed = [pair] if pair["residual"] - pair["plain"] < GAP else []
    settings = {"each": EACH, "epochs": EPOCHS, "batch": BATCH, "rates": RATES}
    return stored.store("residual", runs, missed, not chosen.check, **settings)


if __name__ == "__main__":
    sys.exit(main())
