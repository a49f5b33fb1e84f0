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
import hashlib
import io
import operator
import os
import stat
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from os import PathLike
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from course_utils import images, runtime
from course_utils.detection.box_ops import masks_to_boxes

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

    Raises:
        FileNotFoundError: no such folder, mask, or image named by the split.
        ValueError: an unknown split, no images, a name twice.
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
        files = _images(self.root / "PNGImages")
        self.names = list(files) if split is None else _split(self.root, split, files)
        masks = set(_listing(self.root / "PedMasks"))
        for name in self.names:
            if name + MASK not in masks:
                missing = self.root / "PedMasks" / (name + MASK)
                raise FileNotFoundError(f"{missing}: the image's mask is missing")
        self._files = [files[name] for name in self.names]

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
        return self.root / "PedMasks" / (self.names[self._position(index)] + MASK)

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


def _listing(folder: Path) -> list[str]:
    """The names in a folder, sorted, without those that begin with a dot."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def _images(folder: Path) -> dict[str, str]:
    """The images' file names by their names without suffix."""
    files = {}
    for file in _listing(folder):
        name, suffix = Path(file).stem, Path(file).suffix
        if suffix.lower() not in SUFFIXES:
            continue
        if name in files:
            raise ValueError(f"{folder / file}: {files[name]} has the same name")
        files[name] = file
    if not files:
        raise ValueError(f"{folder}: no images ({', '.join(SUFFIXES)})")
    return files


