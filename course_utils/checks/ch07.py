"""Exercises of chapter 7, image transforms and augmentation."""

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_utils.checks.core import Case, Wrong, difference, exercise
from course_utils.detection import box_ops

__all__: list[str] = []


def _draw(*shape, seed: int, high: int = 100) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(high, shape, generator=generator)


def _boxes(n: int, seed: int, height: int, width: int) -> torch.Tensor:
    size = torch.tensor([width, height]).float()
    a, b = _draw(2, n, 2, seed=seed, high=101) / 100 * size
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return torch.cat([low.floor(), high.floor() + 1], dim=1)


# --- 1 ------------------------------------------------------------------------


@exercise(
    "07.flip_points",
    hint="Work on a copy: first mirror every x, as the edges of a box. Then put, "
    "for each pair, the points of one index in the place of the other.",
)
def flip_points() -> list[Case]:
    def case(says, points, width, pairs):
        expect = points.clone()
        for a, b in pairs:
            expect[:, [a, b]] = expect[:, [b, a]]
        expect = torch.stack([width - expect[..., 0], expect[..., 1]], dim=-1)
        return Case(says, args=(points, width, pairs), expect=expect)

    many = _draw(5, 6, 2, seed=0).float()
    return [
        case("one point, no pairs", torch.tensor([[[1.0, 5.0]]]), 10, []),
        case("one pair", torch.tensor([[[1.0, 5], [8, 6]]]), 10, [(0, 1)]),
        case("two people", many[:2, :2], 100, [(0, 1)]),
        case("two pairs and a nose", many[:, :5], 100, [(1, 2), (3, 4)]),
        case("a pair far apart", many, 128, [(5, 0), (2, 3)]),
        case("nobody", torch.zeros(0, 3, 2), 50, [(0, 2)]),
        case("a point outside", torch.tensor([[[-2.0, 5], [8, 6]]]), 10, [(0, 1)]),
        case("float64", many.double() / 3, 40, [(0, 1)]),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "07.pooled",
    hint="Give each picture the weight of its share of all pixels. The variance of"
    " all pixels has two parts: the mean of the variances, and the spread of "
    "the means about the common mean.",
)
def pooled() -> list[Case]:
    def case(says, pictures):
        counts = torch.tensor([p.shape[1] for p in pictures])
        means = torch.stack([p.mean(1) for p in pictures])
        variances = torch.stack([p.var(1, correction=0) for p in pictures])
        pixels = torch.cat(pictures, dim=1)
        expect = (pixels.mean(1), pixels.std(1, correction=0))
        return Case(says, args=(counts, means, variances), expect=expect, within=1e-5)

    def noise(n, seed, low=0.0):
        return (_draw(3, n, seed=seed) / 200 + low).double()

    # 0.7 plus and minus 0.0001: its square, 1e-8, is below the digits of 0.49.
    even = torch.tensor([[0.7], [0.7]]), torch.tensor([[1e-8], [1e-8]])
    flat = torch.tensor([50, 50]), *even, torch.tensor([0.7]), torch.tensor([1e-4])
    return [
        case("a black and a white picture", [torch.zeros(1, 4), torch.ones(1, 4)]),
        case("one picture", [noise(8, 0)]),
        case("two of one size", [noise(8, 1), noise(8, 2, 0.4)]),
        case("two of different size", [noise(4, 3), noise(40, 4, 0.4)]),
        case("many", [noise(5 + 7 * i, i, i / 20) for i in range(9)]),
        case("all of one gray", [torch.full((3, 4), 0.25)] * 2),
        Case(
            "a spread of 0.0001 in float32",
            args=tuple(flat[:3]),
            expect=tuple(flat[3:]),
            within=1e-5,
            absolute=5e-6,
        ),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "07.unletterbox",
    hint="Write down how a point of the original gets into the square: a scale, "
    "then a shift by the bar on the left or on top. Undo the two in reverse "
    "order.",
)
def unletterbox() -> list[Case]:
    def case(says, boxes, height, width, side):
        scale = side / max(height, width)
        pad = torch.tensor([(side - scale * width) / 2, (side - scale * height) / 2])
        pad = pad.to(boxes.dtype)
        low = torch.stack([pad, pad + torch.tensor([width, height]) * scale])
        expect = (boxes - pad.repeat(2)) / scale
        size = torch.tensor([width, height] * 2).to(boxes.dtype)
        expect = torch.minimum(expect.clamp(min=0), size)
        assert (low >= 0).all()
        return Case(says, args=(boxes, height, width, side), expect=expect, within=1e-5)

    whole = torch.tensor([[0.0, 50, 200, 150]])
    return [
        case("the whole picture, wide", whole, 50, 100, 200),
        case("a square, no bars", torch.tensor([[4.0, 8, 12, 20]]), 20, 20, 40),
        case("a tall picture", torch.tensor([[60.0, 20, 90, 180]]), 100, 50, 200),
        case("made smaller", torch.tensor([[10.0, 30, 50, 60]]), 300, 400, 100),
        case("over the bars", torch.tensor([[-5.0, 10, 220, 190]]), 50, 100, 200),
        case("a box in a bar", torch.tensor([[20.0, 10, 60, 40]]), 50, 100, 200),
        case("no boxes", torch.zeros(0, 4), 50, 100, 200),
        case("many", _boxes(9, 5, 128, 128), 33, 47, 128),
        case("float64", whole.double(), 50, 100, 200),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "07.fixed_crop",
    hint="Go through the lines one by one with a window that is wider than high "
    "and two people, one of them outside. Which number belongs to x, and "
    "which list has to get shorter?",
)
def fixed_crop() -> list[Case]:
    image = _draw(3, 30, 40, seed=6, high=256).to(torch.uint8)

    def case(says, boxes, top, left, height, width):
        labels = torch.arange(len(boxes)) + 10
        shift = torch.tensor([left, top, left, top])
        limit = torch.tensor([width, height, width, height]).float()
        moved = torch.minimum((boxes - shift).clamp(min=0), limit)
        keep = (moved[:, 2:] > moved[:, :2]).all(dim=1)
        cut = image[:, top : top + height, left : left + width]
        wanted = {"image": cut, "boxes": moved[keep], "labels": labels[keep]}

        def test(answer):
            given = image.clone(), boxes.clone(), labels.clone()
            result = answer(*given, top, left, height, width)
            if not isinstance(result, tuple) or len(result) != 3:
                raise Wrong("three things should be returned: image, boxes, labels")
            for (name, want), got in zip(wanted.items(), result, strict=True):
                why = difference(got, want)
                if not why:
                    continue
                lines = [
                    f"boxes {boxes.tolist()}, labels {labels.tolist()}",
                    f"cut at top={top}, left={left}, height={height}, width={width}",
                ]
                if name == "image":
                    lines.append(f"the image is not the part asked for ({why})")
                else:
                    shown = got.tolist() if isinstance(got, torch.Tensor) else got
                    lines += [
                        f"expected {name} {want.tolist()}",
                        f"got      {name} {shown} ({why})",
                    ]
                raise Wrong("\n".join(lines))
            for now, before in zip(given, (image, boxes, labels), strict=True):
                if not torch.equal(now, before):
                    raise Wrong("the result is right, but the input was changed")

        return Case(says, test=test)

    one = torch.tensor([[12.0, 6, 20, 16]])
    two = torch.tensor([[2.0, 2, 8, 8], [14, 12, 20, 18]])
    left_right = torch.tensor([[2.0, 8, 8, 14], [14, 8, 20, 14]])
    touching = torch.tensor([[2.0, 2, 10, 10]])
    thin = torch.tensor([[10.25, 5, 10.75, 9]])
    tiny = torch.tensor([[10.25, 5, 10.375, 5.5]])
    return [
        case("a box inside", one, 4, 10, 20, 20),
        case("cut at the lower border", one, 0, 10, 10, 25),
        case("one of two is outside", two, 10, 10, 18, 25),
        case("outside in one direction only", left_right, 0, 10, 25, 25),
        case("a box that only touches", touching, 0, 10, 20, 20),
        case("half a pixel wide has an area", thin, 0, 0, 20, 20),
        case("a tiny box has an area", tiny, 0, 0, 20, 20),
        case("no boxes", torch.zeros(0, 4), 0, 0, 10, 10),
        case("many", _boxes(12, 7, 30, 40), 7, 11, 13, 22),
    ]


