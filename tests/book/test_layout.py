"""Who may import whom, what is shipped, and with what it works.

Imports are read from the source, those inside of functions too: an import that happens
late is still one. What is imported by a name made at run time (``checks`` finds its
``chNN`` modules so) is not seen, and is said where it matters.
"""

import ast
import graphlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from setuptools import find_packages

from booktools import notebook

ROOT = notebook.ROOT
PACKAGE = ROOT / "course_utils"
OURS = {
    *("benchmarks", "booktools", "examples", "experiments", "tests"),
    *("conftest", "template"),
}


def sources(folder=PACKAGE) -> dict[str, str]:
    """Every module of a package by its dotted name."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = path.read_text(encoding="utf-8")
    return found


def imported(source: str, known=(), package: str = "") -> set[str]:
    """The modules that a source imports anywhere, by their full names.

    Args:
        source: of a module.
        known: names of modules; ``from a import b`` means ``a.b`` where that is one,
            otherwise ``a``.
        package: the module's own package, for relative imports.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).strip(".")
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {n if n in known else base for n in names}
    return found


def graph(modules: dict[str, str]) -> dict[str, set[str]]:
    """For each module, which others of them it imports."""
    edges = {}
    for name, source in modules.items():
        inside = any(other.startswith(f"{name}.") for other in modules)
        package = name if inside else name.rpartition(".")[0]
        edges[name] = imported(source, modules, package) & modules.keys()
    return edges


def foreign(modules: dict[str, str]) -> list[str]:
    """Imports of our code that is not in the package."""
    return [
        f"{name} imports {other}"
        for name, source in modules.items()
        for other in sorted(imported(source))
        if other.split(".")[0] in OURS
    ]


def circle(modules: dict[str, str]) -> list[str]:
    """Modules that import each other in a circle, or an empty list."""
    try:
        graphlib.TopologicalSorter(graph(modules)).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def unreached(modules: dict[str, str], users: list[str]) -> list[str]:
    """Modules that no user's source imports, directly or through others."""
    edges, queue = graph(modules), []
    for source in users:
        queue += imported(source, modules)
        # checks.check("03.name", ...) imports checks.ch03 by a name made at run time.
        numbers = set(re.findall(r"checks\.check\(\s*[\"'](\d\d)\.", source))
        queue += [f"course_utils.checks.ch{number}" for number in numbers]
    reached = set()
    while queue:
        name = queue.pop()
        if name in reached:
            continue
        reached.add(name)
        queue += edges.get(name, ())
        if "." in name:  # a module's packages are imported with it
            queue.append(name.rpartition(".")[0])
    return sorted(modules.keys() - reached)


def cells(path) -> str:
    """The code of a notebook, without the cells that are no Python on purpose."""
    kept = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            try:
                ast.parse(source)
            except SyntaxError:
                assert "raises-exception" in cell["metadata"].get("tags", []), source
                continue
            kept.append(source)
    return "\n".join(kept)


def notebooks() -> dict[str, str]:
    paths = [*notebook.CHAPTERS.glob("*.ipynb"), *(ROOT / "template").glob("*.ipynb")]
    return {path.stem: cells(path) for path in sorted(paths)}


# The rules


def test_the_package_does_not_know_what_stands_beside_it():
    assert foreign(sources()) == []


def test_chapters_import_no_other_code_of_ours():
    assert foreign(notebooks()) == []


def test_examples_import_no_other_code_of_ours():
    found = sources(ROOT / "examples")
    assert found and foreign(found) == []
    for name, source in found.items():  # readers copy them: they stay short
        assert len(source.splitlines()) <= 200, name


def test_no_circle_of_imports():
    assert circle(sources()) == []


def users() -> list[str]:
    """The sources that count: chapters, programs, and what make runs by name."""
    run = re.findall(r"-m (course_utils[\w.]*)", (ROOT / "Makefile").read_text())
    commands = [f"import {name}" for name in run]
    folders = [sources(ROOT / name).values() for name in ("examples", "experiments")]
    return [*notebooks().values(), *folders[0], *folders[1], *commands]


def test_every_module_is_used():
    assert unreached(sources(), users()) == []


# The same rules on planted violations


