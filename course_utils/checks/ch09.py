"""Exercises of chapter 09, annotation formats."""

import torch

from course_utils.checks.core import Case, Wrong, exercise

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


@exercise(
    "09.voc_to_yolo",
    hint="How many pixels are there from xmin to xmax, both included? And where "
    "does pixel xmin begin, measured from the left edge of the picture?",
)
def voc_to_yolo() -> list[Case]:
    def case(says, sides, width, height):
        xmin, ymin, xmax, ymax = sides
        w, h = xmax - xmin + 1, ymax - ymin + 1
        center = (xmin - 1 + w / 2) / width, (ymin - 1 + h / 2) / height
        expect = (*center, w / width, h / height)
        return Case(says, args=(sides, width, height), expect=expect, within=1e-9)

    return [
        case("a picture of one pixel", (1, 1, 1, 1), 1, 1),
        case("the whole picture", (1, 1, 500, 375), 500, 375),
        case("the first pixel", (1, 1, 1, 1), 10, 5),
        case("a wide box in a wide picture", (69, 172, 270, 330), 500, 375),
        case("a tall box at the border", (451, 3, 500, 360), 500, 375),
        case("fractions", (2.5, 1.25, 7.5, 4), 10, 8),
    ]


# --- 2 ------------------------------------------------------------------------


def _categories(pairs) -> list[dict]:
    return [{"id": i, "name": name} for i, name in pairs]


@exercise(
    "09.label_maps",
    hint="Sort the list by id first; sorted(...) with a key leaves the input as it"
    " is. Then count its entries from 1.",
)
def label_maps() -> list[Case]:
    def case(says, pairs):
        ordered = sorted(pairs)
        labels = {number: i + 1 for i, (number, _) in enumerate(ordered)}
        expect = (labels, ["background", *(name for _, name in ordered)])
        return Case(says, args=(_categories(pairs),), expect=expect)

    return [
        case("one class", [(1, "person")]),
        case("a gap", [(1, "person"), (18, "dog")]),
        case("not sorted by id", [(18, "dog"), (1, "person"), (3, "car")]),
        case("an id of 0", [(0, "cat"), (7, "ant")]),
        case("no classes", []),
        case("names against the order of the ids", [(90, "apple"), (5, "zebra")]),
    ]


# --- 3 ------------------------------------------------------------------------

NAMES = ["person", "dog", "tv"]


