"""Chapter 6's functions against PyTorch's and Pillow's, and that the contract bites.

The functions come out of the notebook. Every pair of sizes runs in double precision,
with contiguous, strided and channels-last input; outputs and gradients must agree.
Against float32 the bound follows from the places, which the library rounds.
"""

import ast
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from booktools import chapter_code

CHAPTER = "06_interpolation"
NAMES = [
    *("source", "triangle", "resize_matrix", "resize", "cubic", "softer_cubic"),
    *("antialias_matrix", "pillow_pass", "nearest_image"),
    *("to_pixels", "reflect", "grid_sample", "affine_grid", "nearest", "linear"),
]
OURS = chapter_code.definitions(CHAPTER, *NAMES)
SIZES = [
    ((7, 9), (14, 18)),
    ((7, 9), (14, 20)),
    ((20, 13), (5, 31)),
    ((64, 48), (17, 90)),
    ((32, 40), (8, 5)),
    ((5, 6), (5, 6)),
    ((6, 6), (6, 3)),
    ((1, 1), (4, 3)),
    ((1, 5), (3, 1)),
    ((4, 3), (1, 1)),
    ((2, 3), (1, 2)),
    ((3, 301), (2, 7)),
]


pytestmark = pytest.mark.usefixtures("one_thread")


def draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def strided(x):
    return x.transpose(-1, -2).contiguous().transpose(-1, -2)


LAYOUTS = {
    "plain": lambda x: x,
    "strided": strided,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "huge": lambda x: x * 1e12,
}


def gap(a, b) -> float:
    """The largest difference relative to the largest absolute value of ``b``."""
    assert a.shape == b.shape, (a.shape, b.shape)
    assert a.dtype == b.dtype, (a.dtype, b.dtype)
    if b.numel() == 0:
        return 0.0
    worst = (a - b).abs().max().item() / (b.abs().max().item() or 1.0)
    return worst if worst == worst else float("inf")


def both(ours, library, *inputs):
    """Results and gradients of two functions: the largest difference of all."""
    found = []
    for function in (ours, library):
        leaves = [x.detach().requires_grad_() for x in inputs]
        result = function(*leaves)
        slopes = draw(*result.shape, seed=9).to(result)
        (result * slopes).sum().backward()
        found.append([result.detach(), *(leaf.grad for leaf in leaves)])
    return max(gap(a, b) for a, b in zip(*found, strict=True))


MODES = {
    "bilinear": ("resize_matrix", "triangle", {"mode": "bilinear"}),
    "bilinear aligned": (
        *("resize_matrix", "triangle"),
        {"mode": "bilinear", "align_corners": True},
    ),
    "bicubic": ("resize_matrix", "cubic", {"mode": "bicubic"}),
    "bicubic aligned": (
        *("resize_matrix", "cubic"),
        {"mode": "bicubic", "align_corners": True},
    ),
    "bilinear antialiased": (
        *("antialias_matrix", "triangle"),
        {"mode": "bilinear", "antialias": True},
    ),
    "bicubic antialiased": (
        *("antialias_matrix", "softer_cubic"),
        {"mode": "bicubic", "antialias": True},
    ),
}


def contract(name, layout="plain", space=OURS, within=1e-11):
    """Assert that ours keeps to the library's outputs and gradients at all sizes."""
    matrix, kernel, settings = MODES[name]
    aligned = {"align_corners": True} if "align_corners" in settings else {}
    for seed, (old, new) in enumerate(SIZES):
        image = LAYOUTS[layout](draw(2, 3, *old, seed=seed))
        worst = both(
            lambda x, new=new: space.resize(
                x, new, getattr(space, matrix), getattr(space, kernel), **aligned
            ),
            lambda x, new=new: F.interpolate(x, size=new, **settings),
            image,
        )
        assert worst <= within, (name, old, new, worst)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", MODES)
def test_resize_equals_interpolate(name, layout):
    contract(name, layout)


@pytest.mark.parametrize("name", MODES)
def test_float32_within_the_rounding_of_places(name):
    matrix, kernel, settings = MODES[name]
    aligned = {"align_corners": True} if "align_corners" in settings else {}
    for seed, (old, new) in enumerate(SIZES):
        image = draw(1, 2, *old, seed=seed).float()
        matrix_of = getattr(OURS, matrix)
        ours = OURS.resize(image, new, matrix_of, getattr(OURS, kernel), **aligned)
        # A place near pixel 300 is rounded to 3e-5, and neighbors differ by up to 1.
        assert gap(ours, F.interpolate(image, size=new, **settings)) < 2e-4


