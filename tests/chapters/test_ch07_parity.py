"""Chapter 7's transforms against the library's: values, gradients, hard input.

Functions and classes come out of the notebook. Planted mistakes must be noticed.
"""

import colorsys
import math

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from booktools import chapter_code
from course_utils.detection import box_ops

CHAPTER = "07_transforms"
NAMES = [
    *("flip_boxes", "normalize", "unnormalize", "boxes_of", "draw_crop"),
    *("rotate_boxes", "gray", "blend", "Compose", "RandomQuarterTurn"),
    *("BoxesFromMasks", "copy_paste"),
]
OURS = chapter_code.definitions(CHAPTER, *NAMES)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


pytestmark = pytest.mark.usefixtures("one_thread")


def noise(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)


def some_boxes(n, height, width, seed=0, dtype=torch.float32):
    size = torch.tensor([width, height], dtype=dtype)
    a, b = noise(2, n, 2, seed=seed, dtype=dtype) * size
    return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], dim=1)


def typed(boxes, height, width):
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))


def some_masks(n, height, width, seed=0, share=0.05):
    return (noise(n, height, width, seed=seed) < share).to(torch.uint8)


def same(a, b, within=0.0):
    a, b = a.as_subclass(torch.Tensor), b.as_subclass(torch.Tensor)
    assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape)
    if a.numel() == 0:
        return True
    return bool((a.double() - b.double()).abs().max() <= within)


# --- boxes ----------------------------------------------------------------------------


def flip_agrees(flip, within=1e-4) -> bool:
    agree = True
    for height, width in ((1, 1), (37, 91), (400, 300)):
        for n in (0, 1, 20):
            for dtype in (torch.float32, torch.float64):
                boxes = some_boxes(n, height, width, n, dtype)
                library = F.horizontal_flip(typed(boxes, height, width))
                agree &= same(flip(boxes, width), library, within)
    return agree


def test_flip_boxes():
    assert flip_agrees(OURS.flip_boxes)


def test_planted_flips_are_noticed():
    def unswapped(boxes, width):
        x1, y1, x2, y2 = boxes.unbind(1)
        return torch.stack([width - x1, y1, width - x2, y2], dim=1)

    def last_pixel(boxes, width):
        return OURS.flip_boxes(boxes, width - 1)

    assert not flip_agrees(unswapped) and not flip_agrees(last_pixel)


def rotation_agrees(rotate) -> bool:
    agree = True
    for degrees in (0, 1, 17, 45, 90, 135, 180, -30, -133, 270, 359.5):
        for height, width in ((400, 400), (380, 420)):
            middle = torch.tensor([width, height] * 2) / 2
            boxes = some_boxes(20, height, width)
            boxes = middle + (boxes - middle) / 4  # nothing is clamped
            library = F.rotate(typed(boxes, height, width), degrees)
            agree &= same(rotate(boxes, degrees, height, width), library, 1e-3)
    return agree


def test_rotate_boxes():
    assert rotation_agrees(OURS.rotate_boxes)
    assert OURS.rotate_boxes(torch.zeros(0, 4), 30, 10, 10).shape == (0, 4)


def test_planted_rotations_are_noticed():
    def clockwise(boxes, degrees, height, width):
        return OURS.rotate_boxes(boxes, -degrees, height, width)

    def last_pixel(boxes, degrees, height, width):
        return OURS.rotate_boxes(boxes, degrees, height - 1, width - 1)

    def two_corners(boxes, *where):
        a = OURS.rotate_boxes(boxes[:, [0, 1, 0, 1]], *where)[:, :2]
        b = OURS.rotate_boxes(boxes[:, [2, 3, 2, 3]], *where)[:, :2]
        return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], dim=1)

    for planted in (clockwise, last_pixel, two_corners):
        assert not rotation_agrees(planted), planted.__name__


@pytest.mark.parametrize("shape", [(0, 5, 7), (1, 1, 1), (6, 40, 30), (3, 9, 1)])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_boxes_of_masks(shape, share):
    masks = some_masks(*shape, share=share)
    assert same(OURS.boxes_of(masks), box_ops.masks_to_boxes(masks))
    assert same(OURS.boxes_of(masks.bool()), box_ops.masks_to_boxes(masks))


