"""scenes: the bundled files are what the generator draws, and what it promises."""

import hashlib
import importlib.metadata
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sweeps import quick_share

from booktools import notebook
from experiments import scenes
from experiments.scenes import clutter, dice, figure, files, pose, raster
from experiments.scenes.__main__ import main
from experiments.scenes.camera import Camera, Light
from experiments.scenes.people import Person

ROOT = notebook.ROOT
DATA = ROOT / "data" / "pedestrians"
STEMS = [files.name(index) for index in range(170)]


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def masks() -> list[np.ndarray]:
    return [read(DATA / "PedMasks" / f"{stem}_mask.png") for stem in STEMS]


# --- the bundled files ---------------------------------------------------------------


@pytest.mark.parametrize("index", quick_share(range(170), 4))
def test_redrawn_pixel_for_pixel(index):
    assert files.differences(DATA, index) == []


def test_sums_are_those_of_the_files():
    assert (DATA / "SHA256SUMS").read_text(encoding="utf-8") == files.sums(DATA)


def test_bytes_are_equal_in_the_pinned_environment(tmp_path):
    pinned = re.search(
        r"^pillow==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE
    )
    installed = importlib.metadata.version("pillow")
    if pinned and installed != pinned.group(1):
        pytest.skip(f"pillow {installed} here, {pinned.group(1)} pinned: other bytes")
    files.write(tmp_path / "pedestrians", count=3)
    for path in sorted(tmp_path.rglob("Scene*")):
        stored = DATA / path.relative_to(tmp_path / "pedestrians")
        assert path.read_bytes() == stored.read_bytes(), stored.name


def test_layout():
    for part, ending in (
        ("PNGImages", ".png"),
        ("PedMasks", "_mask.png"),
        ("Annotation", ".txt"),
    ):
        found = sorted(path.name for path in (DATA / part).iterdir())
        assert found == [stem + ending for stem in STEMS]
    size = sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file())
    assert size <= 12e6, f"{size / 1e6:.1f} MB"


def test_splits():
    train = (DATA / "train.txt").read_text(encoding="utf-8").split()
    test = (DATA / "test.txt").read_text(encoding="utf-8").split()
    assert (len(train), len(test)) == (120, 50)
    assert sorted(train + test) == STEMS  # so none is in both


def test_images_and_masks():
    counts, shares, sizes = [], [], set()
    for stem, mask in zip(STEMS, masks(), strict=True):
        with Image.open(DATA / "PNGImages" / f"{stem}.png") as image:
            assert image.mode == "RGB"
            assert image.size == (mask.shape[1], mask.shape[0])
            sizes.add(image.size)
        with Image.open(DATA / "PedMasks" / f"{stem}_mask.png") as image:
            assert image.mode == "L"
        count = int(mask.max())
        assert np.unique(mask).tolist() == list(range(count + 1))
        counts.append(count)
        for k in range(1, count + 1):
            assert (mask == k).sum() >= scenes.LEAST_PIXELS
            rows = np.nonzero((mask == k).any(axis=1))[0]
            shares.append((rows[-1] - rows[0] + 1) / mask.shape[0])
    assert min(counts) == 1 and 6 <= max(counts) <= 8
    assert 0.10 <= min(shares) < 0.13 and max(shares) > 0.90
    assert len(sizes) > 100
    assert 200 <= max(max(size) for size in sizes) <= 320
    assert all(200 <= max(size) for size in sizes)
    aspects = [width / height for width, height in sizes]
    assert min(aspects) < 0.8 and max(aspects) > 1.9


def test_annotations_hold_the_masks_boxes():
    for stem, mask in zip(STEMS, masks(), strict=True):
        text = (DATA / "Annotation" / f"{stem}.txt").read_text(encoding="utf-8")
        width, height = re.search(r"C\) : (\d+) x (\d+) x 3", text).groups()
        assert mask.shape == (int(height), int(width))
        pattern = r"Ymax\) : \((\d+), (\d+)\) - \((\d+), (\d+)\)"
        boxes = [[int(n) for n in found] for found in re.findall(pattern, text)]
        assert len(boxes) == mask.max()
        for k, box in enumerate(boxes, start=1):
            rows, columns = np.nonzero(mask == k)
            inclusive = [columns.min(), rows.min(), columns.max(), rows.max()]
            assert box == [int(n) + 1 for n in inclusive]
        assert f"{int(mask.max())} {{" in text


def test_people_are_not_flat():
    """A person is shaded and textured: no single color fills half of one."""
    worst = 0.0
    for stem, mask in list(zip(STEMS, masks(), strict=True))[:60]:
        image = read(DATA / "PNGImages" / f"{stem}.png")
        pixels = image[mask == 1].astype(np.int64)
        _, counts = np.unique(pixels @ [65536, 256, 1], return_counts=True)
        worst = max(worst, counts.max() / len(pixels))
    assert worst < 0.5


