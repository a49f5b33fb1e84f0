"""Files, found and read with clear errors, and written whole or not at all."""

import codecs
import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = [
    "Report",
    "find_files",
    "read_lines",
    "read_text",
    "replacing",
    "write_file",
    "write_folder",
]

# The longer mark first: that of UTF-16 begins that of UTF-32.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
DAY = 24 * 60 * 60  # seconds
LOST_AND_FOUND = "lost+found"  # the root of many mounted disks has one


@dataclass
class Report:
    """What a reader passed over, found missing or mended: empty where nothing was.

    Each field has lists of places by kind: ``report.skipped["hidden"]``.
    """

    skipped: dict[str, list[str]] = field(default_factory=dict)
    """Files that were not read: hidden, of another suffix, linked in a circle, ..."""
    missing: dict[str, list[str]] = field(default_factory=dict)
    """What has no partner: images without labels."""
    mended: dict[str, list[str]] = field(default_factory=dict)
    """What was read otherwise than it is written."""

    def add(self, what: str, kind: str, place: Any) -> None:
        """Note a place in ``skipped``, ``missing`` or ``mended``."""
        getattr(self, what).setdefault(kind, []).append(str(place))

    def __bool__(self) -> bool:
        return bool(self.skipped or self.missing or self.mended)

    def __str__(self) -> str:
        """One line a kind: how many, and the first of them."""
        lines = [
            f"{what}: {len(places)} {kind} (the first: {places[0]})"
            for what in ("skipped", "missing", "mended")
            for kind, places in getattr(self, what).items()
        ]
        return "\n".join(lines) or "nothing skipped, missing or mended"


# --- finding -------------------------------------------------------------------------