# --- pixels ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 17, 23)])
def test_normalize_and_back(shape, dtype):
    image, mean, std = noise(*shape, dtype=dtype), MEAN.to(dtype), STD.to(dtype)
    library = F.normalize(image, MEAN.tolist(), STD.tolist())
    # The library's mean was rounded to float32 on the way through Python, as ours.
    assert same(OURS.normalize(image, mean, std), library, 1e-6)
    back = OURS.unnormalize(OURS.normalize(image, mean, std), mean, std)
    assert same(back, image, 1e-6)


def test_normalize_has_the_librarys_gradient():
    slopes = noise(3, 6, 5, seed=3)
    grads = []
    for function in (
        lambda x: OURS.normalize(x, MEAN, STD),
        lambda x: F.normalize(x, MEAN.tolist(), STD.tolist()),
    ):
        image = noise(3, 6, 5).requires_grad_()
        (function(image) * slopes).sum().backward()
        grads.append(image.grad)
    assert same(*grads, 1e-5)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.7, 5.0])
def test_colors(factor):
    image = noise(3, 21, 34)
    blend, gray = OURS.blend, OURS.gray
    pairs = [
        (torch.zeros(()), F.adjust_brightness),
        (gray(image).mean(), F.adjust_contrast),
        (gray(image), F.adjust_saturation),
    ]
    for other, library in pairs:
        assert same(blend(image, other, factor), library(image, factor), 1e-5)
    assert same(gray(image), F.rgb_to_grayscale(image), 1e-6)
    planted = (image * torch.full((3, 1, 1), 1 / 3)).sum(0, keepdim=True)
    if factor != 1.0:
        saturated = F.adjust_saturation(image, factor)
        assert not same(blend(image, planted, factor), saturated, 1e-3)


@pytest.mark.parametrize("shift", [-0.5, -0.2, 0.0, 0.1, 0.5])
def test_hue_is_a_turn_of_the_color_circle(shift):
    image = noise(3, 5, 7, seed=4, dtype=torch.float64)
    want = image.clone()
    for y in range(5):
        for x in range(7):
            h, s, v = colorsys.rgb_to_hsv(*image[:, y, x].tolist())
            want[:, y, x] = torch.tensor(colorsys.hsv_to_rgb((h + shift) % 1, s, v))
    assert same(F.adjust_hue(image, shift), want, 1e-6)


# --- draws ----------------------------------------------------------------------------


SIZES = [(100, 100), (60, 300), (300, 60), (1, 1), (7, 500)]


def draws(function, scale, ratio):
    torch.manual_seed(0)
    return [function(*size, scale, ratio) for size in SIZES for _ in range(30)]


def library_crop(height, width, scale, ratio):
    crop = v2.RandomResizedCrop(9, scale=scale, ratio=ratio)
    found = crop.make_params([torch.empty(1, height, width)])
    return tuple(found[k] for k in ("top", "left", "height", "width"))


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.5, 0.5), (0.9, 1.0)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (1.0, 1.0), (3.0, 4.0)])
def test_crops_are_drawn_alike(scale, ratio):
    assert draws(OURS.draw_crop, scale, ratio) == draws(library_crop, scale, ratio)


def test_planted_draws_are_noticed():
    def upside_down(height, width, scale, ratio):
        return OURS.draw_crop(height, width, scale, (1 / ratio[1], 1 / ratio[0]))

    def level_ratio(height, width, scale, ratio):
        low, high = ratio
        area = height * width * torch.empty(1).uniform_(*scale).item()
        shape = torch.empty(1).uniform_(low, high).item()  # not its logarithm
        w, h = round((area * shape) ** 0.5), round((area / shape) ** 0.5)
        return OURS.draw_crop(height, width, (h * w / height / width,) * 2, ratio)

    wanted = draws(library_crop, (0.08, 1.0), (0.5, 3.0))
    for planted in (upside_down, level_ratio):
        assert draws(planted, (0.08, 1.0), (0.5, 3.0)) != wanted, planted.__name__