# --- drawing -------------------------------------------------------------------------


def test_a_scene_depends_on_seed_and_index_only():
    first = scenes.scene(3, 5)
    scenes.scene(4, 0)
    again = scenes.scene(3, 5)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert first.image.dtype == first.mask.dtype == np.uint8
    assert first.image.shape == (*first.mask.shape, 3)
    for other in (scenes.scene(3, 6), scenes.scene(5, 3)):
        assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("seed", [0, 10**12])
def test_other_seeds_draw_people_too(seed):
    drawn = scenes.scene(seed, 0)
    assert 1 <= drawn.mask.max() <= 8


@pytest.mark.parametrize(
    ("seed", "index", "error", "words"),
    [
        (-1, 0, ValueError, "seed must be 0 or more, got -1"),
        (0, -3, ValueError, "index must be 0 or more, got -3"),
        (0.5, 0, TypeError, "seed must be an int, got 0.5"),
        (0, True, TypeError, "index must be an int, got True"),
    ],
)
def test_scene_refuses(seed, index, error, words):
    with pytest.raises(error, match=re.escape(words)):
        scenes.scene(seed, index)


def test_write_makes_the_same_layout(tmp_path):
    done = []
    folder = scenes.write(
        tmp_path / "more", count=3, seed=9, progress=lambda *a: done.append(a)
    )
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert sorted(path.name for path in folder.iterdir()) == [
        "Annotation",
        "PNGImages",
        "PedMasks",
        "test.txt",
        "train.txt",
    ]
    assert np.array_equal(
        read(folder / "PNGImages" / "Scene00002.png"), scenes.scene(9, 1).image
    )
    assert (folder / "train.txt").read_text() == "".join(
        f"{files.name(k)}\n" for k in range(3)
    )
    assert '"more/PNGImages/Scene00001.png"' in (
        folder / "Annotation" / "Scene00001.txt"
    ).read_text(encoding="utf-8")