def test_what_is_imported_by_hand():
    known = {"a", "a.b", "a.b.c", "a.d"}
    source = "import os.path\nfrom a import b, x\ndef f():\n    from a.b import c\n"
    assert imported(source, known) == {"os.path", "a.b", "a", "a.b.c"}
    relative = "from . import c\nfrom .. import d\nfrom ..d import x\n"
    assert imported(relative, known, "a.b") == {"a.b.c", "a.d"}


@pytest.mark.parametrize(
    "line", ["import experiments.scenes", "from booktools import x"]
)
def test_a_planted_foreign_import_is_found(line):
    planted = sources() | {"course_utils.new": f"def f():\n    {line}\n"}
    assert len(foreign(planted)) == 1
    assert foreign({"03_tensors": f"import torch\n{line}\n"}) != []


def test_a_planted_circle_is_found():
    modules, name = sources(), "course_utils.compare"
    user = "course_utils.checks.core"
    assert name in graph(modules)[user]
    modules[name] += f"\n\ndef late():\n    import {user}\n"
    assert {name, user} <= set(circle(modules))
    package = {"p": "from p.a import x", "p.a": "from . import b", "p.b": "import p"}
    assert set(circle(package)) == {"p", "p.a", "p.b"}


def test_a_planted_module_without_a_user_is_found():
    using = users()
    planted = sources() | {"course_utils.new": "", "course_utils.checks.ch99": ""}
    planted["course_utils.new2"] = "import course_utils.new"
    names = ["course_utils.checks.ch99", "course_utils.new", "course_utils.new2"]
    assert unreached(planted, using) == names
    using.append("from course_utils import new2\nchecks.check('99.x', x)")
    assert unreached(planted, using) == []


# What is shipped


def packages(include: list[str]) -> set[str]:
    """The top-level packages that setuptools finds with these patterns."""
    return {name.split(".")[0] for name in find_packages(str(ROOT), include=include)}


