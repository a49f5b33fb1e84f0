"""The exercises of chapter 7: mistakes are refused, each for its own reason."""

import pytest
import torch
from torchvision import ops, tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from course_utils import checks
from course_utils.detection import box_ops

# Wrong answers, each with words of the verdict that must stop it.


def points_names_kept(points, width, pairs):
    return torch.stack([width - points[..., 0], points[..., 1]], dim=-1)


def points_last_pixel(points, width, pairs):
    points = points.clone()
    for a, b in pairs:
        points[:, [a, b]] = points[:, [b, a]]
    return torch.stack([width - 1 - points[..., 0], points[..., 1]], dim=-1)


def points_copied_over(points, width, pairs):
    points = points.clone()
    for a, b in pairs:
        points[:, a], points[:, b] = points[:, b], points[:, a]  # a view is swapped
    return torch.stack([width - points[..., 0], points[..., 1]], dim=-1)


def points_in_place(points, width, pairs):
    points[..., 0] = width - points[..., 0]
    for a, b in pairs:
        points[:, [a, b]] = points[:, [b, a]]
    return points


def points_clamped(points, width, pairs):
    points = points.clone()
    for a, b in pairs:
        points[:, [a, b]] = points[:, [b, a]]
    x = (width - points[..., 0]).clamp(0, width)
    return torch.stack([x, points[..., 1]], dim=-1)


def pooled_plain(counts, means, variances):
    return means.mean(0), variances.mean(0).sqrt()


def pooled_average_std(counts, means, variances):
    weight = (counts / counts.sum())[:, None]
    return (weight * means).sum(0), (weight * variances.sqrt()).sum(0)


def pooled_unweighted(counts, means, variances):
    mean = means.mean(0)
    return mean, (variances.mean(0) + means.var(0, correction=0)).sqrt()


def pooled_variance(counts, means, variances):
    weight = (counts / counts.sum())[:, None]
    mean = (weight * means).sum(0)
    return mean, (weight * (variances + (means - mean) ** 2)).sum(0)


def letter(boxes, height, width, side, bars=True, clamp=True, swap=False, last=False):
    scale = side / max(height, width)
    left, top = (side - scale * width) / 2, (side - scale * height) / 2
    if swap:
        left, top = top, left
    shift = torch.tensor([left, top, left, top], dtype=boxes.dtype)
    if not bars:
        shift = shift * 0
    boxes = boxes / scale - shift if last else (boxes - shift) / scale
    return ops.clip_boxes_to_image(boxes, (height, width)) if clamp else boxes


def letter_no_bars(*args):
    return letter(*args, bars=False)


def letter_no_clamp(*args):
    return letter(*args, clamp=False)


def letter_drops(*args):
    boxes = letter(*args)
    return boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)]


def letter_swapped(*args):
    return letter(*args, swap=True)


def letter_late(*args):
    return letter(*args, last=True)


def letter_shorter_side(boxes, height, width, side):
    scale = side / min(height, width)
    return ops.clip_boxes_to_image(boxes / scale, (height, width))


def crop(image, boxes, labels, top, left, height, width, **slip):
    image = image[:, top : top + height, left : left + width]
    corner = [top, left] if slip.get("swap") else [left, top]
    boxes = boxes - torch.tensor(corner * 2)
    limit = torch.tensor([width, height] * 2).float()
    if slip.get("square"):
        limit = limit * 0 + max(height, width)
    boxes = torch.minimum(boxes.clamp(min=0), limit)
    positive = boxes[:, 2:] > boxes[:, :2]
    keep = positive.any(dim=1) if slip.get("any") else positive.all(dim=1)
    return image, boxes[keep], labels if slip.get("all_labels") else labels[keep]


def crop_swapped(*args):
    return crop(*args, swap=True)


def crop_square(*args):
    return crop(*args, square=True)


def crop_any(*args):
    return crop(*args, any=True)


def crop_least_area(*args):
    image, boxes, labels = crop(*args)
    keep = (boxes[:, 2:] - boxes[:, :2]).prod(1) >= 1
    return image, boxes[keep], labels[keep]


def crop_labels(*args):
    return crop(*args, all_labels=True)


def crop_keeps_touching(image, boxes, labels, top, left, height, width):
    image, *_ = crop(image, boxes, labels, top, left, height, width)
    limit = torch.tensor([width, height] * 2).float()
    moved = boxes - torch.tensor([left, top] * 2)
    moved = torch.minimum(moved.clamp(min=0), limit)
    keep = (moved[:, 2:] >= moved[:, :2]).all(dim=1)
    return image, moved[keep], labels[keep]


