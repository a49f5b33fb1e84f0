"""Train a detector of torchvision, evaluate it, and survive being interrupted.

:func:`train_one_epoch` and :func:`evaluate` are the two halves; :func:`fit` builds a
whole training of them, with checkpoints, a log for TensorBoard, and resuming. Under
``torchrun`` all three work in several processes (see
:mod:`course_utils.training.distributed`).

Loaders yield ``(images, targets)``: images (3, H, W), uint8 or float from 0 to 1, and
dictionaries with ``boxes`` (N, 4), xyxy in pixels, half-open, ``labels`` (N,) from 1,
``masks`` (N, H, W) where the model has a mask head, and ``image_id``.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks
from tqdm import tqdm

from course_utils.detection.metrics import DetectionEvaluator
from course_utils.detection.targets import check_targets
from course_utils.training import checkpoints, distributed

__all__ = ["NonFiniteLoss", "evaluate", "fit", "train_one_epoch"]

Log = Callable[[str, float, int], None]  # name, value, step


class NonFiniteLoss(FloatingPointError):
    """A loss is NaN or infinite; the message names the losses and the images."""


def train_one_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Iterable,
    device: torch.device | str,
    *,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    scaler: torch.amp.GradScaler | None = None,
    clip_norm: float | None = None,
    first_step: int = 0,
    log: Log | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Train on each batch once.

    Args:
        model: returns a dictionary of losses for ``model(images, targets)``.
        optimizer: steps once a batch; so does ``schedule``, if given.
        loader: batches as the module's head says.
        device: where the model is.
        scaler: for mixed precision on an accelerator. Default: full precision.
        clip_norm: the largest norm of all gradients together. Default: any.
        first_step: number of this epoch's first step, for ``log``.
        log: is told each loss and the learning rate, with the step's number.
        progress: show a bar (by the first process).

    Returns:
        The mean over the steps of each loss, and of their sum as ``"loss"``; those of
        this process.

    Raises:
        NonFiniteLoss: before the optimizer steps; the weights are still good.
        ValueError, TypeError: a bad target; the message names its image.
    """
    model.train()
    device = torch.device(device)
    sums, steps = {}, 0
    bar = _bar(loader, "train", progress)
    for images, targets in bar:
        check_targets(images, targets)
        images = [_as_float(image, device) for image in images]
        moved = [_to(target, device) for target in targets]
        with torch.autocast(device.type, enabled=scaler is not None):
            losses = model(images, moved)
            loss = sum(losses.values())
        values = {k: float(v.detach()) for k, v in losses.items()}
        values["loss"] = float(loss.detach())
        if not all(map(math.isfinite, values.values())):
            raise NonFiniteLoss(_describe(values, targets, first_step + steps))
        _step(model, optimizer, loss, scaler, clip_norm)
        if log:
            for name, value in values.items():
                log(f"train/{name}", value, first_step + steps)
            rate = optimizer.param_groups[0]["lr"]
            log("train/learning_rate", rate, first_step + steps)
        if schedule is not None:
            schedule.step()
        sums = {k: sums.get(k, 0.0) + v for k, v in values.items()}
        steps += 1
        bar.set_postfix(loss=f"{values['loss']:.3f}")
    if not steps:
        raise ValueError("the loader gave no batch")
    return {name: total / steps for name, total in sums.items()}


