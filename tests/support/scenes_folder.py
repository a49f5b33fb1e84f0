"""A few of the bundled scenes in a folder of their own."""

import shutil
from pathlib import Path

from course_utils.datasets.penn_fudan import BUNDLED, MASK


def copy_scenes(root: Path, **counts: int) -> Path:
    """Copy the first so many scenes of each split, in the layout of Penn-Fudan."""
    for folder in ("PNGImages", "PedMasks"):
        (root / folder).mkdir(parents=True)
    for split, count in counts.items():
        names = (BUNDLED / f"{split}.txt").read_text().split()[:count]
        (root / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            for file in (f"PNGImages/{name}.png", f"PedMasks/{name}{MASK}"):
                shutil.copy(BUNDLED / file, root / file)
    return root
