"""Exercises of chapter 6, interpolation."""

import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from course_utils.checks.core import Case, Wrong, exercise

__all__: list[str] = []


def _picture(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


# --- 1 ------------------------------------------------------------------------


@exercise(
    "06.nearest_index",
    hint="The center of new pixel o is (o + 1/2) n_in / n_out. Multiply numerator "
    "and denominator by 2, and only whole numbers are left.",
)
def nearest_index() -> list[Case]:
    def case(says, n_in, n_out):
        places = [(2 * o + 1) * n_in // (2 * n_out) for o in range(n_out)]
        expect = torch.tensor(places, dtype=torch.int64)
        return Case(says, args=(n_in, n_out), expect=expect)

    return [
        case("one pixel to one", 1, 1),
        case("the same size", 3, 3),
        case("two to four", 2, 4),
        case("four to two: a center on a border takes the right pixel", 4, 2),
        case("five to three", 5, 3),
        case("to no pixel", 4, 0),
        case("2 to 49, where the ratio in float64 picks a wrong pixel", 2, 49),
        case("26 to 11, where the ratio in float32 picks a wrong pixel", 26, 11),
        case("from 20,000,003 pixels, too many for float32", 20_000_003, 7),
        case("growing to an odd size", 7, 100),
        case("from 2**59 + 1 pixels, too many for float64", 2**59 + 1, 3),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "06.move_points",
    hint="Add the half first: then a point is a distance from the border, and "
    "borders are multiplied by a ratio. Which of the two numbers in a size "
    "belongs to x?",
)
def move_points() -> list[Case]:
    def case(says, points, old, new):
        scale = torch.tensor([new[1] / old[1], new[0] / old[0]])
        expect = (points + 0.5) * scale - 0.5
        return Case(says, args=(points, old, new), expect=expect)

    def stays(says, points):
        def test(answer):
            got = answer(points, (10, 12), (5, 6))
            if not isinstance(got, torch.Tensor) or got.dtype != points.dtype:
                found = getattr(got, "dtype", "no tensor")
                raise Wrong(f"points of {points.dtype} gave {found}")

        return Case(says, test=test)

    def elsewhere(answer):
        # The meta device stands for any other: it is on every machine.
        points = torch.zeros(2, 2, device="meta")
        says = "points on another device than the CPU"
        try:
            got = answer(points, (10, 12), (5, 6))
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0]
            if "meta tensor" in reason:  # it asked for values, which meta has not
                return
            raise Wrong(f"{says}: it raised\n{reason}") from None
        if not isinstance(got, torch.Tensor) or got.device != points.device:
            where = got.device if isinstance(got, torch.Tensor) else "no tensor"
            raise Wrong(f"{says}: the result was on another: {where}")

    some = torch.tensor([[0.0, 0], [10, 3], [2.5, 7.25]])
    last = torch.tensor([[11.0, 9]])
    return [
        case("the first pixel of a doubled picture", some[:1], (4, 4), (8, 8)),
        case("the same size", some, (10, 12), (10, 12)),
        case("wider only: x comes first", some, (10, 12), (10, 36)),
        case("halved", some, (10, 12), (5, 6)),
        case("whole numbers", torch.tensor([[3, 4], [0, 1]]), (10, 12), (5, 9)),
        case("no points", some[:0], (4, 4), (8, 8)),
        case("both ways at once", some, (480, 640), (800, 333)),
        case("the last pixel, halved: beyond the last center", last, (10, 12), (5, 6)),
        stays("float64 stays float64", some.double()),
        Case("points on another device", test=elsewhere),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "06.new_size",
    hint="Work with the shorter and the longer side, and decide only at the end "
    "which of them is the height.",
)
def new_size() -> list[Case]:
    def case(says, height, width, size, max_size=None):
        nothing = tv_tensors.BoundingBoxes(
            torch.zeros(0, 4), format="XYXY", canvas_size=(height, width)
        )
        expect = v2.Resize(size, max_size=max_size)(nothing).canvas_size
        kwargs = {} if max_size is None else {"max_size": max_size}
        return Case(
            says, args=(height, width, size), kwargs=kwargs, expect=tuple(expect)
        )

    return [
        case("a square", 10, 10, 5),
        case("lying, a whole ratio", 300, 400, 150),
        case("standing", 400, 300, 150),
        case("rounded down", 7, 11, 5),
        case("27 * (13 / 3) would be a pixel short in floats", 3, 13, 27),
        case("larger than before", 30, 40, 600),
        case("max_size is not reached", 300, 400, 150, 201),
        case("max_size is reached exactly", 300, 400, 150, 200),
        case("max_size limits a lying picture", 300, 400, 150, 160),
        case("max_size limits a standing picture", 640, 120, 100, 333),
        case("the large photograph of this chapter", 1818, 3280, 1500, 1600),
        # From the original sides it would be 6 pixels, not 7.
        case("the shorter side follows the rounded longer one", 3, 4, 8, 9),
    ]


# --- 4 ------------------------------------------------------------------------


def _with_kernel(kernel, image, size):
    for axis, n_out in zip((-1, -2), size[::-1], strict=True):
        n_in = image.shape[axis]
        stretch = max(n_in / n_out, 1)
        place = (torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5
        weight = kernel((place[:, None] - torch.arange(n_in)) / stretch)
        weight = weight / weight.sum(dim=1, keepdim=True)
        image = (image.movedim(axis, -1) @ weight.T).movedim(-1, axis)
    return image


@exercise(
    "06.lanczos",
    hint="torch.sinc has the factor pi inside. Cut off by the distance without its "
    "sign.",
)
def lanczos() -> list[Case]:
    def right(d):
        inside = torch.sinc(d) * torch.sinc(d / 3)
        return torch.where(d.abs() < 3, inside, torch.zeros_like(d))

    def case(says, values):
        d = torch.tensor(values, dtype=torch.float64)
        return Case(says, args=(d,), expect=right(d))

    def pictures(answer):
        for old, new in [((9, 12), (4, 5)), ((5, 4), (11, 13)), ((8, 8), (3, 20))]:
            image = _picture(*old)
            whole = Image.fromarray(image.float().numpy())
            whole = whole.resize(new[::-1], Image.LANCZOS)
            expect = v2.functional.pil_to_tensor(whole)[0].double()
            if (_with_kernel(answer, image, new) - expect).abs().max() > 1e-5:
                sizes = f"{old[0]} by {old[1]} to {new[0]} by {new[1]}"
                raise Wrong(f"a picture of {sizes} is not Pillow's")

    return [
        case("distance 0", [0.0]),
        case("distance 0.5", [0.5]),
        case("to the left", [-0.5, -1.25]),
        case("whole distances", [1.0, 2, 3]),
        case("beyond 3", [3.5, -4.25, 30]),
        case("a matrix of distances", [[0.1, -2.9], [1.5, 2.999]]),
        case("no distances", []),
        Case("pictures are Pillow's", test=pictures),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "06.fixed_rotation",
    hint="Start with 0 degrees, where the picture must stay as it is: that brings "
    "two of the three mistakes to light. A quarter turn shows the third.",
)
def fixed_rotation() -> list[Case]:
    def case(says, image, degrees):
        expect = v2.functional.rotate(image, degrees, InterpolationMode.BILINEAR)
        # In float32 right answers differ by some units in the last place of a *place*.
        within = 1e-6 if image.dtype == torch.float64 else 1e-4
        return Case(says, args=(image, degrees), expect=expect, within=within)

    square = torch.arange(1.0, 10, dtype=torch.float64).reshape(1, 3, 3)
    return [
        case("3 by 3 pixels, not turned at all", square, 0),
        case("3 by 3 pixels, a quarter turn", square, 90),
        case("not square, not turned", _picture(1, 2, 5), 0),
        case("half a turn", _picture(2, 3, 5), 180),
        case("30 degrees", _picture(3, 6, 9), 30),
        case("the other way", _picture(3, 9, 4), -75.5),
        case("float32", _picture(3, 8, 8).float(), 45),
    ]


# --- 6 ------------------------------------------------------------------------


@exercise(
    "06.shrink_labels",
    hint="Make one mask for each class, shrink each mask by mode='area', and ask "
    "which share is the largest.",
)
def shrink_labels() -> list[Case]:
    def case(says, labels, size):
        return Case(says, args=(labels, size), expect=_by_share(labels, size))

    def drawn(*shape, seed, top=4):
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(top, shape, generator=generator)

    blob = torch.zeros(4, 4, dtype=torch.int64)
    blob[1:3, 1:] = 19
    void = blob.clone().to(torch.uint8)
    void[3:] = 255
    return [
        case("a majority", torch.tensor([[5, 9], [9, 9]]), (1, 1)),
        case("two of each: the smaller", torch.tensor([[9, 5], [9, 5]]), (1, 1)),
        case("one class", torch.full((4, 4), 7), (2, 2)),
        case("a block of 19", blob, (2, 2)),
        case("bytes, with 255 for no class", void, (2, 3)),
        case("three classes: most of them wins", torch.tensor([[1, 3, 3, 2]]), (1, 1)),
        case("one of each: the smallest", torch.tensor([[8, 2, 4]]), (1, 1)),
        case("to a size that does not divide", drawn(7, 10, seed=1), (3, 4)),
        case("large numbers", drawn(6, 6, seed=2) + 2**40, (2, 3)),
        case("negative numbers", drawn(6, 6, seed=3) - 2, (3, 2)),
        case("the same size", drawn(3, 4, seed=4), (3, 4)),
    ]


def _by_share(labels, size):
    """In plain loops: counts over the old pixels that a new one touches."""
    height, width = labels.shape
    result = torch.empty(size, dtype=labels.dtype)
    for i in range(size[0]):
        top, low = i * height // size[0], -(-(i + 1) * height // size[0])
        for j in range(size[1]):
            left, right = j * width // size[1], -(-(j + 1) * width // size[1])
            block = labels[top:low, left:right].flatten().tolist()
            result[i, j] = max(sorted(set(block)), key=block.count)
    return result