# --- containers and transforms of our own ---------------------------------------------


def scene(n=3, height=40, width=60, seed=0):
    masks = some_masks(n, height, width, seed)
    image = (noise(3, height, width, seed=seed) * 255).to(torch.uint8)
    return tv_tensors.Image(image), {
        "boxes": typed(box_ops.masks_to_boxes(masks), height, width),
        "masks": tv_tensors.Mask(masks),
        "labels": torch.ones(n, dtype=torch.int64),
        "image_id": 5,
    }


def test_compose_is_the_librarys():
    steps = [
        v2.RandomHorizontalFlip(),
        v2.RandomCrop(24, padding=3),
        v2.RandomApply([v2.RandomRotation(20)]),
        v2.ColorJitter(0.3),
        v2.ToDtype(torch.float32, scale=True),
    ]
    for seed in range(8):
        results = []
        for kind in (OURS.Compose, v2.Compose):
            torch.manual_seed(seed)
            results.append(kind(steps)(*scene()))
        (image, target), (other, wanted) = results
        assert same(image, other)
        assert all(same(target[k], wanted[k]) for k in ("boxes", "masks", "labels"))
    alone = OURS.Compose(steps)(scene()[0])
    assert isinstance(alone, tv_tensors.Image)


@pytest.mark.parametrize("n", [0, 1, 4])
def test_quarter_turns_are_rotations(n):
    image, target = scene(n)
    for seed in range(12):
        torch.manual_seed(seed)
        turns = torch.randint(4, (1,)).item()
        torch.manual_seed(seed)
        ours, found = OURS.RandomQuarterTurn()(image, target)
        degrees = 90 * turns
        assert same(ours, F.rotate(image, degrees, expand=True))
        assert same(found["masks"], F.rotate(target["masks"], degrees, expand=True))
        library = F.rotate(target["boxes"], degrees, expand=True)
        assert same(found["boxes"], library, 1e-4)
        assert tuple(found["boxes"].canvas_size) == tuple(ours.shape[-2:])
        assert same(found["boxes"], box_ops.masks_to_boxes(found["masks"]))
        assert found["image_id"] == 5 and same(found["labels"], target["labels"])


def test_exact_and_inexact_transforms():
    """What the chapter says of boxes of masks against boxes moved."""
    height, width = 96, 128
    rows, columns = torch.meshgrid(
        torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij"
    )
    pole = ((columns - rows).abs() < 6) & (rows > 20) & (rows < 70)
    crate = (columns > 90) & (columns < 110) & (rows > 30) & (rows < 60)
    masks = torch.stack([pole, crate]).to(torch.uint8)
    target = {
        "masks": tv_tensors.Mask(masks),
        "boxes": typed(box_ops.masks_to_boxes(masks), height, width),
    }
    image = tv_tensors.Image(torch.zeros(3, height, width))

    def gap(transform):
        _, result = transform(image, target)
        tight = box_ops.masks_to_boxes(result["masks"])
        return (tight - result["boxes"].as_subclass(torch.Tensor)).abs().amax(1)

    for transform in (
        v2.RandomHorizontalFlip(1.0),
        v2.RandomVerticalFlip(1.0),
        v2.Pad([3, 9, 4, 1]),
        v2.CenterCrop((90, 120)),
        *(v2.RandomRotation((d, d), expand=True) for d in (90, 180, 270)),
    ):
        assert gap(transform).max() < 1e-3, transform
    for side in (97, 131, 192, 250):
        assert gap(v2.Resize(side)).max() < 1, side
    slanted, full = gap(v2.RandomRotation((45, 45), expand=True)).tolist()
    assert slanted > 15 and full < 2


def test_boxes_from_masks():
    image, target = scene(3)
    target["masks"][1] = 0
    _, found = OURS.BoxesFromMasks()(image, target)
    assert same(found["boxes"], box_ops.masks_to_boxes(target["masks"]))
    assert found["boxes"][1].tolist() == [0, 0, 0, 0]
    del target["masks"]
    with pytest.raises(ValueError, match="got 0"):
        OURS.BoxesFromMasks()(image, target)


