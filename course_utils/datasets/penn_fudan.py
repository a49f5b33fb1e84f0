"""Penn-Fudan: images of pedestrians with a mask of each, and a program to fetch them.

    python -m course_utils.datasets.penn_fudan [--root FOLDER] [--archive FILE]

The data set is that of L. Wang, J. Shi, G. Song and I. Shen, *Object detection
combining recognition and segmentation*, ACCV 2007. It has 170 images and 423
pedestrians: the paper's 345, and 78 that the released archive adds and lists in its
``added-object-list.txt``. Its copyright stays with its authors, so it is not part of
this course, which holds only the SHA-256 of each file (``penn_fudan_sha256.txt``) and a
split of the names (``penn_fudan_train.txt``, ``penn_fudan_test.txt``).
"""

import argparse
import errno
import hashlib
import logging
import operator
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from course_utils import images, runtime
from course_utils.detection.box_ops import masks_to_boxes
from course_utils.files import Report, read_lines

__all__ = ["PennFudan", "default_root", "download", "pedestrians", "problems"]

URL = "https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip"
COMMAND = "python -m course_utils.datasets.penn_fudan"
FOLDER = "PennFudanPed"  # the archive's only folder
MANIFEST = Path(__file__).with_name("penn_fudan_sha256.txt")
# The archive has about 54 MB, unpacked and packed. What is much larger is another file.
MOST_BYTES = 200_000_000
TIMEOUT = (10, 30)  # seconds: to connect, and between two pieces
TRIES = 3
PIECE = 2**16  # bytes
# Of a disk, not of an archive: these are passed on as they are.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)

SPLITS = ("train", "test")
XYXY = tv_tensors.BoundingBoxFormat.XYXY
SUFFIXES = (".png", ".jpg", ".jpeg")
MASK = "_mask.png"
FEW = 32  # up to here, trying every number beats looking for those that occur
NUMBERS = np.arange(1, FEW + 1, dtype=np.uint8)
BUNDLED = Path(__file__).resolve().parents[2] / "data" / "pedestrians"


# --- folders -------------------------------------------------------------------------


def default_root() -> Path:
    """Where the real Penn-Fudan is kept.

    Returns:
        The environment variable ``COURSE_PENN_FUDAN`` if it is set, otherwise
        ``PennFudanPed`` in the user's cache of this course, outside the repository.
    """
    if os.environ.get("COURSE_PENN_FUDAN"):
        return Path(os.environ["COURSE_PENN_FUDAN"]).expanduser()
    import pooch

    return Path(pooch.os_cache("tensors-to-detectors")) / FOLDER


def pedestrians() -> Path:
    """The folder of pedestrians that chapters use, to be given to :class:`PennFudan`.

    Returns:
        ``data/pedestrians`` of the course, the generated scenes; where the environment
        variable ``COURSE_PROFILE`` is ``full``, the real Penn-Fudan.

    Raises:
        FileNotFoundError: the folder is not there; the message says how to get it.
    """
    if runtime.profile() == "full":
        root, advice = default_root(), f"download it with {COMMAND}"
    else:
        root, advice = BUNDLED, "run the course from a copy of its repository"
    for folder in ("PNGImages", "PedMasks"):
        if not (root / folder).is_dir():
            raise FileNotFoundError(f"no folder {root / folder}: {advice}")
    return root


# --- the data set --------------------------------------------------------------------