def visible(target, pixels, least, **slip):
    left = target["masks"].flatten(1).sum(1)
    keep = left > least * pixels if slip.get("above") else left >= least * pixels
    if not slip.get("empty"):
        keep = keep & (left > 0)
    masks = target["masks"][keep]
    boxes = box_ops.masks_to_boxes(masks)
    if not slip.get("plain"):
        boxes = tv_tensors.BoundingBoxes(
            boxes, format="XYXY", canvas_size=tuple(masks.shape[-2:])
        )
        masks = tv_tensors.Mask(masks)
    if slip.get("loose"):
        boxes = tv_tensors.wrap(target["boxes"][keep], like=target["boxes"])
    area = target["area"][keep] if slip.get("area") else left[keep].float()
    crowd = target["iscrowd"] if slip.get("crowd") else target["iscrowd"][keep]
    rest = dict(boxes=boxes, masks=masks, area=area, iscrowd=crowd)
    return {**target, **rest, "labels": target["labels"][keep]}


def visible_above(*args):
    return visible(*args, above=True)


def visible_one_bound(target, pixels, least):
    most = pixels.max() if len(pixels) else 0
    return visible(target, torch.full_like(pixels, int(most)), least)


def visible_format(target, pixels, least):
    result = visible(target, pixels, least)
    boxes, size = torch.Tensor(result["boxes"]), result["masks"].shape[-2:]
    boxes = tv_tensors.BoundingBoxes(boxes, format="XYWH", canvas_size=tuple(size))
    return {**result, "boxes": boxes}


def visible_empty(*args):
    return visible(*args, empty=True)


def visible_plain(*args):
    return visible(*args, plain=True)


def visible_loose(*args):
    return visible(*args, loose=True)


def visible_area(*args):
    return visible(*args, area=True)


def visible_crowd(*args):
    return visible(*args, crowd=True)


def visible_any_length(target, pixels, least):
    result = visible(target, pixels, least)
    keep = target["masks"].flatten(1).sum(1) >= least * pixels
    for key, value in target.items():
        if key not in result or key == "size":
            result[key] = value[keep] if len(value) == len(keep) else value
    return result


def visible_in_place(target, pixels, least):
    result = visible(target, pixels, least)
    target.update(result)
    return target


def turned(mask, degrees, corners=True, sign=1.0, center=0.0, empty=True):
    if not mask.any() and empty:
        return torch.zeros(4)
    height, width = mask.shape
    rows, columns = mask.nonzero(as_tuple=True)
    more = (0, 1) if corners else (0,)
    x = torch.cat([columns + i for i in more for _ in more]) - width / 2 + center
    y = torch.cat([rows + j for _ in more for j in more]) - height / 2 + center
    angle = sign * torch.deg2rad(torch.tensor(float(degrees)))
    u = angle.cos() * x + angle.sin() * y + width / 2 - center
    v = angle.cos() * y - angle.sin() * x + height / 2 - center
    return torch.stack([u.min(), v.min(), u.max(), v.max()])


def turned_no_corners(mask, degrees):
    return turned(mask, degrees, corners=False)


def turned_clockwise(mask, degrees):
    return turned(mask, degrees, sign=-1.0)


def turned_last_pixel(mask, degrees):
    return turned(mask, degrees, center=0.5)


def turned_no_empty(mask, degrees):
    return turned(mask, degrees, empty=False)


def turned_box_of_box(mask, degrees):
    if not mask.any():
        return torch.zeros(4)
    x1, y1, x2, y2 = box_ops.masks_to_boxes(mask[None])[0].int().tolist()
    full = torch.zeros_like(mask)
    full[y1:y2, x1:x2] = True
    return turned(full, degrees)


class Shift(v2.Transform):
    """The solution, with one switch for each slip."""

    low, clamp, same, types = 0, True, False, None

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def draw(self):
        dx, dy = torch.randint(-self.limit, self.limit + 1, (2,)).tolist()
        return (dx, dx) if self.same else (dx, dy)

    def make_params(self, flat_inputs):
        dx, dy = self.draw()
        return {"dx": dx, "dy": dy}

    def transform(self, inpt, params):
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            height, width = inpt.canvas_size
        else:
            height, width = inpt.shape[-2:]
        return F.crop(inpt, -params["dy"], -params["dx"], height, width)


