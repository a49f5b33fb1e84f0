"""Train a detector of torchvision, evaluate it, and survive being interrupted.

:func:`train_one_epoch` and :func:`evaluate` are the two halves; :func:`fit` builds a
whole training of them, with checkpoints, a log for TensorBoard, and resuming. Under
``torchrun`` all three work in several processes (see
:mod:`course_utils.training.distributed`).

Loaders yield ``(images, targets)``: images (3, H, W), uint8 or float from 0 to 1, and
dictionaries with ``boxes`` (N, 4), xyxy in pixels, half-open, ``labels`` (N,) from 1,
``masks`` (N, H, W) where the model has a mask head, and ``image_id``, an integer or a
string. Boxes that say of themselves that they are something else than xyxy, as those of
``tv_tensors`` can, are refused.
"""

import math
import operator
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, IterableDataset
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
        scaler: for mixed precision. Default: full precision. A step that it skips,
            because a gradient is too large for half precision, ``schedule`` skips too.
        clip_norm: the largest norm of all gradients together. Default: any.
        first_step: number of this epoch's first step, for ``log``.
        log: is told each loss and the learning rate, with the step's number.
        progress: show a bar (by the first process).

    Returns:
        The mean over the steps of each loss, and of their sum as ``"loss"``; those of
        this process.

    Raises:
        NonFiniteLoss: before the optimizer steps; the weights are still good.
        ValueError, TypeError: a bad target, such as a label that the model has no class
            for; the message names its image. Or ``schedule`` is a
            ``ReduceLROnPlateau``, which steps once an epoch, and not here.

        With several processes an error of one is raised by all.
    """
    if isinstance(schedule, ReduceLROnPlateau):
        raise TypeError(
            "ReduceLROnPlateau steps after an epoch, train_one_epoch after each batch: "
            "give it to fit, or step it yourself"
        )
    model.train()
    device = torch.device(device)
    num_classes = _num_classes(model)
    sums, steps = {}, 0
    bar = _bar(loader, "train", progress)
    batches = iter(bar)
    while (batch := _next_batch(batches, num_classes)) is not None:
        images, targets = batch
        images = [_as_float(image, device) for image in images]
        moved = [_to(target, device) for target in targets]
        with distributed.together():
            with torch.autocast(device.type, enabled=scaler is not None):
                losses = model(images, moved)
                loss = sum(losses.values())
            values = {k: float(v.detach()) for k, v in losses.items()}
            values["loss"] = float(loss.detach())
            if not all(map(math.isfinite, values.values())):
                raise NonFiniteLoss(_describe(values, targets, first_step + steps))
        stepped = _step(model, optimizer, loss, scaler, clip_norm)
        if log:
            for name, value in values.items():
                log(f"train/{name}", value, first_step + steps)
            rate = optimizer.param_groups[0]["lr"]
            log("train/learning_rate", rate, first_step + steps)
        if schedule is not None and stepped:
            schedule.step()
        sums = {k: sums.get(k, 0.0) + v for k, v in values.items()}
        steps += 1
        bar.set_postfix(loss=f"{values['loss']:.3f}")
    if not steps:
        raise ValueError("the loader gave no batch")
    return {name: total / steps for name, total in sums.items()}


def _next_batch(batches: Iterator, num_classes: int | None) -> tuple | None:
    """The next batch, checked; None at the end, to which all processes must come."""
    with distributed.together():
        batch = next(batches, None)
        if batch is not None:
            images, targets = batch
            for target in targets:
                _check_format(target)
            check_targets(images, targets, num_classes)
    ended = distributed.gather(batch is None)
    if any(ended) and not all(ended):
        raise ValueError(
            "the loaders of the processes give different numbers of batches: "
            f"those of processes {[r for r, e in enumerate(ended) if e]} ended first"
        )
    return batch


def _step(model, optimizer, loss, scaler, clip_norm) -> bool:
    """Backpropagate and take one step, scaled and clipped as asked.

    Returns:
        Whether the optimizer stepped; a scaler skips where a gradient is not finite.
    """
    optimizer.zero_grad()
    (scaler.scale(loss) if scaler else loss).backward()
    if clip_norm is not None:
        if scaler:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    if not scaler:
        optimizer.step()
        return True
    scaler.step(optimizer)
    scale = scaler.get_scale()
    scaler.update()
    return scaler.get_scale() >= scale  # it falls after a skipped step, and only then


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
        loader: batches as the module's head says; ``image_id``, an integer or a
            string, must differ. Whether all images came is known only where the data
            set has a length.
        device: where the model is.
        iou_types: ``"bbox"``, ``"segm"`` or both.
        progress: show a bar (by the first process).

    Returns:
        For each of ``iou_types`` what :meth:`DetectionEvaluator.compute` returns; the
        same in every process.

    Raises:
        ValueError: two images that came to one process have the same ``image_id`` or
            one has none, images of the data set never came, or a target or prediction
            is wrong; the message names its image.
        TypeError: the same, by a wrong type.

        With several processes an error of one is raised by all.
    """
    mode = model.training
    model.eval()
    found = {}  # image id: an evaluator of that image for each type
    bar = _bar(loader, "evaluate", progress)
    try:
        with distributed.together():
            for images, targets in bar:
                images = [_as_float(image, torch.device(device)) for image in images]
                for output, target in zip(model(images), targets, strict=True):
                    image_id = _image_id(target)
                    if image_id in found:
                        raise ValueError(f"two images have the image_id {image_id}")
                    found[image_id] = _score(output, target, iou_types)
    finally:
        model.train(mode)
    everywhere = {}
    for part in distributed.gather(found):
        everywhere |= part
    expected = _length(getattr(loader, "dataset", None))
    if expected is not None and len(everywhere) != expected:
        raise ValueError(
            f"the data set has {expected} images, but {len(everywhere)} different "
            "image_ids came"
        )
    results = {}
    for iou_type in iou_types:
        whole = DetectionEvaluator(iou_type)
        for image_id in sorted(everywhere, key=lambda i: (isinstance(i, str), i)):
            whole.merge(everywhere[image_id][iou_type])
        results[iou_type] = whole.compute()
    return results


