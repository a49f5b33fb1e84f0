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


def nearest_float64(n_in, n_out):
    return ((torch.arange(n_out).double() + 0.5) * n_in / n_out).floor().long()


def nearest_int32(n_in, n_out):
    return (2 * torch.arange(n_out, dtype=torch.int32) + 1) * n_in // (2 * n_out)


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


def points_on_the_cpu(points, old_size, new_size):
    scale = torch.tensor([new_size[1] / old_size[1], new_size[0] / old_size[0]])
    return (points + 0.5) * scale - 0.5


def points_clamped(points, old_size, new_size):
    last = torch.tensor([new_size[1] - 1.0, new_size[0] - 1.0])
    return torch.minimum(points_on_the_cpu(points, old_size, new_size), last)


def points_float32(points, old_size, new_size):
    return points_on_the_cpu(points.float(), old_size, new_size)


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


def size_by_ratio(height, width, size, max_size=None):
    short, long = min(height, width), max(height, width)
    short, long = size, int(size * (long / short))
    if max_size is not None and long > max_size:
        short, long = int(max_size * (short / long)), max_size
    return (short, long) if height <= width else (long, short)


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


def lanczos_squared(distance):
    return torch.where(distance.abs() < 3, torch.sinc(distance) ** 2, 0.0)


def lanczos_narrow(distance):
    distance = torch.where(distance.abs() < 0.2, 0.0, distance)
    return torch.where(distance.abs() < 3, lanczos_no_end(distance), 0.0)


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


def rotation_whole_degrees(image, degrees):
    return rotation(image, int(degrees))


def rotation_first_channel(image, degrees):
    return rotation(image[:1], degrees).expand_as(image)


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


def labels_blocks(labels, size):
    """Cuts off what does not divide."""
    tall, wide = labels.shape[0] // size[0], labels.shape[1] // size[1]
    blocks = labels[: tall * size[0], : wide * size[1]]
    blocks = blocks.reshape(size[0], tall, size[1], wide).transpose(1, 2)
    return blocks.flatten(2).mode(dim=-1).values


def labels_foreground(labels, size):
    classes = labels.unique()
    classes = classes[classes != 0] if (classes != 0).any() else classes
    shares = (labels == classes[:, None, None]).double()[None]
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
    ("nearest_index", nearest_float64, "2**59 + 1"),
    ("nearest_index", nearest_int32, "dtype torch.int32"),
    ("move_points", points_no_half, "doubled picture"),
    ("move_points", points_swapped, "wider only"),
    ("move_points", points_upside_down, "doubled picture"),
    ("move_points", points_corners, "doubled picture"),
    ("move_points", points_same_dtype, "dtype torch.int64"),
    ("move_points", points_in_place, "input was changed"),
    ("move_points", points_on_the_cpu, "on another device"),
    ("move_points", points_clamped, "beyond the last center"),
    ("move_points", points_float32, "gave torch.float32"),
    ("new_size", size_by_ratio, "a pixel short"),
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
    ("lanczos", lanczos_squared, "distance 0.5"),
    ("lanczos", lanczos_narrow, "a matrix of distances"),
    ("lanczos", lanczos_radians, "distance 0.5"),
    ("fixed_rotation", rotation_as_given, "not turned at all"),
    ("fixed_rotation", rotation_border, "not turned at all"),
    ("fixed_rotation", rotation_forward, "a quarter turn"),
    ("fixed_rotation", rotation_y_first, "not turned at all"),
    ("fixed_rotation", rotation_sheared, "30 degrees"),
    ("fixed_rotation", rotation_whole_degrees, "the other way"),
    ("fixed_rotation", rotation_first_channel, "half a turn"),
    ("shrink_labels", labels_blocks, "bytes, with 255"),
    ("shrink_labels", labels_foreground, "a block of 19"),
    ("shrink_labels", labels_nearest, "two of each"),
    ("shrink_labels", labels_averaged, "a majority"),
    ("shrink_labels", labels_wrong_dtype, "dtype torch.int64"),
    ("shrink_labels", labels_index, "a majority"),
    ("shrink_labels", labels_larger_wins, "two of each"),
    ("shrink_labels", labels_half, "two of each"),
    ("shrink_labels", labels_one_hot, "not yet"),
    ("shrink_labels", labels_linear, "not yet"),
]


# Right answers, written otherwise than the solutions.


def nearest_loop(n_in, n_out):
    places = [(2 * o + 1) * n_in // (2 * n_out) for o in range(n_out)]
    return torch.tensor(places, dtype=torch.int64)


def points_by_column(points, old_size, new_size):
    x = (points[:, 0] + 0.5) * new_size[1] / old_size[1] - 0.5
    y = (points[:, 1] + 0.5) * new_size[0] / old_size[0] - 0.5
    return torch.stack([x, y], dim=1)


def points_scaled(points, old_size, new_size):
    scale = [new_size[1] / old_size[1], new_size[0] / old_size[0]]
    return (points + 0.5) * torch.tensor(scale, device=points.device) - 0.5


def size_floor(height, width, size, max_size=None):
    short, long = size, size * max(height, width) // min(height, width)
    if max_size is not None and long > max_size:
        short, long = max_size * short // long, max_size
    return (short, long) if height <= width else (long, short)


def lanczos_clamped(distance):
    distance = distance.clamp(-3, 3)
    return torch.sinc(distance) * torch.sinc(distance / 3)


def lanczos_by_hand(distance):
    angle = torch.pi * distance
    weight = 3 * torch.sin(angle) * torch.sin(angle / 3) / angle**2
    weight = torch.where(distance == 0, 1.0, weight)
    return torch.where(distance.abs() < 3, weight, 0.0)


def rotation_aligned(image, degrees):
    """The same places, on the scale of aligned corners."""
    _, height, width = image.shape
    angle = torch.deg2rad(torch.tensor(float(degrees)).to(image))
    cos, sin = torch.cos(angle), torch.sin(angle)
    y, x = torch.meshgrid(
        torch.arange(height).to(image), torch.arange(width).to(image), indexing="ij"
    )
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    old_x, old_y = cos * x - sin * y, cos * y + sin * x
    grid = torch.stack([old_x * 2 / (width - 1), old_y * 2 / (height - 1)], dim=-1)
    return F.grid_sample(image[None], grid[None], align_corners=True)[0]


def labels_pooled(labels, size):
    classes = labels.unique()
    shares = (labels == classes[:, None, None]).double()
    return classes[F.adaptive_avg_pool2d(shares, size).argmax(dim=0)]


RIGHT = [
    ("nearest_index", nearest_loop),
    ("move_points", points_by_column),
    ("move_points", points_scaled),
    ("new_size", size_floor),
    ("lanczos", lanczos_clamped),
    ("lanczos", lanczos_by_hand),
    ("fixed_rotation", rotation_aligned),
    ("shrink_labels", labels_pooled),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=[r[1].__name__ for r in RIGHT])
def test_right_answer_written_otherwise_is_accepted(name, answer):
    verdict = checks.judge(f"06.{name}", answer)
    assert verdict.status == "passed", verdict.text


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