# --- 5 ------------------------------------------------------------------------


def _target(masks: torch.Tensor, **more) -> dict:
    """A target whose boxes and area are still those of uncut people."""
    n, height, width = masks.shape
    boxes = torch.tensor([[0.0, 0, width, height]]).repeat(n, 1)
    return {
        "boxes": tv_tensors.BoundingBoxes(
            boxes, format="XYXY", canvas_size=(height, width)
        ),
        "labels": torch.arange(n) + 1,
        "masks": tv_tensors.Mask(masks),
        "area": torch.full((n,), 999.0),
        "iscrowd": torch.arange(n) % 2,
        "image_id": 7,
        **more,
    }


@exercise(
    "07.keep_visible",
    hint="Count the pixels of each mask that are left, and make one boolean tensor"
    " of who stays. It selects masks, labels and iscrowd; boxes and area come"
    " from the masks.",
)
def keep_visible() -> list[Case]:
    def masks(*pixels):
        """Masks of 6 x 8, each with that many pixels, in reading order."""
        flat = torch.arange(48)[None, :] < torch.tensor(pixels)[:, None]
        return flat.reshape(-1, 6, 8).to(torch.uint8)

    def case(says, cut, pixels, least, **more):
        target = _target(cut, **more)
        left = cut.flatten(1).sum(1)
        keep = (left > 0) & (left >= least * pixels)
        expect = {
            **target,
            "boxes": box_ops.masks_to_boxes(cut[keep]),
            "masks": cut[keep],
            "labels": target["labels"][keep],
            "area": left[keep].float(),
            "iscrowd": target["iscrowd"][keep],
        }
        return Case(says, args=(target, pixels, least), expect=expect)

    def typed(answer):
        result = answer(_target(masks(10, 3)), torch.tensor([12, 12]), 0.5)
        for key, kind in (
            ("boxes", tv_tensors.BoundingBoxes),
            ("masks", tv_tensors.Mask),
        ):
            if not isinstance(result[key], kind):
                name = type(result[key]).__name__
                raise Wrong(f"{key} should be a {kind.__name__}, got a plain {name}")
        if tuple(result["boxes"].canvas_size) != (6, 8):
            raise Wrong(
                "the canvas of the boxes should be the masks' size, (6, 8), got "
                f"{tuple(result['boxes'].canvas_size)}"
            )
        if result["boxes"].format != tv_tensors.BoundingBoxFormat.XYXY:
            raise Wrong(
                f"the format of the boxes should stay XYXY, got "
                f"{result['boxes'].format.value}"
            )

    def many(*pixels):
        return torch.tensor(pixels)

    return [
        case("everything is left", masks(12), many(12), 0.5),
        case("exactly the share", masks(10), many(40), 0.25),
        case("one of two stays", masks(3, 30), many(40, 40), 0.25),
        case("each by its own share", masks(9, 4), many(40, 8), 0.5),
        case("nothing is left, least=0", masks(0, 5), many(9, 9), 0.0),
        case("nobody stays", masks(1, 2), many(40, 40), 0.5),
        case("nobody was there", masks(1)[:0], many(1)[:0], 0.5),
        case(
            "an entry of the same length that is not theirs",
            masks(3, 30),
            many(40, 40),
            0.25,
            size=torch.tensor([6, 8]),
        ),
        Case("boxes and masks keep their types", test=typed),
    ]


