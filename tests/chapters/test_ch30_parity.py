"""Chapter 30's assignment, set loss, model and deformable attention: by hand = library.

The functions and classes come out of the notebook.
"""

import math
from itertools import product

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F
from torchvision import ops

from booktools import chapter_code
from course_utils.detection import box_ops

OURS = chapter_code.definitions(
    "30_detr",
    *("brute_force", "greedy", "total", "hungarian", "corners", "pair_costs", "match"),
    *("set_loss", "total_loss", "nearest", "waves", "cell_centers", "spotlight"),
    *("Reader", "Detr", "read_point", "slow_deformable", "deformable"),
    *("DeformableAttention", "CELLS", "STRIDE"),
)

pytestmark = pytest.mark.usefixtures("one_thread")


def draw(*shape, seed=0, dtype=torch.float64, low=0.0, high=1.0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (drawn * (high - low) + low).to(dtype)


# --- the assignment ------------------------------------------------------------------

TABLES = {
    "small numbers, many ties": lambda n, m, s: draw(n, m, seed=s, high=4).floor(),
    "signs": lambda n, m, s: draw(n, m, seed=s, low=-9, high=9).round(),
    "real": lambda n, m, s: draw(n, m, seed=s),
    "huge": lambda n, m, s: draw(n, m, seed=s, high=1e9).round(),
    "all equal": lambda n, m, s: torch.ones(n, m, dtype=torch.float64),
    "integers": lambda n, m, s: draw(n, m, seed=s, high=50).long(),
    "not contiguous": lambda n, m, s: draw(m, n, seed=s).T,
}
SIZES = [(0, 0), (0, 3), (1, 1), (1, 6), (2, 2), (3, 5), (5, 5), (7, 12), (12, 12)]


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("size", SIZES)
def test_hungarian(kind, size):
    for seed in range(5):
        costs = TABLES[kind](*size, seed)
        columns, u, v = OURS.hungarian(costs)
        assert len(columns) == len(set(columns)) == len(u) == size[0]
        rows, best = linear_sum_assignment(costs)
        wanted = costs[rows, best].sum().item()
        near = {"rel": 1e-12, "abs": 1e-12}
        assert OURS.total(costs, columns) == pytest.approx(wanted, **near)
        assert sum(u) + sum(v) == pytest.approx(wanted, **near)
        u, v = (torch.tensor(x, dtype=torch.float64) for x in (u, v))
        least = (costs - u[:, None] - v).min().item() if costs.numel() else 0.0
        assert least >= -1e-6 and (size[0] == size[1] or (v <= 1e-9).all())


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (4, 4), (2, 6)])
def test_brute_force(size):
    for seed in range(10):
        costs = draw(*size, seed=seed)
        rows, best = linear_sum_assignment(costs)
        assert OURS.brute_force(costs) == tuple(best.tolist())
        assert OURS.total(costs, OURS.greedy(costs)) >= costs[rows, best].sum() - 1e-12


# --- the set loss --------------------------------------------------------------------


def sample(batch, queries, people, dtype=torch.float64, seed=0):
    logits = draw(batch, queries, 2, seed=seed, dtype=dtype, low=-3, high=3)
    boxes = draw(batch, queries, 4, seed=seed + 1, dtype=dtype, low=0.2, high=0.6)
    targets = [
        draw(n, 4, seed=seed + 2 + k, dtype=dtype, low=0.2, high=0.6)
        for k, n in enumerate(people)
    ]
    return logits, boxes, targets


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("queries, people", [(1, 1), (5, 3), (5, 0), (3, 5), (12, 7)])
def test_costs(queries, people, dtype):
    logits, boxes, (target,) = sample(1, queries, [people], dtype)
    costs = OURS.pair_costs(logits[0].requires_grad_(), boxes[0], target)
    assert costs.shape == (queries, people) and not costs.requires_grad
    mine, other = (ops.box_convert(b, "cxcywh", "xyxy") for b in (boxes[0], target))
    overlap = box_ops.generalized_box_iou(mine, other)
    wanted = 5 * torch.cdist(boxes[0], target, p=1) - 2 * overlap
    wanted = wanted - F.softmax(logits[0], -1)[:, [1]]
    assert torch.allclose(costs, wanted.to(dtype), atol=1e-5)


def by_loops(logits, boxes, targets, empty):
    """The set loss, one number at a time."""
    pairs, charged, weights = [], 0.0, 0.0
    for b, target in enumerate(targets):
        costs = OURS.pair_costs(logits[b], boxes[b], target)
        rows, columns = linear_sum_assignment(costs)
        pairs += [(b, i, target[j]) for i, j in zip(rows, columns, strict=True)]
        for q in range(logits.shape[1]):
            label = int(q in rows)
            weight = 1.0 if label else empty
            charged = charged - weight * logits[b, q].log_softmax(0)[label]
            weights += weight
    distance = overlap = boxes.sum() * 0
    for b, i, box in pairs:
        distance = distance + (boxes[b, i] - box).abs().sum()
        mine, other = (
            ops.box_convert(x[None], "cxcywh", "xyxy") for x in (boxes[b, i], box)
        )
        overlap = overlap + 1 - ops.generalized_box_iou(mine, other)[0, 0]
    count = max(len(pairs), 1)
    return {
        "class": charged / weights,
        "distance": 5 * distance / count,
        "overlap": 2 * overlap / count,
    }


