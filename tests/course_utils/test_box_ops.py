"""Boxes: by hand, against torchvision, properties, empty input, clear errors."""

import pytest
import torch
from torchvision import ops, tv_tensors

from course_utils.detection import box_ops as B

PAIRWISE = ["box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"]
LOSSES = ["iou_loss"] + [f"{name}_loss" for name in PAIRWISE[1:]]
EMPTY = torch.zeros(0, 4)
TWO = torch.tensor([[0.0, 0, 10, 10], [5, 5, 15, 15]])


def random_boxes(n, seed=0, span=100.0, dtype=torch.float32, least=1.0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator, dtype=dtype) * span
    size = least + torch.rand(n, 2, generator=generator, dtype=dtype) * span / 2
    return torch.cat([corner, corner + size], dim=1)


def random_scores(n, seed=0, levels=None):
    generator = torch.Generator().manual_seed(seed + 1000)
    scores = torch.rand(n, generator=generator)
    return (scores * levels).floor() / levels if levels else scores


# --- area, intersection, the IoU family ----------------------------------------------


def test_by_hand():
    assert B.box_area(TWO).tolist() == [100, 100]
    assert B.box_intersection(TWO, TWO).tolist() == [[100, 25], [25, 100]]
    assert B.box_iou(TWO[:1], TWO[1:]).item() == pytest.approx(25 / 175)
    giou = 25 / 175 - (225 - 175) / 225
    assert B.generalized_box_iou(TWO[:1], TWO[1:]).item() == pytest.approx(giou)
    diou = 25 / 175 - 50 / 450  # centers (5, 5) and (10, 10); hull 15 by 15
    assert B.distance_box_iou(TWO[:1], TWO[1:]).item() == pytest.approx(diou)
    assert B.complete_box_iou(TWO[:1], TWO[1:]).item() == pytest.approx(diou)  # squares


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("seed", range(3))
def test_pairwise_is_torchvisions_values_and_gradients(name, seed):
    a = random_boxes(20, seed, dtype=torch.float64).requires_grad_()
    b = random_boxes(15, seed + 50, dtype=torch.float64)
    b[:5] = a[:5].detach()  # identical pairs, where IoU has its kink
    b[5] += 1000  # far away
    ours, theirs = getattr(B, name)(a, b), getattr(ops, name)(a, b)
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)
    weights = torch.rand(20, 15, generator=torch.Generator().manual_seed(1)).double()
    (one,) = torch.autograd.grad((ours * weights).sum(), a)
    (two,) = torch.autograd.grad((theirs * weights).sum(), a)
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES[1:])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_losses_are_torchvisions_values_and_gradients(name, reduction):
    a = random_boxes(200, 1, dtype=torch.float64).requires_grad_()
    b = random_boxes(200, 2, dtype=torch.float64)
    ours = getattr(B, name)(a, b, reduction=reduction)
    theirs = getattr(ops, name)(a, b, reduction=reduction)
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)
    (one,) = torch.autograd.grad(ours.sum(), a)
    (two,) = torch.autograd.grad(theirs.sum(), a)
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("pair, loss", list(zip(PAIRWISE, LOSSES, strict=True)))
def test_a_loss_is_one_minus_the_diagonal(pair, loss):
    a, b = random_boxes(30, 3), random_boxes(30, 4)
    torch.testing.assert_close(
        getattr(B, loss)(a, b), 1 - getattr(B, pair)(a, b).diagonal()
    )


@pytest.mark.parametrize("name", PAIRWISE)
def test_properties(name):
    measure = getattr(B, name)
    a, b = (
        random_boxes(40, 5, dtype=torch.float64),
        random_boxes(30, 6, dtype=torch.float64),
    )
    table = measure(a, b)
    torch.testing.assert_close(table, measure(b, a).T)  # symmetric
    torch.testing.assert_close(table, measure(a + 17, b + 17))  # position
    torch.testing.assert_close(table, measure(a * 3, b * 3))  # scale
    assert table.max() <= 1 and table.min() >= (0 if name == "box_iou" else -2)
    torch.testing.assert_close(measure(a, a).diagonal(), torch.ones(40).double())
    assert (table <= B.box_iou(a, b) + 1e-12).all()


