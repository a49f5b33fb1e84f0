"""The exercises of chapter 6: mistakes are refused, each for its own reason."""

import pytest
import torch
import torch.nn.functional as F

from booktools.chapter_code import exercises
from course_utils import checks

CHAPTER = exercises("06_interpolation")


# Wrong answers, each with words of the verdict that must stop it.


def nearest_floor(n_in, n_out):
    return torch.arange(n_out) * n_in // n_out


def nearest_round(n_in, n_out):
    return torch.tensor([min(round(o * n_in / n_out), n_in - 1) for o in range(n_out)])


def nearest_float32(n_in, n_out):
    scale = torch.tensor(float(n_in)) / n_out
    return ((torch.arange(n_out) + 0.5) * scale).floor().long()


def nearest_left(n_in, n_out):
    return -(-(2 * torch.arange(n_out) + 1) * n_in // (2 * n_out)) - 1


def nearest_list(n_in, n_out):
    return [(2 * o + 1) * n_in // (2 * n_out) for o in range(n_out)]


def nearest_library(n_in, n_out):
    numbers = torch.arange(n_in, dtype=torch.float32)[None, None]
    return F.interpolate(numbers, size=n_out, mode="nearest-exact")[0, 0].long()


def points_no_half(points, old_size, new_size):
    return points * torch.tensor([new_size[1] / old_size[1], new_size[0] / old_size[0]])


def points_swapped(points, old_size, new_size):
    scale = torch.tensor([new_size[0] / old_size[0], new_size[1] / old_size[1]])
    return (points + 0.5) * scale - 0.5


def points_upside_down(points, old_size, new_size):
    scale = torch.tensor([old_size[1] / new_size[1], old_size[0] / new_size[0]])
    return (points + 0.5) * scale - 0.5


def points_corners(points, old_size, new_size):
    scale = [(n - 1) / (o - 1) for n, o in zip(new_size, old_size, strict=True)]
    return points * torch.tensor(scale[::-1])


def points_same_dtype(points, old_size, new_size):
    scale = torch.tensor([new_size[1] / old_size[1], new_size[0] / old_size[0]])
    return ((points + 0.5) * scale - 0.5).to(points.dtype)


def points_in_place(points, old_size, new_size):
    points += 0.5
    points *= torch.tensor([new_size[1] / old_size[1], new_size[0] / old_size[0]])
    points -= 0.5
    return points


def size_of_longer(height, width, size, max_size=None):
    long = max(height, width)
    return int(height * size / long), int(width * size / long)


def size_rounded(height, width, size, max_size=None):
    short, long = min(height, width), max(height, width)
    short, long = size, round(size * long / short)
    if max_size is not None and long > max_size:
        short, long = round(max_size * short / long), max_size
    return (short, long) if height <= width else (long, short)


def size_always_lying(height, width, size, max_size=None):
    short, long = min(height, width), max(height, width)
    short, long = size, int(size * long / short)
    if max_size is not None and long > max_size:
        short, long = int(max_size * short / long), max_size
    return short, long


def size_no_limit(height, width, size, max_size=None):
    scale = size / min(height, width)
    return int(height * scale + 1e-9), int(width * scale + 1e-9)


def size_clipped(height, width, size, max_size=None):
    height, width = size_no_limit(height, width, size)
    if max_size is not None:
        height, width = min(height, max_size), min(width, max_size)
    return height, width


def size_from_originals(height, width, size, max_size=None):
    short, long = min(height, width), max(height, width)
    new_short, new_long = size, int(size * long / short)
    if max_size is not None and new_long > max_size:
        new_short, new_long = int(max_size * short / long), max_size
    return (new_short, new_long) if height <= width else (new_long, new_short)


def lanczos_no_end(distance):
    return torch.sinc(distance) * torch.sinc(distance / 3)


def lanczos_one_sided(distance):
    return torch.where(distance < 3, lanczos_no_end(distance), 0.0)


def lanczos_nan(distance):
    d = torch.pi * distance
    weight = torch.sin(d) / d * torch.sin(d / 3) / (d / 3)
    return torch.where(distance.abs() < 3, weight, 0.0)


def lanczos_two(distance):
    weight = torch.sinc(distance) * torch.sinc(distance / 2)
    return torch.where(distance.abs() < 2, weight, 0.0)


def lanczos_radians(distance):
    weight = torch.sinc(distance / torch.pi) * torch.sinc(distance / 3 / torch.pi)
    return torch.where(distance.abs() < 3, weight, 0.0)


def rotation(image, degrees, middle=True, backward=True, order=True):
    _, height, width = image.shape
    angle = torch.deg2rad(torch.tensor(float(degrees)).to(image))
    cos, sin = torch.cos(angle), torch.sin(angle)
    y, x = torch.meshgrid(
        torch.arange(height).to(image), torch.arange(width).to(image), indexing="ij"
    )
    less = 1 if middle else 0
    x, y = x - (width - less) / 2, y - (height - less) / 2
    sin = -sin if backward else sin
    old_x, old_y = cos * x + sin * y, cos * y - sin * x
    place = [old_x * 2 / width, old_y * 2 / height]
    grid = torch.stack(place if order else place[::-1], dim=-1)
    return F.grid_sample(image[None], grid[None], align_corners=False)[0]


def rotation_as_given(image, degrees):
    return rotation(image, degrees, middle=False, backward=False, order=False)


def rotation_border(image, degrees):
    return rotation(image, degrees, middle=False)


def rotation_forward(image, degrees):
    return rotation(image, degrees, backward=False)


def rotation_y_first(image, degrees):
    return rotation(image, degrees, order=False)


def rotation_sheared(image, degrees):
    angle = torch.deg2rad(torch.tensor(float(degrees)))
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.tensor([[cos, -sin, 0], [sin, cos, 0]]).to(image)
    grid = F.affine_grid(theta[None], (1, *image.shape), align_corners=False)
    return F.grid_sample(image[None], grid, align_corners=False)[0]


def labels_nearest(labels, size):
    picked = F.interpolate(labels[None, None].double(), size=size, mode="nearest-exact")
    return picked[0, 0].to(labels.dtype)


def labels_averaged(labels, size):
    mean = F.interpolate(labels[None, None].double(), size=size, mode="area")
    return mean[0, 0].round().to(labels.dtype)


def labels_wrong_dtype(labels, size):
    classes = labels.unique()
    shares = (labels == classes[:, None, None]).double()[None]
    return shares_argmax(classes.long(), shares, size)


def shares_argmax(classes, shares, size, mode="area"):
    return classes[F.interpolate(shares, size=size, mode=mode)[0].argmax(0)]


def labels_index(labels, size):
    shares = (labels == labels.unique()[:, None, None]).double()[None]
    return F.interpolate(shares, size=size, mode="area")[0].argmax(0)


def labels_larger_wins(labels, size):
    classes = labels.unique().flip(0)
    shares = (labels == classes[:, None, None]).double()[None]
    return shares_argmax(classes, shares, size)


def labels_half(labels, size):
    """Right for two classes only: the background keeps what nobody has half of."""
    result = torch.zeros(size, dtype=labels.dtype)
    for label in labels.unique():
        share = (labels == label)[None, None].double()
        share = F.interpolate(share, size=size, mode="area")[0, 0]
        result[share > 0.5] = label
    return result


def labels_one_hot(labels, size):
    classes = torch.arange(int(labels.max()) + 1, dtype=labels.dtype)
    shares = F.one_hot(labels.long()).permute(2, 0, 1).double()[None]
    return shares_argmax(classes, shares, size)


def labels_linear(labels, size):
    classes = labels.unique()
    shares = (labels == classes[:, None, None]).double()[None]
    return shares_argmax(classes, shares, size, mode="bilinear")


WRONG = [
    ("nearest_index", nearest_floor, "four to two"),
    ("nearest_index", nearest_round, "two to four"),
    ("nearest_index", nearest_float32, "26 to 11"),
    ("nearest_index", nearest_left, "four to two"),
    ("nearest_index", nearest_list, "expected a tensor"),
    ("nearest_index", nearest_library, "not yet"),
    ("move_points", points_no_half, "doubled picture"),
    ("move_points", points_swapped, "wider only"),
    ("move_points", points_upside_down, "doubled picture"),
    ("move_points", points_corners, "doubled picture"),
    ("move_points", points_same_dtype, "dtype torch.int64"),
    ("move_points", points_in_place, "input was changed"),
    ("new_size", size_of_longer, "a whole ratio"),
    ("new_size", size_rounded, "rounded down"),
    ("new_size", size_always_lying, "standing"),
    ("new_size", size_no_limit, "max_size limits a lying"),
    ("new_size", size_clipped, "max_size limits a lying"),
    ("new_size", size_from_originals, "follows the rounded"),
    ("lanczos", lanczos_no_end, "beyond 3"),
    ("lanczos", lanczos_one_sided, "beyond 3"),
    ("lanczos", lanczos_nan, "distance 0"),
    ("lanczos", lanczos_two, "distance 0.5"),
    ("lanczos", lanczos_radians, "distance 0.5"),
    ("fixed_rotation", rotation_as_given, "not turned at all"),
    ("fixed_rotation", rotation_border, "not turned at all"),
    ("fixed_rotation", rotation_forward, "a quarter turn"),
    ("fixed_rotation", rotation_y_first, "not turned at all"),
    ("fixed_rotation", rotation_sheared, "30 degrees"),
    ("shrink_labels", labels_nearest, "two of each"),
    ("shrink_labels", labels_averaged, "a majority"),
    ("shrink_labels", labels_wrong_dtype, "dtype torch.int64"),
    ("shrink_labels", labels_index, "a majority"),
    ("shrink_labels", labels_larger_wins, "two of each"),
    ("shrink_labels", labels_half, "two of each"),
    ("shrink_labels", labels_one_hot, "not yet"),
    ("shrink_labels", labels_linear, "not yet"),
]


@pytest.mark.parametrize(
    ("name", "answer", "words"), WRONG, ids=[w[1].__name__ for w in WRONG]
)
def test_wrong_answer_is_refused(name, answer, words):
    verdict = checks.judge(f"06.{name}", answer)
    assert verdict.status == "failed", verdict.text
    assert words in verdict.text


def test_each_exercise_refuses_at_least_three_mistakes():
    counts = [sum(w[0] == name[3:] for w in WRONG) for name in CHAPTER]
    assert min(counts) >= 3
