"""Chapter 3's exercises: solutions pass, stubs do not count, mistakes are refused."""

import math

import numpy as np
import pytest
import torch

from booktools.chapter_code import answers
from course_utils.checks import exercises, judge

STUBS, SOLUTIONS = answers("03_tensors")


def test_every_exercise_has_stub_and_solution():
    assert list(STUBS) == list(SOLUTIONS) == exercises("03")


@pytest.mark.parametrize("name", exercises("03"))
def test_solution_is_accepted_and_stub_is_unattempted(name):
    assert judge(name, SOLUTIONS[name]).status == "passed"
    assert judge(name, STUBS[name]).status == "unattempted"


def number_of_elements(shape, dtype):
    return torch.Size(shape).numel()


def created(shape, dtype):
    return torch.empty(shape, dtype=dtype).numel() * dtype.itemsize


def no_scalars(shape, dtype):
    total = 0
    for size in shape:
        total = (total or 1) * size
    return total * dtype.itemsize


def bytes_as_tensor(shape, dtype):
    return torch.tensor(shape).prod() * dtype.itemsize


def bytes_as_float(shape, dtype):
    return math.prod(shape) * float(dtype.itemsize)


def bytes_by_numpy(shape, dtype):
    return int(np.prod(shape)) * dtype.itemsize


def contrast_in_float16(picture, factor):
    values = 128 + factor * (picture.half() - 128)
    return values.round().clamp(0, 255).to(torch.uint8)


def contrast_in_bfloat16(picture, factor):
    values = 128 + factor * (picture.bfloat16() - 128)
    return values.round().clamp(0, 255).to(torch.uint8)


def contrast_in_int16(picture, factor):
    values = 128 + factor * (picture.to(torch.int16) - 128)
    return values.round().clamp(0, 255).to(torch.uint8)


def contrast_in_uint8(picture, factor):
    return 128 + (factor * (picture - 128)).to(torch.uint8)


def contrast_without_clamp(picture, factor):
    return (128 + factor * (picture.float() - 128)).round().to(torch.int64).byte()


def contrast_cut(picture, factor):
    return (128 + factor * (picture.float() - 128)).clamp(0, 255).to(torch.uint8)


def contrast_as_float(picture, factor):
    return (128 + factor * (picture.float() - 128)).round().clamp(0, 255)


def contrast_in_place(picture, factor):
    values = (128 + factor * (picture.float() - 128)).round().clamp(0, 255)
    return picture.copy_(values)


def contrast_around_the_mean(picture, factor):
    values = picture.float()
    middle = values.mean()
    return (middle + factor * (values - middle)).round().clamp(0, 255).to(torch.uint8)


def scale_in_place(boxes, width, height):
    boxes /= torch.tensor([width, height, width, height])
    return boxes


def scale_in_wrong_order(boxes, width, height):
    return boxes / torch.tensor([width, width, height, height])


def scale_on_the_cpu(boxes, width, height):
    return boxes / torch.tensor([width, height, width, height])


def scale_back_to_the_cpu(boxes, width, height):
    size = torch.tensor([width, height, width, height])
    return torch.zeros(boxes.shape) if boxes.is_meta else boxes.cpu() / size


def scale_through_float32(boxes, width, height):
    size = torch.tensor([width, height, width, height])
    scaled = boxes.float() / size
    return scaled.to(boxes.dtype) if boxes.is_floating_point() else scaled


def scale_a_clone(boxes, width, height):
    boxes = boxes.clone()
    boxes[:, ::2] /= width
    boxes[:, 1::2] /= height
    return boxes


def scale_to_float32(boxes, width, height):
    return boxes.float() / torch.tensor([width, height, width, height])


def scale_rounding_down(boxes, width, height):
    return boxes // torch.tensor([width, height, width, height])


def scale_height_first(boxes, width, height):
    return boxes / torch.tensor([height, width, height, width])


def overflowing(x, dim):
    return x.exp().sum(dim=dim).log()


def one_shift(x, dim):
    return x.max() + (x - x.max()).exp().sum(dim=dim).log()


def shift_by_the_mean(x, dim):
    mean = x.mean(dim=dim, keepdim=True)
    shift = torch.where(mean.isfinite(), mean, 0.0)
    return (x - shift).exp().sum(dim=dim).log() + shift.squeeze(dim)


def squeeze_all(x, dim):
    largest = x.amax(dim=dim, keepdim=True)
    shift = torch.where(largest.isfinite(), largest, 0.0)
    return ((x - shift).exp().sum(dim=dim, keepdim=True).log() + shift).squeeze()


