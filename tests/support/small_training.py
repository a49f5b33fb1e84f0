"""A training small enough for tests: rectangles to find, a Mask R-CNN of 64 pixels.

python tests/support/small_training.py FOLDER EPOCHS    (also under torchrun)
"""

import hashlib
import sys
from pathlib import Path

import torch
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


def small_model(seed=0, **options):
    torch.manual_seed(seed)
    sizes = {"min_size": SIZE, "max_size": SIZE, "channels": 16, "mask_layers": 1}
    return models.mask_rcnn_mobilenet(2, **{**sizes, **options})


def make(count=8, seed=0):
    """A model, its optimizer and schedule, and loaders for training and test."""
    model = small_model(seed)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=100)
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


def run(folder, epochs, **options):
    model, optimizer, schedule, loader, test_loader = make()
    history = engine.fit(
        model,
        loader,
        optimizer=optimizer,
        schedule=schedule,
        epochs=epochs,
        device="cpu",
        folder=folder,
        **{
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