@pytest.mark.parametrize("name", PAIRWISE)
def test_boxes_without_area(name):
    flat = torch.tensor(
        [[5.0, 5, 5, 5], [5, 5, 5, 5], [0, 0, 0, 9], [0, 0, 9, 0], [1, 1, 3, 3]]
    ).requires_grad_()
    table = getattr(B, name)(flat, flat.detach())
    table.sum().backward()
    assert table.isfinite().all() and flat.grad.isfinite().all()
    assert table[4, 4] == 1
    if name == "box_iou":
        assert table[:4].abs().sum() == 0
        assert ops.box_iou(flat, flat)[0, 1].isnan()  # why ours is not theirs


def test_a_tiny_box_equals_itself():
    tiny = torch.tensor([[0.5, 0.5, 0.501, 0.501]], dtype=torch.float64)
    assert B.iou_loss(tiny, tiny).item() == pytest.approx(0, abs=1e-12)
    theirs = ops.generalized_box_iou_loss(tiny, tiny).item()
    assert theirs == pytest.approx(1 / 11, rel=1e-3)  # 1e-7 / (1e-6 + 1e-7)


@pytest.mark.parametrize("name", [*PAIRWISE, "box_intersection"])
def test_pairwise_shapes_and_dtypes(name):
    measure = getattr(B, name)
    assert measure(EMPTY, TWO).shape == (0, 2)
    assert measure(TWO, EMPTY).shape == (2, 0)
    assert measure(EMPTY, EMPTY).shape == (0, 0)
    if name == "box_intersection":
        assert measure(TWO.int(), TWO.int()).dtype == torch.int64
        return
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        large = (TWO * 60).to(dtype)  # 600 by 600 overflows a float16
        table = measure(large, large)
        assert table.dtype == dtype and table.isfinite().all()
    assert measure(TWO.int(), TWO.int()).dtype == torch.float32
    assert measure(TWO, TWO.double()).dtype == torch.float64
    strided = random_boxes(9).T.contiguous().T
    assert torch.equal(measure(strided, TWO), measure(strided.contiguous(), TWO))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", PAIRWISE)
def test_half_precision_neither_overflows_nor_vanishes(name, dtype):
    """Areas of 360,000 and of 2.5e-9 are beyond a float16, these IoUs are not."""
    for side in (600.0, 2**-14):
        one = torch.tensor([[0, 0, side, side]], dtype=dtype)
        half = torch.tensor([[0, 0, side, side / 2]], dtype=dtype)
        wide = getattr(B, name)(one.double(), half.double())
        value = getattr(B, name)(one, half)
        assert value.dtype == dtype
        torch.testing.assert_close(value.double(), wide, rtol=1e-2, atol=0)
    assert B.box_area(one * 0 + torch.tensor([0, 0, 600, 600.0])).item() == 360_000


@pytest.mark.parametrize("name", LOSSES)
def test_losses_empty_and_dtype(name):
    loss = getattr(B, name)
    assert loss(EMPTY, EMPTY).shape == (0,)
    leaf = EMPTY.clone().requires_grad_()
    mean = loss(leaf, EMPTY, reduction="mean")
    mean.backward()
    assert mean.item() == 0 and leaf.grad.shape == (0, 4)
    assert loss(TWO.half(), TWO.half()).dtype == torch.float16
    with pytest.raises(ValueError, match="'median'"):
        loss(TWO, TWO, reduction="median")
    with pytest.raises(ValueError, match=r"\(2, 4\) and \(1, 4\)"):
        loss(TWO, TWO[:1])
    assert loss(TWO * torch.nan, TWO).isnan().all()  # nothing is hidden


