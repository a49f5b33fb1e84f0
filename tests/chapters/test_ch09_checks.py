"""The exercises of chapter 09: mistakes are refused, each for its own reason."""

import pytest
import torch
from torchvision import ops

from course_utils import checks

# Wrong answers, each with words of the verdict that must stop it.


def yolo_plain(sides, width, height):
    a, b, c, d = sides
    x, y = (a + c) / 2, (b + d) / 2
    return x / width, y / height, (c - a) / width, (d - b) / height


def yolo_darknet(sides, width, height):
    a, b, c, d = sides
    x, y = (a + c) / 2 - 1, (b + d) / 2 - 1
    return x / width, y / height, (c - a) / width, (d - b) / height


def yolo_swapped(sides, width, height):
    a, b, c, d = sides
    w, h = c - a + 1, d - b + 1
    return (a - 1 + w / 2) / width, (b - 1 + h / 2) / height, h / height, w / width


def yolo_corner(sides, width, height):
    a, b, c, d = sides
    return (
        (a - 1) / width,
        (b - 1) / height,
        (c - a + 1) / width,
        (d - b + 1) / height,
    )


def yolo_whole_pixels(sides, width, height):
    a, b, c, d = (int(side) for side in sides)
    w, h = c - a + 1, d - b + 1
    return (a - 1 + w / 2) / width, (b - 1 + h / 2) / height, w / width, h / height


def labels_as_given(categories):
    names = ["background", *(c["name"] for c in categories)]
    return {c["id"]: i for i, c in enumerate(categories, 1)}, names


def labels_from_zero(categories):
    ordered = sorted(categories, key=lambda c: c["id"])
    return {c["id"]: i for i, c in enumerate(ordered)}, [c["name"] for c in ordered]


def labels_are_ids(categories):
    ordered = sorted(categories, key=lambda c: c["id"])
    names = ["background", *(c["name"] for c in ordered)]
    return {c["id"]: c["id"] for c in ordered}, names


def labels_by_name(categories):
    return labels_as_given(sorted(categories, key=lambda c: c["name"]))


def labels_sorted_in_place(categories):
    categories.sort(key=lambda c: c["id"])
    return labels_as_given(categories)


def reader(text, names, width, height, shift=0, swap=False, corner=False, skip=True):
    found, boxes = [], []
    for line in text.split("\n"):
        if skip and not line.strip():
            continue
        number, x, y, w, h = map(float, line.split())
        if swap:
            w, h = h, w
        found.append(names[int(number) - shift])
        x1, y1 = x * width, y * height
        if not corner:
            x1, y1 = x1 - w * width / 2, y1 - h * height / 2
        boxes.append((x1, y1, x1 + w * width, y1 + h * height))
    return found, boxes


def reader_as_given(text, names, width, height):
    return reader(text, names, width, height, 1, True, True, False)


def reader_from_one(text, names, width, height):
    return reader(text, names, width, height, shift=1)


def reader_swapped(text, names, width, height):
    return reader(text, names, width, height, swap=True)


def reader_corner(text, names, width, height):
    return reader(text, names, width, height, corner=True)


def reader_empty(text, names, width, height):
    return reader(text, names, width, height, skip=False)


def reader_whole_pixels(text, names, width, height):
    found, boxes = reader(text, names, width, height)
    return found, [tuple(round(side) for side in box) for box in boxes]


def reader_one_digit(text, names, width, height):
    found, boxes = reader(text, names, width, height)
    return [names[int(row[0])] for row in text.split("\n") if row], boxes


def reader_stops(text, names, width, height):
    return reader(text.split("\n\n")[0], names, width, height)


def possible_first_row(boxes, width, height):
    return _possible(boxes[:1], width, height)


def possible_any_size(boxes, width, height):
    return _possible(boxes, width, height, least=-1)


def possible_half_open_voc(boxes, width, height):
    return _possible(boxes, width, height, voc=0)


def possible_by_range(boxes, width, height):
    """Fractions can be YOLO's wherever they lie."""
    fits = _possible(boxes, width, height)
    small = bool((boxes <= 1).all() and (boxes > 0).all())
    return [f for f in fits if f != "yolo"] + ["yolo"] * small


def possible_no_slack(boxes, width, height):
    return _possible(boxes, width, height, slack=1e-9)


def possible_one_only(boxes, width, height):
    return _possible(boxes, width, height)[:1]


def possible_tight(boxes, width, height):
    return _possible(boxes, width, height, slack=0.005)


def possible_loose(boxes, width, height):
    return _possible(boxes, width, height, slack=0.016)


def possible_loose_fractions(boxes, width, height):
    """A hundredth of the picture, not of a pixel."""
    fits = [name for name in _possible(boxes, width, height) if name != "yolo"]
    corners = ops.box_convert(boxes, "cxcywh", "xyxy")
    inside = (corners >= -0.01).all() and (corners <= 1.01).all()
    return fits + ["yolo"] * bool(inside and (boxes[:, 2:] > 0).all())