# --- 6 ------------------------------------------------------------------------


@exercise(
    "07.turned_box",
    hint="mask.nonzero(as_tuple=True) gives rows and columns; each pixel has four "
    "corners. Turn them with the two formulas that rotate_boxes uses.",
)
def turned_box() -> list[Case]:
    def case(says, mask, degrees):
        height, width = mask.shape
        angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
        cos, sin = angle.cos().item(), angle.sin().item()
        points = []
        for r, c in mask.nonzero().tolist():
            for x, y in ((c, r), (c + 1, r), (c, r + 1), (c + 1, r + 1)):
                x, y = x - width / 2, y - height / 2
                points.append(
                    (cos * x + sin * y + width / 2, cos * y - sin * x + height / 2)
                )
        expect = torch.zeros(4)
        if points:
            us, vs = zip(*points, strict=True)
            expect = torch.tensor([min(us), min(vs), max(us), max(vs)])
        return Case(says, args=(mask, degrees), expect=expect, within=1e-5)

    empty = torch.zeros(4, 4, dtype=torch.bool)
    corner = empty.clone()
    corner[0, 0] = True
    wide = torch.zeros(6, 10, dtype=torch.bool)
    wide[1:3, 6:9] = True
    pole = torch.eye(12, dtype=torch.bool)
    return [
        case("one pixel, not turned", corner, 0),
        case("one pixel, 90 degrees", corner, 90),
        case("one pixel, 45 degrees", corner, 45),
        case("a block, 30 degrees", wide, 30),
        case("the other way", wide, -30),
        case("a slanted pole, 45 degrees", pole, 45),
        case("no pixel", empty, 45),
        case("beyond the border", torch.ones(4, 12, dtype=torch.bool), 80),
    ]