@exercise(
    "09.fixed_reader",
    hint="Read the line of the file once more: which of the two sizes comes first,"
    " from where does YOLO count its classes, and which point of the box do x"
    " and y name?",
)
def fixed_reader() -> list[Case]:
    def case(says, text, found, boxes, size=(200, 100), known=NAMES):
        def test(answer):
            got = answer(text, list(known), *size)
            if not isinstance(got, tuple) or len(got) != 2:
                raise Wrong("must return two lists: names and boxes")
            names, got_boxes = got
            if list(names) != found:
                raise Wrong(f"{text!r}: names {list(names)}, expected {found}")
            got_boxes = [tuple(box) for box in got_boxes]
            if len(got_boxes) != len(boxes):
                raise Wrong(f"{len(got_boxes)} boxes, expected {len(boxes)}")
            for box, want in zip(got_boxes, boxes, strict=True):
                near = len(box) == 4 and all(
                    abs(a - b) < 1e-6 for a, b in zip(box, want, strict=True)
                )
                if not near:
                    of = f"{text!r} in a picture of {size[0]} by {size[1]}"
                    raise Wrong(f"{of}: box {box}, expected {want}")

        return Case(says, test=test)

    whole, tall = "0 0.5 0.5 1 1", "1 0.5 0.5 0.1 0.8"
    corner = "2 0.9 0.9 0.2 0.2"
    boxes = {
        whole: (0.0, 0.0, 200.0, 100.0),
        tall: (90.0, 10.0, 110.0, 90.0),
        corner: (160.0, 80.0, 200.0, 100.0),
    }
    two = [boxes[tall], boxes[corner]]
    return [
        case("the whole picture", whole, ["person"], [boxes[whole]]),
        case("a tall, narrow box", tall, ["dog"], [boxes[tall]]),
        case("the last class", corner, ["tv"], [boxes[corner]]),
        case("a file without objects", "", [], []),
        case("a line break at the end", f"{tall}\n{corner}\n", ["dog", "tv"], two),
        case("an empty line between", f"{tall}\n\n{corner}", ["dog", "tv"], two),
        case(
            "sides between pixels",
            "0 0.5 0.5 0.25 0.25",
            ["person"],
            [(1.875, 1.125, 3.125, 1.875)],
            size=(5, 3),
        ),
        case(
            "a class of two digits",
            f"12{whole[1:]}",
            ["class 12"],
            [boxes[whole]],
            known=[f"class {i}" for i in range(15)],
        ),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "09.possible",
    hint="Turn the four columns into half-open corners three times, once for each "
    "format. Then one test serves all three.",
)
def possible() -> list[Case]:
    def case(says, rows, expect, size=(10, 6)):
        boxes = torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)

        def test(answer):
            given = boxes.clone()
            got = answer(given, *size)
            shown = f"boxes {rows} in a picture of {size[0]} by {size[1]}"
            if not isinstance(got, (list, tuple)):
                raise Wrong(f"a list of names is wanted; got {got!r}")
            for name in expect:
                if name not in got:
                    raise Wrong(f"{shown}\n{name} fits and is missing in {list(got)}")
            for name in got:
                if name not in expect:
                    why = _why_not(name, rows, *size)
                    raise Wrong(f"{shown}\n{name!r} does not fit: {why}")
            if list(got) != expect:
                raise Wrong(f"{shown}\nthe order is {expect}; got {list(got)}")
            if not torch.equal(given, boxes):
                raise Wrong("the boxes were changed")

        return Case(says, test=test)

    every = ["voc", "coco", "yolo"]
    return [
        case("one pixel, VOC or COCO", [[1, 1, 1, 1]], ["voc", "coco"]),
        case("the whole picture in VOC", [[1, 1, 10, 6]], ["voc"]),
        case("the whole picture in COCO", [[0, 0, 10, 6]], ["coco"]),
        case("the whole picture in YOLO", [[0.5, 0.5, 1, 1]], ["coco", "yolo"]),
        case("half a pixel of VOC is none", [[2, 2, 2, 1.5]], ["coco"]),
        case("a later row decides", [[1, 1, 1, 1], [5, 3, 4, 2]], ["coco"]),
        case("a tenth of a pixel of VOC is none", [[3, 2, 2.1, 4]], ["coco"]),
        case("sizes of zero", [[3, 3, 0, 0]], []),
        case("a width of zero", [[3, 3, 0, 2]], []),
        case("a height of zero", [[3, 3, 2, 0]], []),
        case("beyond the picture", [[4, 4, 12, 12]], []),
        case("beyond the right border", [[4, 1, 12, 1]], []),
        case("beyond the lower border", [[1, 4, 1, 12]], []),
        case("below 0", [[-1, 0, 2, 2]], []),
        case("above the picture", [[0, -1, 2, 2]], []),
        case("YOLO sticks out to the left", [[0.1, 0.5, 0.4, 0.2]], ["coco"]),
        case(
            "YOLO sticks out by a twentieth of a pixel",
            [[0.195, 0.5, 0.4, 0.2]],
            ["coco"],
        ),
        case("rounding at the border", [[0.95, 0.5, 0.1004, 1]], ["coco", "yolo"]),
        case("0.008 pixels are rounding", [[0, 0, 10.008, 6]], ["coco"]),
        case("0.015 pixels are not", [[0, 0, 10.015, 6]], []),
        case("a fifth of a pixel is no rounding", [[1, 1, 10.2, 6]], []),
        case("no boxes: everything", [], every),
    ]


def _why_not(name, rows, width, height) -> str:
    """Which row is no box of that format, and why."""
    for a, b, c, d in rows:
        corners = {
            "voc": (a - 1, b - 1, c, d),
            "coco": (a, b, a + c, b + d),
            "yolo": (
                *((a - c / 2) * width, (b - d / 2) * height),
                *((a + c / 2) * width, (b + d / 2) * height),
            ),
        }
        if name not in corners:
            return "there is no such name"
        x1, y1, x2, y2 = corners[name]
        box = f"its half-open box of {[a, b, c, d]} is ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
        if min(x2 - x1, y2 - y1) <= 0:
            return f"{box}, without an area"
        if name == "voc" and min(x2 - x1, y2 - y1) < 1:
            return f"{box}, less than a pixel"
        if min(x1, y1) < -0.01 or x2 > width + 0.01 or y2 > height + 0.01:
            return f"{box}, beyond the picture"
    return "no row allows it"


# --- 5 ------------------------------------------------------------------------


