"""Chapter 26's parts against torchvision's, values and gradients, and that it bites.

The functions come out of the notebook. Where both sides do the same operations they
must be equal to the bit; where one sums in another order, within a few roundings.
"""

import ast
import inspect
import textwrap

import pytest
import torch
from torch import nn
from torchvision import ops
from torchvision.models.detection import _utils, roi_heads
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops.poolers import LevelMapper

from booktools import chapter_code

CHAPTER = "26_anchors_and_proposals"
NAMES = [
    *("cell_anchors", "grid_anchors", "encode", "decode", "match", "sample"),
    *("cross_entropy_of_logits", "smooth_l1", "rpn_losses", "propose", "pyramid"),
    *("level_of", "bins", "quantized_pool", "bilinear", "roi_align"),
    *("training_sample", "box_losses", "mask_loss", "detect", "paste"),
]
OURS = chapter_code.definitions(CHAPTER, *NAMES)


pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed):
    return torch.Generator().manual_seed(seed)


def boxes(n, seed, low=0.0, high=200.0, dtype=torch.float32):
    """Boxes of 1 to 90 pixels a side whose corners start between low and high."""
    draw = torch.rand(n, 4, generator=generator(seed), dtype=torch.float64)
    corner = low + (high - low) * draw[:, :2]
    return torch.cat([corner, corner + 1 + 89 * draw[:, 2:]], dim=1).to(dtype)


def close(ours, library, within=1e-6):
    assert ours.shape == library.shape and ours.dtype == library.dtype
    torch.testing.assert_close(ours, library, rtol=within, atol=within)


# --- anchors and offsets -------------------------------------------------------------

SHAPES = [
    ((64, 96), ((20,), (40,)), (1.0, 2.0, 3.5), ((16, 24), (8, 12))),
    ((288, 320), ((240,),), (1.0, 2.0, 3.5), ((5, 5),)),  # 288 // 5 is 57, not 64
    ((50, 70), ((32, 64),), (0.5, 1.0, 2.0), ((7, 9),)),
    ((32, 32), ((33,),), (0.3,), ((1, 1),)),  # odd sides: halves are rounded
]


@pytest.mark.parametrize("canvas, sizes, ratios, grids", SHAPES)
def test_anchors(canvas, sizes, ratios, grids):
    ours = torch.cat(
        [
            OURS.grid_anchors(OURS.cell_anchors(size, ratios), grid, canvas)
            for size, grid in zip(sizes, grids, strict=True)
        ]
    )
    images = ImageList(torch.zeros(1, 3, *canvas), [canvas])
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    library = AnchorGenerator(sizes, (ratios,) * len(sizes))(images, maps)[0]
    assert torch.equal(ours, library)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
@pytest.mark.parametrize("n", [0, 1, 200])
def test_offsets(dtype, weights, n):
    a, b = boxes(n, 1, dtype=dtype), boxes(n, 2, dtype=dtype)
    coder = _utils.BoxCoder(weights)
    code = OURS.encode(a, b, weights)
    within = 1e-5 if dtype == torch.float32 else 1e-12
    close(code, coder.encode_single(a, b), within * 10)
    close(OURS.decode(code, b, weights), coder.decode_single(code, b), within)
    close(OURS.decode(code, b, weights), a, 1e-4)
    wild = 100 * torch.randn(n, 4, generator=generator(3), dtype=dtype)
    close(OURS.decode(wild, b, weights), coder.decode_single(wild, b), within)


# --- matching and sampling -----------------------------------------------------------


