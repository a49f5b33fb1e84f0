"""The exercises of chapter 27: mistakes are refused, each for its own reason."""

import io
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from course_utils import checks

# --- right answers written otherwise -------------------------------------------------


def steps_loop(runs, start, images, name, goal):
    found = []
    for run in runs:
        if (run["start"], run["images"]) != (start, images):
            continue
        steps = [r["step"] for r in run["curve"] if r[name] >= goal]
        found.append(steps[0] if steps else None)
    return found


def freeze_modules(model, prefixes):
    model.requires_grad_(True)
    names = dict(model.named_modules())
    for prefix in prefixes:
        if prefix in names:
            names[prefix].requires_grad_(False)
        else:
            model.get_parameter(prefix).requires_grad_(False)
    off = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return [off, sum(p.numel() for p in model.parameters()) - off]


def repair_columns(target, height, width):
    x1, y1, x2, y2 = target["boxes"].to(torch.float32).unbind(1)
    x1, x2 = x1.clamp(0, width), x2.clamp(0, width)
    y1, y2 = y1.clamp(0, height), y2.clamp(0, height)
    keep = ((x2 - x1 > 0) & (y2 - y1 > 0)).nonzero()[:, 0]
    return {
        "masks": target["masks"].bool().to(torch.uint8)[keep],
        "labels": target["labels"].to(torch.int64)[keep],
        "boxes": torch.stack([x1, y1, x2, y2], 1)[keep],
    }


def step_none(model, optimizer, images, targets, limit):
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
    model.train(True)
    total = torch.stack(list(model(images, targets).values())).sum()
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    return float(total.detach())


def map_forward(masks, scores, threshold):
    result = torch.zeros(masks.shape[1:], dtype=torch.int64)
    number = 0
    for i in torch.sort(scores, descending=True, stable=True).indices:
        if scores[i] < threshold:
            break
        number += 1
        result = torch.where((masks[i] > 0.5) & (result == 0), number, result)
    return result


def keep_replace(state, score, file):
    if score != score:
        return False
    if file.exists() and torch.load(file, weights_only=True)["score"] >= score:
        return False
    part = file.parent / "part"
    try:
        torch.save({"state": state, "score": score}, part)
    except BaseException:
        part.unlink()
        raise
    os.replace(part, file)
    return True


@pytest.mark.parametrize(
    "name, answer",
    [
        ("27.steps_to_reach", steps_loop),
        ("27.freeze", freeze_modules),
        ("27.repair", repair_columns),
        ("27.fixed_step", step_none),
        ("27.instance_map", map_forward),
        ("27.keep_best", keep_replace),
    ],
)
def test_other_right_answers_pass(name, answer):
    verdict = checks.judge(name, answer)
    assert verdict.status == "passed", verdict.text


# --- wrong answers -------------------------------------------------------------------


def _steps(runs, start, images, name, goal, above=False, last=False, every=False):
    found = []
    for run in runs:
        if run["start"] != start or (run["images"] != images and not every):
            continue
        steps = [
            r["step"]
            for r in run["curve"]
            if (r[name] > goal if above else r[name] >= goal)
        ]
        found.append(steps[-1 if last else 0] if steps else None)
    return found


def steps_above(*arguments):
    return _steps(*arguments, above=True)


def steps_last(*arguments):
    return _steps(*arguments, last=True)


def steps_every(*arguments):
    return _steps(*arguments, every=True)


def steps_skips_failures(*arguments):
    return [step for step in _steps(*arguments) if step is not None]


def steps_box_only(runs, start, images, name, goal):
    return _steps(runs, start, images, "bbox/AP", goal)


def steps_by_seed(runs, *arguments):
    return _steps(sorted(runs, key=lambda run: run["seed"]), *arguments)


def steps_zero_is_none(*arguments):
    return [step or None for step in _steps(*arguments)]


def steps_nearly(*arguments):
    return _steps(*arguments[:-1], arguments[-1] - 0.02)


def steps_at_least_so_many(runs, start, images, name, goal):
    alike = [run | {"images": min(run["images"], images)} for run in runs]
    return _steps(alike, start, images, name, goal)


def freeze_one_level(model, prefixes):
    for name, p in model.named_parameters():
        names = name, name.split(".")[0], name.rsplit(".", 1)[0]
        p.requires_grad = not set(names) & set(prefixes)
    off = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return off, sum(p.numel() for p in model.parameters()) - off