@exercise(
    "09.annotations",
    hint="The numbers of the objects are the sorted different values of the mask. "
    "For one of them, (instances == value).nonzero() lists the rows and "
    "columns of its pixels.",
)
def annotations() -> list[Case]:
    def case(says, rows, expect, image_id=7, first_id=1):
        mask = torch.tensor(rows, dtype=torch.uint8)
        entries = [
            {"id": first_id + i, "image_id": image_id, "category_id": 1}
            | {"bbox": bbox, "area": area, "iscrowd": 0}
            for i, (bbox, area) in enumerate(expect)
        ]

        def test(answer):
            given = mask.clone()
            got = answer(given, image_id, first_id)
            if not torch.equal(given, mask):
                raise Wrong("the mask was changed")
            if not isinstance(got, list) or len(got) != len(entries):
                count = len(got) if isinstance(got, list) else type(got).__name__
                raise Wrong(f"{rows}: expected a list of {len(entries)}, got {count}")
            for ours, want in zip(got, entries, strict=True):
                _same_entry(rows, ours, want)

        return Case(says, test=test)

    return [
        case("one pixel", [[0, 1]], [([1, 0, 1, 1], 1)]),
        case("nobody", [[0, 0], [0, 0]], []),
        case(
            "two objects, ids from 5",
            [[1, 1, 0], [0, 2, 2], [0, 0, 2]],
            [([0, 0, 2, 1], 2), ([1, 1, 2, 2], 3)],
            first_id=5,
        ),
        case(
            "a gap in the numbers", [[3, 0, 9]], [([0, 0, 1, 1], 1), ([2, 0, 1, 1], 1)]
        ),
        case(
            "in the order of the numbers",
            [[9, 0, 3]],
            [([2, 0, 1, 1], 1), ([0, 0, 1, 1], 1)],
        ),
        case("void is no object", [[255, 4, 255]], [([1, 0, 1, 1], 1)]),
        case("two pieces", [[6, 0, 0, 6], [0, 0, 0, 6]], [([0, 0, 4, 2], 3)]),
    ]


def _same_entry(rows, ours, want) -> None:
    if not isinstance(ours, dict) or set(ours) != set(want):
        keys = sorted(ours) if isinstance(ours, dict) else type(ours).__name__
        raise Wrong(f"{rows}: keys {keys}, expected {sorted(want)}")
    for key, value in want.items():
        plain = ours[key] if isinstance(ours[key], list) else [ours[key]]
        if any(type(number) is not int for number in plain):
            kinds = {type(number).__name__ for number in plain}
            got = ", ".join(kinds - {"int"})
            raise Wrong(f"{rows}: {key} must hold plain integers, got {got}")
        if ours[key] != value:
            raise Wrong(f"{rows}: {key} is {ours[key]}, expected {value}")


# --- 6 ------------------------------------------------------------------------


@exercise(
    "09.box_of_counts",
    hint="Add the lengths up to know at which place each run begins and ends. "
    "divmod(place, height) gives the column and the row of a place.",
)
def box_of_counts() -> list[Case]:
    def case(says, counts, height, expect):
        return Case(says, args=(counts, height), expect=expect)

    million = 10**6
    return [
        case("one pixel", [5, 1, 6], 4, (1, 1, 2, 2)),
        case("no object", [12], 4, (0, 0, 0, 0)),
        case("a run within a column", [1, 2, 9], 4, (0, 1, 1, 3)),
        case("a mask that begins with the object", [0, 3, 9], 4, (0, 0, 1, 3)),
        case("two columns", [1, 2, 2, 2, 5], 4, (0, 1, 2, 3)),
        case("a run around the corner", [3, 2, 7], 4, (0, 0, 2, 4)),
        case("a longer run around the corner", [2, 3, 7], 4, (0, 0, 2, 4)),
        case("everything", [0, 12], 4, (0, 0, 3, 4)),
        case("the highest in the middle", [2, 1, 2, 1, 4, 1, 1], 4, (0, 1, 3, 3)),
        case("the lowest in the middle", [0, 1, 6, 1, 1, 1, 2], 4, (0, 0, 3, 4)),
        case("a run that ends a column", [2, 2, 8], 4, (0, 2, 1, 4)),
        case("a run of length 0 in the middle", [2, 0, 3, 1, 6], 4, (1, 1, 2, 2)),
        case(
            "a million by a million",
            [3 * million + 5, 10, million - 10, 12, million**2 - 4 * million - 17],
            million,
            (3, 5, 5, 17),
        ),
    ]
