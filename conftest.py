"""pytest's entry to this project: every stored output of the book is compared.

The work is done in ``booktools/nbval_plugin.py``; the options are in pyproject.toml.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

pytest_plugins = ["booktools.nbval_plugin", "booktools.costs"]