# --- 7 ------------------------------------------------------------------------


def _sample():
    """An image, and one mask and box that fill the same block of it."""
    image = torch.zeros(3, 24, 32, dtype=torch.uint8)
    image[:, 10:14, 12:18] = 200
    mask = (image[:1] > 0).to(torch.uint8)
    return tv_tensors.Image(image), {
        "boxes": tv_tensors.BoundingBoxes(
            [[12.0, 10, 18, 14]], format="XYXY", canvas_size=(24, 32)
        ),
        "masks": tv_tensors.Mask(mask),
        "labels": torch.tensor([3]),
        "name": "block",
    }


def _made(answer, limit):
    """An object of the reader's class, with sentences for the usual slips."""
    if not (isinstance(answer, type) and issubclass(answer, v2.Transform)):
        raise Wrong("a subclass of v2.Transform is wanted: class RandomShift(...)")
    if "forward" in vars(answer):
        raise Wrong("write make_params and transform; forward is the base class's")
    made = answer(limit)
    if "_modules" not in vars(made):
        raise Wrong("__init__ should call super().__init__() before anything else")
    return made


def _run(transform, seed):
    image, target = _sample()
    torch.manual_seed(seed)
    result = transform(image, target)
    if not (isinstance(result, tuple) and len(result) == 2):
        raise Wrong("called with (image, target), it should return two things")
    return result


