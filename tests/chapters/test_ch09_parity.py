"""Chapter 9's conversions and masks against the package and pycocotools; it bites.

The functions come out of the notebook. Every mistake planted in their source must be
noticed by the same comparisons.
"""

import ast

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from skimage import measure
from torchvision import ops

from booktools import chapter_code
from course_utils.formats import coco, rle, voc, yolo

CHAPTER = "09_annotation_formats"
NAMES = [
    *("to_voc", "to_coco", "to_yolo", "from_voc", "from_coco", "from_yolo"),
    *("encode", "decode", "pack", "compress", "fill", "components", "judge"),
]
OURS = chapter_code.definitions(CHAPTER, *NAMES, "voc_palette")


def boxes(fractions=True):
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        width, height = torch.randint(8, 900, (2,), generator=generator).tolist()
        corner = torch.rand(2, generator=generator, dtype=torch.float64) * 0.8
        far = corner + torch.rand(2, generator=generator, dtype=torch.float64) * 0.2
        size = torch.tensor([width, height])
        box = torch.cat([corner * size, far * size])
        box = box if fractions else torch.cat([box[:2].floor(), box[2:].ceil()])
        yield tuple(box.tolist()), width, height


def masks():
    generator = torch.Generator().manual_seed(2)
    yield from (torch.zeros(3, 4).bool(), torch.ones(3, 4).bool())
    yield torch.ones(70, 90).bool()  # one run of several characters
    for shape in ((1, 1), (1, 7), (9, 1), (5, 8), (33, 20), (120, 90)):
        for share in (0.01, 0.3, 0.97):
            yield torch.rand(shape, generator=generator) < share
    disc = torch.arange(60)[:, None].sub(30) ** 2 + torch.arange(80).sub(40) ** 2
    yield disc < 25**2


def near(ours, library):
    assert len(ours) == len(library) == 4
    for a, b in zip(ours, library, strict=True):
        assert abs(a - b) < 1e-6, (ours, library)


def conversions(space):
    for fractions in (True, False):
        for box, width, height in boxes(fractions):
            near(space.to_voc(box), voc.from_xyxy(box))
            near(space.from_voc(box), voc.to_xyxy(box))
            near(space.to_coco(box), coco.from_xyxy(box))
            near(space.from_coco(box), coco.to_xyxy(box))
            near(space.to_yolo(box, width, height), yolo.from_xyxy(box, width, height))
            part = yolo.from_xyxy(box, width, height)
            near(space.from_yolo(part, width, height), box)
            near(space.from_voc(space.to_voc(box)), box)
            tensor = torch.tensor([box], dtype=torch.float64)
            near(
                space.to_coco(box), ops.box_convert(tensor, "xyxy", "xywh")[0].tolist()
            )


def run_lengths(space):
    for mask in masks():
        array = mask.numpy()
        counts = space.encode(mask)
        assert counts == rle.counts(array)
        official = coco_mask.encode(np.asfortranarray(array, np.uint8))["counts"]
        assert space.compress(counts) == official.decode()
        decoded = space.decode(counts, *mask.shape)
        assert decoded.dtype == torch.bool and torch.equal(decoded, mask)


def parts(space):
    for mask in masks():
        found = space.components(mask)
        library = measure.label(mask.numpy(), connectivity=2)
        assert len(found) == library.max()
        for part in found:  # each is exactly one of the library's
            numbers = set(library[part.numpy()].tolist())
            assert len(numbers) == 1
            assert int(part.sum()) == int((library == numbers.pop()).sum())


def polygons(space):
    """Edges off the centers: then every rule for them agrees."""
    generator = torch.Generator().manual_seed(3)
    for corners in (3, 4, 7, 12):
        for _ in range(8):
            points = torch.rand(corners, 2, generator=generator) * 40 - 4
            points = (points + 0.013).double()
            ours = space.fill([tuple(p) for p in points.tolist()], 30, 35)
            centers = [[c + 0.5, r + 0.5] for r in range(30) for c in range(35)]
            theirs = measure.points_in_poly(np.array(centers), points.numpy())
            assert torch.equal(ours, torch.from_numpy(theirs.reshape(30, 35)))
    ours = space.fill([(2, 1), (9, 1), (9, 6), (2, 6)], 8, 12).numpy()
    assert np.array_equal(ours, rle.from_polygons([[2, 1, 9, 1, 9, 6, 2, 6]], 8, 12))
    assert not space.fill([(1, 1), (5, 1), (3, 1)], 8, 12).any()


def verdicts(space):
    """By hand: first come; one half is enough; difficult ones are not used up."""
    objects = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    half = torch.tensor([[0.0, 0, 10, 5]])
    found = torch.cat([half, half, objects[1:], objects[1:], objects + 50])
    want = {"right": 1, "wrong": 3, "ignored": 2, "missed": 0}
    assert space.judge(found, objects, [False, True]) == want
    want = {"right": 0, "wrong": 0, "ignored": 0, "missed": 2}
    assert space.judge(found[:0], objects, [False, False]) == want
    want = {"right": 0, "wrong": 6, "ignored": 0, "missed": 0}
    assert space.judge(found, objects[:0], []) == want