@pytest.mark.parametrize("rescue", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_match_ties_and_thresholds(rescue, seed):
    objects, anchors = 1 + seed % 5, 1 + 3 * seed
    steps = torch.randint(11, (objects, anchors), generator=generator(seed)) / 10
    steps += 1e-4 * torch.arange(objects)[:, None]  # no tie within a column
    steps[0, 0], steps[0, -1] = 0.7, 0.3
    library = _utils.Matcher(0.7, 0.3, allow_low_quality_matches=rescue)(steps)
    assert torch.equal(OURS.match(steps, rescue=rescue), library)


@pytest.mark.parametrize("counts", [(0, 300), (5, 300), (200, 300), (200, 3), (0, 0)])
@pytest.mark.parametrize("total, fraction", [(128, 0.5), (64, 0.25), (7, 0.5)])
def test_sample(counts, total, fraction):
    labels = torch.cat([torch.ones(counts[0]), torch.zeros(counts[1]), -torch.ones(9)])
    labels = labels[torch.randperm(len(labels), generator=generator(0))]
    torch.manual_seed(3)
    library = _utils.BalancedPositiveNegativeSampler(total, fraction)([labels])
    ours = OURS.sample(labels, total, fraction, generator(3))
    for index, mask in zip(ours, library, strict=True):
        assert torch.equal(index.sort().values, mask[0].nonzero()[:, 0])
        assert len(index.unique()) == len(index)


# --- the RPN -------------------------------------------------------------------------


def network(batch=32):
    return RegionProposalNetwork(
        AnchorGenerator(((32,),), ((1.0,),)),
        RPNHead(8, 1),
        *(0.7, 0.3, batch, 0.5),
        pre_nms_top_n={"training": 60, "testing": 40},
        post_nms_top_n={"training": 50, "testing": 30},
        nms_thresh=0.7,
    )


@pytest.mark.parametrize("positives", [0, 4, 40])
def test_rpn_losses(positives):
    n = 120
    labels = torch.zeros(n)
    labels[:positives], labels[positives : positives + 10] = 1, -1
    wanted = torch.randn(n, 4, generator=generator(1))
    rpn, results = network(), []  # built before the seed: its weights are drawn
    for ours in (True, False):
        leaves = [
            (3 * torch.randn(n, k, generator=generator(k))).requires_grad_()
            for k in (1, 4)
        ]
        torch.manual_seed(5)
        if ours:
            drawn = OURS.sample(labels, 32, 0.5)
            args = leaves[0][:, 0], leaves[1], labels, wanted
            losses = OURS.rpn_losses(*args, *drawn)
        else:
            losses = rpn.compute_loss(*leaves, [labels], [wanted])
        slopes = torch.autograd.grad(sum(losses), leaves)
        results.append([*losses, *slopes])
    for ours, library in zip(*results, strict=True):
        close(ours, library, 1e-5)


def test_cross_entropy_far_out():
    logits = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4])
    for label in (0.0, 0.3, 1.0):
        labels = torch.full((5,), label)
        library = nn.functional.binary_cross_entropy_with_logits(
            logits, labels, reduction="none"
        )
        close(OURS.cross_entropy_of_logits(logits, labels), library)


@pytest.mark.parametrize("counts", [(300, 80, 20), (10, 5), (1,)])
@pytest.mark.parametrize("training", [True, False])
def test_proposals(counts, training):
    n, size = sum(counts), (150, 210)
    candidates = boxes(n, 6, -60, 220)
    candidates[::7, 2] = candidates[::7, 0]  # no width
    # Scores at least 0.01 apart.
    order = torch.randperm(n, generator=generator(7))
    logits = 0.01 * order.float() - 2
    rpn = network().train(training)
    library = rpn.filter_proposals(candidates[None], logits[None], [size], list(counts))
    before, after = (60, 50) if training else (40, 30)
    ours = OURS.propose(candidates, logits, counts, size, before, after)
    close(ours[0], library[0][0])
    close(ours[1], library[1][0])


