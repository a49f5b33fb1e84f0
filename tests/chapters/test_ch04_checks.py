"""The exercises of chapter 4: mistakes are refused, each for its own reason."""

import itertools
import math
import operator

import pytest
import torch
import torch.nn.functional as F

from course_utils import checks

# Wrong answers: a function, and the words of the case that must stop it.


def contiguous_compared(shape, strides):
    expected, step = [], 1
    for size in reversed(shape):
        expected.insert(0, step)
        step *= size
    return tuple(strides) == tuple(expected)


def contiguous_last_only(shape, strides):
    return not strides or strides[-1] == 1


def contiguous_sorted(shape, strides):
    return list(strides) == sorted(strides, reverse=True)


def contiguous_forgets_empty(shape, strides):
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def contiguous_skips_pairs(shape, strides):
    if 0 in shape or not shape:
        return True
    pairs = zip(shape, shape[1:], strides, strides[1:], strict=False)
    whole = all(1 in (n, m) or s == m * t for n, m, s, t in pairs)
    return whole and (shape[-1] == 1 or strides[-1] == 1)


def contiguous_stops_at_one(shape, strides):
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size in (0, 1):
            break
        if stride != expected:
            return False
        expected *= size
    return True


def contiguous_by_reach(shape, strides):
    if 0 in shape:
        return True
    steps = [s for n, s in zip(shape, strides, strict=True) if n > 1]
    reach = sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    return reach == math.prod(shape) - 1 and steps == sorted(steps, reverse=True)


def expand_zero_for_ones(shape, strides, target):
    kept = [0 if size == 1 else s for size, s in zip(shape, strides, strict=True)]
    return _expand(shape, kept, target, lambda size, wanted: size == 1)


def expand_to_nothing(shape, strides, target):
    return _expand(shape, strides, target, lambda size, wanted: 1 == size or not wanted)


def expand_from_nothing(shape, strides, target):
    return _expand(shape, strides, target, lambda size, wanted: size <= 1)


def _expand(shape, strides, target, fits):
    new = len(target) - len(shape)
    if new < 0:
        raise ValueError("no")
    result = [0] * new
    for size, stride, wanted in zip(shape, strides, target[new:], strict=True):
        if size != wanted and not fits(size, wanted):
            raise ValueError("no")
        result.append(stride if size == wanted else 0)
    return tuple(result)


def expand_left_aligned(shape, strides, target):
    return tuple(
        strides[i] if i < len(shape) and shape[i] == size else 0
        for i, size in enumerate(target)
    )


def expand_never_raises(shape, strides, target):
    new = len(target) - len(shape)
    return (0,) * new + tuple(
        stride if size == wanted else 0
        for size, stride, wanted in zip(shape, strides, target[new:], strict=False)
    )


def expand_multiples(shape, strides, target):
    new = len(target) - len(shape)
    if new < 0 or any(t % s for s, t in zip(shape, target[new:], strict=True)):
        raise ValueError("no")
    kept = zip(shape, strides, target[new:], strict=True)
    return (0,) * new + tuple(st if s == t else 0 for s, st, t in kept)


def expand_like_broadcasting(shape, strides, target):
    new = len(target) - len(shape)
    if new < 0:
        raise ValueError("no")
    pairs = list(zip(shape, strides, target[new:], strict=True))
    if any(size != wanted and 1 not in (size, wanted) for size, _, wanted in pairs):
        raise ValueError("no")
    return (0,) * new + tuple(st if s == t else 0 for s, st, t in pairs)


def expand_recomputed(shape, strides, target):
    torch.empty(shape).expand(target) if len(target) >= len(shape) else 1 / 0
    return tuple(torch.empty(shape).expand(target).stride())


def wide_reshape(images):
    count, channels, height, width = images.shape
    return images.reshape(channels, height, count * width)


def wide_interleaved(images):
    count, channels, height, width = images.shape
    return images.permute(1, 2, 3, 0).reshape(channels, height, count * width)


def wide_below(images):
    return torch.cat(list(images), dim=1)


def wide_cat(images):
    return torch.cat(list(images), dim=2)


def wide_three_channels(images):
    if len(images) == 0:
        return torch.zeros(3, images.shape[2], 0)
    return torch.cat(list(images), dim=2)


