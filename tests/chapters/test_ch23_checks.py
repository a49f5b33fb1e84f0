"""The exercises of chapter 23: mistakes are refused, each for its own reason."""

import pytest
import torch
from torchvision import ops

from course_utils import checks

# Wrong answers, each with words of the verdict that must stop it.


def voc_no_plus(boxes):
    return torch.cat([boxes[:, :2] - 1, boxes[:, 2:] - boxes[:, :2]], dim=1)


def voc_from_zero(boxes):
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2] + 1], dim=1)


def voc_shifted_first(boxes):
    boxes = boxes - 1
    return torch.cat([boxes[:, :2], boxes[:, 2:] + 1], dim=1)


def voc_in_place(boxes):
    boxes[:, 2:] += 1 - boxes[:, :2]
    boxes[:, :2] -= 1
    return boxes


def paired(a, b, clamp=True, safe=True):
    sides = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    inter = (sides.clamp(min=0) if clamp else sides).prod(1)
    union = ops.box_area(a) + ops.box_area(b) - inter
    return torch.where(union > 0, inter / union, 0.0) if safe else inter / union


def paired_table(a, b):
    return ops.box_iou(a, b)


def paired_diagonal(a, b):
    return ops.box_iou(a, b).diagonal().nan_to_num()


def paired_no_clamp(a, b):
    return paired(a, b, clamp=False)


def paired_nan(a, b):
    return paired(a, b, safe=False)


def paired_numbers(a, b):
    values = [ops.box_iou(p[None], q[None]).item() for p, q in zip(a, b, strict=True)]
    return torch.tensor([0.0 if v != v else v for v in values], dtype=a.dtype)


def paired_tiny_added(a, b):
    sides = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    inter = sides.clamp(min=0).prod(1)
    return inter / (ops.box_area(a) + ops.box_area(b) - inter + 1e-7)


def paired_least_union(a, b):
    sides = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    inter = sides.clamp(min=0).prod(1)
    return inter / (ops.box_area(a) + ops.box_area(b) - inter).clamp(min=1)


def mask_inclusive(mask):
    return ops.masks_to_boxes(mask[None])[0]


def mask_swapped(mask):
    rows, columns = mask.nonzero().unbind(1)
    edges = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    return torch.stack(edges).float()


def mask_no_empty(mask):
    rows, columns = mask.nonzero().unbind(1)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return torch.stack(edges).float()


def mask_integers(mask):
    return mask_no_empty(mask).long()


def nms_as_given(boxes, scores, threshold):
    order = scores.argsort(stable=True)
    iou = ops.box_iou(boxes[order], boxes[order]).triu(diagonal=1)
    return (~(iou > threshold).any(dim=0)).nonzero()[:, 0]


def nms_chain(boxes, scores, threshold):
    order = scores.argsort(descending=True, stable=True)
    iou = ops.box_iou(boxes[order], boxes[order]).triu(diagonal=1)
    return order[~(iou > threshold).any(dim=0)]


def nms_at_least(boxes, scores, threshold):
    return ops.nms(boxes, scores, threshold - 1e-6)


def nms_flipped(boxes, scores, threshold):
    order = scores.argsort(stable=True).flip(0)  # the larger index first where equal
    return order[ops.nms(boxes[order], scores[order], threshold)]


def class_ignored(boxes, scores, labels, threshold):
    return ops.nms(boxes, scores, threshold)


def class_offset(boxes, scores, labels, threshold):
    return ops.batched_nms(boxes, scores, labels, threshold)


def class_by_class(boxes, scores, labels, threshold):
    keep = torch.zeros(0, dtype=torch.int64)
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        keep = torch.cat([keep, own[ops.nms(boxes[own], scores[own], threshold)]])
    return keep


def class_local_index(boxes, scores, labels, threshold):
    keep = []
    for label in labels.unique():
        own = labels == label
        keep += ops.nms(boxes[own], scores[own], threshold).tolist()
    return torch.tensor(keep)


def class_at_least(boxes, scores, labels, threshold):
    order = scores.argsort(descending=True, stable=True)
    rivals = ops.box_iou(boxes[order], boxes[order]) >= threshold
    rivals &= labels[order][:, None] == labels[order]
    keep = []
    for i in range(len(order)):
        if not rivals[i, keep].any():
            keep.append(i)
    return order[keep]


def class_moved(boxes, scores, labels, threshold):
    """Made positive, and few labels: only rounding is left."""
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.int64)
    boxes = boxes - boxes.min()
    few = labels.unique(return_inverse=True)[1]
    return ops.nms(boxes + (few * (boxes.max() + 1))[:, None], scores, threshold)


def class_moved_in_double(boxes, scores, labels, threshold):
    if len(boxes) == 0:
        return torch.zeros(0, dtype=torch.int64)
    boxes = (boxes - boxes.min()).double()
    step = (labels.double() - labels.double().min()) * (boxes.max() + 1)
    return ops.nms(boxes + step[:, None], scores.double(), threshold)


def safe_diagonal(boxes):
    return ops.box_iou(boxes, boxes).max().item() if len(boxes) > 1 else 0.0


def safe_no_empty(boxes):
    return ops.box_iou(boxes, boxes).fill_diagonal_(0).max().item()


def safe_next(boxes):
    iou = ops.box_iou(boxes[:-1], boxes[1:]).diagonal()
    return iou.max().item() if len(iou) else 0.0


def safe_tensor(boxes):
    return ops.box_iou(boxes, boxes).fill_diagonal_(0).max()


def safe_margin(boxes):
    return (
        ops.box_iou(boxes, boxes).fill_diagonal_(0).max().item() + 1e-7
        if (len(boxes) > 1)
        else 0.0
    )


WRONG = {
    "23.voc_to_coco": {
        voc_no_plus: "one pixel",
        voc_from_zero: "one pixel",
        voc_shifted_first: "one box",
        voc_in_place: "the input was changed",
    },
    "23.paired_iou": {
        paired_table: "shape (1, 1), expected (1,)",
        paired_diagonal: "60 by 60",
        paired_no_clamp: "apart in both directions",
        paired_nan: "two points",
        paired_tiny_added: "fractions of a picture",
        paired_least_union: "fractions of a picture",
        paired_numbers: "cut off from the graph",
    },
    "23.mask_to_box": {
        mask_inclusive: "one pixel",
        mask_swapped: "one pixel",
        mask_no_empty: "no pixel",
        mask_integers: "dtype",
    },
    "23.fixed_nms": {
        nms_as_given: "two apart",
        nms_chain: "a chain of three",
        nms_at_least: "an IoU equal to the threshold",
        nms_flipped: "equal scores",
    },
    "23.class_nms": {
        class_ignored: "two classes",
        class_offset: "outside the picture",
        class_at_least: "an IoU equal to the threshold",
        class_moved: "an IoU of 0.502",
        class_moved_in_double: "only integers tell apart",
        class_by_class: "comes second",
        class_local_index: "two classes",
    },
    "23.safe_threshold": {
        safe_diagonal: "two people",
        safe_no_empty: "nobody",
        safe_next: "many",
        safe_margin: "a smaller threshold",
        safe_tensor: "got a tensor, expected a float",
    },
}


@pytest.mark.parametrize(
    "name, answer, says",
    [(n, a, s) for n, answers in WRONG.items() for a, s in answers.items()],
)
def test_mistakes_are_refused(name, answer, says):
    verdict = checks.judge(name, answer)
    assert verdict.status == "failed", verdict.text
    failure = verdict.text.split("not yet: ")[1]
    assert says in failure, verdict.text
