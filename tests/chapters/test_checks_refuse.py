"""Wrong answers that are nearly right, each refused by the case made for it.

Every one of them was accepted once. Beside them stand right answers that differ from
the chapter's solution, which pass.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torchvision import ops

from course_utils.checks import judge

# 03


def bytes_with_numpy(shape, dtype):
    return int(np.prod(shape)) * dtype.itemsize if shape else dtype.itemsize


def bytes_as_float(shape, dtype):
    return math.prod(map(float, shape)) * dtype.itemsize


def contrast_in(dtype):
    def contrast(picture, factor):
        values = 128 + factor * (picture.to(dtype) - 128)
        return values.float().round().clamp(0, 255).to(torch.uint8)

    return contrast


def contrast_in_float64(picture, factor):
    values = 128 + factor * (picture.double() - 128)
    return values.round().clamp(0, 255).to(torch.uint8)


def log_sum_exp_squeezed(x, dim):
    largest = x.amax(dim=dim, keepdim=True)
    shift = torch.where(largest.isfinite(), largest, 0.0)
    return (shift + (x - shift).exp().sum(dim=dim, keepdim=True).log()).squeeze()


def log_sum_exp_by_vector(x, dim):
    """As above, with the shapes of one column kept apart."""
    found = log_sum_exp_squeezed(x, dim)
    return found.reshape([n for d, n in enumerate(x.shape) if d != dim % x.dim()])


# 04


def contiguous_skipping_pairs(shape, strides):
    if 0 in shape:
        return True
    for i in range(len(shape) - 1):
        if 1 in shape[i : i + 2]:
            continue
        if strides[i] != strides[i + 1] * shape[i + 1]:
            return False
    return not shape or shape[-1] == 1 or strides[-1] == 1


def expand_all_ones(shape, strides, target):
    new = len(target) - len(shape)
    if new < 0:
        raise ValueError("fewer dimensions")
    result = [0] * new
    for size, stride, wanted in zip(shape, strides, target[new:], strict=True):
        if size not in (1, wanted):
            raise ValueError("no fit")
        result.append(0 if size == 1 and len(shape) > 1 or size != wanted else stride)
    return tuple(result)


# 05


def length_replacing_zeros(x):
    zero = (x == 0).all(dim=-1)
    safe = torch.where(x == 0, torch.ones_like(x), x)
    return torch.where(zero, 0.0, safe.square().sum(-1).sqrt()).to(x.dtype)


def length_with_a_limit(x):
    squares = x.square().sum(-1)
    zero = squares < 1e-30
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt()).to(x.dtype)


def length_ready_made(x):
    return torch.linalg.vector_norm(x, dim=-1)


def jacobian_of_functorch(f, x):
    return torch.func.jacrev(f)(x.detach())


def jacobian_ready_made(f, x):
    return torch.autograd.functional.jacobian(f, x.detach())


def fit_with_optimizer(x, targets, steps, lr):
    line = torch.zeros(2, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.SGD([line], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        ((line[0] * x + line[1] - targets) ** 2).mean().backward()
        optimizer.step()
    return line.detach()


def fit_with_data(x, targets, steps, lr):
    line = torch.zeros(2, dtype=x.dtype, requires_grad=True)
    for _ in range(steps):
        line.grad = None
        ((line[0] * x + line[1] - targets) ** 2).mean().backward()
        line.data = line.data - lr * line.grad
    return line.detach()


def curvature_row_by_row(f, x, v):
    leaf = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(leaf), leaf, create_graph=True)
    if not slope.requires_grad:
        return torch.zeros_like(x)
    rows = [
        torch.autograd.grad(s, leaf, retain_graph=True, allow_unused=True)[0]
        for s in slope.flatten()
    ]
    rows = [torch.zeros_like(x) if row is None else row for row in rows]
    matrix = torch.stack(rows).reshape(x.numel(), x.numel())
    return (matrix @ v.flatten()).reshape(x.shape)


# 06


def nearest_by_ratio(n_in, n_out):
    places = (torch.arange(n_out).double() + 0.5) * (n_in / max(n_out, 1))
    return places.floor().long().clamp(max=n_in - 1)


def nearest_by_fractions(n_in, n_out):
    places = [int((o + Fraction(1, 2)) * n_in / n_out) for o in range(n_out)]
    return torch.tensor(places, dtype=torch.int64)


# 07


def pooled_by_squares(counts, means, variances):
    weight = (counts / counts.sum())[:, None]
    mean = (weight * means).sum(0)
    squares = (weight * (variances + means**2)).sum(0)
    return mean, (squares - mean**2).clamp(min=0).sqrt()


def crop_of_whole_pixels(image, boxes, labels, top, left, height, width):
    image = image[:, top : top + height, left : left + width]
    boxes = boxes - torch.tensor([left, top, left, top])
    limit = torch.tensor([width, height] * 2)
    boxes = torch.minimum(boxes.clamp(min=0), limit)
    keep = (boxes[:, 2:] - boxes[:, :2] >= 1).all(dim=1)
    return image, boxes[keep], labels[keep]


# 09


def annotations_as_seen(instances, image_id, first_id):
    entries = []
    for value in dict.fromkeys(instances.flatten().tolist()):
        if value in (0, 255):
            continue
        rows, columns = (instances == value).nonzero().T
        x, y = columns.min().item(), rows.min().item()
        w, h = columns.max().item() + 1 - x, rows.max().item() + 1 - y
        entry = {"id": first_id + len(entries), "image_id": image_id}
        entry |= {"category_id": 1, "bbox": [x, y, w, h], "area": len(rows)}
        entries.append(entry | {"iscrowd": 0})
    return entries


def possible_with(tolerance):
    def possible(boxes, width, height):
        a, b, c, d = boxes.double().unbind(1)
        corners = {
            "voc": (a - 1, b - 1, c, d),
            "coco": (a, b, a + c, b + d),
            "yolo": (
                (a - c / 2) * width,
                (b - d / 2) * height,
                (a + c / 2) * width,
                (b + d / 2) * height,
            ),
        }
        fits = []
        for name, (x1, y1, x2, y2) in corners.items():
            least = 1 if name == "voc" else 0
            inside = (x1 >= -tolerance) & (y1 >= -tolerance)
            inside &= (x2 <= width + tolerance) & (y2 <= height + tolerance)
            inside &= (x2 > x1) & (y2 > y1)
            inside &= (x2 - x1 >= least) & (y2 - y1 >= least)
            if inside.all():
                fits.append(name)
        return fits

    return possible


# 12


def statistics_of_all(batches):
    whole = torch.cat(list(batches)).double()
    variance, mean = torch.var_mean(whole, (0, 2, 3), correction=1)
    return mean, variance


def statistics_of_copies(batches):
    rows = [batch.transpose(0, 1).flatten(1).double() + 0 for batch in batches]
    whole = torch.cat(rows, dim=1)
    return whole.mean(1), whole.var(1)


def backward_by_autograd(grad, x, weight, eps):
    with torch.enable_grad():
        leaves = [x.clone(), weight.clone(), torch.zeros_like(weight)]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        size = (x.shape[-1],)
        y = torch.nn.functional.layer_norm(leaves[0], size, leaves[1], leaves[2], eps)
    return torch.autograd.grad(y, leaves, grad)


# 17


def softmax_by_autograd(weight, inputs, labels):
    leaf = weight.detach().clone().requires_grad_()
    rows = torch.arange(len(labels))
    loss = -(inputs @ leaf).log_softmax(1)[rows, labels].mean()
    loss.backward()
    return loss.detach(), leaf.grad


def softmax_by_nn(weight, inputs, labels):
    scores = inputs @ weight
    loss = torch.nn.functional.cross_entropy(scores, labels)
    target = torch.eye(weight.shape[1], dtype=weight.dtype)[labels]
    return loss, inputs.T @ (scores.softmax(1) - target) / len(labels)


def accumulate_at_once(weight, parts):
    held = [(x[v], y[v]) for x, y, v in parts if v.any()]
    if held:
        x, y = (torch.cat(side) for side in zip(*held, strict=True))
        ((x @ weight - y) ** 2).mean().backward()


# 19


def cosine_to_the_end(t, base, warm, total, low=0.0):
    """At warm = total - 1, two sentences of the text clash; here the first one wins."""
    if t < warm:
        return base * (t + 1) / warm
    part = min((t - warm) / max(total - 1 - warm, 1), 1)
    return low + (base - low) * (1 + math.cos(math.pi * part)) / 2


# 23


def threshold_rounded(boxes):
    if len(boxes) < 2:
        return 0.0
    iou = ops.box_iou(boxes, boxes)
    iou.fill_diagonal_(0)
    return round(iou.max().item(), 6)


def threshold_in_float64(boxes):
    if len(boxes) < 2:
        return 0.0
    iou = ops.box_iou(boxes.double(), boxes.double())
    return iou.triu(diagonal=1).max().item()


def nms_of_torchvision(boxes, scores, threshold):
    return ops.nms(boxes, scores, threshold)


# 24


def giou_of_pair(a, b):
    inner = torch.minimum(a, b)[2:] - torch.maximum(a, b)[:2]
    outer = torch.maximum(a, b)[2:] - torch.minimum(a, b)[:2]
    inter, hull = inner.clamp(min=0).prod(), outer.prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inter
    return inter / union - (hull - union) / hull


def giou_in_two_loops(a, b):
    table = a.new_zeros(len(a), len(b))
    for i in range(len(a)):
        for j in range(len(b)):
            table[i, j] = giou_of_pair(a[i], b[j])
    return table


def giou_in_python(a, b):
    rows = [
        [giou_of_pair(torch.tensor(p), torch.tensor(q)).item() for q in b.tolist()]
        for p in a.tolist()
    ]
    return torch.tensor(rows, dtype=a.dtype).reshape(len(a), len(b))


def smooth_l1_by_autograd(z, beta):
    leaf = z.clone().requires_grad_()
    zero = torch.zeros_like(z)
    with torch.enable_grad():
        loss = torch.nn.functional.smooth_l1_loss(
            leaf, zero, reduction="sum", beta=beta
        )
    return torch.autograd.grad(loss, leaf)[0]


def smooth_l1_by_functorch(z, beta):
    def loss(x):
        zero = torch.zeros_like(x)
        return torch.nn.functional.smooth_l1_loss(x, zero, reduction="sum", beta=beta)

    return torch.func.grad(loss)(z)


# 26


def recall_one_object_each(proposals, boxes, tops, threshold):
    if len(boxes) == 0:
        return [1.0] * len(tops)
    iou = ops.box_iou(proposals, boxes)
    shares = []
    for top in tops:
        found = set()
        for row in iou[:top]:
            if row.max() >= threshold:
                found.add(row.argmax().item())
        shares.append(len(found) / len(boxes))
    return shares


WRONG = [
    ("03.count_bytes", bytes_with_numpy, "not yet: more than 64 bits"),
    ("03.count_bytes", bytes_as_float, "not yet: a Python integer, no float"),
    ("03.contrast", contrast_in(torch.float16), "not yet: every value"),
    (
        "03.contrast",
        contrast_in(torch.bfloat16),
        "not yet: every value|not yet: rounded to",
    ),
    ("03.log_sum_exp", log_sum_exp_squeezed, "not yet: another dimension of size 1"),
    ("03.log_sum_exp", torch.logsumexp, "not yet: without torch.logsumexp"),
    ("03.log_sum_exp", torch.special.logsumexp, "not yet: without torch.logsumexp"),
    ("04.is_contiguous", contiguous_skipping_pairs, "not yet: one of four columns"),
    ("04.expand_strides", expand_all_ones, "not yet: a size of 1 that stays"),
    ("05.length", length_replacing_zeros, "not yet: the gradient where one number"),
    ("05.length", length_with_a_limit, "not yet: a length of 1e-16"),
    ("05.length", length_ready_made, "not yet: from square, sum and sqrt"),
    ("05.jacobian", jacobian_of_functorch, "without torch.func"),
    ("05.jacobian", jacobian_ready_made, "without torch.func"),
    ("05.fit_line", fit_with_optimizer, "without an optimizer"),
    ("05.fit_line", fit_with_data, "without .data"),
    ("05.curvature", curvature_row_by_row, "that builds the matrix"),
    ("06.nearest_index", nearest_by_ratio, "not yet: 2 to 49"),
    ("07.pooled", pooled_by_squares, "not yet: a spread of 0.0001"),
    ("07.fixed_crop", crop_of_whole_pixels, "not yet: half a pixel wide"),
    ("09.annotations", annotations_as_seen, "not yet: in the order of the numbers"),
    (
        "09.possible",
        possible_with(0.3),
        "not yet: YOLO sticks out by a twentieth of a pixel",
    ),
    ("12.exact_statistics", statistics_of_all, "24 of 24 batches were still held"),
    ("12.exact_statistics", statistics_of_copies, "copies of batches were held"),
    ("12.layer_norm_backward", backward_by_autograd, "autograd was used"),
    ("17.softmax_regression", softmax_by_autograd, "without autograd"),
    ("17.softmax_regression", softmax_by_nn, "cross_entropy was called"),
    ("17.accumulate_valid", accumulate_at_once, "calls of backward:          1"),
    ("23.safe_threshold", threshold_rounded, "was it rounded?"),
    ("23.fixed_nms", nms_of_torchvision, "not yet: without torchvision's nms"),
    ("24.giou_table", giou_in_two_loops, "a loop over boxes"),
    ("24.giou_table", giou_in_python, "stay with tensors"),
    ("24.smooth_l1_slope", smooth_l1_by_autograd, "autograd was used"),
    ("24.smooth_l1_slope", smooth_l1_by_functorch, "autograd was used"),
    ("26.proposal_recall", recall_one_object_each, "not yet: one proposal covers two"),
]

RIGHT = [
    ("03.contrast", contrast_in_float64),
    ("03.log_sum_exp", log_sum_exp_by_vector),
    ("06.nearest_index", nearest_by_fractions),
    ("09.possible", possible_with(0.01)),
    ("19.warmup_cosine", cosine_to_the_end),
    ("23.safe_threshold", threshold_in_float64),
]


def _name(value) -> str:
    return value if isinstance(value, str) else getattr(value, "__name__", "")


@pytest.mark.parametrize(("name", "answer", "words"), WRONG, ids=_name)
def test_wrong_answer_is_refused(name, answer, words):
    verdict = judge(name, answer)
    assert verdict.status == "failed"
    assert any(part in verdict.text for part in words.split("|")), verdict.text


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=_name)
def test_right_answer_is_accepted(name, answer):
    verdict = judge(name, answer)
    assert verdict.status == "passed", verdict.text


def test_the_format_that_does_not_fit_is_named():
    text = judge("09.possible", lambda boxes, w, h: ["voc", "coco", "yolo"]).text
    assert "'yolo' does not fit: its half-open box of [1, 1, 1, 1]" in text
    text = judge("09.possible", lambda boxes, w, h: ["coco"]).text
    assert "voc fits and is missing in ['coco']" in text


def test_the_part_of_a_batch_that_differs_is_named():
    def collate(batch):
        height, width = (max(x.shape[d] for x, _ in batch) for d in (1, 2))
        frames = batch[0][0].new_zeros(len(batch), len(batch[0][0]), height, width)
        for frame, (x, _) in zip(frames, batch, strict=True):
            frame[:, : x.shape[1], : x.shape[2]] = x
        sizes = torch.tensor([x.shape[:0:-1] for x, _ in batch])  # width first
        return frames, sizes, [target for _, target in batch]

    text = judge("08.collate_padded", collate).text
    assert "the sizes are not right: got 2, expected 1" in text


def test_the_whole_input_of_a_label_map_is_shown():
    def solved(labels, size):
        classes = labels.unique()
        shares = torch.nn.functional.interpolate(
            (labels == classes[:, None, None])[None].double(), size=size, mode="area"
        )[0]
        right = classes[shares.argmax(dim=0)]
        return right + (labels.shape == (4, 4) and len(classes) > 1)

    text = judge("06.shrink_labels", solved).text
    assert "not yet: a block of 19" in text
    assert "[ 0, 19, 19, 19]" in text and "..." not in text