@pytest.mark.parametrize("empty", [0.1, 1.0])
@pytest.mark.parametrize("people", [[2], [0], [3, 0, 1], [5, 5], [7]])
def test_set_loss(people, empty):
    logits, boxes, targets = sample(len(people), 5, people)
    found = []
    for function in (OURS.set_loss, by_loops):
        leaves = [x.clone().requires_grad_() for x in (logits, boxes)]
        losses = function(*leaves, targets, empty)
        total = sum(losses.values())
        slopes = torch.autograd.grad(total, leaves, materialize_grads=True)
        found.append((*losses.values(), *slopes))
    for ours, wanted in zip(*found, strict=True):
        assert torch.allclose(ours, wanted, atol=1e-6)  # the library adds 1e-7


def test_pairs_of_a_batch_are_those_of_each_picture():
    logits, boxes, targets = sample(4, 6, [2, 0, 6, 8])
    pairs = OURS.match(logits, boxes, targets)
    for b, (rows, columns) in enumerate(pairs):
        costs = OURS.pair_costs(logits[b], boxes[b], targets[b])
        wanted = linear_sum_assignment(costs)
        assert rows.tolist() == wanted[0].tolist()
        assert columns.tolist() == wanted[1].tolist()


def test_the_order_of_people_and_queries_does_not_count():
    logits, boxes, targets = sample(2, 6, [3, 2])
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    one = OURS.set_loss(logits, boxes, targets)
    other = OURS.set_loss(
        logits[:, order], boxes[:, order], [t.flip(0) for t in targets]
    )
    assert all(torch.allclose(one[k], other[k]) for k in one)


# --- the model -----------------------------------------------------------------------


def model():
    torch.manual_seed(0)
    net = OURS.Detr().double()
    with torch.no_grad():
        for parameter in net.parameters():  # the zeros, too
            parameter += 0.05 * draw(*parameter.shape, seed=1, low=-1)
    return net


def inputs(batch=2, seed=0):
    sizes = torch.tensor([[288, 288], [200, 288], [288, 150]])[:batch]
    return draw(batch, 96, 18, 18, seed=seed, low=-1), sizes


def test_neighbors_do_not_count():
    net, (maps, sizes) = model(), inputs(3)
    together = net(maps, sizes)
    for k in range(3):
        alone = net(maps[k : k + 1], sizes[k : k + 1])
        for a, b in zip(together, alone, strict=True):
            assert torch.allclose(a[0][k], b[0][0]) and torch.allclose(a[1][k], b[1][0])


def test_no_pictures():
    maps, sizes = inputs(0)
    assert model()(maps, sizes)[-1][1].shape == (0, 12, 4)


def test_hidden_tokens_are_not_read():
    net = model()
    maps, sizes = inputs(2)
    net(maps, sizes)
    outside = torch.arange(OURS.CELLS) * OURS.STRIDE >= 200
    tables = [net.encoder[0][0].table, net.decoder[-1][1].table]
    for table in tables:
        rows = table[1].unflatten(-1, (OURS.CELLS, OURS.CELLS))
        assert not rows[..., outside, :].any() and rows[..., ~outside, :].any()
        assert torch.allclose(table.sum(-1), torch.ones_like(table[..., 0]))


def test_queries_in_another_order():
    net, (maps, sizes) = model(), inputs()
    answers = net(maps, sizes)[-1]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        net.content.copy_(net.content[order])
        net.reference.copy_(net.reference[order])
    for a, b in zip(answers, net(maps, sizes)[-1], strict=True):
        assert torch.allclose(a[:, order], b)


@pytest.mark.parametrize("apart", [False, True])
def test_queries_kept_apart_do_not_read_one_another(apart):
    net, (maps, sizes) = model(), inputs()
    mask = ~torch.eye(12, dtype=torch.bool) if apart else None
    logits, _ = net(maps, sizes, mask)[-1]
    (slope,) = torch.autograd.grad(logits[:, 0].square().sum(), net.content)
    assert slope[0].any() and bool(slope[1:].any()) != apart


def test_a_new_model_answers_with_its_references():
    net = OURS.Detr()
    for _, boxes in net(*(x.float() for x in inputs())):
        wanted = net.reference.sigmoid().expand_as(boxes)
        assert torch.allclose(boxes, wanted, atol=1e-5)