@exercise(
    "07.random_shift",
    hint="Draw dx and dy once, in make_params. A shift by dx to the right is a "
    "crop that begins at the column -dx.",
)
def random_shift() -> list[Case]:
    def moves(result):
        image, target = result
        box = box_ops.masks_to_boxes((image[:1] > 0).to(torch.uint8))
        return box, target

    def stays(answer):
        image, target = _run(_made(answer, 0), 0)
        before, known = _sample()
        if not torch.equal(image, before):
            raise Wrong("with limit=0 the image should stay as it is")
        if not torch.equal(target["boxes"], known["boxes"]):
            got = target["boxes"].tolist()
            raise Wrong(f"with limit=0 the boxes should stay, got {got}")

    def types(answer):
        image, target = _run(_made(answer, 3), 0)
        wanted = (tv_tensors.Image, tv_tensors.BoundingBoxes, tv_tensors.Mask)
        for value, kind in zip(
            (image, target["boxes"], target["masks"]), wanted, strict=True
        ):
            if not isinstance(value, kind):
                got = type(value).__name__
                raise Wrong(f"{kind.__name__} came back as {got}")
        if tuple(image.shape) != (3, 24, 32) or image.dtype != torch.uint8:
            got = f"{tuple(image.shape)}, {image.dtype}"
            raise Wrong(f"image: (3, 24, 32), uint8 expected, got {got}")
        if tuple(target["boxes"].canvas_size) != (24, 32):
            got = tuple(target["boxes"].canvas_size)
            raise Wrong(f"the canvas of the boxes should stay (24, 32), got {got}")
        if target["labels"].tolist() != [3] or target["name"] != "block":
            raise Wrong("labels and other entries should pass through unchanged")

    def together(answer):
        transform = _made(answer, 5)
        for seed in range(40):
            image, target = _run(transform, seed)
            box, _ = moves((image, target))
            if not torch.equal(target["masks"], (image[:1] > 0).to(torch.uint8)):
                raise Wrong("the mask did not move with the image (one draw for all)")
            if not torch.equal(box, target["boxes"].as_subclass(torch.Tensor)):
                raise Wrong(
                    f"the block now lies at {box[0].tolist()}, its box says "
                    f"{target['boxes'][0].tolist()}"
                )

    def both_ends(answer):
        transform = _made(answer, 2)
        drawn = []
        for seed in range(500):
            box, _ = moves(_run(transform, seed))
            drawn.append((int(box[0, 0]) - 12, int(box[0, 1]) - 10))
        seen = set(drawn)
        steps = sorted({dx for dx, _ in seen}), sorted({dy for _, dy in seen})
        if steps != ([-2, -1, 0, 1, 2], [-2, -1, 0, 1, 2]):
            raise Wrong(f"with limit=2, dx came as {steps[0]} and dy as {steps[1]}")
        if len(seen) < 20:
            raise Wrong(
                "dx and dy should be two draws, not one: of 25 combinations only "
                f"{len(seen)} came in {len(drawn)} calls"
            )
        # 400 of 1000 are expected, give or take 15; where a drawn fraction is rounded,
        # 250.
        ends = sum(abs(step) == 2 for pair in drawn for step in pair)
        if not 320 <= ends <= 480:
            raise Wrong(
                "with limit=2 all five steps should be as likely; of "
                f"{2 * len(drawn)} draws {ends} gave -2 or 2, about 400 were expected"
            )

    def border(answer):
        transform = _made(answer, 20)
        for seed in range(60):
            image, target = _run(transform, seed)
            if image.shape != (3, 24, 32):
                raise Wrong(f"the size changed to {tuple(image.shape)}")
            box = target["boxes"][0]
            if (box < 0).any() or box[2] > 32 or box[3] > 24:
                raise Wrong(f"a box reaches beyond the picture: {box.tolist()}")
            if (image > 0).any():
                at, _ = moves((image, target))
                if not torch.equal(at[0], box.as_subclass(torch.Tensor)):
                    raise Wrong(
                        f"what is left of the block lies at {at[0].tolist()}, its box "
                        f"says {box.tolist()}"
                    )

    def black(answer):
        transform = _made(answer, 5)
        _, known = _sample()
        bright = tv_tensors.Image(torch.full((3, 24, 32), 200, dtype=torch.uint8))
        known["masks"] = tv_tensors.Mask(torch.ones(1, 24, 32, dtype=torch.uint8))
        for seed in range(20):
            torch.manual_seed(seed)
            image, target = transform(bright, dict(known))
            if not torch.equal(image, 200 * target["masks"].expand(3, -1, -1)):
                raise Wrong(
                    "a bright picture was shifted: where nothing is known, image and "
                    "mask should be 0, and everywhere else as they were"
                )

    def alone(answer):
        transform = _made(answer, 4)
        torch.manual_seed(0)
        image = transform(_sample()[0])
        if not isinstance(image, tv_tensors.Image):
            raise Wrong("called with an image alone, it should return the image")

    return [
        Case("limit=0 changes nothing", test=stays),
        Case("types, size and labels", test=types),
        Case("image, mask and box move together", test=together),
        Case("both ends are drawn, dx and dy apart", test=both_ends),
        Case("over the border: black, and clamped", test=border),
        Case("black where nothing is known", test=black),
        Case("an image alone", test=alone),
    ]