def test_copy_paste_pixel_by_pixel():
    (image, target), (other, source) = scene(3, seed=1), scene(4, 50, 45, seed=2)
    for chosen, dx, dy in (([0], 0, 0), ([1, 3], 7, -4), ([2], -11, 9)):
        result, found = OURS.copy_paste(image, target, other, source, chosen, dx, dy)
        people = [m.clone() for m in target["masks"]]
        pasted = [torch.zeros_like(people[0]) for _ in chosen]
        want = image.clone()
        for y in range(40):
            for x in range(60):
                r, c = y - dy, x - dx
                if not (0 <= r < 50 and 0 <= c < 45):
                    continue
                hit = [bool(source["masks"][k, r, c]) for k in chosen]
                if any(hit):
                    want[:, y, x] = other[:, r, c]
                    for mask in people:
                        mask[y, x] = 0
                for mask, on in zip(pasted, hit, strict=True):
                    mask[y, x] = on
        masks = torch.stack([m for m in people + pasted if m.any()])
        assert same(result, want) and same(found["masks"], masks)
        assert same(found["boxes"], box_ops.masks_to_boxes(masks))
        assert same(found["area"], masks.flatten(1).sum(1).float())
        assert len(found["labels"]) == len(found["iscrowd"]) == len(masks)


def test_someone_wholly_covered_is_dropped():
    image, target = scene(1, seed=1)
    other, source = scene(1, seed=2)
    source["masks"][:] = 1
    _, found = OURS.copy_paste(image, target, other, source, [0])
    assert len(found["masks"]) == 1 and found["masks"].all()


def test_a_mean_of_deviations_is_never_above_the_whole():
    """The chapter's reason: the average leaves out the spread between pictures."""
    means, stds = noise(50, seed=5), noise(50, seed=6)
    pooled = math.sqrt((stds**2).mean() + means.var(correction=0))
    assert stds.mean() <= pooled


# --- any device, any dtype ------------------------------------------------------------


def test_results_stay_on_the_device_of_their_input():
    """`meta` refuses to mix with tensors of the CPU, as a GPU does."""
    image, boxes = torch.rand(3, 5, 7, device="meta"), torch.rand(4, 4, device="meta")
    assert OURS.gray(image).shape == (1, 5, 7)
    for result in (
        OURS.gray(image),
        OURS.rotate_boxes(boxes, 30, 10, 10),
        OURS.flip_boxes(boxes, 10),
    ):
        assert result.device.type == "meta"


def test_float64_boxes_are_turned_in_float64():
    boxes = some_boxes(5, 40, 40, dtype=torch.float64)
    turned = OURS.rotate_boxes(boxes, 30, 40, 40)
    assert turned.dtype == torch.float64
    assert same(turned.float(), OURS.rotate_boxes(boxes.float(), 30, 40, 40), 1e-3)


def test_compose_hands_on_what_a_transform_returns():
    """A transform may make a tuple of one picture, as FiveCrop does."""
    steps = [v2.FiveCrop(8), lambda crops: torch.stack(crops)]
    image = scene()[0]
    assert same(OURS.Compose(steps)(image), v2.Compose(steps)(image))


def test_enlarged_edges_of_wide_rows():
    """At most a pixel apart, and rounded up but next to whole numbers."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        old = int(torch.randint(500, 3000, (), generator=generator))
        new = int(torch.randint(old, 2 * old, (), generator=generator))
        edge = torch.arange(old)
        row = tv_tensors.Mask(edge.float()[None, None])
        owner = F.resize(row, [1, new]).flatten().long()
        starts = torch.searchsorted(owner, edge)
        boxes = torch.stack([edge, edge * 0, edge + 1, edge * 0 + 1], dim=1).float()
        moved = F.resize(typed(boxes, 1, old), [1, new])[:, 0]
        moved = moved.as_subclass(torch.Tensor)
        assert (starts - moved).abs().max() < 1.01
        rest = edge * new % old
        clear = torch.minimum(rest, old - rest) > 0.01 * old
        assert torch.equal(starts[clear].float(), moved[clear].ceil())