def test_slopes_of_boxes_that_touch_do_not_depend_on_the_version():
    """At width 0 the overlap has no slope; ``clamp`` gives it one in some versions."""
    target = torch.tensor([[0.0, 0, 4, 4]])
    touching = torch.tensor([[4.0, 0, 8, 4]])
    flat = torch.tensor([[1.0, 2, 3, 2]])
    by_hand = {  # 1 - IoU is level; GIoU sees -(area + 16) / hull, with a tie in y
        (B.iou_loss, touching): [0.0, 0, 0, 0],
        (B.iou_loss, flat): [0.0, 0, 0, 0],
        (B.generalized_box_iou_loss, touching): [0.125, 0, 0, 0],
        (B.generalized_box_iou_loss, flat): [0.0, 0.125, 0, -0.125],
    }
    for (loss, boxes), wanted in by_hand.items():
        leaf = boxes.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(leaf, target).sum(), leaf)
        torch.testing.assert_close(slope, torch.tensor([wanted]))
    leaf = touching.clone().requires_grad_()
    (slope,) = torch.autograd.grad(B.box_iou(leaf, target).sum(), leaf)
    assert slope.abs().sum() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name):
    a = random_boxes(6, 7, span=4, dtype=torch.float64).requires_grad_()
    b = random_boxes(6, 8, span=4, dtype=torch.float64)
    if name == "complete_box_iou_loss":
        return  # its alpha is constant in the gradient by design; see torchvision above
    assert torch.autograd.gradcheck(lambda x: getattr(B, name)(x, b), (a,))


# --- suppression ---------------------------------------------------------------------


def plain_nms(boxes, scores, threshold):
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i].item(), i))
    iou, keep = B.box_iou(boxes, boxes), []
    for i in order:
        if all(iou[i, k] <= threshold for k in keep):
            keep.append(i)
    return torch.tensor(keep, dtype=torch.int64)


def test_nms_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert B.nms(boxes, scores, 0.5).tolist() == [0, 1, 2]  # an IoU of 0.5 stays
    assert B.nms(boxes, scores, 0.49).tolist() == [0, 2]
    assert B.nms(boxes, scores.flip(0), 0.49).tolist() == [2, 1]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("levels", [None, 3])
def test_nms_is_the_plain_loop(seed, levels):
    boxes, scores = random_boxes(60, seed), random_scores(60, seed, levels)
    for threshold in (0.0, 0.3, 0.7, 1.0):
        wanted = plain_nms(boxes, scores, threshold)
        assert torch.equal(B.nms(boxes, scores, threshold), wanted)


@pytest.mark.parametrize("seed", range(5))
def test_batched_nms(seed):
    boxes, scores = random_boxes(200, seed), random_scores(200, seed)
    labels = torch.randint(5, (200,), generator=torch.Generator().manual_seed(seed))
    keep = B.batched_nms(boxes, scores, labels, 0.4)
    assert torch.equal(keep, ops.batched_nms(boxes, scores, labels, 0.4))
    assert torch.equal(keep, B.batched_nms(boxes, scores, labels * 10**12 - 7, 0.4))
    assert torch.equal(keep, B.batched_nms(boxes - 500, scores, labels, 0.4))
    alone = B.batched_nms(boxes, scores, torch.arange(200), 0.0)
    assert alone.tolist() == scores.argsort(descending=True, stable=True).tolist()