class PennFudan(Dataset):
    """Images of pedestrians, with a mask and a box of each.

    ``root`` holds ``PNGImages/NAME.png`` and, for each, ``PedMasks/NAME_mask.png``:
    0 is background, every other number is one pedestrian. Numbers may have gaps; the
    masks come in rising order of the number.

    Item ``i`` is ``(image, target)``:

    - ``image``: ``tv_tensors.Image``, uint8, (3, H, W), upright, RGB.
    - ``target["boxes"]``: ``tv_tensors.BoundingBoxes``, (N, 4), float32, xyxy,
      half-open: a pedestrian of one pixel has a box of area 1.
    - ``target["labels"]``: (N,), int64, all 1.
    - ``target["masks"]``: ``tv_tensors.Mask``, (N, H, W), uint8, 0 or 1.
    - ``target["image_id"]``: ``i``, an int.
    - ``target["area"]``: (N,), float32, the pixels of each mask.
    - ``target["iscrowd"]``: (N,), int64, all 0.

    N may be 0. A mask may have the size of the upright image or, where EXIF turns
    that image, of the stored one, and is then turned with it.

    Args:
        root: the folder, such as :func:`pedestrians` returns.
        split: ``"train"``, ``"test"``, or None for all images. The names come from
            ``train.txt`` or ``test.txt`` in ``root``; where it has neither, as the
            real Penn-Fudan, from the split that comes with this module.
        transforms: called with ``(image, target)``, as those of
            ``torchvision.transforms.v2``; its result is the item.

    Attributes:
        names: the images' names without suffix, in the order of the items: sorted, or
            as the split's file has them.
        report: what is in the two folders and was passed over: hidden files, files of
            another suffix, masks without an image.

    Raises:
        FileNotFoundError: no such folder, mask, or image named by the split.
        ValueError: an unknown split, no images, a name twice, a split's file that is
            not text.
    """

    def __init__(
        self,
        root: str | PathLike,
        split: str | None = None,
        transforms: Callable | None = None,
    ):
        if split is not None and split not in SPLITS:
            raise ValueError(f"split must be 'train', 'test' or None, got {split!r}")
        self.root, self.split, self.transforms = Path(root), split, transforms
        self.report = Report()
        files = _images(self.root / "PNGImages", self.report)
        self.names = list(files) if split is None else _split(self.root, split, files)
        masks = _masks(self.root / "PedMasks", files, self.report)
        for name in self.names:
            if name not in masks:
                missing = self.root / "PedMasks" / (name + MASK)
                raise FileNotFoundError(f"{missing}: the image's mask is missing")
        self._files = [files[name] for name in self.names]
        self._masks = [masks[name] for name in self.names]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, dict]:
        index = self._position(index)
        image, target = self._item(index, *self._decoded(index))
        if self.transforms is None:
            return image, target
        return self.transforms(image, target)

    def image_path(self, index: int) -> Path:
        """The file of an item's image."""
        return self.root / "PNGImages" / self._files[self._position(index)]

    def mask_path(self, index: int) -> Path:
        """The file of an item's mask."""
        return self.root / "PedMasks" / self._masks[self._position(index)]

    def size(self, index: int) -> tuple[int, int]:
        """``(height, width)`` of an item's image, read from the file's header."""
        return images.upright_size(self.image_path(index))

    def _position(self, index: int) -> int:
        where = operator.index(index)
        if not -len(self) <= where < len(self):
            raise IndexError(f"index {where} is out of range: {len(self)} images")
        return where % len(self)

    def _decoded(self, index: int) -> tuple[Tensor, np.ndarray]:
        """The two files: pixels, (3, H, W), and the label map, (H, W), as they lie."""
        pixels = images.read_image(self.image_path(index))
        path, size = self.mask_path(index), pixels.shape[-2:]
        labels = images.read_mask(path)
        if labels.shape != size:
            image = self.image_path(index)
            if labels.shape != images.stored_size(image):
                raise ValueError(
                    f"{path}: the mask is {_by(labels.shape)} (height by width), "
                    f"its image {image.name} is {_by(size)}"
                )
            labels = images.upright(labels, images.orientation(image))
        return pixels, labels.numpy()

    def _item(self, index: int, pixels: Tensor, labels: np.ndarray):
        """Everything after decoding."""
        masks, boxes, area = split_instances(labels)
        labels = torch.ones(len(masks), dtype=torch.int64)
        target = {
            "boxes": tv_tensors.BoundingBoxes(
                boxes, format=XYXY, canvas_size=tuple(pixels.shape[-2:])
            ),
            "labels": labels,
            "masks": tv_tensors.Mask(masks),
            "image_id": index,
            "area": area,
            "iscrowd": torch.zeros_like(labels),
        }
        return tv_tensors.Image(pixels), target