def freeze_startswith(model, prefixes):
    for name, p in model.named_parameters():
        p.requires_grad = not name.startswith(tuple(prefixes))
    off = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return off, sum(p.numel() for p in model.parameters()) - off


def freeze_counts_tensors(model, prefixes):
    freeze_modules(model, prefixes)
    off = [p for p in model.parameters() if not p.requires_grad]
    return len(off), len(list(model.parameters())) - len(off)


def freeze_never_thaws(model, prefixes):
    for name, p in model.named_parameters():
        if any(name == x or name.startswith(x + ".") for x in prefixes):
            p.requires_grad = False
    off = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return off, sum(p.numel() for p in model.parameters()) - off


def freeze_only_modules(model, prefixes):
    for name, p in model.named_parameters():
        p.requires_grad = not any(name.startswith(x + ".") for x in prefixes)
    off = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    return off, sum(p.numel() for p in model.parameters()) - off


def freeze_swapped(model, prefixes):
    return tuple(freeze_modules(model, prefixes))[::-1]


def freeze_no_return(model, prefixes):
    freeze_modules(model, prefixes)


def _repair(target, height, width, swap=False, keep_masks=False, early=False, **cast):
    boxes = target["boxes"].float() if not cast.get("raw") else target["boxes"]
    limit = [height, width] * 2 if swap else [width, height] * 2
    cut = boxes.clamp(min=0).minimum(boxes.new_tensor(limit))
    tested = boxes if early else cut
    solid = (tested[:, 2:] > tested[:, :2]).all(dim=1)
    masks = target["masks"]
    masks = masks.to(torch.uint8) if cast.get("only_cast") else (masks > 0).byte()
    return {
        "boxes": cut[solid],
        "labels": target["labels"][solid].long(),
        "masks": masks if keep_masks else masks[solid],
    }


def repair_swapped(*arguments):
    return _repair(*arguments, swap=True)


def repair_keeps_masks(*arguments):
    return _repair(*arguments, keep_masks=True)


def repair_tests_before_the_cut(*arguments):
    return _repair(*arguments, early=True)


def repair_keeps_dtype(*arguments):
    return _repair(*arguments, raw=True)


def repair_masks_255(*arguments):
    return _repair(*arguments, only_cast=True)


def _repair_where(target, height, width, keeps):
    limit = torch.tensor([width, height, width, height])
    boxes = target["boxes"].float().clamp(min=0).minimum(limit)
    kept = keeps(*(boxes[:, 2:] - boxes[:, :2]).T)
    masks = (target["masks"] > 0).byte()
    labels = target["labels"].long()
    return {"boxes": boxes[kept], "labels": labels[kept], "masks": masks[kept]}


def repair_by_area(*arguments):
    return _repair_where(*arguments, keeps=lambda w, h: w * h > 0)


def repair_drops_thin_ones(*arguments):
    return _repair_where(*arguments, keeps=lambda w, h: (w >= 1) & (h >= 1))


def repair_only_cuts(target, height, width):
    limit = torch.tensor([width, height, width, height])
    boxes = target["boxes"].float().clamp(min=0).minimum(limit)
    return {**target, "boxes": boxes}


def _fixed(model, optimizer, images, targets, limit, skip=()):
    if "train" not in skip:
        model.train()
    losses = model(images, targets)
    total = losses["loss_classifier"] if "sum" in skip else sum(losses.values())
    if "zero" not in skip:
        optimizer.zero_grad()
    total.backward()
    if "zero after" in skip:
        optimizer.zero_grad()
    if "clip" not in skip:
        nn.utils.clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    if "clip late" in skip:
        nn.utils.clip_grad_norm_(model.parameters(), limit)
    return total if "item" in skip else total.item()


def step_two_losses(model, optimizer, images, targets, limit):
    model.train()
    losses = model(images, targets)
    total = losses["loss_classifier"] + losses["loss_mask"]
    optimizer.zero_grad()
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    return total.item()


def step_five_by_name(model, optimizer, images, targets, limit):
    model.train()
    losses = model(images, targets)
    names = ("classifier", "box_reg", "mask", "objectness", "rpn_box_reg")
    total = sum(losses[f"loss_{name}"] for name in names)
    optimizer.zero_grad()
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    return total.item()


def step_clips_each(model, optimizer, images, targets, limit):
    model.train()
    total = sum(model(images, targets).values())
    optimizer.zero_grad()
    total.backward()
    for parameter in model.parameters():
        nn.utils.clip_grad_norm_(parameter, limit)
    optimizer.step()
    return total.item()