def test_batched_nms_where_moving_boxes_fails():
    # Left of 0: torchvision moves class 1 by 10 + 1, onto the box of class 0.
    boxes = torch.tensor([[0.0, 0, 10, 10], [-11, -11, -1, -1]])
    scores, labels = torch.tensor([0.9, 0.8]), torch.tensor([0, 1])
    assert ops.batched_nms(boxes, scores, labels, 0.5).tolist() == [0]
    assert B.batched_nms(boxes, scores, labels, 0.5).tolist() == [0, 1]
    # A large label: float32 rounds the moved corners, and two boxes become one.
    boxes = torch.tensor([[0.0, 0, 40, 40], [20, 0, 60, 40], [500, 500, 999, 999]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.full((3,), 1_000_003)
    assert ops.batched_nms(boxes, scores, labels, 0.5).tolist() == [0, 2]
    assert B.batched_nms(boxes, scores, labels, 0.5).tolist() == [0, 1, 2]


def test_soft_nms_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [20, 20, 30, 30]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    keep, lowered = B.soft_nms(boxes, scores, "linear")
    assert keep.tolist() == [0, 2, 1]
    torch.testing.assert_close(lowered, torch.tensor([0.9, 0.7, 0.8 * 0.4]))
    keep, lowered = B.soft_nms(boxes, scores, "gaussian", sigma=0.5)
    wanted = 0.8 * torch.exp(torch.tensor(-0.36 / 0.5))
    assert keep.tolist() == [0, 2, 1]
    torch.testing.assert_close(lowered[2], wanted)
    keep, _ = B.soft_nms(boxes, scores, "linear", score_threshold=0.5)
    assert keep.tolist() == [0, 2]
    assert scores.tolist() == torch.tensor([0.9, 0.8, 0.7]).tolist()


@pytest.mark.parametrize("method", ["gaussian", "linear"])
def test_soft_nms_properties(method):
    boxes, scores = random_boxes(80), random_scores(80)
    keep, lowered = B.soft_nms(boxes, scores, method, score_threshold=0.0)
    assert sorted(keep.tolist()) == list(range(80))
    assert (lowered.diff() <= 0).all() and (lowered <= scores[keep]).all()
    hard, _ = B.soft_nms(boxes, scores, "gaussian", sigma=1e-6, score_threshold=1e-3)
    assert hard.tolist() == B.nms(boxes, scores, 0.0027).tolist()  # nearly disjoint


def test_suppression_of_nothing_and_dtypes():
    none, labels = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert B.nms(EMPTY, none, 0.5).shape == (0,)
    assert B.batched_nms(EMPTY, none, labels, 0.5).shape == (0,)
    keep, lowered = B.soft_nms(EMPTY, none)
    assert keep.shape == lowered.shape == (0,) and keep.dtype == torch.int64
    scores = torch.tensor([0.5, 0.9])
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int32):
        assert B.nms(TWO.to(dtype), scores, 0.1).tolist() == [1]
    assert B.soft_nms(TWO.half(), scores.half())[1].dtype == torch.float16


def test_suppression_refuses():
    scores = torch.tensor([0.5, 0.9])
    for call in (B.nms, lambda b, s, t: B.batched_nms(b, s, torch.tensor([0, 1]), t)):
        with pytest.raises(ValueError, match=r"\(2,\), got \(3,\)"):
            call(TWO, torch.zeros(3), 0.5)
        with pytest.raises(ValueError, match=r"nan at \[1\]"):
            call(TWO, torch.tensor([0.5, torch.nan]), 0.5)
        with pytest.raises(ValueError, match="got 50"):
            call(TWO, scores, 50)
    with pytest.raises(TypeError, match="integers, got torch.float32"):
        B.batched_nms(TWO, scores, torch.zeros(2), 0.5)
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\), got \(1,\)"):
        B.batched_nms(TWO, scores, torch.tensor([1]), 0.5)
    with pytest.raises(ValueError, match="'hard'"):
        B.soft_nms(TWO, scores, "hard")
    with pytest.raises(ValueError, match="sigma"):
        B.soft_nms(TWO, scores, sigma=0)
    with pytest.raises(ValueError, match="got -1"):
        B.soft_nms(TWO, torch.tensor([-1.0, 1]))
    with pytest.raises(ValueError, match="score_threshold"):
        B.soft_nms(TWO, scores, score_threshold=-1)


# --- masks ---------------------------------------------------------------------------


def test_masks_to_boxes():
    masks = torch.zeros(4, 5, 7, dtype=torch.bool)
    masks[0, 2, 3] = True  # one pixel
    masks[1, 1:4, 2:6] = True
    masks[2] = True
    boxes = B.masks_to_boxes(masks)
    wanted = [[3, 2, 4, 3], [2, 1, 6, 4], [0, 0, 7, 5], [0, 0, 0, 0]]
    assert boxes.tolist() == wanted and boxes.dtype == torch.float32
    assert torch.equal(B.masks_to_boxes(masks.byte() * 255), boxes)
    inclusive = ops.masks_to_boxes(masks[:3])
    assert torch.equal(inclusive + torch.tensor([0, 0, 1, 1]), boxes[:3])
    assert B.masks_to_boxes(masks[:0]).shape == (0, 4)
    assert (
        B.masks_to_boxes(torch.zeros(2, 0, 0, dtype=torch.bool)).tolist()
        == [[0] * 4] * 2
    )
    for dtype in (torch.int8, torch.int16, torch.int64):  # not 0 is inside, even -1
        assert torch.equal(B.masks_to_boxes(-masks.to(dtype)), boxes)
    assert torch.equal(B.masks_to_boxes(tv_tensors.Mask(masks)), boxes)
    across = masks.permute(0, 2, 1).contiguous().permute(0, 2, 1)  # other strides
    assert torch.equal(B.masks_to_boxes(across), boxes)
    with pytest.raises(TypeError, match="masks > 0.5"):
        B.masks_to_boxes(masks.float())
    with pytest.raises(ValueError, match=r"\(N, H, W\), got \(5, 7\)"):
        B.masks_to_boxes(masks[0])


