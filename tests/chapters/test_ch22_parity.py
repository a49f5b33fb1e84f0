"""Chapter 22's parts against the library, on more inputs than the page shows."""

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision import ops

from booktools import chapter_code
from course_utils.detection import models

OURS = chapter_code.definitions(
    "22_detection_overview",
    *("side", "window", "filters", "edges", "cut", "look_around", "look_once"),
    *("scales", "windows", "propose"),
    *("shape_iou", "kmeans", "look", "mirrored", "center_targets", "heat_loss"),
    *("center_loss", "center_decode", "CenterDetector", "GridDetector"),
    *("grid_targets", "grid_loss", "grid_decode", "evaluate", "train"),
)

pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def apart(n, seed):
    """Boxes (n, 4) inside 256 pixels whose centers are at least 48 pixels apart."""
    g = generator(seed)
    place = torch.randperm(25, generator=g)[:n]
    center = torch.stack([place % 5, place // 5], 1) * 48 + 32.0
    center += 6 * torch.rand(n, 2, generator=g)
    half = 4 + 18 * torch.rand(n, 2, generator=g)
    return torch.cat([center - half, center + half], dim=1)


@pytest.mark.parametrize("size", [(66, 26), (70, 26), (67, 29), (90, 61), (133, 200)])
def test_windows_are_one_convolution(size):
    g = generator(sum(size))
    picture = torch.rand(3, *size, generator=g)
    kernel = torch.randn(1, 8, 16, 6, generator=g)
    bias = torch.randn((), generator=g)
    loop = OURS.look_around(picture, kernel, bias)
    assert loop.shape == ((size[0] - 66) // 4 + 1, (size[1] - 26) // 4 + 1)
    torch.testing.assert_close(
        OURS.look_once(picture, kernel, bias), loop, rtol=1e-4, atol=1e-4
    )


def test_cut_fills_the_window_with_the_box():
    x = (torch.arange(256.0) + 0.5).expand(256, 256)  # the middles of pixels
    places = torch.stack([x, x.mT, torch.zeros(256, 256)])
    window = OURS.cut(places, torch.tensor([100.0, 40, 150, 172]))  # 132 high
    columns = 125 + (torch.arange(26) + 0.5 - 13) * 2  # twice as large
    rows = 40 + (torch.arange(66) + 0.5) * 2
    torch.testing.assert_close(window[0], columns.expand(66, 26), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        window[1], rows[:, None].expand(66, 26), rtol=0, atol=1e-3
    )


def test_edges_tell_directions():
    bright = torch.zeros(1, 3, 66, 26)
    bright[..., 13:] = 1  # brighter to the right: direction 0
    lower = torch.zeros(1, 3, 66, 26)
    lower[:, :, 33:] = 1  # brighter below: a quarter turn, direction 2
    for image, first in ((bright, 0), (lower, 2)):
        assert OURS.edges(image).sum(dim=(0, 2, 3)).argmax() == first
        assert OURS.edges(1 - image).sum(dim=(0, 2, 3)).argmax() == first + 4


def test_windows_are_boxes_of_the_picture():
    maps = [torch.full((9, 7), -1.0) for _ in OURS.scales]
    for heat in maps:
        heat[5, 2] = 1
    boxes, scores = OURS.windows(maps, 0.5)
    for box, s in zip(boxes.tolist(), OURS.scales, strict=True):
        expect = [8 / s, 20 / s, 34 / s, 86 / s]
        assert box == pytest.approx(expect, rel=1e-5)
    assert scores.tolist() == [1.0] * 4


def test_padding_breaks_the_equality():
    g = generator(1)
    picture = torch.rand(3, 90, 61, generator=g)
    kernel, bias = torch.randn(1, 8, 16, 6, generator=g), torch.zeros(())
    padded = F.pad(picture, (1, 1, 1, 1))[:, :90, :61]
    off = OURS.look_once(padded, kernel, bias) - OURS.look_around(picture, kernel, bias)
    assert off.abs().max() > 0.01


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (40, 33), (64, 64)])
def test_each_merge_makes_one_region(size):
    image = torch.rand(3, 64, 64, generator=generator(2))
    boxes = OURS.propose(image, size)
    cells = (size[0] // 16) * (size[1] // 16)
    assert len(boxes) == 2 * cells - 1
    whole = [0.0, 0.0, size[1] // 16 * 16.0, size[0] // 16 * 16.0]
    assert boxes[-1].tolist() == whole
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_two_colors_are_two_regions():
    image = torch.zeros(3, 64, 64)
    image[:, 16:48, 16:32] = 1
    boxes = OURS.propose(image, (64, 64))
    assert [16.0, 16.0, 32.0, 48.0] in boxes.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_iou(dtype):
    sizes = 100 * torch.rand(30, 2, generator=generator(3), dtype=dtype) + 1
    placed = torch.cat([torch.zeros_like(sizes), sizes], dim=1)
    expect = ops.box_iou(placed, placed[:7])
    torch.testing.assert_close(OURS.shape_iou(sizes, sizes[:7]), expect)
    assert OURS.shape_iou(sizes[:0], sizes).shape == (0, 30)


def test_kmeans_finds_separate_groups():
    g = generator(4)
    means = torch.tensor([[10.0, 30], [40, 60], [90, 20]], dtype=torch.float64)
    sizes = means.repeat_interleave(20, 0) + torch.rand(60, 2, generator=g)
    found = OURS.kmeans(sizes, 3)
    expect = sizes.reshape(3, 20, 2).mean(dim=1)
    found, expect = (sorted(rows.tolist()) for rows in (found, expect))
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expect))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.1, 1.0, 6.0])
def test_heat_loss_without_bumps_is_focal_loss(dtype, scale):
    g = generator(5)
    logits = scale * torch.randn(3, 9, 7, generator=g, dtype=dtype)
    logits = logits.clamp(-9, 9)  # where p is not cut
    heat = (torch.rand(3, 9, 7, generator=g) < 0.2).to(dtype)
    results = []
    for loss in (
        OURS.heat_loss,
        lambda z, t: ops.sigmoid_focal_loss(z, t, alpha=-1, gamma=2, reduction="sum"),
    ):
        z = logits.clone().requires_grad_()
        value = loss(z, heat)
        results.append((value.detach(), *torch.autograd.grad(value, z)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_losses_by_hand():
    g = generator(11)
    logits = torch.randn(1, 32, 32, generator=g, dtype=torch.float64)
    offset, size = torch.randn(2, 1, 2, 32, 32, generator=g, dtype=torch.float64)
    targets = [p[None].double() for p in OURS.center_targets(apart(5, 12))]
    heat = targets[0]
    total = weights = off = wrong = 0.0
    for r in range(32):
        for c in range(32):
            p = 1 / (1 + math.exp(-logits[0, r, c].item()))
            t = heat[0, r, c].item()
            if t == 1:
                total -= (1 - p) ** 2 * math.log(p)
            else:
                total -= (1 - t) ** 4 * p**2 * math.log(1 - p)
            if t > 0.5:
                weights += t
                for k in range(2):
                    off += t * abs(offset[0, k, r, c] - targets[1][0, k, r, c]).item()
                    wrong += t * abs(size[0, k, r, c] - targets[2][0, k, r, c]).item()
    assert OURS.heat_loss(logits, heat).item() == pytest.approx(total)
    value = OURS.center_loss((logits, offset, size), targets).item()
    assert value == pytest.approx(total / 5 + off / weights + 0.1 * wrong / weights)

    grids = torch.stack([OURS.grid_targets(apart(n, n)) for n in (0, 4)])
    outputs = torch.randn(2, 5, 8, 8, generator=g)
    value = 0.0
    for n, r, c in torch.cartesian_prod(*map(torch.arange, (2, 8, 8))).tolist():
        square = ((outputs[n, :, r, c] - grids[n, :, r, c]) ** 2).tolist()
        there = grids[n, 0, r, c] == 1
        value += square[0] + 5 * sum(square[1:]) if there else 0.5 * square[0]
    assert OURS.grid_loss(outputs, [grids]).item() == pytest.approx(value / 2, rel=1e-4)


def test_bumps_by_hand():
    """Wider for larger boxes; the higher of two counts; the smaller box is learned."""
    boxes = torch.tensor([[100.0, 40, 140, 160], [110, 60, 150, 120]])
    heat, offset, size = OURS.center_targets(boxes)
    for r in range(6, 20):
        for c in range(8, 24):
            bumps = []
            for x1, y1, x2, y2 in (boxes / 8).tolist():
                column, row = int((x1 + x2) / 2), int((y1 + y2) / 2)
                wide, high = (max(0.1 * s, 0.3) for s in (x2 - x1, y2 - y1))
                far = ((c - column) / wide) ** 2 + ((r - row) / high) ** 2
                bumps.append(math.exp(-far / 2))
            assert heat[r, c].item() == pytest.approx(max(bumps), rel=1e-4, abs=1e-12)
            for k in (0, 1):  # the smaller box last
                if bumps[k] > 0.5:
                    x1, y1, x2, y2 = (boxes[k] / 8).tolist()
                    expect = [(x1 + x2) / 2 - c - 0.5, (y1 + y2) / 2 - r - 0.5]
                    measured = [x2 - x1, y2 - y1]
            if max(bumps) > 0.5:
                assert offset[:, r, c].tolist() == pytest.approx(expect, abs=1e-4)
                assert size[:, r, c].tolist() == pytest.approx(measured, abs=1e-4)


def test_heat_loss_stays_finite():
    z = torch.tensor([-1e4, -1e4, 1e4, 1e4]).requires_grad_()
    value = OURS.heat_loss(z, torch.tensor([0.0, 1, 0, 1]))
    (slope,) = torch.autograd.grad(value, z)
    assert value.isfinite() and slope.isfinite().all()


@pytest.mark.parametrize("n", [0, 1, 2, 7, 20])
def test_center_targets_come_back(n):
    boxes = apart(n, seed=n)
    heat, offset, size = (part[None] for part in OURS.center_targets(boxes))
    assert (heat == 1).sum() == n
    found, scores = OURS.center_decode((heat.logit(1e-4), offset, size))
    kept = found[0][scores[0] > 0.99]
    assert len(kept) == n
    order = [rows[:, 0].argsort() for rows in (kept, boxes)]
    torch.testing.assert_close(kept[order[0]], boxes[order[1]], rtol=0, atol=1e-3)


def test_a_center_on_the_border_has_a_cell():
    heat, _, _ = OURS.center_targets(torch.tensor([[246.0, 246, 266, 266]]))
    assert heat[31, 31] == 1
    target = OURS.grid_targets(torch.tensor([[246.0, 246, 266, 266]]))
    assert target[0, 7, 7] == 1


@pytest.mark.parametrize("n", [0, 1, 2, 6])
def test_grid_targets_come_back(n):
    boxes = apart(n, seed=n + 40)
    target = OURS.grid_targets(boxes)[None]
    (found,), (scores,) = OURS.grid_decode(target)
    kept = found[scores == 1]
    assert len(kept) == n
    order = [rows[:, 0].argsort() for rows in (kept, boxes)]
    torch.testing.assert_close(kept[order[0]], boxes[order[1]], rtol=0, atol=1e-3)


def test_the_peaks_are_those_of_a_loop():
    g = generator(6)
    logits = torch.randint(-4, 4, (2, 32, 32), generator=g).float()  # many ties
    empty = torch.zeros(2, 2, 32, 32)
    heat = logits.sigmoid()
    for k in range(2):
        loop = []
        for r in range(32):
            for c in range(32):
                around = heat[k, max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2]
                if heat[k, r, c] == around.max():
                    loop.append(heat[k, r, c])
        loop = torch.stack(sorted(loop, reverse=True))
        _, scores = OURS.center_decode((logits, empty, empty), count=len(loop))
        torch.testing.assert_close(scores[k], loop, rtol=0, atol=0)


def test_losses_vanish_at_the_targets_and_reach_every_part():
    boxes = [apart(3, 1), apart(0, 2)]
    targets = [
        torch.stack(p) for p in zip(*map(OURS.center_targets, boxes), strict=True)
    ]
    sure = (targets[0].eq(1).float().logit(1e-4), targets[1], targets[2])
    assert OURS.center_loss(sure, targets) < 0.1
    grids = torch.stack([OURS.grid_targets(b) for b in boxes])
    assert OURS.grid_loss(grids, [grids]) == 0
    features = torch.randn(2, 96, 32, 32, generator=generator(7))
    for model, loss, true in (
        (OURS.CenterDetector(), OURS.center_loss, targets),
        (OURS.GridDetector(), OURS.grid_loss, [grids]),
    ):
        loss(model(features), true).backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_a_batch_without_objects_trains():
    targets = [part[None] for part in OURS.center_targets(torch.zeros(0, 4))]
    features = torch.randn(1, 96, 32, 32, generator=generator(8))
    model = OURS.CenterDetector()
    loss = OURS.center_loss(model(features), targets)
    loss.backward()
    assert loss.isfinite() and loss > 0


def test_mirrored_twice_is_the_same():
    images = torch.zeros(2, 3, 256, 256)
    images[:, :, :100, :80] = torch.rand(2, 3, 100, 80, generator=generator(9))
    boxes, sizes = [apart(3, 1) / 4, torch.zeros(0, 4)], [(100, 80), (100, 80)]
    once = OURS.mirrored(images, boxes, sizes)
    again, back = OURS.mirrored(*once, sizes)
    assert torch.equal(again, images)
    for one, other in zip(back, boxes, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_the_truth_scores_one():
    truths = [apart(3, 1), apart(1, 2)]
    scores = [torch.ones(3), torch.ones(1)]
    marks = OURS.evaluate(truths, scores, truths, [(256, 256)] * 2)
    assert marks["AP"] == pytest.approx(1)
    none = OURS.evaluate(
        [t[:0] for t in truths], [s[:0] for s in scores], truths, [(256, 256)] * 2
    )
    assert none["AP"] == 0


def test_our_way_through_the_pyramid():
    body = models.mask_rcnn_mobilenet(2, "shapes").backbone.eval()
    images = torch.rand(1, 3, 128, 128, generator=generator(10))
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad():
        whole = body((images - mean) / std)["1"]
    torch.testing.assert_close(OURS.look(body, images), whole, rtol=1e-4, atol=1e-4)