def wide_last_first(images):
    count, channels, height, width = images.shape
    turned = images.flip(0).permute(1, 2, 0, 3)
    return turned.reshape(channels, height, count * width)


def wide_view(images):
    count, channels, height, width = images.shape
    if count == 1:
        return images[0]
    return images.transpose(0, 1).reshape(channels, height, count * width)


def class_block(boxes, labels):
    return boxes[:, labels]


def class_squeezed(boxes, labels):
    return boxes.gather(1, labels.view(-1, 1, 1).expand(-1, 1, 4)).squeeze()


def class_float(boxes, labels):
    rows = [boxes[i, k].tolist() for i, k in enumerate(labels)]
    return torch.tensor(rows).reshape(-1, 4).float()


def class_first(boxes, labels):
    return boxes[labels, torch.arange(len(labels)) % boxes.shape[1]]


def class_rows(boxes, labels):
    return boxes.reshape(-1, 4)[labels]


def class_stacked(boxes, labels):
    return torch.stack([boxes[i, k] for i, k in enumerate(labels)])


def class_gather_short(boxes, labels):
    return boxes.gather(1, labels[:, None, None])[:, 0]


def class_view(boxes, labels):
    flat = boxes.view(-1, 4)
    return flat[torch.arange(len(labels)) * boxes.shape[1] + labels]


def patches_reshape(image, size):
    channels, height, width = image.shape
    if height % size or width % size:
        raise ValueError("no")
    return image.reshape(-1, channels, size, size)