def find_files(
    folder: Path, suffixes: Collection[str], report: Report | None = None
) -> dict[str, Path]:
    """The files with one of these suffixes, in a folder and the folders in it.

    Linked folders are followed, but not around in a circle. Names that begin with a dot
    (``.ipynb_checkpoints``, ``._a.jpg``) are passed over.

    Args:
        folder: where to begin; its own name may begin with a dot.
        suffixes: in lower case, such as ``(".jpg", ".png")``; ``.JPG`` counts as well.
        report: gets what was passed over.

    Returns:
        The files by their names below ``folder``, with forward slashes; sorted by the
        parts of these names.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: a folder in it cannot be read.
        ValueError: a link with one of these suffixes, or with none, leads nowhere.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    report, found = Report() if report is None else report, {}
    open_folders = [(folder, (os.path.realpath(folder),))]
    while open_folders:
        at, above = open_folders.pop()
        for path in sorted(at.iterdir()):
            suffix = path.suffix.lower()
            if path.name.startswith("."):
                report.add("skipped", "hidden", path)
            elif path.is_dir():
                real = os.path.realpath(path)
                if real in above:
                    report.add("skipped", "linked in a circle", path)
                else:
                    open_folders.append((path, (*above, real)))
            elif path.is_symlink() and not path.exists() and suffix in ("", *suffixes):
                raise ValueError(f"{path}: a link to {os.readlink(path)}: nothing")
            elif suffix not in suffixes:
                report.add("skipped", "of another suffix", path)
            elif not path.is_file():
                report.add("skipped", "not a file", path)
            else:
                found[path.relative_to(folder).as_posix()] = path
    names = sorted(found, key=lambda name: PurePosixPath(name).parts)
    return {name: found[name] for name in names}


# --- reading -------------------------------------------------------------------------


def read_text(path: Path) -> str:
    r"""The text of a file in UTF-8, or in UTF-16 or 32 with a byte order mark.

    A mark at the beginning is not part of the text; lines end in ``\n``, whatever the
    file ends them with.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not text; with the line.
    """
    return decode(Path(path).read_bytes(), str(path))


def read_lines(path: Path) -> list[str]:
    r"""The lines of a file; only ``\n``, ``\r\n`` and ``\r`` end one.

    ``str.splitlines`` would also cut at characters that a name may contain.

    Raises:
        FileNotFoundError, ValueError: as in :func:`read_text`.
    """
    lines = read_text(path).split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def decode(data: bytes, where: str, encoding: str = "utf-8") -> str:
    """Bytes to text: :func:`read_text` for what has been read already.

    Args:
        data: the content of a file.
        where: how a message begins.
        encoding: of bytes without a mark.

    Raises:
        ValueError: it is not text.
    """
    for mark, name in MARKS:
        if data.startswith(mark):
            data, encoding = data.removeprefix(mark), name
            break
    shown = encoding.upper()
    try:
        text = data.decode(encoding)
        text.encode("utf-8")  # some codecs let halves of a character pass
    except LookupError as error:
        raise ValueError(f"{where}: no encoding of text: {encoding!r}") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{where}, line {line}: not text in {shown} ({error})"
        ) from error
    except ValueError as error:
        raise ValueError(f"{where}: not text in {shown} ({error})") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ValueError(f"{where}, line {line}: not text in {shown}: a zero byte")
    return text.replace("\r\n", "\n").replace("\r", "\n")


# --- writing -------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; at the end the file moves there.

    Even after a kill there is the older file or the new one, never a part of it, and
    several programs may write at once: the last one to end stays. An error removes
    what was written; what a kill leaves, a call a day later removes. Where ``path`` is
    a link to a file, that file is replaced, and the link stays.

    Raises:
        IsADirectoryError: there is a folder of this name.
        OSError: the folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder, where a file is to be written")
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    for left in path.parent.glob(f".{_literal(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            if left.is_file() and time.time() - left.stat().st_mtime > DAY:
                left.unlink()
    part = path.with_name(_part_name(path.name))
    try:
        with _named(path.parent):
            part.touch()
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_file(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole; its folder is made, an older one replaced.

    Raises:
        OSError: as in :func:`replacing`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_folder(path: Path, texts: dict[str, str]) -> None:
    """Write a folder of files, all of them or, if anything fails, none.

    A new folder is written beside its place and moved there. One that exists may be a
    link, the root of a disk, or the current folder, which cannot be replaced: there the
    files are written into a hidden folder first and then moved up, one by one. Only a
    kill in that last moment leaves a part of them.

    Args:
        path: a folder that does not exist yet, or is empty, but for hidden files: a
            label left over from another data set would be read as part of this one.
        texts: the files, by their path inside the folder.

    Raises:
        FileExistsError: there is something at ``path``.
        OSError: the folder, or the one that is to hold it, cannot be written to.
        ValueError: two names are one on this disk, such as ``A.txt`` and ``a.txt``.
    """
    path = Path(path)
    if path.is_dir():
        others = [name for name in os.listdir(path) if _is_visible(name)]
        if others:
            raise FileExistsError(
                f"{path}: not a new or empty folder: there is {min(others)}"
            )
    elif path.exists() or path.is_symlink():
        what = "not a folder" if path.exists() else "a link to nothing"
        raise FileExistsError(f"{path}: not a new or empty folder: {what}")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.is_dir()
    parent = path.parent if new else path
    part, moved = parent / _part_name(path.name), []
    try:
        with _named(parent):
            part.mkdir()
        for name, text in texts.items():
            file = part / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.exists():
                raise ValueError(f"{path}: this disk takes {name!r} for another file")
            file.write_text(text, encoding="utf-8", newline="\n")
        if new:
            part.rename(path)
            return
        for entry in sorted(part.iterdir()):
            entry.rename(path / entry.name)
            moved.append(path / entry.name)
    except BaseException:
        for entry in moved:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _part_name(name: str) -> str:
    """A hidden name that no other process, or thread, uses."""
    return f".{name}.{os.getpid()}-{secrets.token_hex(4)}.part"


def _literal(name: str) -> str:
    """A name as a pattern that fits it alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != LOST_AND_FOUND


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Name the folder, not a hidden file in it, where writing is refused."""
    try:
        yield
    except OSError as error:
        why = f"cannot write to this folder: {error.strerror}"
        raise OSError(error.errno, why, str(folder)) from error