def test_packages_are_found_by_name():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    found = settings["setuptools"]["packages"]["find"]
    assert packages(found["include"]) == {"course_utils"}
    assert packages(["*"]) > {"course_utils", "experiments"}  # so it is the pattern


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel of a copy of the project, so that nothing is left in the project."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "project"
    shutil.copytree(ROOT, copy, ignore=lambda path, names: set(names) - shipped(path))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "."]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder)]
    done = subprocess.run([*pip, *options], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    [path] = folder.glob("*.whl")
    return path


def shipped(path: str) -> set[str]:
    """What of a folder is copied: sources only, no data, caches or outputs."""
    with_code = {"course_utils", "experiments", "booktools", "README.md"}
    if path == str(ROOT):
        files = {f.name for f in ROOT.glob("LICENSE*")}
        return with_code | {"pyproject.toml"} | files
    names = {p.name for p in (ROOT / path).iterdir() if p.is_dir()} - {"__pycache__"}
    return names | {
        p.name for p in (ROOT / path).iterdir() if p.suffix in (".py", ".txt")
    }


def tops(path) -> set[str]:
    names = {name.split("/")[0] for name in zipfile.ZipFile(path).namelist()}
    return {name for name in names if not name.endswith(".dist-info")}


def test_the_wheel_holds_the_package_and_all_of_it(built):
    assert tops(built) == {"course_utils"}
    held = set(zipfile.ZipFile(built).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.suffix in (".py", ".txt")
    }
    assert wanted == {name for name in held if name.startswith("course_utils/")}


# With what it works


def declared() -> list[str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "dependencies"
    ]


def bare(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def allowed(requirements: list[str]) -> set[str]:
    """These distributions and what they require, but for their extras."""
    found, queue = set(), [bare(r) for r in requirements]
    while queue:
        name = queue.pop()
        if name in found:
            continue
        found.add(name)
        try:
            wanted = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system, or an older Python
        queue += [bare(r) for r in wanted if not re.search(r"\bextra\b", r)]
    return found


# Hides every installed library that is not among the allowed ones.
ALONE = """
import importlib, importlib.machinery, importlib.metadata, json, re, sys

allowed, names = map(json.loads, sys.argv[1:3])
holders = importlib.metadata.packages_distributions()

class Only:
    # The usual finders, as if the other libraries were not installed.
    usual = list(sys.meta_path)

    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        held = {re.sub("[-_.]+", "-", d).lower() for d in holders.get(top, ())}
        if held and not held & set(allowed) and top != "course_utils":
            return None
        found = (finder.find_spec(name, path, target) for finder in self.usual)
        return next((spec for spec in found if spec is not None), None)

    def find_distributions(self, *arguments):
        return importlib.machinery.PathFinder.find_distributions(*arguments)

sys.meta_path[:] = [Only()]
for name in names:
    importlib.import_module(name)
print(sys.modules["course_utils"].__file__)
"""


def alone(folder, names: list[str], requirements: list[str]):
    """Import modules that lie in a folder with these requirements and no others."""
    arguments = [json.dumps(sorted(allowed(requirements))), json.dumps(names)]
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{ALONE}"
    return subprocess.run(
        [sys.executable, "-I", "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
    )


def test_every_module_imports_with_the_declared_libraries_alone(built, tmp_path):
    zipfile.ZipFile(built).extractall(tmp_path)
    done = alone(tmp_path, sorted(sources()), declared())
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(str(tmp_path))  # not the checkout


def test_an_undeclared_library_is_noticed(built, tmp_path):
    zipfile.ZipFile(built).extractall(tmp_path)
    (tmp_path / "course_utils" / "new.py").write_text("import nbformat\n")
    done = alone(tmp_path, ["course_utils.new"], declared())
    assert "No module named 'nbformat'" in done.stderr


#: Late imports that need no declaration.
GUARDED = {
    # In notebooks alone, whose kernel brings it; without it nothing is lost.
    "course_utils.viz.style": {"matplotlib_inline"},
    # An extra's, in a function that says so.
    "course_utils.detection.portable": {"onnx"},
}


def undeclared(modules: dict[str, str], requirements: list[str]) -> list[str]:
    """Imports, at any place, of libraries that the requirements do not bring."""
    holders, found = importlib.metadata.packages_distributions(), []
    brought = allowed(requirements)
    for name, source in modules.items():
        tops = {other.split(".")[0] for other in imported(source, package=name)}
        tops -= {"course_utils", *sys.stdlib_module_names, *GUARDED.get(name, ())}
        for top in sorted(tops):
            if not {bare(d) for d in holders.get(top, ())} & brought:
                found.append(f"{name} imports {top}")
    return found


def test_late_imports_are_declared_too():
    assert undeclared(sources(), declared()) == []


def test_a_late_import_that_is_not_declared_is_noticed():
    planted = {"course_utils.new": "def f():\n    import nbformat, torch\n"}
    assert undeclared(planted, declared()) == ["course_utils.new imports nbformat"]


# The extra, and who may have it


def extra(name: str = "shipping") -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["optional-dependencies"][name]


def beyond(modules: dict[str, str], requirements: list[str]) -> list[str]:
    """Imports of what the extra alone brings: by the extra's own names, not by what
    these bring besides."""
    holders, found = importlib.metadata.packages_distributions(), []
    own = {bare(r) for r in requirements}
    for name, source in modules.items():
        for top in sorted({other.split(".")[0] for other in imported(source)}):
            if {bare(d) for d in holders.get(top, ())} & own:
                found.append(f"{name} imports {top}")
    return found


#: Who may import the extra: the chapter, its program, and what makes their files.
SHIPPING = {
    *("32_shipping", "examples.serve", "experiments.shipping"),
    "course_utils.detection.portable",
}


def everything() -> dict[str, str]:
    found = notebooks()
    for folder in ("course_utils", "examples", "experiments", "booktools"):
        found |= sources(ROOT / folder)
    return found


def test_the_extra_is_for_chapter_32_and_its_service_alone():
    own = {bare(r) for r in extra()}
    assert own.isdisjoint({bare(r) for r in declared()})
    others = {k: v for k, v in everything().items() if k not in SHIPPING}
    assert beyond(others, extra()) == []


def test_the_extra_in_another_chapter_is_noticed():
    planted = {"03_tensors": "import torch\nimport onnx.helper\nfrom fastapi import x"}
    names = ["03_tensors imports fastapi", "03_tensors imports onnx"]
    assert beyond(planted, extra()) == names
    assert set(beyond(everything(), extra())) > {"examples.serve imports uvicorn"}


def test_what_the_chapter_imports_is_declared():
    found = {k: v for k, v in notebooks().items() if k in SHIPPING}
    assert undeclared(found, [*declared(), *extra()]) == []
