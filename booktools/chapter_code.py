"""Take code out of a chapter, so that tests try what the reader sees, not a copy.

``definitions("12_normalization", "BatchNorm")`` runs the parts of the chapter's cells
that define the names, with what those need; ``exercises("12_normalization")`` returns
each exercise's stub and solution.
"""

import ast
import builtins
import contextlib
import io
import symtable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

from booktools import notebook

__all__ = ["Exercise", "answers", "definitions", "exercises"]


@cache
def _cells(chapter: str) -> tuple:
    book = notebook.read(notebook.CHAPTERS / f"{chapter}.ipynb")
    return tuple(c for c in book.cells if c.cell_type == "code")


def _tags(cell) -> set:
    return set(cell.metadata.get("tags", []))


def _bound(node: ast.stmt) -> set[str]:
    """The names that a top-level statement binds."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(a.asname or a.name).split(".")[0] for a in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else []
    found = {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        found.add(node.target.id)
    return found


def _read(node: ast.stmt) -> set[str]:
    """The chapter's names that a statement mentions; a function's own ones are not."""
    tables = [symtable.symtable(ast.unparse(node), "<statement>", "exec")]
    found = set()
    for table in tables:  # grows while we walk
        tables += table.get_children()
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (top or symbol.is_global()):
                found.add(symbol.get_name())
    return found


def definitions(chapter: str, *names: str) -> SimpleNamespace:
    """Execute what defines ``names`` in a chapter, and nothing else.

    Imports, functions, classes and plain assignments at the top level of cells count.
    Of several definitions of one name the first is taken; exercises and solutions are
    left out.

    Args:
        chapter: such as ``"12_normalization"``.
        names: functions, classes or constants of the chapter.

    Returns:
        A namespace with the names.

    Raises:
        LookupError: the chapter defines no such name.
    """
    statements = []
    for cell in _cells(chapter):
        if not _tags(cell) & {"setup", "exercise", "solution", "raises-exception"}:
            statements += ast.parse(cell.source).body
    first: dict[str, int] = {}
    for i, node in enumerate(statements):
        for name in _bound(node):
            first.setdefault(name, i)
    wanted, queue = set(), list(names)
    for name in names:
        if name not in first:
            raise LookupError(f"{chapter} defines no {name!r}")
    while queue:
        i = first.get(queue.pop())
        if i is not None and i not in wanted:
            wanted.add(i)
            queue += _read(statements[i])
    module = ast.Module([statements[i] for i in sorted(wanted)], type_ignores=[])
    space = {"__name__": f"chapter_{chapter}"}
    exec(compile(module, f"<{chapter}>", "exec"), space)
    return SimpleNamespace(**{name: space[name] for name in names})


@dataclass
class Exercise:
    """A stub and its solution: their source, and what executing each one leaves."""

    name: str  # such as "12.find_three_bugs"
    stub: str
    solution: str
    chapter: str

    def run(self, source: str, **extra) -> dict:
        """Execute ``source`` after the chapter's imports, and return the names.

        What the source mentions and the chapter defines above, such as a base class,
        is there too.

        Args:
            source: ``self.stub``, ``self.solution`` or an answer of a test's own.
            extra: further names that the source may use.
        """
        imports = [
            node
            for cell in _cells(self.chapter)
            if not _tags(cell) & {"setup"}
            for node in ast.parse(cell.source).body
            if isinstance(node, (ast.Import, ast.ImportFrom))
        ]
        space = {"__name__": f"exercise_{self.chapter}", **extra}
        exec(compile(ast.Module(imports, []), "<imports>", "exec"), space)
        body = ast.parse(source).body
        known = space.keys() | vars(builtins).keys() | set().union(*map(_bound, body))
        for name in set().union(*map(_read, body)) - known:
            with contextlib.suppress(LookupError):  # then the source itself will say
                space[name] = getattr(definitions(self.chapter, name), name)
        exec(compile(source, f"<{self.name}>", "exec"), space)
        return space

    def answer(self, source: str, **extra):
        """The object that the source hands to ``checks.check``."""
        return self.run(source, **extra)[self.answer_name]

    @property
    def answer_name(self) -> str:
        return _checked(self.stub)[1]


def _checked(source: str) -> tuple[str, str] | None:
    """The exercise's name and the answer's name in ``checks.check("NN.x", answer)``."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "check"
            and len(node.args) == 2
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[1], ast.Name)
        ):
            return node.args[0].value, node.args[1].id
    return None


def exercises(chapter: str) -> dict[str, Exercise]:
    """The exercises of a chapter by name, in order.

    Raises:
        LookupError: a stub without a check, or without a solution.
    """
    cells = _cells(chapter)
    stubs = [c.source for c in cells if "exercise" in _tags(c)]
    solutions = [c.source for c in cells if "solution" in _tags(c)]
    by_name = {}
    for source in solutions:
        found = _checked(source)
        if found is None:
            raise LookupError(f"{chapter}: a solution without checks.check(...)")
        by_name[found[0]] = source
    result = {}
    for source in stubs:
        found = _checked(source)
        if found is None:
            raise LookupError(f"{chapter}: a stub without checks.check(...)")
        if found[0] not in by_name:
            raise LookupError(f"{chapter}: {found[0]} has no solution")
        result[found[0]] = Exercise(found[0], source, by_name[found[0]], chapter)
    return result


def answers(chapter: str) -> tuple[dict, dict]:
    """What the stubs and what the solutions of a chapter hand to their checks.

    Returns:
        Two dictionaries by the exercise's name: stubs, solutions.
    """
    found = exercises(chapter)
    with contextlib.redirect_stdout(io.StringIO()):
        stubs = {name: e.answer(e.stub) for name, e in found.items()}
        solutions = {name: e.answer(e.solution) for name, e in found.items()}
    return stubs, solutions