def patches_transposed(image, size):
    channels, height, width = image.shape
    if height % size or width % size:
        raise ValueError("no")
    cut = image.reshape(channels, height // size, size, width // size, size)
    return cut.permute(1, 3, 0, 4, 2).reshape(-1, channels, size, size)


def patches_even(image, size):
    channels, height, width = image.shape
    if height % 2 or width % 2:
        raise ValueError("no")
    cut = image.reshape(channels, height // size, size, width // size, size)
    return cut.permute(1, 3, 0, 2, 4).reshape(-1, channels, size, size)


def patches_columns_first(image, size):
    channels, height, width = image.shape
    if height % size or width % size:
        raise ValueError("no")
    cut = image.unfold(1, size, size).unfold(2, size, size)
    return cut.permute(2, 1, 0, 3, 4).reshape(-1, channels, size, size)


def patches_dropped(image, size):
    cut = image.unfold(1, size, size).unfold(2, size, size)
    return cut.permute(1, 2, 0, 3, 4).flatten(0, 1)


def patches_mixed(image, size):
    channels, height, width = image.shape
    if height % size or width % size:
        raise ValueError("no")
    cut = image.unfold(1, size, size).unfold(2, size, size)
    return cut.reshape(-1, channels, size, size)


def patches_area(image, size):
    channels, height, width = image.shape
    if height * width % size**2:
        raise ValueError("no")
    cut = image.unfold(1, size, size).unfold(2, size, size)
    return cut.permute(1, 2, 0, 3, 4).flatten(0, 1)


def merge_sum(windows, step):
    count, size = windows.shape
    out = windows.new_zeros(max((count - 1) * step + size, 0))
    for i in range(count):
        out[i * step : i * step + size] += windows[i]
    return out


def merge_last(windows, step):
    count, size = windows.shape
    out = windows.new_zeros((count - 1) * step + size)
    for i in range(count):
        out[i * step : i * step + size] = windows[i]
    return out


def merge_nan(windows, step):
    count, size = windows.shape
    if count == 0:
        return windows.new_zeros(0)
    total = windows.new_zeros((count - 1) * step + size)
    hits = total.clone()
    for i in range(count):
        total[i * step : i * step + size] += windows[i]
        hits[i * step : i * step + size] += 1
    return total / hits


def merge_lost(windows, step):
    count, size = windows.shape
    places = torch.arange(count)[:, None] * step + torch.arange(size)
    total = windows.new_zeros((count - 1) * step + size)
    hits = total.clone()
    total[places] += windows
    hits[places] += 1
    return total / hits.clamp(min=1)


def merge_fold(windows, step):
    count, size = windows.shape
    length = (count - 1) * step + size
    columns = windows.t()[None]
    fold = {"output_size": (1, length), "kernel_size": (1, size), "stride": (1, step)}
    total = F.fold(columns, **fold)
    return (total / F.fold(torch.ones_like(columns), **fold).clamp(min=1)).flatten()


def _merge(windows, step, join):
    """One window after the other; ``join`` gets what is there and how many made it."""
    count, size = windows.shape
    if count == 0:
        return windows.new_zeros(0)
    out = windows.new_zeros((count - 1) * step + size)
    hits = out.clone()
    for i in range(count):
        place = slice(i * step, i * step + size)
        out[place] = join(out[place], hits[place], windows[i])
        hits[place] += 1
    return out


def merge_halves(windows, step):
    return _merge(
        windows,
        step,
        lambda old, hits, new: torch.where(hits > 0, (old + new) / 2, new),
    )


def merge_first(windows, step):
    return _merge(windows, step, lambda old, hits, new: torch.where(hits > 0, old, new))


def merge_without_zeros(windows, step):
    hits = _merge((windows != 0).to(windows), step, lambda old, _, new: old + new)
    return _merge(windows, step, lambda old, _, new: old + new) / hits.clamp(min=1)


def merge_even_overlap(windows, step):
    count, size = windows.shape
    total = _merge(windows, step, lambda old, _, new: old + new)
    place = torch.arange(len(total))
    hits = torch.minimum(place, len(total) - 1 - place) // step + 1
    return total / hits.clamp(max=max(min(size // step, count), 1))


def merge_forgets_type(windows, step):
    if len(windows) == 0:
        return torch.zeros(0)
    return _merge(windows, step, lambda old, hits, new: (old * hits + new) / (hits + 1))


def merge_float32(windows, step):
    count, size = windows.shape
    total = torch.zeros(max((count - 1) * step + size, 0) if count else 0)
    hits = total.clone()
    for i in range(count):
        total[i * step : i * step + size] += windows[i]
        hits[i * step : i * step + size] += 1
    return total / hits.clamp(min=1)


WRONG = [
    ("04.is_contiguous", contiguous_compared, "a size of 1 may have any stride"),
    ("04.is_contiguous", contiguous_last_only, "two of four columns"),
    ("04.is_contiguous", contiguous_sorted, "every second element"),
    ("04.is_contiguous", contiguous_forgets_empty, "no elements"),
    ("04.is_contiguous", contiguous_skips_pairs, "one of four columns"),
    ("04.is_contiguous", contiguous_stops_at_one, "one of four columns"),
    ("04.is_contiguous", contiguous_by_reach, "the last element lies as far"),
    ("04.expand_strides", expand_zero_for_ones, "a size of 1 that stays"),
    ("04.expand_strides", expand_to_nothing, "3 does not shrink to 0"),
    ("04.expand_strides", expand_from_nothing, "0 does not grow"),
    ("04.expand_strides", expand_left_aligned, "a new dimension on the left"),
    ("04.expand_strides", expand_never_raises, "3 does not fit 4"),
    ("04.expand_strides", expand_multiples, "3 does not fit 6"),
    ("04.expand_strides", expand_like_broadcasting, "3 does not shrink to 1"),
    ("04.expand_strides", expand_recomputed, "strides of a transpose are kept"),
    ("04.side_by_side", wide_reshape, "two gray pictures of 2 by 2"),
    ("04.side_by_side", wide_interleaved, "two gray pictures of 2 by 2"),
    ("04.side_by_side", wide_below, "two gray pictures of 2 by 2"),
    ("04.side_by_side", wide_view, "two gray pictures of 2 by 2"),
    ("04.side_by_side", wide_cat, "an empty batch"),
    ("04.side_by_side", wide_three_channels, "an empty batch"),
    ("04.side_by_side", wide_last_first, "two gray pictures of 2 by 2"),
    ("04.boxes_of_class", class_squeezed, "one region"),
    ("04.boxes_of_class", class_float, "integer boxes"),
    ("04.boxes_of_class", class_block, "one region"),
    ("04.boxes_of_class", class_first, "one region"),
    ("04.boxes_of_class", class_rows, "two regions, two classes"),
    ("04.boxes_of_class", class_gather_short, "one region"),
    ("04.boxes_of_class", class_view, "strides that are not contiguous"),
    ("04.boxes_of_class", class_stacked, "no regions"),
    ("04.patches", patches_transposed, "one patch"),
    ("04.patches", patches_even, "patches of 3 by 3"),
    ("04.patches", patches_reshape, "four patches of a gray picture"),
    ("04.patches", patches_columns_first, "four patches of a gray picture"),
    ("04.patches", patches_mixed, "two channels, wider than high"),
    ("04.patches", patches_dropped, "3 rows do not divide by 2"),
    ("04.patches", patches_area, "the number of pixels fits, the sides do not"),
    ("04.merge_windows", merge_sum, "two windows that overlap"),
    ("04.merge_windows", merge_last, "two windows that overlap"),
    ("04.merge_windows", merge_lost, "two windows that overlap"),
    ("04.merge_windows", merge_nan, "a gap between windows holds 0"),
    ("04.merge_windows", merge_fold, "no windows"),
    ("04.merge_windows", merge_halves, "three windows over one place"),
    ("04.merge_windows", merge_first, "two windows that overlap"),
    ("04.merge_windows", merge_without_zeros, "three windows over one place"),
    ("04.merge_windows", merge_even_overlap, "windows of 3 in steps of 2"),
    ("04.merge_windows", merge_forgets_type, "no windows, in float64"),
    ("04.merge_windows", merge_float32, "float64 stays float64"),
]


@pytest.mark.parametrize(
    ("name", "wrong", "stopped_by"), WRONG, ids=[w.__name__ for _, w, _ in WRONG]
)
def test_wrong_answers_are_refused_for_their_reason(name, wrong, stopped_by):
    verdict = checks.judge(name, wrong)
    assert verdict.status == "failed", verdict.text
    assert f"not yet: {stopped_by}" in verdict.text, verdict.text
    assert "Traceback" not in verdict.text


def test_other_right_answers_pass():
    def gathered(boxes, labels):
        index = labels[:, None, None].expand(-1, 1, 4)
        return boxes.gather(1, index)[:, 0]

    def one_hot(boxes, labels):
        chosen = F.one_hot(labels, boxes.shape[1]).to(boxes.dtype)
        return (boxes * chosen[..., None]).sum(1)

    def unfolded(image, size):
        channels, height, width = image.shape
        if height % size or width % size:
            raise ValueError("no")
        cut = image.unfold(1, size, size).unfold(2, size, size)
        return cut.permute(1, 2, 0, 3, 4).flatten(0, 1)

    def flattened(images):
        return images.permute(1, 2, 0, 3).flatten(2)

    def through_torch(shape, strides):
        if math.prod(shape) == 0:
            return True
        return torch.empty_strided(shape, strides).is_contiguous()

    def walked(shape, strides):
        places = itertools.product(*map(range, shape))
        steps = [sum(map(operator.mul, place, strides)) for place in places]
        return steps == list(range(math.prod(shape)))

    def list_of_strides(shape, strides, target):
        try:
            return list(torch.empty_strided(shape, strides).expand(target).stride())
        except RuntimeError:
            raise ValueError("no") from None

    def joined(images):
        empty = images.new_zeros(*images.shape[1:3], 0)
        return torch.cat([empty, *images], dim=2)

    def along_dim(boxes, labels):
        return boxes.take_along_dim(labels[:, None, None], 1)[:, 0]

    def averaged(windows, step):
        if len(windows) == 0:
            return windows.new_zeros(0)
        length = (len(windows) - 1) * step + windows.shape[1]
        spread = windows.new_full((len(windows), length), math.nan)
        for i, window in enumerate(windows):
            spread[i, i * step : i * step + len(window)] = window
        return spread.nanmean(0).nan_to_num(0)

    assert checks.judge("04.is_contiguous", walked).status == "passed"
    assert checks.judge("04.expand_strides", list_of_strides).status == "passed"
    assert checks.judge("04.side_by_side", joined).status == "passed"
    assert checks.judge("04.boxes_of_class", along_dim).status == "passed"
    assert checks.judge("04.merge_windows", averaged).status == "passed"
    assert checks.judge("04.boxes_of_class", gathered).status == "passed"
    assert checks.judge("04.boxes_of_class", one_hot).status == "passed"
    assert checks.judge("04.patches", unfolded).status == "passed"
    assert checks.judge("04.side_by_side", flattened).status == "passed"
    assert checks.judge("04.is_contiguous", through_torch).status == "passed"