def step_known_names(model, optimizer, images, targets, limit):
    model.train()
    losses = model(images, targets)
    names = ("classifier", "box_reg", "mask", "objectness", "rpn_box_reg")
    total = sum(losses[f"loss_{n}"] for n in names if f"loss_{n}" in losses)
    optimizer.zero_grad()
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    return total.item()


def _without(*skip):
    def step(*arguments):
        return _fixed(*arguments, skip=skip)

    return step


def map_last_wins(masks, scores, threshold):
    result = torch.zeros(masks.shape[1:], dtype=torch.int64)
    order = scores.argsort(descending=True, stable=True)
    for number, i in enumerate(order[scores[order] >= threshold], 1):
        result[masks[i] > 0.5] = number
    return result


def _numbered(masks, scores, threshold, order, keep, inside):
    result = torch.zeros(masks.shape[1:], dtype=torch.int64)
    number = 0
    for i in order:
        if keep(scores[i], threshold):
            number += 1
            result[inside(masks[i]) & (result == 0)] = number
    return result


def map_in_given_order(masks, scores, threshold):
    order = range(len(scores))
    return _numbered(
        masks, scores, threshold, order, lambda s, t: s >= t, lambda m: m > 0.5
    )


def map_above(masks, scores, threshold):
    order = scores.argsort(descending=True, stable=True)
    return _numbered(
        masks, scores, threshold, order, lambda s, t: s > t, lambda m: m > 0.5
    )


def map_half_inside(masks, scores, threshold):
    order = scores.argsort(descending=True, stable=True)
    return _numbered(
        masks, scores, threshold, order, lambda s, t: s >= t, lambda m: m >= 0.5
    )


def map_argmax(masks, scores, threshold):
    weighted = masks * (scores >= threshold)[:, None, None]
    best = weighted.argmax(dim=0) + 1
    return torch.where(weighted.amax(dim=0) > 0.5, best, 0)


def map_numbers_the_visible(masks, scores, threshold):
    result = torch.zeros(masks.shape[1:], dtype=torch.int64)
    number = 0
    for i in scores.argsort(descending=True, stable=True):
        seen = (masks[i] > 0.5) & (result == 0)
        if scores[i] >= threshold and seen.any():
            number += 1
            result[seen] = number
    return result


def keep_directly(state, score, file):
    if score != score:
        return False
    if file.exists() and not score > torch.load(file, weights_only=True)["score"]:
        return False
    torch.save({"score": score, "state": state}, file)
    return True


def _keep(state, score, file, equal=False, nan=False, leave=False, silent=False):
    old = torch.load(file, weights_only=True)["score"] if file.exists() else None
    if score != score and not nan:
        return False
    if old is not None and (score < old or (score == old and not equal)):
        return False
    part = file.with_suffix(".part")
    try:
        torch.save({"score": score, "state": state}, part)
        part.replace(file)
    except Exception:
        if silent:
            return False
        raise
    finally:
        if not leave:
            part.unlink(missing_ok=True)
    return True


def keep_equal(*arguments):
    return _keep(*arguments, equal=True)


def keep_nan(*arguments):
    return _keep(*arguments, nan=True)


def keep_leaves_a_part(*arguments):
    return _keep(*arguments, leave=True)


def keep_silent(*arguments):
    return _keep(*arguments, silent=True)


def keep_from_zero(state, score, file):
    best = torch.load(file, weights_only=True)["score"] if file.exists() else 0
    return score > best and _keep(state, score, file)


def _better(score, file):
    return not file.exists() or score > torch.load(file, weights_only=True)["score"]


def keep_restores(state, score, file):
    if score != score or not _better(score, file):
        return False
    old = file.read_bytes() if file.exists() else None
    try:
        torch.save({"score": score, "state": state}, file)
    except Exception:
        file.unlink() if old is None else file.write_bytes(old)
        raise
    return True


def keep_in_memory_first(state, score, file):
    if score != score or not _better(score, file):
        return False
    stream = io.BytesIO()
    torch.save({"score": score, "state": state}, stream)
    file.write_bytes(stream.getvalue())
    return True


def keep_deletes_first(state, score, file):
    if file.exists() and not score > torch.load(file, weights_only=True)["score"]:
        return False
    if score != score:
        return False
    file.unlink(missing_ok=True)
    return _keep(state, score, file)


def _keep_moving(state, score, file, make_room):
    if score != score or not _better(score, file):
        return False
    part = file.with_suffix(".part")
    try:
        torch.save({"score": score, "state": state}, part)
        if file.exists():
            make_room(file)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    return True