def _score(output: dict, target: dict, iou_types: Sequence[str]) -> dict:
    """Evaluators that hold one image; masks are thresholded and forgotten here."""
    # to() keeps what a box tensor says of itself, which the evaluator checks.
    prediction = {k: v.to("cpu") for k, v in output.items()}
    if "masks" in prediction:
        prediction["masks"] = prediction["masks"] > 0.5
    target = _to(target, torch.device("cpu"))
    evaluators = {}
    for iou_type in iou_types:
        evaluators[iou_type] = DetectionEvaluator(iou_type)
        try:
            evaluators[iou_type].update([prediction], [target])
        except (TypeError, ValueError) as error:
            raise type(error)(f"image_id {_image_id(target)}: {error}") from error
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
    Losses, learning rate, AP and predictions go to ``folder`` for TensorBoard. What
    was logged there after the last checkpoint, or before starting anew, TensorBoard
    drops when it reads the folder.

    Args:
        model, optimizer, device, clip_norm, progress: as in :func:`train_one_epoch`.
            The model is on the device already.
        loader: the training batches; a sampler with ``set_epoch`` is told the epoch.
            Of an ``IterableDataset``, which only a single process may have, the
            stream must depend on nothing but torch's, NumPy's and Python's random
            states if a resumed run is to see what an uninterrupted one sees.
        epochs: the number of epochs in all, those before resuming included.
        folder: is made if it is not there; one run, one folder.
        schedule: steps after each batch; but a ``ReduceLROnPlateau`` after each epoch,
            by the mean training loss of all processes in its mode ``"min"``, by the
            test data's box AP in ``"max"``.
        test_loader: evaluated after each epoch, if given.
        mixed_precision: compute in half precision where that is safe; accelerator only.
        resume: go on from ``folder/last.pt`` if there is one. False: start anew.
        pictures: test images to log with their predictions after each epoch.

    Returns:
        A dictionary for each epoch: ``epoch``, the mean losses and, with a test loader,
        ``bbox/AP``, ``bbox/AP50``, ``segm/AP`` and so on.

    Raises:
        NonFiniteLoss, ValueError, TypeError: as in :func:`train_one_epoch`; or, before
            the first step, arguments that do not go together.
        checkpoints.CheckpointError: the folder cannot be written to, which is tried
            before the first step; the checkpoint cannot be read or belongs to another
            training; or one cannot be written, and the earlier one is left as it is.

        With several processes an error of one is raised by all.
    """
    device, folder = torch.device(device), Path(folder)
    if mixed_precision and device.type == "cpu":
        raise ValueError("mixed_precision needs an accelerator, the device is the CPU")
    by_epoch = isinstance(schedule, ReduceLROnPlateau)
    if by_epoch and schedule.mode == "max" and test_loader is None:
        raise ValueError(
            "ReduceLROnPlateau in mode 'max' goes by AP: it needs a test_loader"
        )
    if distributed.world_size() > 1 and isinstance(loader.dataset, IterableDataset):
        raise ValueError(
            "several processes cannot share an IterableDataset: each would train on "
            "all of it; give a Dataset with a DistributedSampler"
        )
    scaler = torch.amp.GradScaler(device.type) if mixed_precision else None
    state = checkpoints.State(model, optimizer, schedule, scaler, loader)
    file = folder / "last.pt"
    # The first process decides: where its folder is another one, the others say so.
    if distributed.gather(resume and file.exists())[0]:
        state.load(file)
    if state.epoch >= epochs:
        return state.history
    with distributed.together():
        if distributed.is_main():
            _make_writable(folder)
    trained = model
    if distributed.world_size() > 1:
        trained = DistributedDataParallel(
            model, device_ids=[device] if device.type == "cuda" else None
        )
    iou_types = ("bbox", "segm") if _has_masks(model) else ("bbox",)
    with distributed.together():
        writer = _Writer(folder, state.step)
    try:
        while state.epoch < epochs:
            for part in (loader.sampler, loader.batch_sampler):
                if hasattr(part, "set_epoch"):
                    part.set_epoch(state.epoch)
            batches = _Counted(loader)
            record = train_one_epoch(
                trained,
                optimizer,
                batches,
                device,
                schedule=None if by_epoch else schedule,
                scaler=scaler,
                clip_norm=clip_norm,
                first_step=state.step,
                log=writer.scalar,
                progress=progress,
            )
            state.step += batches.count
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
                # With the epoch's last step: a START at the next one keeps them.
                for name, value in record.items():
                    if "/" in name:
                        writer.scalar(name, value, state.step - 1)
                with distributed.together():
                    writer.pictures(model, test_loader.dataset, device, pictures, state)
            if by_epoch and schedule.mode == "max":
                schedule.step(record["bbox/AP"])
            elif by_epoch:
                schedule.step(fmean(distributed.gather(record["loss"])))
            state.epoch += 1
            state.history.append({"epoch": state.epoch, **record})
            state.save(file)
    finally:
        writer.close()
    return state.history


class _Counted:
    """A loader that counts the batches of one pass: not every one has a length."""

    def __init__(self, loader: Iterable) -> None:
        self.loader, self.count = loader, 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator:
        for batch in self.loader:
            self.count += 1
            yield batch


def _make_writable(folder: Path) -> None:
    """Make the folder, and try whether it takes a file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0")
            probe.flush()
    except OSError as error:
        raise checkpoints.CheckpointError(
            f"cannot write into the folder {folder}: {error}"
        ) from error