def test_write_refuses(tmp_path):
    with pytest.raises(ValueError, match="count must be 1 or more, got 0"):
        scenes.write(tmp_path, count=0)
    with pytest.raises(ValueError, match="test must be 0 to 2, got 3"):
        scenes.write(tmp_path, count=2, test=3)
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        scenes.write(tmp_path, count=1, seed=-1)
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileExistsError, match="taken is a file"):
        scenes.write(tmp_path / "taken", count=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


# --- the command line ----------------------------------------------------------------


def test_command_line_writes_and_checks(tmp_path, capsys):
    out = str(tmp_path / "a")
    assert main(["--out", out, "--count", "2", "--seed", "1"]) == 0
    check = ["--check", out, "--count", "2", "--seed", "1"]
    assert main(check) == 0
    path = tmp_path / "a" / "PedMasks" / "Scene00002_mask.png"
    changed = read(path).copy()
    changed[0, 0] ^= 1
    Image.fromarray(changed).save(path)
    capsys.readouterr()
    assert main(check) == 1
    printed = capsys.readouterr()
    assert "PedMasks/Scene00002_mask.png: other pixels than drawn" in printed.err
    assert "SHA256SUMS: not the sums of the files" in printed.err
    assert printed.out == "differences: 2\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x", "--count", "0"], "error: count must be 1 or more, got 0"),
        (["--check", "no/such"], "error: no/such is not a folder"),
    ],
)
def test_command_line_errors(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert words in capsys.readouterr().err


def test_command_line_needs_one_task(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "give either --out FOLDER or --check FOLDER" in capsys.readouterr().err


# --- the parts -----------------------------------------------------------------------


def test_coverage_of_a_rectangle_by_hand():
    patch = raster.coverage(raster.rectangle(1.5, 0.25, 3.0, 2.0), 4, 5)
    assert (patch.top, patch.left) == (0, 1)
    assert patch.alpha[:2].tolist() == [[0.375, 0.75, 0.0], [0.5, 1.0, 0.0]]
    assert raster.coverage(raster.rectangle(9, 9, 12, 12), 4, 5) is None


def test_coverage_has_the_polygons_area():
    points = raster.ellipse(20.3, 18.7, 11, 7, tilt=0.6, corners=40)
    patch = raster.coverage(points, 40, 40)
    x, y = np.array(points).T
    area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    assert patch.alpha.sum() == pytest.approx(area, rel=2e-3)


def test_a_pixel_belongs_to_whom_covers_half_of_it():
    canvas = raster.Canvas(np.zeros((1, 3, 3), np.float32))
    canvas.begin()
    canvas.fill(raster.rectangle(0, 0, 1.5, 1), (1, 1, 1))
    assert canvas.end(1).tolist() == [[True, True, False]]
    canvas.begin()
    canvas.fill(raster.rectangle(1.51, 0, 3, 1), (1, 1, 1))
    canvas.end(2)
    assert canvas.mask.tolist() == [[1, 1, 2]]


def test_dice_are_the_documented_generators():
    rolls = dice.Dice(1, 2)
    values = [rolls.uniform() for _ in range(1000)]
    assert 0 <= min(values) < 0.01 and 0.99 < max(values) < 1
    assert dice.Dice(1, 2).uniform() == values[0] != dice.Dice(2, 1).uniform()
    assert dice.Dice(1).child(2).uniform() == values[0]
    noise = dice.Dice(7).noise(3, 5)
    assert noise.shape == (3, 5) and ((noise * 256) % 1 == 0).all()
    # The streams themselves, once and for all.
    digest = hashlib.sha256(repr(values[:8]).encode() + noise.tobytes()).hexdigest()
    assert digest[:16] == "92865e676da3d03b"


def test_sine():
    angles = np.linspace(-9, 9, 181)
    assert np.allclose([dice.sine(a) for a in angles], np.sin(angles), atol=1e-8)
    assert np.allclose([dice.cosine(a) for a in angles], np.cos(angles), atol=1e-8)


def test_things_refuse_unknown_kinds():
    camera = Camera(64, 48, 60.0, 20.0, 1.5)
    light = Light(0.0, 1.0, 0.5, 0.5, 0.5, (0.8, 0.8, 0.8), 0.0)
    with pytest.raises(ValueError, match="kind must be one of bench, .*; got 'ufo'"):
        clutter.thing("ufo", camera, light, 0.0, 5.0, dice.Dice(1))


@pytest.mark.parametrize("kind", clutter.KINDS)
def test_every_thing_is_drawn_without_a_mask(kind):
    canvas = raster.Canvas(np.full((48, 64, 3), 0.5, np.float32))
    camera = Camera(64, 48, 60.0, 20.0, 1.5)
    light = Light(0.0, 1.0, 0.5, 0.5, 0.5, (0.8, 0.8, 0.8), 0.0)
    clutter.thing(kind, camera, light, 0.0, 5.0, dice.Dice(1)).draw(canvas)
    assert (canvas.image != 0.5).any()
    assert not canvas.mask.any()


# --- people --------------------------------------------------------------------------


def person(seed: int, **changes) -> Person:
    camera = Camera(160, 240, 480.0, 100.0, 1.5)
    light = Light(0.6, 1.0, 0.5, 0.5, 0.6, (0.8, 0.8, 0.8), 0.0)
    drawn = replace(figure.draw_figure(dice.Dice(seed)), **changes)
    return Person(drawn, camera, light, 0.0, 4.5, dice.Dice(1))


@pytest.mark.parametrize("turn", [0.0, 3.14159])
def test_arms_hang_at_the_sides_from_front_and_back(turn):
    arms = ((0.5, 2.2), (-0.4, 1.0))
    seen = person(1, turn=turn, arms=arms, stride=0.47).figure
    assert all(abs(swing) < 0.2 and bend < 0.35 for swing, bend in seen.arms)
    assert seen.stride < 0.2


def test_from_the_side_the_far_arm_only_swings_and_the_near_one_carries():
    for turn, near in ((1.5708, 1), (-1.5708, 0)):
        arms, far = ((0.1, 1.4), (0.1, 1.4)), 1 - near
        seen = person(1, turn=turn, arms=arms, bag="none").figure
        assert seen.arms[near] == (0.1, 1.4) and seen.arms[far][1] < 0.6
        seen = person(1, turn=turn, arms=arms, bag="hand", bag_side=far).figure
        assert seen.bag_side == near and seen.arms[near][1] < 0.6
        assert pose.settled(seen) == seen


def test_a_far_arm_is_hidden_whole_or_seen_with_its_forearm():
    for swing, hidden in ((0.0, True), (0.1, True), (0.6, False)):
        arms = ((swing, 0.3), (-swing, 0.3))
        one = person(1, turn=1.5708, arms=arms, lean=0.0, build=1.0, bag="none")
        assert one.depth("shoulder0") > 0.06
        assert one.hidden(0) is hidden


@pytest.mark.parametrize("turn", [0.0, 1.5708, 3.14159])
def test_a_face_is_seen_from_the_front_and_hair_from_the_back(turn):
    skin, hair = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)
    looks = {"skin": skin, "hair": hair, "hat": "none", "style": "short"}
    one = person(1, turn=turn, look=turn, **looks)
    canvas = raster.Canvas(np.zeros((240, 160, 3), np.float32))
    one.draw(canvas, 1)
    x, y = one.point(one.joints["head"])
    half = int(0.4 * one.figure.head * one.figure.height * one.scale)
    head = canvas.image[int(y) - half : int(y) + half, int(x) - half : int(x) + half]
    share = (head[..., 0] > head[..., 2]).mean()
    if turn == 0.0:
        assert share > 0.6
    elif turn == 3.14159:
        assert share < 0.35
    else:
        assert 0.35 < share < 0.7