# --- the pyramid ---------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [((16, 20), (8, 10), (4, 5)), ((13, 9), (7, 5))])
def test_pyramid(sizes):
    widths = [8, 12, 16][: len(sizes)]
    fpn = ops.FeaturePyramidNetwork(
        widths, 6, ops.feature_pyramid_network.LastLevelMaxPool()
    )
    maps = [
        torch.randn(2, width, *size, generator=generator(width))
        for width, size in zip(widths, sizes, strict=True)
    ]
    library = fpn({str(i): level for i, level in enumerate(maps)})
    ours = OURS.pyramid(maps, fpn.inner_blocks, fpn.layer_blocks)
    for a, b in zip(ours, library.values(), strict=True):
        close(a, b, 1e-5)


def test_level_of_a_box():
    sides = torch.tensor([1.0, 55, 56, 111, 112, 113, 223, 224, 447, 448, 5000])
    square = torch.stack([0 * sides, 0 * sides, sides, sides], dim=1)
    mixed = torch.cat([square, boxes(3000, 8), 5 * boxes(3000, 9)])
    for lowest, highest in ((2, 5), (3, 4)):
        library = LevelMapper(lowest, highest)([mixed])
        assert torch.equal(OURS.level_of(mixed, lowest, highest), library)
    assert len(OURS.level_of(mixed[:0])) == 0


# --- cutting boxes out ---------------------------------------------------------------


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("size, scale", [(7, 0.25), (1, 1.0), (14, 1 / 16)])
def test_roi_align(aligned, ratio, size, scale):
    feature = torch.randn(2, 20, 28, generator=generator(1), dtype=torch.float64)
    some = boxes(12, 2, -60, 140, torch.float64)
    some = torch.cat([some, torch.tensor([[500.0, 500, 600, 600], [-900, 0, -800, 9]])])
    leaf = feature.requires_grad_()
    ours = torch.stack(
        [OURS.roi_align(leaf, box, size, scale, ratio, aligned) for box in some]
    )
    library = ops.roi_align(leaf[None], [some], size, scale, ratio, aligned)
    close(ours, library, 1e-9)
    slopes = [torch.autograd.grad((cut**2).sum(), leaf)[0] for cut in (ours, library)]
    close(*slopes, 1e-9)


@pytest.mark.parametrize("size, scale", [(7, 0.25), (3, 0.25), (2, 1 / 16)])
def test_roi_pool(size, scale):
    feature = torch.randn(2, 80, 80, generator=generator(1))
    some = boxes(40, 3, 0, 200)
    ours = torch.stack([OURS.quantized_pool(feature, box, size, scale) for box in some])
    close(ours, ops.roi_pool(feature[None], [some], size, scale))


# --- the heads -----------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[0, 2, 1, 0], [0, 0, 0, 0], [1, 1, 2, 2]])
def test_box_losses(labels):
    labels = torch.tensor(labels)
    logits = (5 * torch.randn(4, 3, generator=generator(1))).requires_grad_()
    offsets = torch.randn(4, 12, generator=generator(2)).requires_grad_()
    wanted = torch.randn(4, 4, generator=generator(3))
    ours = OURS.box_losses(logits, offsets, labels, wanted)
    library = roi_heads.fastrcnn_loss(logits, offsets, [labels], [wanted])
    for a, b in zip(ours, library, strict=True):
        close(a, b)
    slopes = [torch.autograd.grad(sum(x), (logits, offsets)) for x in (ours, library)]
    for a, b in zip(*slopes, strict=True):
        close(a, b)


def detector(most=50):
    """The heads of a detector, for what they do besides their layers."""
    return roi_heads.RoIHeads(
        None, None, None, 0.5, 0.5, 64, 0.25, None, 0.05, 0.5, most
    )