def only_minus_infinity(x, dim):
    largest = x.amax(dim=dim, keepdim=True)
    shift = torch.where(largest == -torch.inf, 0.0, largest)
    return (x - shift).exp().sum(dim=dim).log() + shift.squeeze(dim)


def dimension_kept(x, dim):
    return x.logsumexp(dim, keepdim=True)


def nan_for_infinities(x, dim):
    largest = x.amax(dim=dim, keepdim=True)
    return largest.squeeze(dim) + (x - largest).exp().sum(dim=dim).log()


def always_last(x, dim):
    return x.logsumexp(-1)


def match_ignoring_threshold(iou, threshold):
    return iou.argmax(dim=1)


def match_nan(iou, threshold):
    if iou.shape[1] == 0:
        return torch.full((iou.shape[0],), -1, device=iou.device)
    best, column = iou.max(dim=1)
    return torch.where(best < threshold, -1, column)


def match_on_the_cpu(iou, threshold):
    if iou.shape[1] == 0:
        return torch.full((iou.shape[0],), -1)
    best, column = iou.max(dim=1)
    return torch.where(best >= threshold, column, -1)


def match_the_first(iou, threshold):
    if iou.shape[1] == 0:
        return torch.full((iou.shape[0],), -1, device=iou.device)
    fits = iou >= threshold
    return torch.where(fits.any(dim=1), fits.int().argmax(dim=1), -1)


def match_at_half(iou, threshold):
    return match_nan(iou, 0.5)


def match_once(iou, threshold):
    iou, found = iou.clone(), torch.full((iou.shape[0],), -1, device=iou.device)
    while iou.numel() and iou.max() >= threshold:
        row, column = divmod(int(iou.argmax()), iou.shape[1])
        found[row] = column
        iou[row] = iou[:, column] = 0
    return found


def match_above(iou, threshold):
    best, column = iou.max(dim=1)
    return torch.where(best > threshold, column, -1)


def match_of_columns(iou, threshold):
    best, row = iou.max(dim=0)
    return torch.where(best >= threshold, row, -1)


def match_without_objects_fails(iou, threshold):
    best, column = iou.max(dim=1)
    return torch.where(best >= threshold, column, -1)


def match_values(iou, threshold):
    best = iou.max(dim=1).values
    return torch.where(best >= threshold, best, -1.0)


def match_to_list(iou, threshold):
    return [int(r.argmax()) if r.max() >= threshold else -1 for r in iou]


WRONG = [
    ("03.count_bytes", number_of_elements, "expected: 24"),
    ("03.count_bytes", created, "too large to create"),
    ("03.count_bytes", no_scalars, "expected: 8"),
    ("03.count_bytes", bytes_as_tensor, "got a tensor, expected an int"),
    ("03.count_bytes", bytes_as_float, "a Python integer is wanted"),
    ("03.count_bytes", bytes_by_numpy, "more than 64 bits"),
    ("03.count_bytes", 24, "a function was expected"),
    ("03.contrast", contrast_in_uint8, "too bright"),
    ("03.contrast", contrast_in_float16, "floats of 16 bits"),
    ("03.contrast", contrast_in_bfloat16, "floats of 16 bits"),
    ("03.contrast", contrast_in_int16, "far beyond what 16 bits hold"),
    ("03.contrast", contrast_without_clamp, "too bright"),
    ("03.contrast", contrast_cut, "rounded to the nearest"),
    ("03.contrast", contrast_as_float, "dtype torch.float32, expected torch.uint8"),
    ("03.contrast", contrast_in_place, "the input was changed"),
    ("03.contrast", contrast_around_the_mean, "100 with factor 2"),
    ("03.equation", "bchw,kc->bhw", "shape (1, 1, 1)"),
    ("03.equation", "bchw,kc->bkwh", "two pictures, six classes"),
    ("03.equation", "bchw,kc->kbhw", "two pictures, six classes"),
    ("03.equation", "bchw,kc->", "got:      shape ()"),
    ("03.equation", "bchw,ck->bkhw", "got:      shape (1, 2, 1, 1)"),
    ("03.equation", "bchw,kd->bkhw", "right shape, wrong values"),
    ("03.equation", "bchw,kc->bkhx", "einsum refused it"),
    ("03.equation", "bchw,kc", "needs an arrow"),
    ("03.equation", "bchw->bkhw", "both operands"),
    ("03.equation", 3, "a string was expected"),
    ("03.scale_boxes", scale_in_place, "the input was changed"),
    ("03.scale_boxes", scale_in_wrong_order, "100 wide and 50 high"),
    ("03.scale_boxes", scale_height_first, "100 wide and 50 high"),
    ("03.scale_boxes", scale_to_float32, "float64 boxes"),
    ("03.scale_boxes", scale_on_the_cpu, "on another device: it raised"),
    ("03.scale_boxes", scale_back_to_the_cpu, "the result was on another: cpu"),
    ("03.scale_boxes", scale_through_float32, "computed in float64"),
    ("03.scale_boxes", scale_a_clone, "integer boxes"),
    ("03.scale_boxes", scale_rounding_down, "100 wide and 50 high"),
    ("03.log_sum_exp", overflowing, "do not overflow"),
    ("03.log_sum_exp", one_shift, "each row its own largest value"),
    ("03.log_sum_exp", shift_by_the_mean, "large and small values together"),
    ("03.log_sum_exp", squeeze_all, "another dimension of size 1"),
    ("03.log_sum_exp", only_minus_infinity, "infinite values"),
    ("03.log_sum_exp", dimension_kept, "shape (1,), expected ()"),
    ("03.log_sum_exp", nan_for_infinities, "infinite values"),
    ("03.log_sum_exp", always_last, "along dim 0"),
    ("03.match", match_ignoring_threshold, "one pair that does not"),
    ("03.match", match_nan, "nan, from boxes without area"),
    ("03.match", match_on_the_cpu, "the result was on another: cpu"),
    ("03.match", match_the_first, "the largest of two that fit"),
    ("03.match", match_at_half, "another threshold"),
    ("03.match", match_once, "one object may be matched twice"),
    ("03.match", match_above, "exactly at the threshold"),
    ("03.match", match_of_columns, "exactly at the threshold"),
    ("03.match", match_without_objects_fails, "no objects"),
    ("03.match", match_values, "dtype torch.float32, expected torch.int64"),
    ("03.match", match_to_list, "expected a tensor"),
]


