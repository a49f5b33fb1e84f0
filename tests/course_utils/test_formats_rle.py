"""Run lengths and polygons: worked out by hand, and equal to pycocotools both ways."""

import warnings

import numpy as np
import pytest

from course_utils.formats import rle

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    coco = pytest.importorskip("pycocotools.mask", exc_type=ImportError)

SEEDS = range(40)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pycocotools")


def random_mask(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 60, 2)
    density = generator.choice([0, 0.02, 0.5, 0.98, 1])
    mask = generator.random((height, width)) < density
    if seed % 2:  # long runs, so that counts need several characters
        mask = np.kron(mask, np.ones((9, 9), dtype=bool))
    return mask


def test_counts_go_down_the_columns_and_begin_with_zeros():
    mask = np.array([[0, 1, 1], [0, 1, 0]])
    assert rle.counts(mask) == [2, 3, 1]  # read as 0 0, 1 1, 1 0
    assert rle.counts(1 - mask) == [0, 2, 3, 1]
    assert rle.counts(np.zeros((2, 3))) == [6]
    assert rle.counts(np.ones((2, 3))) == [0, 6]
    assert rle.counts(np.zeros((0, 3))) == [0]


def test_a_string_by_hand():
    # 2 and 3 are "2" and "3". 40 = 1 * 32 + 8: the lower five bits with the bit for
    # "more" are 8 + 32, the character "X"; then 1, "1". The fourth count is stored as
    # 1 - 3 = -2, in five bits 30, "N".
    assert rle.compress([2, 3, 40, 1]) == "23X1N"
    assert rle.decompress("23X1N") == [2, 3, 40, 1]
    assert rle.compress([]) == "" and rle.decompress("") == []


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_equal_pycocotools_both_ways(seed):
    mask = random_mask(seed)
    theirs = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    ours = rle.encode(mask)
    assert ours == {"size": list(mask.shape), "counts": theirs["counts"].decode()}
    assert np.array_equal(rle.decode(theirs), mask)
    assert np.array_equal(coco.decode(ours), mask)
    plain = rle.encode(mask, compressed=False)
    assert np.array_equal(coco.decode(coco.frPyObjects(plain, *mask.shape)), mask)
    assert rle.decompress(ours["counts"]) == plain["counts"] == rle.counts(mask)
    assert np.array_equal(rle.decode(plain), mask)


def test_runs_too_long_for_a_few_characters():
    counts = [0, 10**6, 3, 5, 2 * 10**6, 1, 1]
    theirs = coco.frPyObjects({"size": [1, sum(counts)], "counts": counts}, 1, 1)
    assert rle.compress(counts) == theirs["counts"].decode()
    assert rle.decompress(theirs["counts"]) == counts


@pytest.mark.parametrize(
    "broken, message",
    [
        ({"size": [2, 3]}, "need 'size' and 'counts'"),
        ([1, 2], "need 'size' and 'counts'"),
        ({"size": [6], "counts": [6]}, r"size must be \[height, width\], got \[6\]"),
        ({"size": [2, 3.0], "counts": [6]}, r"size must be .* got \[2, 3.0\]"),
        ({"size": [2, 3], "counts": [2, 3]}, "add up to 5, but 2 x 3 pixels are 6"),
        ({"size": [2, 3], "counts": [7, -1]}, r"integers >= 0, got \[7, -1\]"),
        ({"size": [2, 3], "counts": [5.5, 0.5]}, "integers >= 0"),
        ({"size": [2, 3], "counts": None}, "integers >= 0, got None"),
        ({"size": [2, 3], "counts": "2 3"}, "no character of run lengths: ' ' at 1"),
        ({"size": [2, 3], "counts": "2X"}, "end in the middle of a number: '2X'"),
        ({"size": [2, 3], "counts": b"23"}, "add up to 5"),
    ],
)
def test_broken_run_lengths_are_refused(broken, message):
    with pytest.raises(ValueError, match=message):
        rle.decode(broken)


