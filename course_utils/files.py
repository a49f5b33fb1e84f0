"""Files, read with clear errors and written whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["read_text", "replacing", "write_file", "write_folder"]


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8 ({error})") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; at the end the file moves there.

    Even after a kill there is the older file or the new one, never a part of it. An
    error removes what was written; what a kill leaves, the next call overwrites.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_file(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole; its folder is made, an older one replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def write_folder(path: Path, texts: dict[str, str]) -> None:
    """Write a folder of files beside its place and move it there.

    Args:
        path: a folder that does not exist yet, or is empty: a label left over from
            another data set would be read as part of this one.
        texts: the files, by their path inside the folder.

    Raises:
        FileExistsError: there is something at ``path``.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path}: not a new or empty folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.mkdir()
        for name, text in texts.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(text, encoding="utf-8", newline="\n")
        if path.exists():
            path.rmdir()  # empty; not every system replaces it
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
