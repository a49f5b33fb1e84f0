"""Write the course's public address everywhere: ``make repository URL=...``.

The address stands in ``_config.yml`` and in the set-up cell of every chapter and of the
template. Without one there are no launch or edit buttons. An empty URL takes the
address out again.
"""

import re
import sys
from pathlib import Path

import yaml

from booktools import notebook
from booktools.setup_cell import setup_cell

COLAB = "https://colab.research.google.com"


def address(root: Path = notebook.ROOT) -> str:
    """The repository's address in ``_config.yml``; empty where none is set."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return (config.get("repository") or {}).get("url") or ""


def checked(url: str) -> str:
    """The address in the form that is stored: ``https://github.com/owner/name``.

    The scheme and the host may come in any case, and GitHub's with ``www``, as a
    browser shows or a reader types them.

    Raises:
        ValueError: not of the form ``https://host/owner/name``.
    """
    url = url.strip().removesuffix("/").removesuffix(".git")
    if not url:
        return ""
    form = re.fullmatch(r"https://([\w.-]+\.\w+)(/[\w.-]+/[\w.-]+)", url, re.I)
    if not form:
        raise ValueError(f"URL must look like https://github.com/you/fork, got {url!r}")
    host, path = form[1].lower(), form[2]
    return f"https://{'github.com' if host == 'www.github.com' else host}{path}"


def configured(text: str, url: str) -> str:
    """The text of ``_config.yml`` with the address and the buttons it allows.

    Raises:
        ValueError: a line that should hold a setting is missing.
    """
    on = "true" if url else "false"
    # Colab opens notebooks from GitHub only.
    colab = COLAB if url.startswith("https://github.com/") else ""
    settings = {
        r"^(  url:).*$": rf'\1 "{url}"',
        r"^(  colab_url:).*$": rf'\1 "{colab}"',
        r"^(  use_repository_button:).*$": rf"\1 {on}",
        r"^(  use_edit_page_button:).*$": rf"\1 {on}",
    }
    for pattern, line in settings.items():
        text, count = re.subn(pattern, line, text, flags=re.M)
        if count != 1:
            raise ValueError(f"_config.yml has {count} lines like {pattern}, not one")
    return text


def set_address(url: str, root: Path = notebook.ROOT) -> list[Path]:
    """Write the address into the configuration and every set-up cell.

    Everything is read and checked before the first file is written.

    Args:
        url: the address, or an empty string for none.
        root: folder of the course.

    Returns:
        The files that changed.

    Raises:
        ValueError: a wrong address, or a chapter without a set-up cell.
    """
    url = checked(url)
    config = root / "_config.yml"
    old = config.read_text(encoding="utf-8")
    new = configured(old, url)
    books = []
    folders = [root / "chapters", root / "template"]
    for path in sorted(p for folder in folders for p in folder.glob("*.ipynb")):
        book = notebook.read(path)
        cells = [c for c in book.cells if "setup" in c.metadata.get("tags", [])]
        if len(cells) != 1:
            raise ValueError(f"{path.name}: {len(cells)} set-up cells, not one")
        if cells[0].source != setup_cell(url, path.stem):
            cells[0].source = setup_cell(url, path.stem)
            books.append((notebook.tidy(book), path))
    for book, path in books:
        notebook.write(book, path)
    if new != old:
        config.write_text(new, encoding="utf-8")
    return [path for _, path in books] + ([config] if new != old else [])


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or (arguments[0] and not arguments[0].strip()):
        print("usage: make repository URL=https://github.com/you/fork", file=sys.stderr)
        return 2
    if not arguments[0]:
        where = address()
        print(f"the address is {where!r}" if where else "no address is set")
        print(
            "to set it: make repository URL=https://github.com/you/fork (or URL=none)"
        )
        return 0
    try:
        changed = set_address("" if arguments[0] == "none" else arguments[0])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for path in changed:
        print(f"wrote {path.relative_to(notebook.ROOT)}")
    print(f"the address is {address()!r}" if address() else "no address is set")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
