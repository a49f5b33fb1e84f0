"""Read by every Python process of a chapter while an instrument is on.

The kernel and the worker processes it starts have this folder on their PYTHONPATH
(:func:`booktools.instruments.environment`). Nothing is imported here but what Python
has loaded anyway: the instruments follow torch, in the thread that imports it first.
"""

import importlib.util
import sys


class _AfterTorch:
    """Finds torch as always, and switches the instruments on once it is there."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        if spec is not None:
            load = spec.loader.exec_module

            def load_and_start(module):
                load(module)
                from booktools import instruments

                instruments.start()

            spec.loader.exec_module = load_and_start
        return spec


sys.meta_path.insert(0, _AfterTorch())
