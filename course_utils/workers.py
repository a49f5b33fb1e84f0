"""Worker processes from a notebook: a start method and classes that they can import.

A worker process unpickles its data set, and for that it imports the data set's class by
name. A class typed into a notebook lives in the notebook's own process alone.
:func:`importable` writes it to a file; :func:`context` starts workers in the same way
under every supported Python, on Linux and macOS without copying a threaded process::

    @workers.importable
    class Squares(Dataset): ...


    DataLoader(Squares(), num_workers=2, multiprocessing_context=workers.context())
"""

import ast
import atexit
import copy
import importlib
import inspect
import itertools
import linecache
import multiprocessing
import shutil
import symtable
import sys
import tempfile
import types
from functools import cache
from pathlib import Path

__all__ = ["context", "importable"]

_count = itertools.count()


def context():
    """Return a multiprocessing context for ``DataLoader(multiprocessing_context=...)``.

    *forkserver* where the system has it (Linux, macOS): a fresh, small process that has
    imported torch once makes each worker in some milliseconds. Elsewhere (Windows)
    *spawn*, which imports torch anew in each worker.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["torch.utils.data", "numpy"])
    return made


def importable(thing):
    """Decorator: the same class or function, from a file that workers can import too.

    Its source is written into a module in a temporary folder, below an import line for
    each of the notebook's imports that it mentions. The folder joins ``sys.path``,
    which worker processes inherit, and is removed at the end. What no notebook defines
    is returned as it is.

    Args:
        thing: a class with at least one method, or a function, of a notebook's cell.

    Returns:
        The class or function of the module.

    Raises:
        TypeError: neither a class nor a function, or a class without methods.
        ValueError: its source cannot be found, or it uses something that the notebook
            defines rather than imports, such as a constant or a plain function.
    """
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        raise TypeError(f"needs a class or a function, got {type(thing).__name__}")
    if thing.__module__ != "__main__":
        return thing
    node, source = _definition(thing)
    imports = _imports(node, vars(sys.modules["__main__"]))
    name = f"from_notebook_{next(_count)}_{thing.__name__.lower()}"
    text = "\n".join([*imports, "", "", source, ""])
    (_folder() / f"{name}.py").write_text(text, encoding="utf-8")
    importlib.invalidate_caches()
    return getattr(importlib.import_module(name), thing.__name__)


@cache
def _folder() -> Path:
    """A temporary folder on the import path, gone when the process ends."""
    path = tempfile.mkdtemp(prefix="notebook_classes_")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    sys.path.append(path)
    return Path(path)


def _definition(thing) -> tuple[ast.stmt, str]:
    """The syntax tree of a class or function, and its source without decorators."""
    name, members = thing.__name__, [thing]
    if inspect.isclass(thing):
        members = [m for m in vars(thing).values() if inspect.isfunction(m)]
        if not members:
            raise TypeError(f"{name} has no method, so its source is out of reach")
    cell = "".join(linecache.getlines(members[0].__code__.co_filename))
    for node in ast.parse(cell).body:
        if getattr(node, "name", None) == name:
            return node, ast.get_source_segment(cell, node)
    raise ValueError(f"the source of {name} was not found at the top of its cell")


def _imports(node: ast.stmt, known: dict) -> list[str]:
    """An import line for each of the notebook's imports that a definition mentions."""
    lines = []
    for name in sorted(_free(node) & set(known)):
        value = known[name]
        module, own_name = (getattr(value, a, "") for a in ("__module__", "__name__"))
        holder = None if module == "__main__" else sys.modules.get(module)
        if isinstance(value, types.ModuleType):
            lines.append(f"import {own_name} as {name}")
        elif holder is not None and getattr(holder, own_name, None) is value:
            lines.append(f"from {module} import {own_name} as {name}")
        else:
            raise ValueError(
                f"{node.name} uses {name!r}, which the notebook defines; hand it over "
                "as an argument, or mark it with importable, too"
            )
    return lines


def _free(node: ast.stmt) -> set[str]:
    """The global names that a class or function mentions, its decorators left out."""
    bare = copy.copy(node)
    bare.decorator_list = []
    tables = [symtable.symtable(ast.unparse(bare), "<definition>", "exec")]
    found = set()
    for table in tables:  # grows while we walk
        tables += table.get_children()
        at_top = table.get_type() == "module"  # base classes and defaults are here
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (at_top or symbol.is_global()):
                found.add(symbol.get_name())
    return found - {node.name}
