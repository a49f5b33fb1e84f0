"""The set-up cell that opens every chapter; the same everywhere.

Two things vary: the address, and the extra that a chapter of :data:`EXTRAS` needs.
"""

__all__ = ["EXTRAS", "setup_cell"]

#: Chapters that need an extra of pyproject.toml, and no other may import it.
EXTRAS = {"32_shipping": "shipping"}

TEMPLATE = """\
#@title Set-up: only Google Colab needs this { display-mode: "form" }
import os
import subprocess
import sys

REPOSITORY = "@URL@"
try:
    import google.colab  # noqa: F401
except ImportError:
    pass  # not on Colab: nothing to do
else:
    if not REPOSITORY:
        raise RuntimeError(
            "This copy of the course has no address yet. Push it to a public "
            "repository, run `make repository URL=...` there, and open it again."
        )
    home = os.path.expanduser("~/tensors-to-detectors")
    if not os.path.isdir(home):
        clone = ["git", "clone", "--depth=1", REPOSITORY, home]
        subprocess.run(clone, check=True)
    sys.path.insert(0, home)
    os.chdir(os.path.join(home, "chapters"))
    from course_utils import colab

    colab.install_missing(home@EXTRA@)"""


def setup_cell(url: str = "", chapter: str = "") -> str:
    """The source of the set-up cell.

    Args:
        url: the repository's address; empty: none yet.
        chapter: the notebook's name without its suffix, where it may have an extra.
    """
    extra = f', "{EXTRAS[chapter]}"' if chapter in EXTRAS else ""
    return TEMPLATE.replace("@URL@", url).replace("@EXTRA@", extra)