def _step(model, optimizer, loss, scaler, clip_norm) -> None:
    """Backpropagate and take one step, scaled and clipped as asked."""
    optimizer.zero_grad()
    (scaler.scale(loss) if scaler else loss).backward()
    if clip_norm is not None:
        if scaler:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    if scaler:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    loader: Iterable,
    device: torch.device | str,
    *,
    iou_types: Sequence[str] = ("bbox", "segm"),
    progress: bool = True,
) -> dict[str, dict]:
    """Score the model on a data set, by the numbers of COCO.

    With several processes each brings what its own loader gives; an image that comes
    to more than one of them, as a ``DistributedSampler`` does to fill up, counts once.

    Args:
        model: returns a list of dictionaries for ``model(images)`` in evaluation mode;
            its mode is restored afterwards.
        loader: batches as the module's head says; ``image_id`` must differ.
        device: where the model is.
        iou_types: ``"bbox"``, ``"segm"`` or both.
        progress: show a bar (by the first process).

    Returns:
        For each of ``iou_types`` what :meth:`DetectionEvaluator.compute` returns; the
        same in every process.

    Raises:
        ValueError: two images of one process have the same ``image_id``, or images
            of the data set never came.
    """
    mode = model.training
    model.eval()
    found = {}  # image id: an evaluator of that image for each type
    bar = _bar(loader, "evaluate", progress)
    try:
        for images, targets in bar:
            images = [_as_float(image, torch.device(device)) for image in images]
            for output, target in zip(model(images), targets, strict=True):
                image_id = int(target["image_id"])
                if image_id in found and distributed.world_size() == 1:
                    raise ValueError(f"two images have the image_id {image_id}")
                found[image_id] = _score(output, target, iou_types)
    finally:
        model.train(mode)
    everywhere = {}
    for part in distributed.gather(found):
        everywhere |= part
    expected = len(getattr(loader, "dataset", everywhere))
    if len(everywhere) != expected:
        raise ValueError(
            f"the data set has {expected} images, but {len(everywhere)} different "
            "image_ids came"
        )
    results = {}
    for iou_type in iou_types:
        whole = DetectionEvaluator(iou_type)
        for image_id in sorted(everywhere):
            whole.merge(everywhere[image_id][iou_type])
        results[iou_type] = whole.compute()
    return results


def _score(output: dict, target: dict, iou_types: Sequence[str]) -> dict:
    """Evaluators that hold one image; masks are thresholded and forgotten here."""
    prediction = {k: v.cpu() for k, v in output.items()}
    if "masks" in prediction:
        prediction["masks"] = prediction["masks"] > 0.5
    target = _to(target, torch.device("cpu"))
    evaluators = {}
    for iou_type in iou_types:
        evaluators[iou_type] = DetectionEvaluator(iou_type)
        evaluators[iou_type].update([prediction], [target])
    return evaluators


