"""Street scenes with people, drawn by program, in the layout of Penn-Fudan.

``scene(seed, index)`` draws one; ``write(folder, ...)`` draws many and writes pictures,
masks and annotations; ``python -m experiments.scenes --help`` does so from a shell.
"""

from experiments.scenes.files import write
from experiments.scenes.scene import LEAST_PIXELS, LEAST_SHARE, Scene, scene

__all__ = ["LEAST_PIXELS", "LEAST_SHARE", "Scene", "scene", "write"]