def test_mask_iou():
    boxes = random_boxes(12, span=30).round()
    rows, columns = torch.arange(50)[:, None], torch.arange(50)
    masks = torch.stack(
        [
            (columns >= a) & (columns < c) & (rows >= b) & (rows < d)
            for a, b, c, d in boxes
        ]
    )
    torch.testing.assert_close(B.mask_iou(masks, masks), B.box_iou(boxes, boxes))
    assert torch.equal(B.masks_to_boxes(masks), boxes)
    nothing = torch.zeros(1, 50, 50, dtype=torch.bool)
    assert B.mask_iou(nothing, nothing).tolist() == [[0]]
    assert B.mask_iou(masks[:0], masks).shape == (0, 12)
    with pytest.raises(ValueError, match=r"\(50, 50\) and \(50, 49\)"):
        B.mask_iou(masks, masks[..., 1:])


# --- bad boxes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad, error, says",
    [
        ([[0.0, 0, 1, 1]], TypeError, "got list"),
        (torch.zeros(4), ValueError, r"\(N, 4\), got \(4,\)"),
        (torch.zeros(2, 5), ValueError, r"\(N, 4\), got \(2, 5\)"),
        (torch.zeros(2, 4, dtype=torch.bool), TypeError, "torch.bool"),
        (
            torch.tensor([[0.0, 0, 1, 1], [5, 0, 4, 1]]),
            ValueError,
            r"4.0, 1.0\] at \[1\]",
        ),
        (torch.tensor([[0.0, 3, 1, 1]]), ValueError, r"3.0, 1.0, 1.0\] at \[0\]"),
        (torch.tensor([[0, 0, torch.nan, 1]]), ValueError, "nan"),
        (torch.tensor([[0, 0, torch.inf, 1]]), ValueError, "inf"),
    ],
)
def test_bad_boxes_are_named(bad, error, says):
    with pytest.raises(error, match=f"^mine .*{says}"):
        B.check_boxes(bad, "mine")
    for name in [*PAIRWISE, "box_intersection"]:
        with pytest.raises(error, match=says) as raised:
            getattr(B, name)(TWO, bad)
        assert str(raised.value).startswith("boxes2")
    one = torch.ones(2)
    for call in (
        lambda b: B.nms(b, one, 0.5),
        lambda b: B.soft_nms(b, one),
        B.box_area,
        B.check_boxes,
    ):
        with pytest.raises(error, match=says):
            call(bad)


def test_good_boxes_pass_in_silence():
    for boxes in (EMPTY, TWO, TWO.half(), TWO.int(), TWO * 0):
        assert B.check_boxes(boxes) is None
    for anything in (TWO, [1, 2], None):  # nothing here says a format
        assert B.check_format(anything) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_device_follows():
    boxes, scores = random_boxes(50).cuda(), random_scores(50).cuda()
    for name in PAIRWISE:
        assert getattr(B, name)(boxes, boxes).device == boxes.device
    wanted = B.nms(boxes.cpu(), scores.cpu(), 0.5)
    assert torch.equal(B.nms(boxes, scores, 0.5).cpu(), wanted)
    masks = torch.ones(2, 3, 3, dtype=torch.bool).cuda()
    assert B.masks_to_boxes(masks).device == boxes.device
    assert B.soft_nms(boxes, scores)[1].device == boxes.device