CONTRACTS = [conversions, run_lengths, parts, polygons, verdicts]


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.__name__)
def test_equal(contract):
    contract(OURS)


def test_difficult_as_in_the_devkit():
    """VOC's rule by another road: set aside what overlaps a difficult object."""
    generator = torch.Generator().manual_seed(5)
    for _ in range(30):
        corner = torch.randint(0, 90, (6, 2), generator=generator).float()
        objects = torch.cat([corner, corner + 12], dim=1)
        index = torch.randint(0, 6, (9,), generator=generator)
        moved = torch.randint(-3, 4, (9, 2), generator=generator).repeat(1, 2)
        found = objects[index] + moved
        hard = (torch.rand(6, generator=generator) < 0.4).tolist()
        tally = OURS.judge(found, objects, hard)
        iou = ops.box_iou(found, objects)
        best = iou.argmax(1)
        on_hard = (iou.amax(1) >= 0.5) & torch.tensor(hard)[best]
        assert tally["ignored"] == int(on_hard.sum())
        easy = (iou.amax(1) >= 0.5) & ~on_hard
        assert tally["right"] == len(best[easy].unique())
        assert sum(tally.values()) - tally["missed"] == len(found)


def test_palette():
    """The colors that VOC's documents print for the first classes, and its border."""
    palette = OURS.voc_palette().tolist()
    assert palette[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert palette[15] == [192, 128, 128] and palette[20] == [0, 64, 128]
    assert palette[255] == [224, 224, 192]
    assert len({tuple(color) for color in palette}) == 256


# --- it bites ------------------------------------------------------------------------


def planted(old: str, new: str):
    """The chapter's definitions with one piece of their source replaced."""
    chunks = []
    for cell in chapter_code._cells(CHAPTER):
        if not {"exercise", "solution"} & set(cell.metadata.get("tags", [])):
            for node in ast.parse(cell.source).body:
                if getattr(node, "name", None) in NAMES:
                    lines = cell.source.splitlines()
                    chunks.append("\n".join(lines[node.lineno - 1 : node.end_lineno]))
    source = "\n\n\n".join(chunks)
    assert source.count(old) == 1, f"{source.count(old)} times in the chapter: {old}"
    space = {"torch": torch, "np": np, "ops": ops}
    exec(compile(source.replace(old, new), "<planted>", "exec"), space)
    return type("Planted", (), space)


PLANTED = {
    "no 1 added": ("return x1 + 1, y1 + 1, x2, y2", "return x1, y1, x2, y2", 0),
    "1 on all sides": (
        *("return xmin - 1, ymin - 1, xmax, ymax",),
        *("return xmin - 1, ymin - 1, xmax - 1, ymax - 1", 0),
    ),
    "an inclusive width": ("x1, y1, x2 - x1, y2 - y1", "x1, y1, x2-x1+1, y2-y1+1", 0),
    "corners again": ("return x, y, x + w, y + h", "return x, y, w, h", 0),
    "height first": (
        *("(x2 - x1) / width, (y2 - y1) / height",),
        *("(y2 - y1) / height, (x2 - x1) / width", 0),
    ),
    "center as corner": ("(x - w / 2) * width", "x * width", 0),
    "row by row": ("mask.T.flatten()", "mask.flatten()", 1),
    "ones first": ("counts, current = [0], False", "counts, current = [0], True", 1),
    "folded the other way": (
        *("line.reshape(width, height).T", "line.reshape(height, width)", 1),
    ),
    "steps too early": ("if i > 2 else c", "if i > 1 else c", 1),
    "sign in another bit": ("-1 if group & 16 else 0", "-1 if group & 8 else 0", 1),
    "four neighbors": (
        *("for dx in (-1, 0, 1)}", "for dx in (-1, 0, 1) if dy * dx == 0}", 2),
    ),
    "edges left and right": ("edge <= x", "edge > -99", 3),
    "at least one half": ("row[best] < 0.5", "row[best] <= 0.5", 4),
    "difficult used up": (
        *('tally["ignored"] += 1', 'tally["ignored"] += 1; taken.add(best)', 4),
    ),
}


@pytest.mark.parametrize("mistake", PLANTED)
def test_planted_mistake_is_caught(mistake):
    old, new, contract = PLANTED[mistake]
    with pytest.raises(AssertionError):
        CONTRACTS[contract](planted(old, new))


def test_the_source_itself_is_no_mistake():
    space = planted("def encode(mask):", "def encode( mask):")
    for contract in CONTRACTS:
        contract(space)