@pytest.mark.parametrize("n", [0, 3, 150])
def test_training_sample(n):
    proposals, true, labels = boxes(n, 5), boxes(4, 6), torch.tensor([1, 2, 1, 3])
    near = true.repeat(8, 1) + 0.5 * torch.rand(32, 4, generator=generator(1))
    proposals = torch.cat([proposals, near])  # more positives than are drawn
    torch.manual_seed(7)
    ours = OURS.training_sample(proposals, true, labels)
    torch.manual_seed(7)
    targets = [{"boxes": true, "labels": labels}]
    library = detector().select_training_samples([proposals], targets)
    for part, theirs in zip(ours, (library[0], library[2], library[3]), strict=True):
        close(part, theirs[0], 1e-5)


@pytest.mark.parametrize("n, classes, most", [(0, 3, 50), (90, 2, 99), (90, 5, 7)])
def test_detections(n, classes, most):
    proposals = boxes(n, 5, -40, 160)
    logits = 3 * torch.randn(n, classes, generator=generator(1))
    offsets = 2 * torch.randn(n, 4 * classes, generator=generator(2))
    ours = OURS.detect(logits, offsets, proposals, (150, 170), most=most)
    library = detector(most).postprocess_detections(
        logits, offsets, [proposals], [(150, 170)]
    )
    for part, theirs in zip(ours, library, strict=True):
        close(part, theirs[0], 1e-5)


def test_mask_loss():
    logits = torch.randn(5, 3, 28, 28, generator=generator(1)).requires_grad_()
    masks = (torch.rand(2, 90, 120, generator=generator(2)) > 0.5).float()
    places, owner = boxes(5, 3, 0, 60), torch.tensor([0, 1, 1, 0, 1])
    labels = torch.tensor([1, 2])
    aims = torch.stack(
        [
            OURS.roi_align(masks[i][None], box, 28, ratio=0, aligned=False)[0]
            for i, box in zip(owner, places, strict=True)
        ]
    )
    ours = OURS.mask_loss(logits, labels[owner], aims)
    library = roi_heads.maskrcnn_loss(logits, [places], [masks], [labels], [owner])
    close(ours, library, 1e-5)
    slopes = [torch.autograd.grad(x, logits)[0] for x in (ours, library)]
    close(*slopes, 1e-5)


@pytest.mark.parametrize("m", [1, 7, 28])
def test_paste(m):
    places = boxes(20, 4, -40, 90)
    places = torch.cat([places, torch.tensor([[5.2, 5.2, 5.4, 5.4]])])  # a speck
    masks = torch.rand(len(places), m, m, generator=generator(m))
    inside = (places[:, 2:] > 3).all(1) & (places[:, :2] < 70).all(1)
    masks, places = masks[inside], places[inside]
    ours = [OURS.paste(a, box, 77, 99) for a, box in zip(masks, places, strict=True)]
    library = roi_heads.paste_masks_in_image(masks[:, None], places, (77, 99))
    close(torch.stack(ours)[:, None], library)


# --- a test that cannot fail proves nothing ------------------------------------------

