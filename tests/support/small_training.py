"""Trainings small enough for tests: rectangles to find, in images of 64 pixels.

The model is :class:`Tiny`, which learns in milliseconds and speaks as a Mask R-CNN
does, or a real one (``small_model``).

python tests/support/small_training.py FOLDER EPOCHS    (also under torchrun)
"""

import hashlib
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from course_utils.detection import models
from course_utils.training import distributed, engine

SIZE = 64


class Rectangles(Dataset):
    """Bright rectangles on a dark ground; every fourth image has none."""

    def __init__(self, count, first_seed=0):
        self.count, self.first_seed = count, first_seed

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if not 0 <= i < self.count:
            raise IndexError(i)
        generator = torch.Generator().manual_seed(self.first_seed + i)
        image = torch.rand(3, SIZE, SIZE, generator=generator) * 0.3
        number = i % 4
        corner = torch.randint(0, 32, (number, 2), generator=generator)
        extent = torch.randint(12, 32, (number, 2), generator=generator)
        boxes = torch.cat([corner, corner + extent], dim=1).float()
        masks = torch.zeros(number, SIZE, SIZE, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
            image[:, y1:y2, x1:x2] += 0.6
        labels = torch.ones(number, dtype=torch.int64)
        target = {"boxes": boxes, "labels": labels, "masks": masks, "image_id": i}
        return image.clamp(max=1), target


def collate(batch):
    return tuple(zip(*batch, strict=True))


class Tiny(nn.Module):
    """A Mask R-CNN to the outside: losses in training, detections in evaluation.

    It learns the first box and where objects are. What it detects is the frame of all
    bright pixels, right where there is one object, with a score of its weights: so AP
    lies between 0 and 1. Dropout draws from torch's generator, as a sampler would.
    """

    def __init__(self, seed=0, width=64, norm=False):
        super().__init__()
        torch.manual_seed(seed)
        layers = [nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(192, width)]
        layers += [nn.LayerNorm(width)] * norm + [nn.ReLU(), nn.Dropout(0.2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, 4 + 64)
        self.roi_heads = Heads()

    def forward(self, images, targets=None):
        values = self.head(self.body(torch.stack(images)))
        if not self.training:
            pairs = zip(images, values.sigmoid()[:, 0], strict=True)
            return [self._detected(image, score) for image, score in pairs]
        found = torch.tensor([len(t["boxes"]) > 0 for t in targets]).float()
        first = [
            t["boxes"][0] / SIZE if len(t["boxes"]) else torch.zeros(4) for t in targets
        ]
        masks = [t["masks"].float().amax(0) if len(t["masks"]) else torch.zeros(64, 64)
                 for t in targets]  # fmt: skip
        masks = nn.functional.adaptive_avg_pool2d(torch.stack(masks)[:, None], 8)
        error = (values[:, :4].sigmoid() - torch.stack(first)).abs().sum(1)
        where = nn.functional.binary_cross_entropy_with_logits(
            values[:, 4:], masks.flatten(1)
        )
        return {"loss_box": (error * found).mean(), "loss_mask": where}

    @staticmethod
    def _detected(image, score):
        bright = (image > 0.5).all(0)
        count = min(1, int(bright.sum()))
        rows, columns = (bright.any(d).nonzero()[:, 0] for d in (1, 0))
        boxes = torch.zeros(0, 4)
        if count:
            edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            boxes = torch.tensor([edges]).float()
        return {
            "boxes": boxes,
            "labels": torch.ones(count, dtype=torch.int64),
            "scores": score.expand(count),
            "masks": bright.float()[None, None].expand(count, -1, -1, -1),
        }


class Heads(nn.Module):
    """Says that there are masks."""

    def has_mask(self):
        return True


def small_model(seed=0, **options):
    torch.manual_seed(seed)
    sizes = {"min_size": SIZE, "max_size": SIZE, "channels": 16, "mask_layers": 1}
    return models.mask_rcnn_mobilenet(2, **{**sizes, **options})


def make(count=8, seed=0, real=False, optimizer=torch.optim.AdamW):
    """A model, its optimizer and schedule, and loaders for training and test."""
    model = small_model(seed) if real else Tiny(seed)
    rate = 1e-3 if real else 1e-2
    optimizer = optimizer(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=100)
    train, test = Rectangles(count), Rectangles(5, 100)
    generator = torch.Generator().manual_seed(seed)
    if distributed.world_size() > 1:
        order = {"sampler": DistributedSampler(train, shuffle=True)}
        test_order = {"sampler": DistributedSampler(test, shuffle=False)}
    else:
        order, test_order = {"shuffle": True, "generator": generator}, {}
    loader = DataLoader(train, 2, collate_fn=collate, **order)
    test_loader = DataLoader(test, 2, collate_fn=collate, **test_order)
    return model, optimizer, schedule, loader, test_loader


def run(folder, epochs, real=False, **options):
    model, optimizer, schedule, loader, test_loader = make(real=real)
    history = engine.fit(
        model,
        loader,
        epochs=epochs,
        device="cpu",
        folder=folder,
        **{
            "optimizer": optimizer,
            "schedule": schedule,
            "test_loader": test_loader,
            "clip_norm": 5.0,
            "progress": False,
            "pictures": 0,
            **options,
        },
    )
    return model, history


def fingerprint(model):
    """A hash of all weights, bit for bit."""
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def main():
    folder, epochs = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(1)
    distributed.start()
    prints = []
    if distributed.world_size() > 1:
        # After each optimizer step all ranks must hold the same weights.
        step = torch.optim.AdamW.step

        def watched(self, *arguments, **options):
            result = step(self, *arguments, **options)
            weights = [p for g in self.param_groups for p in g["params"]]
            total = hashlib.sha256(
                b"".join(p.detach().numpy().tobytes() for p in weights)
            )
            prints.append(total.hexdigest())
            return result

        torch.optim.AdamW.step = watched
    model, history = run(folder, epochs)
    result = {
        "weights": fingerprint(model),
        "history": history,
        "steps": prints,
        "evaluated": engine.evaluate(model, make()[4], "cpu", progress=False)["bbox"][
            "AP"
        ],
    }
    torch.save(result, Path(folder) / f"result_{distributed.rank()}.pt")
    distributed.stop()


if __name__ == "__main__":
    main()