@pytest.mark.parametrize(("name", "wrong", "reason"), WRONG)
def test_plausible_wrong_answer_is_refused_for_its_own_reason(name, wrong, reason):
    verdict = judge(name, wrong)
    assert verdict.status == "failed"
    assert reason in verdict.text, verdict.text
    assert "Traceback" not in verdict.text


def test_every_exercise_meets_three_wrong_answers():
    for name in exercises("03"):
        assert sum(row[0] == name for row in WRONG) >= 3


def bytes_by_product(shape, dtype):
    return math.prod(shape) * dtype.itemsize


def contrast_in_float64(picture, factor):
    return (128 + factor * (picture.double() - 128)).round().clamp(0, 255).byte()


def contrast_by_floor(picture, factor):
    values = 128 + factor * (picture.float() - 128)
    return (values + 0.5).floor().clamp(0, 255).to(torch.uint8)


def scale_by_columns(boxes, width, height):
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([x1 / width, y1 / height, x2 / width, y2 / height], dim=1)


def scale_by_new_tensor(boxes, width, height):
    return boxes / boxes.new_tensor([width, height, width, height])


def shift_made_finite(x, dim):
    shift = x.amax(dim=dim, keepdim=True).nan_to_num()
    return (x - shift).exp().sum(dim=dim).log() + shift.squeeze(dim)


def one_after_the_other(x, dim):
    first, *others = x.unbind(dim)
    for other in others:
        first = torch.logaddexp(first, other)
    return first


def match_row_by_row(iou, threshold):
    found = []
    for row in iou.tolist():
        good = [v for v in row if v >= threshold]
        found.append(row.index(max(good)) if good else -1)
    return torch.tensor(found, dtype=torch.int64, device=iou.device)


def match_with_a_column_more(iou, threshold):
    none = iou.new_full((iou.shape[0], 1), -1.0)
    best, column = torch.cat([iou, none], dim=1).nan_to_num(-1).max(dim=1)
    return torch.where(best >= threshold, column, -1)


def match_in_place(iou, threshold):
    found = torch.full((iou.shape[0],), -1, device=iou.device)
    if iou.shape[1]:
        best, column = iou.max(dim=1)
        found[best >= threshold] = column[best >= threshold]
    return found


RIGHT = [
    ("03.count_bytes", bytes_by_product),
    ("03.contrast", contrast_in_float64),
    ("03.contrast", contrast_by_floor),
    ("03.equation", "B C H W, K C -> B K H W"),
    ("03.equation", "bc...,kc->bk..."),
    ("03.scale_boxes", scale_by_columns),
    ("03.scale_boxes", scale_by_new_tensor),
    ("03.log_sum_exp", shift_made_finite),
    ("03.log_sum_exp", one_after_the_other),
    ("03.match", match_row_by_row),
    ("03.match", match_with_a_column_more),
    ("03.match", match_in_place),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_answer_written_differently_is_accepted(name, answer):
    verdict = judge(name, answer)
    assert verdict.status == "passed", verdict.text