def _length(dataset: object) -> int | None:
    """The number of items; None where the data set does not know it."""
    try:
        return len(dataset)
    except TypeError:
        return None


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
    _check_format(target)
    moved = {
        name: value.as_subclass(Tensor).to(device)
        if isinstance(value, Tensor)
        else value
        for name, value in target.items()
    }
    if "boxes" in moved:
        moved["boxes"] = moved["boxes"].float()
    return moved


def _check_format(target: dict) -> None:
    """Raise if the boxes say of themselves that they are not xyxy."""
    layout = getattr(target.get("boxes"), "format", None)
    if layout is not None and layout.name != "XYXY":
        name = f"image_id {_image_id(target)}" if "image_id" in target else "a target"
        raise ValueError(
            f"{name}: boxes must be XYXY, got {layout.name}; "
            "v2.ConvertBoundingBoxFormat converts them"
        )


def _image_id(target: dict) -> int | str:
    """The image's number or name."""
    if "image_id" not in target:
        raise ValueError(f"a target has no 'image_id', only {sorted(target)}")
    value = target["image_id"]
    if isinstance(value, str):
        return value
    try:
        return operator.index(value.item() if isinstance(value, Tensor) else value)
    except (TypeError, RuntimeError):
        raise TypeError(
            f"image_id must be an integer or a string, got {value!r}"
        ) from None