def fit(
    model: nn.Module,
    loader: DataLoader,
    *,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    device: torch.device | str,
    folder: str | Path,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    test_loader: DataLoader | None = None,
    clip_norm: float | None = None,
    mixed_precision: bool = False,
    resume: bool = True,
    pictures: int = 4,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train for some epochs; killed at any moment, the same call goes on.

    After each epoch ``folder/last.pt`` holds the state (see
    :mod:`course_utils.training.checkpoints`), so at most one epoch is lost, and a
    resumed run on a CPU ends with the weights of an uninterrupted one, bit for bit.
    Losses, learning rate, AP and predictions go to ``folder`` for TensorBoard.

    Args:
        model, optimizer, schedule, device, clip_norm, progress: as in
            :func:`train_one_epoch`. The model is on the device already.
        loader: the training batches; a sampler with ``set_epoch`` is told the epoch.
        epochs: the number of epochs in all, those before resuming included.
        folder: is made if it is not there; one run, one folder.
        test_loader: evaluated after each epoch, if given.
        mixed_precision: compute in half precision where that is safe; accelerator only.
        resume: go on from ``folder/last.pt`` if there is one. False: start anew.
        pictures: test images to log with their predictions after each epoch.

    Returns:
        A dictionary for each epoch: ``epoch``, the mean losses and, with a test loader,
        ``bbox/AP``, ``bbox/AP50``, ``segm/AP`` and so on.

    Raises:
        NonFiniteLoss, ValueError, TypeError: as in :func:`train_one_epoch`.
        checkpoints.CheckpointError: the checkpoint cannot be read, belongs to another
            model, or cannot be written; an earlier one is left as it is.
    """
    device, folder = torch.device(device), Path(folder)
    if mixed_precision and device.type == "cpu":
        raise ValueError("mixed_precision needs an accelerator, the device is the CPU")
    scaler = torch.amp.GradScaler(device.type) if mixed_precision else None
    state = checkpoints.State(model, optimizer, schedule, scaler, loader)
    file = folder / "last.pt"
    if resume and file.exists():
        state.load(file)
    if distributed.is_main():
        folder.mkdir(parents=True, exist_ok=True)
    trained = model
    if distributed.world_size() > 1:
        trained = DistributedDataParallel(
            model, device_ids=[device] if device.type == "cuda" else None
        )
    iou_types = ("bbox", "segm") if _has_masks(model) else ("bbox",)
    writer = _Writer(folder, state.step if state.epoch else 0)
    try:
        while state.epoch < epochs:
            for part in (loader.sampler, loader.batch_sampler):
                if hasattr(part, "set_epoch"):
                    part.set_epoch(state.epoch)
            record = train_one_epoch(
                trained,
                optimizer,
                loader,
                device,
                schedule=schedule,
                scaler=scaler,
                clip_norm=clip_norm,
                first_step=state.step,
                log=writer.scalar,
                progress=progress,
            )
            state.step += len(loader)
            if test_loader is not None:
                results = evaluate(
                    model, test_loader, device, iou_types=iou_types, progress=progress
                )
                record |= {
                    f"{kind}/{name}": value
                    for kind, numbers in results.items()
                    for name, value in numbers.items()
                    if isinstance(value, float)
                }
                for name, value in record.items():
                    if "/" in name:
                        writer.scalar(name, value, state.step)
                writer.pictures(model, test_loader.dataset, device, pictures, state)
            state.epoch += 1
            state.history.append({"epoch": state.epoch, **record})
            state.save(file)
    finally:
        writer.close()
    return state.history


def _bar(loader: Iterable, name: str, progress: bool) -> tqdm:
    """A bar of the first process, unless TQDM_DISABLE is set."""
    hidden = {} if progress and distributed.is_main() else {"disable": True}
    return tqdm(loader, name, **hidden)


def _as_float(image: Tensor, device: torch.device) -> Tensor:
    """The image on the device, a plain float tensor from 0 to 1."""
    image = image.as_subclass(Tensor).to(device)
    return image / 255 if image.dtype == torch.uint8 else image.float()


def _to(target: dict, device: torch.device) -> dict:
    """The target's tensors on the device, as plain tensors, boxes as float32."""
    moved = {
        name: value.as_subclass(Tensor).to(device)
        if isinstance(value, Tensor)
        else value
        for name, value in target.items()
    }
    return moved | {"boxes": moved["boxes"].float()}


def _has_masks(model: nn.Module) -> bool:
    heads = getattr(model, "roi_heads", None)
    return bool(heads is not None and heads.has_mask())


def _describe(values: dict[str, float], targets: Sequence[dict], step: int) -> str:
    bad = [f"{k} = {v}" for k, v in values.items() if not math.isfinite(v)]
    ids = [int(t["image_id"]) if "image_id" in t else "?" for t in targets]
    return f"step {step}, images with image_id {ids}: {', '.join(bad)}"


class _Writer:
    """What goes to TensorBoard, by the first process; the others write nothing."""

    def __init__(self, folder: Path, step: int) -> None:
        # What a killed run wrote after its last checkpoint is dropped by the reader.
        self.writer = None
        if distributed.is_main():
            from tensorboardX import SummaryWriter  # its import sets a variable

            self.writer = SummaryWriter(str(folder), purge_step=step or None)

    def scalar(self, name: str, value: float, step: int) -> None:
        if self.writer:
            self.writer.add_scalar(name, value, step)

    @torch.inference_mode()
    def pictures(self, model, dataset, device, count: int, state) -> None:
        """The first images of a data set, with the predictions above 0.5."""
        if not self.writer:
            return
        mode = model.training
        model.eval()
        for i in range(min(count, len(dataset))):
            image = _as_float(dataset[i][0], device)
            output = model([image])[0]
            keep = output["scores"] > 0.5
            drawn = (image * 255).to(torch.uint8)
            if keep.any() and "masks" in output:
                masks = output["masks"][keep, 0] > 0.5
                drawn = draw_segmentation_masks(drawn, masks, alpha=0.5)
            if keep.any():
                names = [f"{score:.2f}" for score in output["scores"][keep]]
                drawn = draw_bounding_boxes(drawn, output["boxes"][keep], names)
            self.writer.add_image(f"test/{i}", drawn.cpu().numpy(), state.step)
        model.train(mode)

    def close(self) -> None:
        if self.writer:
            self.writer.close()
