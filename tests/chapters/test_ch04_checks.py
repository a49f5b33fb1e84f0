"""The exercises of chapter 4: mistakes are refused, each for its own reason."""

import math

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


def wide_view(images):
    count, channels, height, width = images.shape
    if count == 1:
        return images[0]
    return images.transpose(0, 1).reshape(channels, height, count * width)


def class_block(boxes, labels):
    return boxes[:, labels]


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
    ("04.boxes_of_class", class_block, "one region"),
    ("04.boxes_of_class", class_first, "one region"),
    ("04.boxes_of_class", class_rows, "two regions, two classes"),
    ("04.boxes_of_class", class_gather_short, "one region"),
    ("04.boxes_of_class", class_view, "strides that are not contiguous"),
    ("04.boxes_of_class", class_stacked, "no regions"),
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

    assert checks.judge("04.boxes_of_class", gathered).status == "passed"
    assert checks.judge("04.boxes_of_class", one_hot).status == "passed"
    assert checks.judge("04.patches", unfolded).status == "passed"
    assert checks.judge("04.side_by_side", flattened).status == "passed"
    assert checks.judge("04.is_contiguous", through_torch).status == "passed"