def _split(root: Path, split: str, files: dict[str, str]) -> list[str]:
    """The names of a split, each checked to be there."""
    listing = root / f"{split}.txt"
    ours = not any((root / f"{name}.txt").exists() for name in SPLITS)
    if ours:
        listing = Path(__file__).with_name(f"penn_fudan_{split}.txt")
    names = {}
    for number, line in enumerate(listing.read_text().splitlines(), 1):
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
        tries: attempts, where the connection fails.
        log: called with lines on what is done.

    Returns:
        ``root``.

    Raises:
        ConnectionError: the archive cannot be had; the message says what to do.
        FileExistsError: ``root`` is a file, or a folder with something else in it.
        FileNotFoundError: there is no such ``archive``.
        ValueError: what came is not the archive: no zip file, unsafe names, files
            missing or changed.
    """
    root = (default_root() if root is None else Path(root).expanduser()).absolute()
    if archive is not None and not Path(archive).is_file():
        raise FileNotFoundError(f"no archive {archive}")
    files = _manifest(manifest)
    if root.is_dir() and os.listdir(root):
        folders = {name.split("/")[0] for name in files if "/" in name}
        if not folders & set(os.listdir(root)):
            raise FileExistsError(f"{root} holds something else: name another folder")
        wrong = problems(root, manifest)
        if not wrong:
            log(f"{root}: {len(files)} files, all there and right; nothing to do")
            return root
        log(f"{root}: {len(wrong)} of {len(files)} files are missing or damaged")
    elif root.exists() and not root.is_dir():
        raise FileExistsError(f"{root} is a file: name a folder")
    root.parent.mkdir(parents=True, exist_ok=True)
    # Beside the goal, so that moving is renaming: all or nothing.
    with tempfile.TemporaryDirectory(prefix=".penn_fudan-", dir=root.parent) as folder:
        if archive is None:
            archive = Path(folder) / f"{FOLDER}.zip"
            log(f"downloading {url}")
            _fetch(url, archive, timeout, tries)
        unpacked = Path(folder) / FOLDER
        spare = _unpack(Path(archive), unpacked, files)
        if spare:
            log(f"left out {len(spare)} files that are not in the manifest: {spare[0]}")
        _install(unpacked, root, files)
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


class _Bar:
    """A line that counts megabytes on a terminal; pooch calls it."""

    def __init__(self):
        self.total, self.done, self.shown = 0, 0, 0.0

    def update(self, size: int) -> None:
        self.done += size
        if max(self.done - PIECE, self.total) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES // 10**6} MB: not {FOLDER}")
        now, done = time.monotonic(), min(self.done, self.total or self.done)
        if sys.stderr.isatty() and (now - self.shown > 0.1 or done == self.total):
            of = f" of {self.total / 1e6:.1f}" if self.total else ""
            print(f"\r  {done / 1e6:.1f}{of} MB", end="", file=sys.stderr, flush=True)
            self.shown = now

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        if self.shown:
            print(file=sys.stderr)
        self.shown = 0.0


def _fetch(url: str, path: Path, timeout, tries: int) -> None:
    """Download to a file; what fails on the way becomes a ConnectionError."""
    import pooch
    import requests

    for attempt in range(1, tries + 1):
        bar = _Bar()
        try:
            load = pooch.HTTPDownloader(bar, chunk_size=PIECE, timeout=timeout)
            return load(url, str(path), None)
        except requests.HTTPError as error:  # an answer, though not the one hoped for
            failure, why = error, "The archive may have moved."
            if error.response.status_code < 500:
                break
        except requests.RequestException as error:
            failure, why = error, "Is this machine online?"
        finally:
            bar.close()
        if attempt < tries:
            time.sleep(attempt)
    raise ConnectionError(
        f"cannot download {url}: {failure}. {why} A copy of the archive from elsewhere "
        f"will do: {COMMAND} --archive {FOLDER}.zip"
    ) from failure


class _Refused(ValueError):
    """An archive that is not the one wanted; its message names it."""

    def __init__(self, archive: Path, why: str):
        super().__init__(f"{archive.name}: {why}")


def _unpack(archive: Path, goal: Path, files: dict[str, str]) -> list[str]:
    """Write the manifest's files, each checked; return the names left out.

    Names are taken from the manifest, never from the archive, and one that would lead
    out of its folder is a reason to refuse the archive as a whole.
    """
    if archive.stat().st_size > MOST_BYTES:
        raise _Refused(archive, f"more than {MOST_BYTES // 10**6} MB: not {FOLDER}")
    data = archive.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            members = _members(archive, opened)
            missing = [name for name in files if f"{FOLDER}/{name}" not in members]
            if missing:
                what = f"{len(missing)} files missing, the first is {missing[0]}"
                raise _Refused(archive, what)
            wanted = {name: members.pop(f"{FOLDER}/{name}") for name in files}
            if sum(member.file_size for member in wanted.values()) > MOST_BYTES:
                size = f"more than {MOST_BYTES // 10**6} MB"
                raise _Refused(archive, f"unpacked, it has {size}")
            for name, member in wanted.items():
                content = opened.read(member)
                if _digest(name, content) != files[name]:
                    what = f"{name} is not the file of the manifest (SHA-256)"
                    raise _Refused(archive, what)
                path = goal / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    except (OSError, _Refused):
        raise
    except Exception as error:  # BadZipFile, and what its many fields can cause
        what = f"not a whole zip file ({error}); it begins with {data[:60]!r}"
        raise _Refused(archive, what) from error
    return list(members)


def _members(archive: Path, opened: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by name, all of them harmless."""
    members = {}
    for member in opened.infolist():
        name = member.orig_filename  # filename is cut and mended already
        kind = stat.S_IFMT(member.external_attr >> 16)
        path = PurePosixPath(name)
        if (
            path.is_absolute()
            or ".." in path.parts
            or any(character in name for character in "\\:\0")
            or kind not in (0, stat.S_IFREG, stat.S_IFDIR)
        ):
            what = "a link" if kind == stat.S_IFLNK else "a name or kind"
            raise _Refused(archive, f"{name!r} is {what} that is unsafe")
        if member.is_dir():
            continue
        if name in members:
            raise _Refused(archive, f"{name!r} occurs twice")
        members[name] = member
    return members


def _install(unpacked: Path, root: Path, files: dict[str, str]) -> None:
    """Move a checked folder into place; into one that exists, what that lacks."""
    if not root.exists() or not os.listdir(root):
        try:
            if root.exists():
                root.rmdir()  # empty; Windows renames onto nothing that exists
            unpacked.rename(root)
            return
        except OSError:
            if not root.is_dir():  # otherwise another program was faster
                raise
    for name, sha256 in files.items():
        path = root / name
        if not path.is_file() or _digest(name, path.read_bytes()) != sha256:
            path.parent.mkdir(parents=True, exist_ok=True)
            (unpacked / name).replace(path)


def _manifest(path: str | PathLike) -> dict[str, str]:
    """SHA-256 by name, the names relative to the archive's folder."""
    files = {}
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
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