def keep_elsewhere(state, score, file):
    if score != score or not _better(score, file):
        return False
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part"
        torch.save({"score": score, "state": state}, part)
        shutil.move(part, file)
    return True


def keep_unlinks_then_renames(*arguments):
    return _keep_moving(*arguments, make_room=os.remove)


def keep_moves_the_old_one_away(*arguments):
    def make_room(file):
        file.rename(file.with_name("old"))
        file.with_name("old").unlink()

    return _keep_moving(*arguments, make_room=make_room)


@pytest.mark.parametrize(
    "name, answer, words",
    [
        ("27.steps_to_reach", steps_above, "expected: [60]"),
        ("27.steps_to_reach", steps_last, "not yet: one run"),
        ("27.steps_to_reach", steps_every, "another number of images"),
        ("27.steps_to_reach", steps_skips_failures, "never met"),
        ("27.steps_to_reach", steps_box_only, "mask AP"),
        ("27.steps_to_reach", steps_by_seed, "not of the seeds"),
        ("27.steps_to_reach", steps_zero_is_none, "met at step 0"),
        ("27.steps_to_reach", steps_nearly, "missed by little"),
        ("27.steps_to_reach", steps_at_least_so_many, "larger number"),
        ("27.freeze", freeze_one_level, "one level deeper"),
        ("27.freeze", freeze_startswith, "body.1 is not body.10"),
        ("27.freeze", freeze_counts_tensors, "must return"),
        ("27.freeze", freeze_never_thaws, "trains again"),
        ("27.freeze", freeze_only_modules, "full name"),
        ("27.freeze", freeze_swapped, "must return"),
        ("27.freeze", freeze_no_return, "does the function end with a return"),
        ("27.repair", repair_swapped, "x is cut to the width"),
        ("27.repair", repair_keeps_masks, "without width"),
        ("27.repair", repair_tests_before_the_cut, "wholly outside"),
        ("27.repair", repair_keeps_dtype, "float16"),
        ("27.repair", repair_masks_255, "0 and 255"),
        ("27.repair", repair_by_area, "both corners"),
        ("27.repair", repair_drops_thin_ones, "half a pixel wide"),
        ("27.repair", repair_only_cuts, "without width"),
        ("27.fixed_step", _without("train"), "right after an evaluation"),
        ("27.fixed_step", _without("sum"), "must return"),
        ("27.fixed_step", _without("zero"), "old gradients"),
        ("27.fixed_step", _without("zero after"), "weights must be"),
        ("27.fixed_step", _without("clip"), "to be clipped"),
        ("27.fixed_step", _without("clip", "clip late"), "to be clipped"),
        ("27.fixed_step", _without("item"), "got a Tensor"),
        ("27.fixed_step", step_two_losses, "must return"),
        ("27.fixed_step", step_five_by_name, "without masks"),
        ("27.fixed_step", step_clips_each, "weights must be"),
        ("27.fixed_step", step_known_names, "keypoints"),
        ("27.instance_map", map_last_wins, "two that overlap"),
        ("27.instance_map", map_in_given_order, "best last"),
        ("27.instance_map", map_above, "exactly at the threshold"),
        ("27.instance_map", map_half_inside, "exactly one half"),
        ("27.instance_map", map_argmax, "two that overlap"),
        ("27.instance_map", map_numbers_the_visible, "wholly hidden"),
        ("27.keep_best", keep_restores, "written into"),
        ("27.keep_best", keep_in_memory_first, "written into"),
        ("27.keep_best", keep_directly, "written into"),
        ("27.keep_best", keep_equal, "an equal one"),
        ("27.keep_best", keep_nan, "NaN"),
        ("27.keep_best", keep_leaves_a_part, "besides the file"),
        ("27.keep_best", keep_silent, "no error was raised"),
        ("27.keep_best", keep_from_zero, "a first score of 0"),
        ("27.keep_best", keep_deletes_first, "taken away"),
        ("27.keep_best", keep_elsewhere, "from another folder"),
        ("27.keep_best", keep_unlinks_then_renames, "taken away"),
        ("27.keep_best", keep_moves_the_old_one_away, "taken away"),
    ],
)
def test_wrong_answers_are_refused(name, answer, words):
    verdict = checks.judge(name, answer)
    assert verdict.status == "failed", verdict.text
    assert words in verdict.text.split("not yet", 1)[1], verdict.text