def split_instances(labels: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """A label map to one mask, box and area an object.

    Args:
        labels: (H, W), integers; 0 is background, every other number is an object.

    Returns:
        masks (N, H, W), uint8, 0 or 1, in rising order of the number; boxes (N, 4),
        float32, half-open xyxy; area (N,), float32, in pixels.
    """
    if labels.dtype == np.uint8 and labels.size and labels.max() <= FEW:
        ids = NUMBERS[: labels.max()]
    else:
        ids = np.unique(labels)
        ids = ids[ids != 0]
    masks = (labels == ids[:, None, None]).view(np.uint8)  # no copy: True is 1
    counts = [np.count_nonzero(mask) for mask in masks]
    area = np.array(counts, np.float32)
    if 0 in counts:  # numbers may have gaps
        masks, area = masks[area > 0], area[area > 0]
    masks = torch.from_numpy(masks)
    return masks, masks_to_boxes(masks), torch.from_numpy(area)


def _listing(folder: Path, report: Report) -> list[str]:
    """The names in a folder, sorted, without those that begin with a dot."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    names = sorted(os.listdir(folder))
    for name in names:
        if name.startswith("."):
            report.add("skipped", "hidden", folder / name)
    return [name for name in names if not name.startswith(".")]


def _images(folder: Path, report: Report) -> dict[str, str]:
    """The images' file names by their names without suffix."""
    files = {}
    for file in _listing(folder, report):
        name, suffix = Path(file).stem, Path(file).suffix
        if suffix.lower() not in SUFFIXES:
            report.add("skipped", "of another suffix", folder / file)
        elif name in files:
            raise ValueError(f"{folder / file}: {files[name]} has the same name")
        else:
            files[name] = file
    if not files:
        raise ValueError(f"{folder}: no images ({', '.join(SUFFIXES)})")
    return files


def _masks(folder: Path, images: dict[str, str], report: Report) -> dict[str, str]:
    """The masks' file names by the names of their images."""
    files = {}
    for file in _listing(folder, report):
        name = file[: -len(MASK)]
        if not file.lower().endswith(MASK):
            report.add("skipped", "of another suffix", folder / file)
        elif name not in images:
            report.add("missing", "masks without an image", folder / file)
        elif name in files:
            raise ValueError(f"{folder / file}: {files[name]} has the same name")
        else:
            files[name] = file
    return files


def _split(root: Path, split: str, files: dict[str, str]) -> list[str]:
    """The names of a split, each checked to be there."""
    listing = root / f"{split}.txt"
    ours = not any((root / f"{name}.txt").exists() for name in SPLITS)
    if ours:
        listing = Path(__file__).with_name(f"penn_fudan_{split}.txt")
    names = {}
    for number, line in enumerate(read_lines(listing), 1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        name = Path(name).stem if name.lower().endswith(SUFFIXES) else name
        if name not in files:
            why = f" ({root} has no train.txt and test.txt)" if ours else ""
            image = root / "PNGImages" / name
            raise FileNotFoundError(f"{listing}, line {number}: no image {image}{why}")
        if name in names:
            raise ValueError(f"{listing}, line {number}: {name} a second time")
        names[name] = None
    if not names:
        raise ValueError(f"{listing}: no names")
    return list(names)


def _by(size) -> str:
    return " by ".join(map(str, size))


# --- the download --------------------------------------------------------------------


def problems(
    root: str | PathLike | None = None, manifest: str | PathLike = MANIFEST
) -> list[str]:
    """What keeps a folder from being Penn-Fudan: files missing or changed.

    Args:
        root: the folder that holds ``PNGImages``; default: :func:`default_root`.
        manifest: SHA-256 and name of every file, as ``sha256sum`` prints them.

    Returns:
        One line a file, in the manifest's order; an empty list if all are there and
        right. Other files in the folder do not matter.
    """
    root, found = default_root() if root is None else Path(root), []
    for name, wanted in _manifest(manifest).items():
        path = root / name
        if not path.is_file():
            found.append(f"{path}: missing")
        elif _digest(name, path.read_bytes()) != wanted:
            found.append(f"{path}: not the file of the manifest (SHA-256)")
    return found


def download(
    root: str | PathLike | None = None,
    *,
    archive: str | PathLike | None = None,
    url: str = URL,
    manifest: str | PathLike = MANIFEST,
    timeout: float | tuple[float, float] = TIMEOUT,
    tries: int = TRIES,
    log: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fetch Penn-Fudan, check every file, and only then move it into place.

    A folder that is whole is left as it is. In one that lacks files, or has damaged
    ones, these are replaced. Whatever fails, nothing half-made stays behind.

    Args:
        root: the folder that is to hold ``PNGImages``; default: :func:`default_root`.
        archive: a copy of the archive that is already here; nothing is downloaded.
        url: where the archive is.
        manifest: SHA-256 and name of every file, as ``sha256sum`` prints them.
        timeout: seconds without an answer, or to connect and between two pieces.
        tries: attempts, where the download fails; pooch waits a little in between.
        log: called with lines on what is done.

    Returns:
        ``root``.

    Raises:
        ConnectionError: the archive cannot be had; the message says what to do.
        FileExistsError: ``root`` is a file, or a folder with something else in it.
        FileNotFoundError: there is no such ``archive``.
        OSError: the folder cannot be written to.
        ValueError: what came is not the archive: no zip file, much too large, files
            missing or changed.
    """
    root = (default_root() if root is None else Path(root).expanduser()).absolute()
    if archive is not None and not Path(archive).is_file():
        raise FileNotFoundError(f"no archive {archive}")
    files = _manifest(manifest)
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"{root} is a file: name a folder")
    there = {name for name in _names(root) if not name.startswith(".")}
    if there:
        folders = {name.split("/")[0] for name in files if "/" in name}
        if not folders & there:
            raise FileExistsError(f"{root} holds something else: name another folder")
        wrong = problems(root, manifest)
        if not wrong:
            log(f"{root}: {len(files)} files, all there and right; nothing to do")
            return root
        log(f"{root}: {len(wrong)} of {len(files)} files are missing or damaged")
    # On the disk of the goal, so that moving is renaming. A folder that exists may be a
    # link, the root of a disk, or the current folder: it stays, and is filled.
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
    place = root if root.is_dir() else root.parent
    with tempfile.TemporaryDirectory(prefix=".penn_fudan-", dir=place) as folder:
        if archive is None:
            log(f"downloading {url}")
            archive = _fetch(url, Path(folder), timeout, tries)
        unpacked = Path(folder) / "unpacked"
        spare = _unpack(Path(archive), unpacked, files)
        if spare:
            log(f"left out {len(spare)} files that are not in the manifest: {spare[0]}")
        _install(unpacked / FOLDER, root, files)
    log(f"{root}: {len(files)} files, all there and right")
    return root


def main(arguments: list[str] | None = None) -> int:
    """The program: 0 if the data set is in place, otherwise 1 and a message."""
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="Download the Penn-Fudan data set (54 MB) and check every file.",
        epilog="Its copyright stays with its authors: see readme.txt in the folder.",
    )
    parser.add_argument(
        "--root",
        help="folder that is to hold PNGImages and PedMasks; default: the environment "
        "variable COURSE_PENN_FUDAN, or the user's cache. Chapters look there too.",
    )
    parser.add_argument("--archive", help="a PennFudanPed.zip that is already here")
    options = parser.parse_args(arguments)
    try:
        root = download(options.root, archive=options.archive, log=print)
    except (OSError, ValueError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 1
    if root != default_root().absolute():
        print(f"For chapters to find it, set COURSE_PENN_FUDAN={root}")
    return 0


class _TooLarge(Exception):
    """More bytes than the archive has. No ValueError: pooch would try again."""


def _fetch(url: str, folder: Path, timeout, tries: int) -> Path:
    """Download to a folder by pooch; what fails becomes a ConnectionError."""
    import pooch
    import requests
    from tqdm import tqdm

    class Bar(tqdm):
        """pooch's bar on a terminal; it stops what is much too large."""

        done = 0

        def __bool__(self):  # tqdm's own is False as long as the size is not known
            return True

        def update(self, n=1):
            self.done += n
            if max(self.done - PIECE, self.total or 0) > MOST_BYTES:
                raise _TooLarge
            return super().update(n)

        def reset(self, total=None):
            self.done = 0
            super().reset(total)

    def load(url, file, keeper):
        looks = dict(unit="B", unit_scale=True, ncols=79, disable=None, leave=True)
        with Bar(total=0, file=sys.stderr, **looks) as bar:
            pooch.HTTPDownloader(bar, chunk_size=PIECE, timeout=timeout)(
                url, file, keeper
            )

    name = f"{FOLDER}.zip"
    keeper = pooch.create(
        folder, "", registry={name: None}, urls={name: url}, retry_if_failed=tries - 1
    )
    try:
        with _silent():
            return Path(keeper.fetch(name, downloader=load))
    except _TooLarge as error:
        raise ValueError(f"{name}: {_too_large()}") from error
    except requests.RequestException as error:
        moved = isinstance(error, requests.HTTPError)
        why = "The archive may have moved." if moved else "Is this machine online?"
        raise ConnectionError(
            f"cannot download {url}: {error}. {why} A copy of the archive from "
            f"elsewhere will do: {COMMAND} --archive {name}"
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """pooch tells its log, which it prints, of every step; ours is ``log``."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _too_large() -> str:
    return f"more than {MOST_BYTES // 10**6} MB: not {FOLDER}"


class _Refused(ValueError):
    """An archive that is not the one wanted; its message names it."""

    def __init__(self, archive: Path, why: str):
        super().__init__(f"{archive.name}: {why}")


def _unpack(archive: Path, goal: Path, files: dict[str, str]) -> list[str]:
    """Unzip, check every file of the manifest, and return the names of the others.

    zipfile, which pooch calls, keeps everything below the goal: it drops ``..``, drives
    and roots from names, and makes a file of a link.
    """
    import pooch

    if archive.stat().st_size > MOST_BYTES:
        raise _Refused(archive, _too_large())
    try:
        with zipfile.ZipFile(archive) as opened:  # its reader stops at these sizes
            if sum(member.file_size for member in opened.infolist()) > MOST_BYTES:
                raise _Refused(archive, f"unpacked, it has {_too_large()}")
        with _silent():
            unzip = pooch.Unzip(extract_dir=str(goal.absolute()))
            unpacked = unzip(str(archive.absolute()), "download", None)
    except _Refused:
        raise
    except Exception as error:  # BadZipFile, and what its many fields can cause
        if isinstance(error, OSError) and error.errno in DISK:
            raise
        with archive.open("rb") as stream:
            begin = stream.read(60)
        what = f"not a whole zip file ({error}); it begins with {begin!r}"
        raise _Refused(archive, what) from error
    missing = [name for name in files if not (goal / FOLDER / name).is_file()]
    if missing:
        what = f"{len(missing)} files missing, the first is {missing[0]}"
        raise _Refused(archive, what)
    for name, sha256 in files.items():
        if _digest(name, (goal / FOLDER / name).read_bytes()) != sha256:
            what = f"{name} is not the file of the manifest (SHA-256)"
            raise _Refused(archive, what)
    names = (Path(file).relative_to(goal.absolute()).as_posix() for file in unpacked)
    return sorted(set(names) - {f"{FOLDER}/{name}" for name in files})


def _install(unpacked: Path, root: Path, files: dict[str, str]) -> None:
    """Move a checked folder's files into place; into one that exists, what it lacks."""
    if not root.exists():
        # Only the files of the manifest, whatever else the archive has.
        clean = unpacked.with_name("clean")
        _install_files(unpacked, clean, files)
        try:
            clean.rename(root)
            return
        except OSError:
            if not root.is_dir():  # otherwise another program was faster
                raise
            unpacked = clean
    _install_files(unpacked, root, files)


def _install_files(unpacked: Path, root: Path, files: dict[str, str]) -> None:
    for name, sha256 in files.items():
        path = root / name
        if not path.is_file() or _digest(name, path.read_bytes()) != sha256:
            path.parent.mkdir(parents=True, exist_ok=True)
            (unpacked / name).replace(path)


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _manifest(path: str | PathLike) -> dict[str, str]:
    """SHA-256 by name, the names relative to the archive's folder."""
    files = {}
    for number, line in enumerate(read_lines(Path(path)), 1):
        sha256, _, name = line.partition("  ")
        if len(sha256) != 64 or not name.startswith(f"{FOLDER}/"):
            raise ValueError(f"{path}, line {number}: no SHA-256 and name: {line!r}")
        files[name.removeprefix(f"{FOLDER}/")] = sha256
    return files


def _digest(name: str, data: bytes) -> str:
    """SHA-256 of a file; of a text, as it is with the line ends of Unix.

    The sums were taken from an unpacked copy that had passed through Git, which may
    change line ends. The archive's own sum is not known to us.
    """
    if name.endswith(".txt"):
        data = data.replace(b"\r\n", b"\n")
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