def test_every_layer_is_charged():
    net, (maps, sizes) = model(), inputs()
    targets = [draw(n, 4, seed=n, low=0.2, high=0.6) for n in (3, 1)]
    answers = net(maps, sizes)
    each = [sum(OURS.set_loss(*answer, targets).values()) for answer in answers]
    assert torch.allclose(OURS.total_loss(answers, targets), sum(each))
    OURS.total_loss(answers, targets).backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_a_bell_is_symmetric_and_falls():
    flat = torch.zeros(1, 1, OURS.CELLS**2, dtype=torch.float64)
    box = torch.tensor([[[0.5, 0.5, 0.2, 0.4]]], dtype=torch.float64)
    bell = OURS.spotlight(torch.zeros(1, 1, 1, 4).double(), box, flat)
    bell = bell.reshape(OURS.CELLS, OURS.CELLS)
    assert torch.allclose(bell, bell.flip(0)) and torch.allclose(bell, bell.flip(1))
    assert (bell[4:].diff(dim=0) <= 0).all() and (bell[:, 4:].diff(dim=1) <= 0).all()


# --- deformable attention ------------------------------------------------------------

SHAPES = {  # batch, heads, channels, queries, points, levels
    "one of everything": (1, 1, 1, 1, 1, [(3, 4)]),
    "heads": (2, 3, 2, 4, 2, [(5, 3)]),
    "levels": (1, 2, 2, 3, 4, [(6, 6), (3, 3), (1, 1)]),
    "no queries": (1, 2, 2, 0, 3, [(4, 4)]),
    "no pictures": (0, 2, 2, 3, 1, [(4, 4)]),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", SHAPES)
def test_deformable(name, dtype):
    batch, heads, channels, queries, points, sizes = SHAPES[name]
    levels = [
        draw(batch, heads, channels, *size, seed=k, dtype=dtype)
        for k, size in enumerate(sizes)
    ]
    shape = batch, heads, queries, len(sizes), points
    places = draw(*shape, 2, seed=9, dtype=dtype, low=-0.3, high=1.3)
    weights = draw(*shape, seed=10, dtype=dtype)
    leaves = [x.requires_grad_() for x in (*levels, weights)]
    found = []
    for function in (OURS.deformable, OURS.slow_deformable):
        out = function(levels, places, weights)
        assert out.shape == (batch, queries, heads * channels)
        if out.requires_grad:
            slopes = torch.autograd.grad(
                out.square().sum(), leaves, materialize_grads=True
            )
        else:
            slopes = [torch.zeros_like(x) for x in leaves]
        found.append((out, *slopes))
    within = 1e-12 if dtype == torch.float64 else 1e-4
    for ours, wanted in zip(*found, strict=True):
        assert torch.allclose(ours, wanted, rtol=within, atol=within)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (6, 5)])
def test_deform_conv2d(size):
    height, width = size
    value, mask = draw(1, 3, *size), draw(1, 9, *size, seed=1)
    offset = draw(1, 18, *size, seed=2, low=-2, high=2)
    weight = torch.ones(3, 1, 3, 3, dtype=torch.float64)
    wanted = ops.deform_conv2d(value, offset, weight, padding=1, mask=mask)
    places = torch.zeros(1, 1, height * width, 1, 9, 2, dtype=torch.float64)
    for i, j, k in product(range(height), range(width), range(9)):
        dy, dx = offset[0, 2 * k : 2 * k + 2, i, j].tolist()
        x = (j + k % 3 - 1 + dx + 0.5) / width
        y = (i + k // 3 - 1 + dy + 0.5) / height
        places[0, 0, i * width + j, 0, k] = torch.tensor([x, y])
    shares = mask.flatten(2).mT.reshape(1, 1, -1, 1, 9)
    ours = OURS.deformable([value[:, None]], places, shares)
    assert torch.allclose(ours[0].T.reshape(wanted.shape), wanted, atol=1e-12)


def test_a_module_of_one_point_reads_the_reference():
    layer = OURS.DeformableAttention(4, 1, 1, 1).double()
    with torch.no_grad():
        layer.offset.bias.zero_()
        for part in (layer.value, layer.out):
            part.weight.copy_(torch.eye(4))
            part.bias.zero_()
    value = draw(1, 4, 3, 5)
    centers = torch.tensor([[[0.5 / 5, 0.5 / 3], [4.5 / 5, 2.5 / 3]]]).double()
    out = layer(draw(1, 2, 4), centers, [value])
    assert torch.allclose(out[0], value[0, :, [0, 2], [0, 4]].T)


def test_a_point_by_hand():
    steps = torch.tensor([[[0.0, 1, 2], [10, 11, 12]]])
    for x, y, wanted in (
        (0.5, 0.25, 1),
        (1 / 3, 0.25, 0.5),
        (0.5, 0.5, 6),
        (1, 0.25, 1),
    ):
        assert math.isclose(OURS.read_point(steps, x, y).item(), wanted, abs_tol=1e-5)
    assert OURS.read_point(steps, 7.0, -3.0).item() == 0