@pytest.mark.parametrize("name", MODES)
def test_no_pictures_and_no_channels_of_a_batch(name):
    matrix, kernel, settings = MODES[name]
    none = torch.zeros(0, 3, 5, 6)
    ours = OURS.resize(none, (2, 9), getattr(OURS, matrix), getattr(OURS, kernel))
    assert gap(ours, F.interpolate(none, size=(2, 9), **settings)) == 0


def box(distance):
    return (distance.abs() < 0.5).double()


def test_area_is_the_mean_of_blocks_for_whole_factors():
    for factor in (1, 2, 3, 6):
        image = draw(1, 2, 12, 18, seed=factor)
        size = (12 // factor, 18 // factor)
        ours = OURS.resize(image, size, OURS.antialias_matrix, box)
        assert gap(ours, F.interpolate(image, size=size, mode="area")) < 1e-12


def ties(n_in, n_out):
    return any((2 * o + 1) * n_in % (2 * n_out) == 0 for o in range(n_out))


def test_nearest_exact_equals_all_three_off_the_ties():
    """PyTorch's mode, Pillow and the exact fraction; on ties they may differ."""
    tried = 0
    for n_in, n_out in itertools.product(range(1, 40), repeat=2):
        if ties(n_in, n_out):
            continue
        tried += 1
        exact = torch.tensor([(2 * o + 1) * n_in // (2 * n_out) for o in range(n_out)])
        numbers = torch.arange(n_in)
        library = F.interpolate(
            numbers[None, None].float(), size=n_out, mode="nearest-exact"
        )
        picture = Image.fromarray(numbers.byte().numpy()[None])
        pillow = np.array(picture.resize((n_out, 1), Image.NEAREST))[0]
        assert OURS.nearest(numbers, n_out).equal(exact), (n_in, n_out)
        assert library[0, 0].long().equal(exact), (n_in, n_out)
        assert pillow.tolist() == exact.tolist(), (n_in, n_out)
    assert tried > 1000


def test_nearest_by_borders_and_by_centers_agree_where_pictures_grow_whole():
    for n_in, factor in itertools.product(range(1, 20), range(1, 9)):
        x = draw(1, 1, n_in).float()
        modes = [
            F.interpolate(x, size=n_in * factor, mode=mode)
            for mode in ("nearest", "nearest-exact")
        ]
        assert torch.equal(*modes)


def test_linear_row():
    for n_in, n_out in [(4, 8), (1, 3), (9, 2), (5, 5)]:
        row = draw(n_in)
        library = F.interpolate(row[None, None], size=n_out, mode="linear")[0, 0]
        assert gap(OURS.linear(row, n_out), library) < 1e-12


# --- Pillow --------------------------------------------------------------------------

PILLOW = {"triangle": Image.BILINEAR, "softer_cubic": Image.BICUBIC}


@pytest.mark.parametrize("kernel", PILLOW)
def test_pillow_floats(kernel):
    for seed, (old, new) in enumerate(SIZES):
        image = draw(*old, seed=seed)
        whole = Image.fromarray(image.float().numpy())
        pillow = np.array(whole.resize(new[::-1], PILLOW[kernel]))
        ours = OURS.resize(image, new, OURS.antialias_matrix, getattr(OURS, kernel))
        assert gap(ours.float(), torch.from_numpy(pillow)) < 1e-6


def bytewise(image, size, kernel, space=OURS):
    for axis in (1, 0):  # the columns first, as Pillow does but for odd shapes
        if image.shape[axis] != size[axis]:
            matrix = space.antialias_matrix(image.shape[axis], size[axis], kernel)
            image = space.pillow_pass(image.movedim(axis, -1), matrix)
            image = image.movedim(-1, axis)
    return image


def differs_from_pillow(kernel, space=OURS) -> int:
    wrong = 0
    for seed, new in enumerate([(30, 40), (13, 17), (150, 190), (61, 60), (60, 80)]):
        generator = torch.Generator().manual_seed(seed)
        image = torch.randint(256, (60, 80), generator=generator)
        pillow = Image.fromarray(image.byte().numpy())
        pillow = np.array(pillow.resize(new[::-1], PILLOW[kernel]))
        ours = bytewise(image, new, getattr(space, kernel), space)
        wrong += (ours != torch.from_numpy(pillow).long()).sum().item()
    return wrong


@pytest.mark.parametrize("kernel", PILLOW)
def test_pillow_bytes_to_the_bit(kernel):
    assert differs_from_pillow(kernel) == 0


# --- warps ---------------------------------------------------------------------------


def warp_contract(space=OURS):
    shapes = [(5, 7), (1, 6), (8, 1), (1, 1)]
    modes = ("zeros", "border", "reflection")
    for seed, (shape, mode, aligned) in enumerate(
        itertools.product(shapes, modes, (False, True))
    ):
        settings = {"padding_mode": mode, "align_corners": aligned}
        worst = both(
            lambda x, y, s=settings: space.grid_sample(x, y, **s),
            lambda x, y, s=settings: F.grid_sample(x, y, **s),
            draw(2, 3, *shape, seed=seed),
            14 * draw(2, 6, 4, 2, seed=seed + 100) - 7,
        )
        assert worst < 1e-11, (shape, settings, worst)


def test_grid_sample_and_its_gradients():
    warp_contract()


def test_affine_grid_and_rotation():
    theta = draw(2, 3) - 0.5
    for height, width in [(4, 6), (1, 5), (3, 3)]:
        library = F.affine_grid(theta[None], (1, 1, height, width), align_corners=False)
        assert gap(OURS.affine_grid(theta, height, width), library) < 1e-12
    image = draw(3, 8, 12)
    cos, sin, ratio = 0.8, 0.6, 8 / 12
    turned = torch.tensor([[cos, -sin * ratio, 0], [sin / ratio, cos, 0]]).double()
    degrees = torch.rad2deg(torch.atan2(torch.tensor(0.6), torch.tensor(0.8))).item()
    library = v2.functional.rotate(image, degrees, InterpolationMode.BILINEAR)
    ours = OURS.grid_sample(image[None], OURS.affine_grid(turned, 8, 12))[0]
    assert gap(ours, library) < 1e-5


def test_resizing_is_the_identity_warp():
    identity = torch.eye(2, 3).double()
    for seed, (old, new) in enumerate(SIZES):
        image = draw(1, 2, *old, seed=seed)
        warped = OURS.grid_sample(image, OURS.affine_grid(identity, *new), "border")
        resized = OURS.resize(image, new, OURS.resize_matrix, OURS.triangle)
        assert gap(warped, resized) < 1e-12


# --- the contract bites: mistakes planted in the chapter's own source ----------------


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
    space = {"torch": torch, "F": F}
    exec(compile(source.replace(old, new), "<planted>", "exec"), space)
    return type("Planted", (), {k: staticmethod(space[k]) for k in NAMES})


RESIZE_MISTAKES = {
    "no half pixel": (
        *("return (new + 0.5) * n_in / n_out - 0.5", "return new * n_in / n_out"),
        "bilinear",
    ),
    "aligned by sizes": (
        *("(n_in - 1) / max(n_out - 1, 1)", "n_in / n_out"),
        "bilinear aligned",
    ),
    "three taps": ("for step in (-1, 0, 1, 2):", "for step in (-1, 0, 1):", "bicubic"),
    "border dropped": (
        "weight = kernel(x - pixel)",
        "weight = kernel(x - pixel) * ((pixel >= 0) & (pixel < n_in))",
        "bicubic",
    ),
    "the other a": ("cubic(distance, a=-0.75)", "cubic(distance, a=-0.5)", "bicubic"),
    "the library's a with antialias": (
        *("cubic(distance, a=-0.5)", "cubic(distance, a=-0.75)"),
        "bicubic antialiased",
    ),
    "shrunk kernel when growing": (
        *("stretch = max(n_in / n_out, 1)", "stretch = n_in / n_out"),
        "bilinear antialiased",
    ),
    "never stretched": (
        *("stretch = max(n_in / n_out, 1)", "stretch = 1"),
        "bilinear antialiased",
    ),
    "weights not divided by their sum": (
        "weight / weight.sum(dim=1, keepdim=True)",
        "weight / stretch",
        "bilinear antialiased",
    ),
    "height and width swapped": (
        "make_matrix(image.shape[-2], size[0], kernel",
        "make_matrix(image.shape[-2], size[1], kernel",
        "bilinear",
    ),
}


@pytest.mark.parametrize("mistake", RESIZE_MISTAKES)
def test_planted_resize_mistake_is_caught(mistake):
    old, new, name = RESIZE_MISTAKES[mistake]
    space = planted(old, new)
    with pytest.raises(AssertionError):
        contract(name, space=space)


WARP_MISTAKES = {
    "x and y swapped": (
        "to_pixels(grid[..., 0], width",
        "to_pixels(grid[..., 1], width",
    ),
    "no half pixel": ("(place + 1) / 2 * size - 0.5", "(place + 1) / 2 * size"),
    "aligned by size": ("/ 2 * (size - 1)", "/ 2 * size"),
    "outside not zero": ("total + (weight * inside)", "total + (weight)"),
    "reflected about centers": ("(-0.5, size)", "(0, size - 1)"),
    "reflected once": ("(x - low).abs() % (2 * span)", "(x - low).abs()"),
}


@pytest.mark.parametrize("mistake", WARP_MISTAKES)
def test_planted_warp_mistake_is_caught(mistake):
    with pytest.raises(AssertionError):
        warp_contract(planted(*WARP_MISTAKES[mistake]))


PILLOW_MISTAKES = {
    "weights cut, not rounded": ("matrix * 2**22 + half", "matrix * 2**22"),
    "coarser weights": (
        *("matrix * 2**22 + half).long()", "matrix * 2**15 + half).long() * 128"),
    ),
    "result cut, not rounded": ("weights.T + 2**21", "weights.T"),
    "not clamped": (".clamp(0, 255)", ".clamp(-999, 999)"),
}


@pytest.mark.parametrize("mistake", PILLOW_MISTAKES)
def test_planted_pillow_mistake_is_caught(mistake):
    assert differs_from_pillow("softer_cubic", planted(*PILLOW_MISTAKES[mistake])) > 0


def test_the_source_itself_is_no_mistake():
    space = planted("for step in (-1, 0, 1, 2):", "for step in [-1, 0, 1, 2]:")
    for name in MODES:
        contract(name, space=space)
    warp_contract(space)
    assert differs_from_pillow("softer_cubic", space) == 0


# --- what the text says about versions and neighbors ---------------------------------


def test_masks_take_nearest_by_borders():
    from torchvision import tv_tensors

    mask = tv_tensors.Mask((draw(1, 33, 41) > 0.5).byte())
    plain = mask.as_subclass(torch.Tensor)
    expect = F.interpolate(plain[None], size=(10, 17), mode="nearest")[0]
    assert torch.equal(v2.Resize((10, 17))(mask).as_subclass(torch.Tensor), expect)


@pytest.mark.parametrize("version", ["0.26", "0.29"])
def test_nearest_exact_reaches_masks_in_some_versions(version):
    import torchvision
    from torchvision import tv_tensors

    if not torchvision.__version__.startswith(version + "."):
        pytest.skip(f"needs torchvision {version}")
    mask = (draw(1, 33, 41) > 0.5).byte()
    resize_it = v2.Resize((10, 17), InterpolationMode.NEAREST_EXACT)
    borders, centers = (
        F.interpolate(mask[None], size=(10, 17), mode=mode)[0]
        for mode in ("nearest", "nearest-exact")
    )
    assert torch.equal(resize_it(mask), centers)
    expect = centers if version == "0.29" else borders
    found = resize_it(tv_tensors.Mask(mask)).as_subclass(torch.Tensor)
    assert torch.equal(found, expect)


@pytest.mark.parametrize(("version", "first"), [("11", 1), ("13", 0)])
def test_pillow_order_of_passes_for_wider_and_lower(version, first):
    import PIL

    if PIL.__version__.split(".")[0] != version:
        pytest.skip(f"needs Pillow {version}")
    for kernel, mode in PILLOW.items():
        for old, new in [((60, 90), (20, 200)), ((60, 90), (59, 91))]:
            generator = torch.Generator().manual_seed(0)
            ours = image = torch.randint(256, old, generator=generator)
            for axis in (first, 1 - first):
                matrix = OURS.antialias_matrix(
                    old[axis], new[axis], getattr(OURS, kernel)
                )
                ours = OURS.pillow_pass(ours.movedim(axis, -1), matrix)
                ours = ours.movedim(-1, axis)
            pillow = Image.fromarray(image.byte().numpy()).resize(new[::-1], mode)
            assert torch.equal(ours, torch.from_numpy(np.array(pillow)).long())


def test_detection_models_shrink_without_antialiasing():
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    image = draw(3, 90, 120).float()
    target = {"boxes": torch.zeros(0, 4), "masks": (draw(2, 90, 120) > 0.5).byte()}
    change = GeneralizedRCNNTransform(30, 40, [0.0] * 3, [1.0] * 3)
    resized, [new] = change([image], [target])
    resized = resized.tensors[0][:, :30, :40]
    plain = F.interpolate(image[None], size=(30, 40), mode="bilinear")[0]
    assert gap(resized, plain) < 1e-5
    smooth = F.interpolate(image[None], size=(30, 40), mode="bilinear", antialias=True)
    assert gap(resized, smooth[0]) > 0.1
    by_borders = F.interpolate(target["masks"][None], size=(30, 40), mode="nearest")[0]
    assert torch.equal(new["masks"], by_borders)


def test_parabola_is_followed_by_minus_one_half_only():
    x = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None]
    pixel = torch.arange(-4, 6, dtype=torch.float64)
    for a in (-1.0, -0.75, -0.5, -0.25):
        found = (OURS.cubic(x - pixel, a) * pixel**2).sum(dim=1)
        assert (gap(found, x[:, 0] ** 2) < 1e-12) == (a == -0.5)