MISTAKES = [
    ("cell_anchors", "sizes / roots, sizes * roots", "sizes * roots, sizes / roots"),
    ("cell_anchors", ".round()", ""),
    ("grid_anchors", "canvas[0] // grid[0]", "canvas[0] / grid[0]"),
    ("grid_anchors", "[x, y, x, y]", "[y, x, y, x]"),
    ("encode", "(w / wa).log()", "(wa / w).log()"),
    ("decode", "math.log(1000 / 16)", "math.log(1000)"),
    ("match", "best < high", "best <= high"),
    ("match", "best < low", "best <= low"),
    ("match", "favorite.any(dim=0)", "favorite.all(dim=0)"),
    ("sample", "total - n", "total - int(total * fraction)"),
    ("sample", "labels == 0", "labels <= 0"),
    ("smooth_l1", "beta / 2)", "beta)"),
    ("rpn_losses", "/ len(drawn)", "/ max(len(positive), 1)"),
    ("cross_entropy_of_logits", "-logits.abs()", "-logits"),
    ("propose", "image(boxes[best], size)", "image(boxes[best], size[::-1])"),
    ("propose", "[:after]", ""),
    ("propose", ">= 0.001", ">= -1"),
    ("pyramid", "+ above", "+ 0 * above"),
    ("pyramid", "::2, ::2", "1::2, ::2"),
    ("level_of", "+ 1e-06", "- 1e-06"),
    ("bins", "high - low + 1", "high - low"),
    ("bilinear", "y < -1", "y < 0"),
    ("bilinear", "x > width", "x > width - 1"),
    ("roi_align", "0.5 if aligned else 0", "0"),
    ("roi_align", "clamp(min=1)", "clamp(min=0)"),
    ("training_sample", "torch.cat([proposals, boxes])", "proposals"),
    ("training_sample", "0.5, 0.5", "0.7, 0.5"),
    ("training_sample", "0.25", "0.5"),
    ("detect", "range(1, logits", "range(0, logits"),
    ("detect", "(boxes, size)", "(boxes, size[::-1])"),
    ("detect", "> least", "> 0"),
    ("detect", "[:most]", ""),
    ("box_losses", "/ len(labels)", "/ max(len(found), 1)"),
    ("box_losses", "[found, labels[found]]", "[found, 0]"),
    ("paste", "half * (side + 2) / side", "half"),
    ("paste", "x2 + 1", "x2"),
]
TESTS = {
    "cell_anchors": lambda: [test_anchors(*case) for case in SHAPES],
    "grid_anchors": lambda: [test_anchors(*case) for case in SHAPES],
    "encode": lambda: test_offsets(torch.float64, (1.0,) * 4, 200),
    "decode": lambda: test_offsets(torch.float64, (1.0,) * 4, 200),
    "match": lambda: [test_match_ties_and_thresholds(True, s) for s in range(20)],
    "sample": lambda: test_sample((5, 300), 128, 0.5),
    "smooth_l1": lambda: test_rpn_losses(4),
    "rpn_losses": lambda: test_rpn_losses(4),
    "cross_entropy_of_logits": test_cross_entropy_far_out,
    "propose": lambda: test_proposals((300, 80, 20), False),
    "pyramid": lambda: test_pyramid(((16, 20), (8, 10), (4, 5))),
    "level_of": test_level_of_a_box,
    "bins": lambda: test_roi_pool(7, 0.25),
    "bilinear": lambda: test_roi_align(True, 2, 7, 0.25),
    "roi_align": lambda: [test_roi_align(a, 2, 14, 1 / 16) for a in (True, False)],
    "training_sample": lambda: test_training_sample(150),
    "detect": lambda: [test_detections(90, *case) for case in ((2, 99), (5, 7))],
    "box_losses": lambda: test_box_losses([0, 2, 1, 0]),
    "paste": lambda: test_paste(28),
}


@pytest.mark.parametrize("name, right, wrong", MISTAKES)
def test_a_mistake_is_noticed(monkeypatch, name, right, wrong):
    function = getattr(OURS, name)
    source = _source(name)
    assert right in source, f"{name} does not contain {right!r}"
    scope = function.__globals__
    changed = {**scope}
    exec(source.replace(right, wrong, 1), changed)
    monkeypatch.setattr(OURS, name, changed[name])
    monkeypatch.setitem(scope, name, changed[name])  # for those that call it
    with pytest.raises((AssertionError, RuntimeError, IndexError, ValueError)):
        TESTS[name]()


def _source(name):
    """A function's source, as ast writes it; the notebook's cells have no file."""
    for cell in chapter_code._cells(CHAPTER):
        if not {"exercise", "solution", "setup"} & chapter_code._tags(cell):
            for node in ast.parse(textwrap.dedent(cell.source)).body:
                if isinstance(node, ast.FunctionDef) and node.name == name:
                    return ast.unparse(node)
    raise LookupError(name)


def test_sources_are_found():
    assert all(_source(name).startswith("def ") for name in NAMES)
    assert not inspect.isbuiltin(OURS.paste)