class ShiftOpenEnd(Shift):
    def draw(self):
        return tuple(torch.randint(-self.limit, self.limit or 1, (2,)).tolist())


class ShiftOneDraw(Shift):
    same = True


class ShiftEachDraws(Shift):
    def transform(self, inpt, params):
        return super().transform(inpt, self.make_params([inpt]))


class ShiftRolls(Shift):
    def transform(self, inpt, params):
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            return super().transform(inpt, params)
        moved = inpt.roll((params["dy"], params["dx"]), dims=(-2, -1))
        return tv_tensors.wrap(moved, like=inpt)


class ShiftLosesType(Shift):
    def transform(self, inpt, params):
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            return inpt + torch.tensor([params["dx"], params["dy"]] * 2)
        return super().transform(inpt, params)


class ShiftNoClamp(Shift):
    def transform(self, inpt, params):
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            moved = inpt + torch.tensor([params["dx"], params["dy"]] * 2)
            return tv_tensors.wrap(moved, like=inpt)
        return super().transform(inpt, params)


class ShiftBoxesBackward(Shift):
    def transform(self, inpt, params):
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            params = {"dx": -params["dx"], "dy": -params["dy"]}
        return super().transform(inpt, params)


class ShiftCanvas(Shift):
    def transform(self, inpt, params):
        moved = super().transform(inpt, params)
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            size = inpt.canvas_size[::-1]
            return tv_tensors.wrap(moved, like=inpt, canvas_size=size)
        return moved


class ShiftRepeatsEdge(Shift):
    def transform(self, inpt, params):
        if not isinstance(inpt, tv_tensors.Image):
            return super().transform(inpt, params)
        n, (height, width) = self.limit, inpt.shape[-2:]
        wide = F.pad(inpt, [n], padding_mode="edge")
        return F.crop(wide, n - params["dy"], n - params["dx"], height, width)


class ShiftRounds(Shift):
    def make_params(self, flat_inputs):
        dx, dy = ((torch.rand(2) * 2 - 1) * self.limit).round().int().tolist()
        return {"dx": dx, "dy": dy}


class ShiftForward(Shift):
    def forward(self, image, target):
        return image, target


def shift_function(limit):
    return Shift(limit)


WRONG = {
    "07.flip_points": {
        points_names_kept: "one pair",
        points_last_pixel: "one point",
        points_copied_over: "one pair",
        points_in_place: "the input was changed",
        points_clamped: "a point outside",
    },
    "07.pooled": {
        pooled_plain: "a black and a white picture",
        pooled_average_std: "a black and a white picture",
        pooled_unweighted: "two of different size",
        pooled_variance: "a black and a white picture",
    },
    "07.unletterbox": {
        letter_no_bars: "the whole picture",
        letter_no_clamp: "over the bars",
        letter_swapped: "the whole picture",
        letter_late: "the whole picture",
        letter_shorter_side: "the whole picture",
        letter_drops: "a box in a bar",
    },
    "07.fixed_crop": {
        crop_swapped: "a box inside",
        crop_square: "cut at the lower border",
        crop_any: "outside in one direction only",
        crop_labels: "one of two is outside",
        crop_keeps_touching: "one of two is outside",
        crop_least_area: "a tiny box",
    },
    "07.keep_visible": {
        visible_above: "exactly the share",
        visible_empty: "nothing is left",
        visible_plain: "keep their types",
        visible_loose: "everything is left",
        visible_area: "everything is left",
        visible_crowd: "one of two stays",
        visible_any_length: "not theirs",
        visible_in_place: "the input was changed",
        visible_one_bound: "each by its own share",
        visible_format: "should stay XYXY",
    },
    "07.turned_box": {
        turned_no_corners: "one pixel, not turned",
        turned_clockwise: "one pixel, 90 degrees",
        turned_last_pixel: "one pixel, 90 degrees",
        turned_no_empty: "no pixel",
        turned_box_of_box: "a slanted pole",
    },
    "07.random_shift": {
        ShiftOpenEnd: "both ends",
        ShiftOneDraw: "both ends",
        ShiftRounds: "as likely",
        ShiftEachDraws: "move together",
        ShiftRolls: "over the border",
        ShiftLosesType: "came back as Tensor",
        ShiftNoClamp: "beyond the picture",
        ShiftBoxesBackward: "move together",
        ShiftCanvas: "the canvas of the boxes",
        ShiftRepeatsEdge: "black where nothing is known",
        ShiftForward: "forward",
        shift_function: "a subclass",
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