def test_a_mask_has_two_dimensions():
    with pytest.raises(ValueError, match=r"shape \(H, W\), got \(1, 2, 3\)"):
        rle.counts(np.zeros((1, 2, 3)))


# ------------------------------------------------------------------ polygons


def theirs(polygons, height, width):
    return coco.decode(coco.merge(coco.frPyObjects(polygons, height, width)))


def test_a_square_covers_its_pixels():
    mask = rle.from_polygons([[1, 1, 4, 1, 4, 3, 1, 3]], 5, 6)
    want = np.zeros((5, 6), dtype=bool)
    want[1:3, 1:4] = True
    assert np.array_equal(mask, want)


def test_no_polygon_covers_nothing():
    assert not rle.from_polygons([], 2, 3).any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["whole", "half", "decimals", "any", "outside"])
def test_polygons_equal_pycocotools(seed, kind):
    generator = np.random.default_rng(seed)
    height, width = map(int, generator.integers(1, 50, 2))
    polygons = []
    for _ in range(generator.integers(1, 4)):
        points = generator.random((generator.integers(3, 12), 2)) * [width, height]
        if kind == "whole":
            points = points.round()  # with points that coincide
        elif kind == "half":
            points = (2 * points).round() / 2
        elif kind == "decimals":
            points = points.round(2)
        elif kind == "outside":
            points = 3 * points - [width, height]
        polygons.append(points.ravel().tolist())
    ours = rle.from_polygons(polygons, height, width)
    assert np.array_equal(ours, theirs(polygons, height, width))


def test_a_polygon_is_finite_and_near_its_image():
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="needs finite numbers"):
            rle.from_polygons([[1, 2, 3, 4, 5, value]], 5, 5)
    for far in (1e9, -1e9, 1e300):  # C would ask for gigabytes, or overflow
        with pytest.raises(ValueError, match="a polygon far outside its image"):
            rle.from_polygons([[0, 0, far, 0, 0, 4]], 5, 5)
    assert rle.from_polygons([[0, 0, 1e6, 0, 1e6, 5, 0, 5]], 5, 5).all()
    with pytest.raises(ValueError, match="height and width must be integers >= 0"):
        rle.from_polygons([[0, 0, 1, 0, 1, 5]], 5.5, 5)
    assert rle.from_polygons([[0, 0, 1, 0, 1, 5]], 0, 5).shape == (0, 5)


def test_numbers_that_c_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="more than 32 bits at 7"):
        rle.decompress("P" * 7 + "0")
    for counts in ([-1], [2**31], [1.5], [2**30, 2**30]):
        with pytest.raises(ValueError, match="integers >= 0 of a sum < 2.31, got"):
            rle.compress(counts)
    with pytest.raises(ValueError, match="fewer than 2.31 pixels"):
        rle.decode({"size": [2**16, 2**16], "counts": [2**32]})
    with pytest.raises(ValueError, match="integers >= 0, got"):
        rle.decode({"size": [2, 3], "counts": "1000O"})  # 1, 0, 0, then less than 0


def test_masks_of_any_kind_and_order():
    mask = random_mask(3)
    for other in (mask.astype(float) * 0.5, np.asfortranarray(mask), mask[::1] * 7):
        assert rle.encode(other) == rle.encode(mask)
    before = mask.copy()
    rle.counts(mask)
    assert np.array_equal(mask, before)
    found = rle.encode(mask)
    assert type(found["counts"]) is str and {type(s) for s in found["size"]} == {int}


@pytest.mark.filterwarnings("error")
def test_it_gives_no_warning():
    mask = random_mask(5)
    assert np.array_equal(rle.decode(rle.encode(mask)), mask)
    assert rle.from_polygons([[0, 0, 4, 0, 4, 4, 0, 4]], 4, 4).all()


@pytest.mark.parametrize("polygon", [[], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7]])
def test_a_polygon_has_three_points_or_more(polygon):
    with pytest.raises(ValueError, match=f"numbers, got {len(polygon)}"):
        rle.from_polygons([polygon], 5, 5)