def _num_classes(model: nn.Module) -> int | None:
    """Classes of torchvision's detectors, with the background; None of other models."""
    for path in (
        "roi_heads.box_predictor.cls_score.out_features",  # Faster and Mask R-CNN
        "head.classification_head.num_classes",  # RetinaNet, FCOS
        "head.classification_head.num_columns",  # SSD
    ):
        for place in (path, f"module.{path}"):  # DistributedDataParallel
            try:
                return operator.attrgetter(place)(model)
            except AttributeError:
                pass
    return None


def _has_masks(model: nn.Module) -> bool:
    heads = getattr(model, "roi_heads", None)
    return bool(heads is not None and heads.has_mask())


def _describe(values: dict[str, float], targets: Sequence[dict], step: int) -> str:
    bad = [f"{k} = {v}" for k, v in values.items() if not math.isfinite(v)]
    ids = [_image_id(t) if "image_id" in t else "?" for t in targets]
    return f"step {step}, images with image_id {ids}: {', '.join(bad)}"


class _Writer:
    """What goes to TensorBoard, by the first process; the others write nothing."""

    def __init__(self, folder: Path, step: int) -> None:
        self.writer = None
        if distributed.is_main():
            from tensorboardX import SummaryWriter  # its import sets a variable

            # Of what earlier runs wrote, the reader drops all from this step on. The
            # suffix keeps the files of two runs within one second apart.
            earlier = len(list(folder.glob("events*")))
            options = {"purge_step": step, "filename_suffix": f".{earlier:04}"}
            self.writer = SummaryWriter(str(folder), **options if earlier else {})

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
        if isinstance(dataset, IterableDataset):
            first = islice(dataset, count)
        else:
            first = (dataset[i] for i in range(min(count, len(dataset))))
        for i, (image, _) in enumerate(first):
            image = _as_float(image, device)
            output = model([image])[0]
            keep = output["scores"] > 0.5
            drawn = (image * 255).to(torch.uint8)
            if keep.any() and "masks" in output:
                masks = output["masks"][keep, 0] > 0.5
                drawn = draw_segmentation_masks(drawn, masks, alpha=0.5)
            if keep.any():
                names = [f"{score:.2f}" for score in output["scores"][keep]]
                drawn = draw_bounding_boxes(drawn, output["boxes"][keep], names)
            self.writer.add_image(f"test/{i}", drawn.cpu().numpy(), state.step - 1)
        model.train(mode)

    def close(self) -> None:
        if self.writer:
            self.writer.close()
