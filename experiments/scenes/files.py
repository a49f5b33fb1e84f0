"""Scenes as files, in the layout of the Penn-Fudan database."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.scenes.scene import Scene, scene

__all__ = [
    "SEED",
    "annotation",
    "check",
    "differences",
    "name",
    "sums",
    "write",
    "write_sums",
]

SEED = 2026
TRAIN, TEST = 120, 50


def name(index: int) -> str:
    """The name of a scene's files, without their ending: ``Scene00001`` for index 0."""
    return f"Scene{index + 1:05d}"


def annotation(drawn: Scene, stem: str, folder: str = "pedestrians") -> str:
    """The text that describes a scene, in PASCAL Annotation Version 1.00.

    Args:
        drawn: the scene.
        stem: name of its files.
        folder: name of the collection, the first part of each path in the text.

    Returns:
        The text. Its boxes are inclusive and count pixels from 1, as Penn-Fudan's do.
    """
    height, width = drawn.mask.shape
    count = int(drawn.mask.max())
    label = '"PASpersonWalking"'
    lines = [
        "# Compatible with PASCAL Annotation Version 1.00",
        f'Image filename : "{folder}/PNGImages/{stem}.png"',
        f"Image size (X x Y x C) : {width} x {height} x 3",
        'Database : "Tensors to Detectors: generated street scenes"',
        f"Objects with ground truth : {count} {{ {' '.join([label] * count)} }}",
        "# Note that people of whom almost nothing could be seen were not drawn",
        "# Top left pixel co-ordinates : (1, 1)",  # codespell:ignore
    ]
    for k in range(1, count + 1):
        rows, columns = np.nonzero(drawn.mask == k)
        x1, y1 = int(columns.min()) + 1, int(rows.min()) + 1
        x2, y2 = int(columns.max()) + 1, int(rows.max()) + 1
        lines += [
            f"# Details for pedestrian {k} ({label})",
            f'Original label for object {k} {label} : "PennFudanPed"',
            f"Bounding box for object {k} {label} (Xmin, Ymin) - (Xmax, Ymax) : "
            f"({x1}, {y1}) - ({x2}, {y2})",
            f'Pixel mask for object {k} {label} : "{folder}/PedMasks/{stem}_mask.png"',
            "",
        ]
    return "\n".join(lines) + "\n"


def write(
    folder: str | Path,
    count: int = TRAIN + TEST,
    seed: int = SEED,
    test: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw scenes and write them as files.

    Args:
        folder: where to; made if missing.
        count: how many scenes.
        seed: which collection.
        test: how many of them, the last ones, go to ``test.txt``; the rest to
            ``train.txt``. By default 50 of 170, and the same share of another count.
        progress: called after each scene with the number done and the count.

    Returns:
        The folder.

    Raises:
        ValueError: ``count``, ``seed`` or ``test`` makes no sense.
        FileExistsError: ``folder`` is a file.
    """
    folder = Path(folder)
    if count < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    test = count * TEST // (TRAIN + TEST) if test is None else test
    if not 0 <= test <= count:
        raise ValueError(f"test must be 0 to {count}, got {test}")
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, not a folder")
    scene(seed, 0)  # refuses a bad seed before anything is made
    for part in ("PNGImages", "PedMasks", "Annotation"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        drawn = scene(seed, index)
        stem = name(index)
        Image.fromarray(drawn.image).save(
            folder / "PNGImages" / f"{stem}.png", optimize=True
        )
        Image.fromarray(drawn.mask).save(
            folder / "PedMasks" / f"{stem}_mask.png", optimize=True
        )
        text = annotation(drawn, stem, folder.name)
        path = folder / "Annotation" / f"{stem}.txt"
        path.write_text(text, encoding="utf-8", newline="\n")
        if progress:
            progress(index + 1, count)
    names = [name(index) for index in range(count)]
    for part, chosen in (
        ("train", names[: count - test]),
        ("test", names[count - test :]),
    ):
        text = "".join(f"{stem}\n" for stem in chosen)
        (folder / f"{part}.txt").write_text(text, encoding="utf-8", newline="\n")
    return folder


def sums(folder: str | Path) -> str:
    """SHA-256 of every file below a folder, one line each, as ``sha256sum`` writes."""
    folder = Path(folder)
    lines = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.name != "SHA256SUMS":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def write_sums(folder: str | Path) -> None:
    """Write :func:`sums` of a folder to its file ``SHA256SUMS``."""
    path = Path(folder) / "SHA256SUMS"
    path.write_text(sums(folder), encoding="utf-8", newline="\n")


def differences(folder: str | Path, index: int, seed: int = SEED) -> list[str]:
    """Draw one scene again and compare it with its files.

    Args:
        folder: folder in Penn-Fudan's layout.
        index: which scene.
        seed: which collection.

    Returns:
        A line for each file whose pixels or text are not those drawn.
    """
    folder, stem, drawn = Path(folder), name(index), scene(seed, index)
    wrong = []
    for part, pixels in (
        (f"PNGImages/{stem}.png", drawn.image),
        (f"PedMasks/{stem}_mask.png", drawn.mask),
    ):
        with Image.open(folder / part) as stored:
            if not np.array_equal(np.asarray(stored), pixels):
                wrong.append(f"{part}: other pixels than drawn")
    part = f"Annotation/{stem}.txt"
    stored = (folder / part).read_text(encoding="utf-8")
    if stored != annotation(drawn, stem, folder.name):
        wrong.append(f"{part}: other text than drawn")
    return wrong


def check(
    folder: str | Path,
    count: int = TRAIN + TEST,
    seed: int = SEED,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Draw all scenes of a folder again and compare; compare the sums too.

    Args:
        folder: folder in Penn-Fudan's layout, with ``SHA256SUMS``.
        count: how many scenes it holds.
        seed: which collection.
        progress: called after each scene with the number done and the count.

    Returns:
        A line for each difference; empty if there is none.

    Raises:
        FileNotFoundError: the folder or a file of it is missing.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    wrong = []
    for index in range(count):
        wrong += differences(folder, index, seed)
        if progress:
            progress(index + 1, count)
    stored = (Path(folder) / "SHA256SUMS").read_text(encoding="utf-8")
    if stored != sums(folder):
        wrong.append("SHA256SUMS: not the sums of the files")
    return wrong
