"""Render the book, warnings as errors: ``make book``."""

import shutil
import subprocess
import sys
from pathlib import Path

from booktools import notebook

BUILD = notebook.ROOT / "_build"
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"


def command(source: Path = notebook.ROOT) -> list[str]:
    """The command that renders the book in ``source`` into its folder ``_build``."""
    # Not the script beside Python: its first line would keep the path of a checkout
    # that has been moved since.
    jupyter_book = [sys.executable, "-c", JUPYTER_BOOK]
    options = ["-W", "-n", "--keep-going", "-q"]
    page = source / "_build" / "html" / "index.html"
    if page.exists() and page.stat().st_mtime < _newest(source):
        options.append("--all")  # Sphinx does not notice new style sheets and settings
    return [*jupyter_book, "build", *options, str(source)]


def _newest(source: Path) -> float:
    """When something that every page depends on was last changed."""
    files = [source / "_config.yml", source / "_toc.yml"]
    files += [*(source / "_static").iterdir(), *(source / "_ext").glob("*.py")]
    return max(f.stat().st_mtime for f in files)


def main() -> int:
    done = subprocess.run(
        command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        sys.stdout.write(done.stdout.decode(errors="replace"))
        # Sphinx would take the failed pages for up to date: start afresh next time.
        shutil.rmtree(BUILD / "html", ignore_errors=True)
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
        print("the book was not rendered: mend the warnings above", file=sys.stderr)
        return 1
    page = BUILD / "html" / "index.html"
    if not page.is_file():
        print(f"the build reported success but left no {page.name}", file=sys.stderr)
        return 1
    print(f"The book is ready. Open {page.relative_to(notebook.ROOT)} in a browser.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
