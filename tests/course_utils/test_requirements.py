"""What course_utils imports is what pyproject.toml asks for."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Only within a notebook, whose kernel brings it.
FROM_THE_KERNEL = {"matplotlib_inline"}
# Of the extra "shipping", within a function that says so.
EXTRA = {"onnx"}


def imported() -> dict[str, str]:
    """The first file that imports each module from outside."""
    found = {}
    for file in sorted((ROOT / "course_utils").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                found.setdefault(name.split(".")[0], file.relative_to(ROOT).as_posix())
    return found


def name_of(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def test_every_import_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = {name_of(line) for line in project["project"]["dependencies"]}
    known = sys.stdlib_module_names | {"course_utils"} | FROM_THE_KERNEL | EXTRA
    owners, missing = packages_distributions(), {}
    for module, file in imported().items():
        if module in known:
            continue
        names = {name_of(owner) for owner in owners.get(module, [module])}
        if not names & declared:
            missing[module] = file
    assert not missing
    assert {"torch", "requests", "yaml"} <= set(imported())