def possible_blind(*sides):
    """An answer that forgets to look at some sides of the picture, or of the box."""

    def answer(boxes, width, height):
        x, y, w, h = boxes.clone().unbind(1)
        corners = {
            "voc": [x - 1, y - 1, w, h],
            "coco": [x, y, x + w, y + h],
            "yolo": [(x - w / 2) * width, (y - h / 2) * height]
            + [(x + w / 2) * width, (y + h / 2) * height],
        }
        fits = []
        for name, (x1, y1, x2, y2) in corners.items():
            least = 1 if name == "voc" else 1e-9
            rules = {
                "left": x1 >= -0.01,
                "top": y1 >= -0.01,
                "right": x2 <= width + 0.01,
                "bottom": y2 <= height + 0.01,
                "wide": x2 - x1 >= least,
                "high": y2 - y1 >= least,
            }
            if all(bool(rules[rule].all()) for rule in rules if rule not in sides):
                fits.append(name)
        return fits

    answer.__name__ = "possible_not_" + "_".join(sides)
    return answer


def possible_large(boxes, width, height):
    return _possible(boxes, width, height, slack=5)


def possible_no_pixel(boxes, width, height):
    return _possible(boxes, width, height, pixel=0)


def _possible(boxes, width, height, least=0, voc=1, slack=0.01, pixel=1):
    scale = torch.tensor([width, height] * 2)
    corners = {
        "voc": boxes - torch.tensor([voc, voc, 0, 0]),
        "coco": ops.box_convert(boxes, "xywh", "xyxy"),
        "yolo": ops.box_convert(boxes, "cxcywh", "xyxy") * scale,
    }
    fits = []
    for kind, box in corners.items():
        size = box[:, 2:] - box[:, :2]
        good = (size > least).all(1) & (size >= pixel * (kind == "voc")).all(1)
        good &= (box >= -slack).all(1) & (box <= scale + slack).all(1)
        if good.all():
            fits.append(kind)
    return fits


def annotate(instances, image_id, first_id, plus=1, void=255, numbers=None, same=False):
    entries = []
    values = [v for v in instances.unique().tolist() if v not in (0, void)]
    for value in numbers or values:
        rows, columns = (instances == value).nonzero().T
        x, y = columns.min().item(), rows.min().item()
        w, h = columns.max().item() + plus - x, rows.max().item() + plus - y
        entry = {"id": first_id if same else first_id + len(entries)}
        entry |= {"image_id": image_id, "category_id": 1, "bbox": [x, y, w, h]}
        entries.append(entry | {"area": len(rows), "iscrowd": 0})
    return entries


def annotate_inclusive(instances, image_id, first_id):
    return annotate(instances, image_id, first_id, plus=0)


def annotate_void(instances, image_id, first_id):
    return annotate(instances, image_id, first_id, void=0)


def annotate_counted(instances, image_id, first_id):
    top = int(instances[instances != 255].max())
    return annotate(instances, image_id, first_id, numbers=list(range(1, top + 1)))


def annotate_same_id(instances, image_id, first_id):
    return annotate(instances, image_id, first_id, same=True)


def annotate_box_area(instances, image_id, first_id):
    entries = annotate(instances, image_id, first_id)
    return [e | {"area": e["bbox"][2] * e["bbox"][3]} for e in entries]


def annotate_tensors(instances, image_id, first_id):
    entries = annotate(instances, image_id, first_id)
    return [e | {"area": torch.tensor(e["area"])} for e in entries]


def annotate_corners(instances, image_id, first_id):
    entries = annotate(instances, image_id, first_id)
    for entry in entries:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x, y, x + w, y + h]
    return entries


def counted(counts, height, around=True, plus=1, swap=False, first=1, empty=True):
    spans, start = [], 0
    for i, length in enumerate(counts):
        if i % 2 == first and (length > 0 or not empty):
            (x1, y1), (x2, y2) = (
                divmod(p, height) for p in (start, start + length - 1)
            )
            if around and x1 != x2:
                y1, y2 = 0, height - 1
            spans.append((min(x1, x2), min(y1, y2), max(x1, x2) + plus, y2 + plus))
        start += length
    if not spans:
        return 0, 0, 0, 0
    x1, y1, x2, y2 = zip(*spans, strict=True)
    box = min(x1), min(y1), max(x2), max(y2)
    return (box[1], box[0], box[3], box[2]) if swap else box


def counts_no_corner(counts, height):
    return counted(counts, height, around=False)


def counts_inclusive(counts, height):
    return counted(counts, height, plus=0)


def counts_swapped(counts, height):
    return counted(counts, height, swap=True)


def counts_ones_first(counts, height):
    return counted(counts, height, first=0)


def counts_empty_run(counts, height):
    return counted(counts, height, empty=False)


