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
import builtins
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

__all__ = ["context", "importable", "names_read"]

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
    is returned as it is. Decorators below this one, such as ``@dataclass``, are written
    into the module, too.

    Args:
        thing: a class with at least one method, or a function, of a notebook's cell.

    Returns:
        The class or function of the module.

    Raises:
        TypeError: neither a class nor a function, or a class without methods.
        ValueError: its source cannot be found, or it uses something that the notebook
            defines rather than imports, such as a constant or a plain function, or
            another decorator stands above this one: workers would not see what it
            does.
    """
    if not (inspect.isclass(thing) or inspect.isfunction(_typed(thing))):
        raise TypeError(f"needs a class or a function, got {type(thing).__name__}")
    if thing.__module__ != "__main__":
        return thing
    known = vars(sys.modules["__main__"])
    node, cell = _definition(thing)
    above, node.decorator_list = _decorators(node, known)
    if above:
        first = ast.unparse(above[0])
        raise ValueError(f"importable must stand first, above @{first} of {node.name}")
    imports = _imports(node, known)
    lines = [f"@{ast.get_source_segment(cell, d)}" for d in node.decorator_list]
    source = "\n".join([*lines, ast.get_source_segment(cell, node)])
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


def _typed(thing):
    """The function that was typed, below the wrappers of its decorators."""
    return inspect.unwrap(thing) if callable(thing) else thing


def _definition(thing) -> tuple[ast.stmt, str]:
    """The syntax tree of a class or function, and the whole cell that holds it."""
    name, members = thing.__name__, [_typed(thing)]
    if inspect.isclass(thing):
        members = [
            m for m in map(_typed, vars(thing).values()) if inspect.isfunction(m)
        ]
        if not members:
            raise TypeError(f"{name} has no method, so its source is out of reach")
    # A decorator may add methods of its own: their code is of no cell.
    for file in dict.fromkeys(m.__code__.co_filename for m in members):
        cell = "".join(linecache.getlines(file))
        for node in ast.parse(cell).body:
            if getattr(node, "name", None) == name:
                return node, cell
    raise ValueError(f"the source of {name} was not found at the top of its cell")


def _decorators(node: ast.stmt, known: dict) -> tuple[list, list]:
    """The decorators above :func:`importable`, and those below it.

    All count as below where it is called as a function.
    """
    for i, decorator in enumerate(node.decorator_list):
        path, value = decorator, None
        names = []
        while isinstance(path, ast.Attribute):
            names.append(path.attr)
            path = path.value
        if isinstance(path, ast.Name):
            value = known.get(path.id)
            for name in reversed(names):
                value = getattr(value, name, None)
        if value is importable:
            return node.decorator_list[:i], node.decorator_list[i + 1 :]
    return [], node.decorator_list


def _imports(node: ast.stmt, known: dict) -> list[str]:
    """An import line for each of the notebook's imports that a definition mentions."""
    lines = []
    for name in sorted((names_read(node) - {node.name}) & set(known)):
        value = known[name]
        own = getattr(builtins, name, None)
        typed_here = getattr(value, "__globals__", None) is known
        if own is not None and own is _typed(value) and not typed_here:
            continue  # IPython wraps `open`, say; a worker has Python's
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


def names_read(node: ast.stmt) -> set[str]:
    """The global names that a statement mentions, at any depth.

    Args:
        node: a statement of a module's top level. Names that its functions and classes
            bind for themselves do not count.

    Returns:
        Names of the module, of its imports, and builtins.
    """
    tables = [symtable.symtable(ast.unparse(node), "<statement>", "exec")]
    found = set()
    for table in tables:  # grows while we walk
        tables += table.get_children()
        at_top = table.get_type() == "module"  # base classes and defaults are here
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (at_top or symbol.is_global()):
                found.add(symbol.get_name())
    return found