def _spans(counts, height):
    start = 0
    for i, length in enumerate(counts):
        if i % 2 and length:
            yield *divmod(start, height), *divmod(start + length - 1, height)
        start += length


def counts_ends(counts, height):
    """The first and the last run decide."""
    spans = list(_spans(counts, height))
    spans = [
        (x1, 0, x2, height - 1) if x1 != x2 else s
        for s in spans
        for x1, _, x2, _ in [s]
    ]
    if not spans:
        return 0, 0, 0, 0
    (x1, top, _, low), (_, y1, x2, y2) = spans[0], spans[-1]
    return x1, min(top, y1), x2 + 1, max(low, y2) + 1


def counts_long(counts, height):
    """Around a corner only the two ends are looked at."""
    spans = list(_spans(counts, height))
    if not spans:
        return 0, 0, 0, 0
    rows = [row for _, y1, _, y2 in spans for row in (y1, y2)]
    if any(
        x2 > x1 and (x2 - x1) * height + y2 - y1 + 1 >= height
        for x1, y1, x2, y2 in spans
    ):
        rows += [0, height - 1]
    return spans[0][0], min(rows), spans[-1][2] + 1, max(rows) + 1


def counts_painted(counts, height):
    if sum(counts) > 10**8:
        raise MemoryError("too many pixels")
    pixels = torch.tensor(
        [i % 2 for i, n in enumerate(counts) for _ in range(n)]
    ).reshape(-1, height)
    columns, rows = pixels.nonzero().T
    if not len(rows):
        return 0, 0, 0, 0
    low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    return tuple(int(v) for v in (*low, *high))


WRONG = {
    "09.voc_to_yolo": {
        yolo_plain: "a picture of one pixel",
        yolo_darknet: "a picture of one pixel",
        yolo_swapped: "the first pixel",
        yolo_corner: "a picture of one pixel",
        yolo_whole_pixels: "fractions",
    },
    "09.label_maps": {
        labels_as_given: "not sorted by id",
        labels_from_zero: "one class",
        labels_are_ids: "a gap",
        labels_by_name: "a gap",
        labels_sorted_in_place: "the input was changed",
    },
    "09.fixed_reader": {
        reader_as_given: "the whole picture",
        reader_from_one: "the whole picture",
        reader_swapped: "a tall, narrow box",
        reader_corner: "the whole picture",
        reader_empty: "a file without objects",
        reader_stops: "an empty line between",
        reader_whole_pixels: "sides between pixels",
        reader_one_digit: "two digits",
    },
    "09.possible": {
        possible_first_row: "a later row decides",
        possible_any_size: "sizes of zero",
        possible_half_open_voc: "one pixel",
        possible_by_range: "one pixel",
        possible_no_slack: "rounding",
        possible_one_only: "one pixel",
        possible_large: "one pixel",
        possible_no_pixel: "half a pixel",
        possible_tight: "0.008 pixels",
        possible_loose: "0.015 pixels",
        possible_loose_fractions: "sticks out by a twentieth",
        possible_blind("left"): "below 0",
        possible_blind("top"): "above the picture",
        possible_blind("right"): "the right border",
        possible_blind("bottom"): "the lower border",
        possible_blind("wide"): "a tenth of a pixel",
        possible_blind("high"): "half a pixel",
    },
    "09.annotations": {
        annotate_inclusive: "one pixel",
        annotate_void: "void",
        annotate_counted: "a gap",
        annotate_same_id: "ids from 5",
        annotate_box_area: "ids from 5",
        annotate_tensors: "plain integers",
        annotate_corners: "one pixel",
    },
    "09.box_of_counts": {
        counts_no_corner: "around the corner",
        counts_inclusive: "one pixel",
        counts_swapped: "a run within a column",
        counts_ones_first: "one pixel",
        counts_empty_run: "a run of length 0",
        counts_ends: "the highest in the middle",
        counts_long: "a longer run around the corner",
        counts_painted: "a million by a million",
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


@pytest.mark.parametrize(
    "rows, why",
    [
        ([[3, 3, 0, 0]], "without an area"),
        ([[2, 2, 2, 1.5]], "less than a pixel"),
        ([[4, 4, 12, 12]], "beyond the picture"),
    ],
)
def test_possible_says_why_a_format_does_not_fit(rows, why):
    """The format, the row as a half-open box, and what is wrong with it."""
    from course_utils.checks import ch09

    text = ch09._why_not("voc", rows, 10, 6)
    assert text.startswith("its half-open box of [") and text.endswith(why)
    verdict = checks.judge("09.possible", lambda boxes, width, height: ["voc", "coco"])
    row = "its half-open box of [1, 1, 10, 6] is (1, 1, 11, 7), beyond the picture"
    assert f"'coco' does not fit: {row}" in verdict.text


@pytest.mark.parametrize("name", list(WRONG))
def test_a_hint_helps_to_begin(name, capsys):
    checks.hint(name)
    assert len(capsys.readouterr().out.split()) > 12
