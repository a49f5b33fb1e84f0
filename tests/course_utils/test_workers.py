"""Worker processes from a notebook: classes that they can import."""

import ast
import importlib
import inspect
import linecache
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from torch.utils.data import DataLoader

from course_utils import workers


@pytest.fixture
def notebook(monkeypatch):
    """Execute a cell as a notebook does: in ``__main__``, with its source at hand."""
    main = sys.modules["__main__"]
    before = dict(vars(main))

    def run(cell):
        source = textwrap.dedent(cell)
        name = f"<cell {len(linecache.cache)}>"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        exec(compile(source, name, "exec"), vars(main))
        return vars(main)

    yield run
    vars(main).clear()
    vars(main).update(before)


IMPORTS = """\
    import numpy as np
    import torch
    from torch.utils.data import Dataset, get_worker_info
    from course_utils import workers
    total = 3
    """
WHO = """\
    @workers.importable
    class Who(Dataset):
        '''A docstring.'''

        def __len__(self):
            return 4

        def __getitem__(self, total):  # a name of the notebook, but our own here
            info = get_worker_info()
            return total, -1 if info is None else info.id, int(np.int64(7))

    after = Who()
    """


def test_a_class_moves_to_a_module(notebook):
    notebook(IMPORTS)
    who = notebook(WHO)["Who"]
    assert who.__module__ != "__main__"
    assert importlib.import_module(who.__module__).Who is who
    assert who.__doc__ == "A docstring."
    assert type(pickle.loads(pickle.dumps(who()))) is who
    text = inspect.getsource(importlib.import_module(who.__module__))
    assert "importable" not in text and "after" not in text


def test_workers_run_it(notebook):
    notebook(IMPORTS)
    space = notebook(WHO)
    notebook("""\
        @workers.importable
        def first(batch):
            return [int(torch.tensor(part[0])) for part in batch]

        @workers.importable
        class Child(Who):
            def __len__(self):
                return first([[6]])[0]
        """)
    for name, expect in (("Who", [0, 1, 2, 3]), ("Child", list(range(6)))):
        loader = DataLoader(
            space[name](),
            batch_size=2,
            num_workers=2,
            multiprocessing_context=workers.context(),
        )
        batches = list(loader)
        assert torch.cat([b[0] for b in batches]).tolist() == expect
        assert [b[1].tolist() for b in batches][:2] == [[0, 0], [1, 1]]


def test_whatever_can_be_imported_is(notebook):
    notebook("""\
        from math import sqrt as root  # written in C
        from torch import stack
        from course_utils import workers
        """)
    space = notebook("""\
        @workers.importable
        def roots(tensors):
            return [root(value) for value in stack(tensors).tolist()]
        """)
    assert space["roots"].__module__ != "__main__"
    assert space["roots"]([torch.tensor(4), torch.tensor(9)]) == [2.0, 3.0]


def test_what_is_not_a_notebooks_is_returned():
    assert workers.importable(DataLoader) is DataLoader
    assert workers.importable(inspect.getsource) is inspect.getsource


@pytest.mark.parametrize("thing", [3, "Who", None])
def test_neither_class_nor_function(thing):
    with pytest.raises(TypeError, match="a class or a function"):
        workers.importable(thing)


def test_what_the_notebook_defines_is_named(notebook):
    notebook(IMPORTS)
    with pytest.raises(ValueError, match="size uses 'total'"):
        notebook("""\
            @workers.importable
            def size():
                return total
            """)
    with pytest.raises(ValueError, match="outer uses 'helper'"):
        notebook("""\
            def helper():
                return 1

            @workers.importable
            def outer():
                return [helper() for _ in range(3)]
            """)


def test_a_class_without_methods(notebook):
    notebook(IMPORTS)
    with pytest.raises(TypeError, match="no method"):
        notebook("""\
            @workers.importable
            class Empty:
                pass
            """)


def test_other_decorators_are_kept(notebook):
    notebook("""\
        import functools
        from dataclasses import dataclass, field
        import torch
        from course_utils import workers
        """)
    space = notebook("""\
        @workers.importable
        @dataclass(order=True)
        class Pair:
            first: int
            second: int = 3

            def total(self):
                return self.first + self.second

        @workers.importable
        @torch.no_grad()
        def double(x):
            return 2 * x

        @workers.importable
        @functools.cache
        def one():
            return 1

        @functools.total_ordering
        class Late:
            def __eq__(self, other): return True
            def __lt__(self, other): return False

        Late = workers.importable(Late)
        """)
    assert all(space[n].__module__ != "__main__" for n in ("Pair", "double", "one"))
    made = pickle.loads(pickle.dumps(space["Pair"](1)))
    assert made.total() == 4 and space["Pair"](1) < space["Pair"](2)
    assert not space["double"](torch.ones(1, requires_grad=True)).requires_grad
    assert space["one"]() == 1 and space["one"].cache_info().currsize == 1
    assert space["Late"].__module__ != "__main__" and space["Late"]() >= space["Late"]()


def test_a_decorator_above_would_be_lost(notebook):
    notebook("from functools import total_ordering\nfrom course_utils import workers\n")
    with pytest.raises(ValueError, match="must stand first, above @total_ordering of"):
        notebook("""\
            @total_ordering
            @workers.importable
            class Late:
                def __lt__(self, other): return False
            """)


def test_a_decorator_of_the_notebook_is_named(notebook):
    notebook(IMPORTS)
    notebook("def mark(thing): return thing\n")
    with pytest.raises(ValueError, match="size uses 'mark'"):
        notebook("""\
            @workers.importable
            @mark
            def size():
                return 1
            """)


def test_builtins_that_a_notebook_wraps_are_allowed(notebook):
    # IPython puts an `open` of its own into every notebook.
    notebook(IMPORTS)
    notebook("from IPython.core.interactiveshell import _modified_open as open\n")
    space = notebook("""\
        @workers.importable
        def read(file):
            with open(file) as lines:
                return len(list(lines))
        """)
    assert space["read"](__file__) > 100
    with pytest.raises(ValueError, match="read uses 'open'"):
        notebook("""\
            import builtins, functools

            @functools.wraps(builtins.open)
            def open(file):
                return builtins.open(file, "rb")

            @workers.importable
            def read(file):
                return open(file)
            """)
    with pytest.raises(ValueError, match="read uses 'print'"):
        notebook("""\
            def print(x): return x

            @workers.importable
            def read(x):
                return print(x)
            """)


def test_names_read_by_hand():
    [node] = ast.parse(
        "@mark\nclass A(Base):\n  x = limit\n  def f(self, a=start):\n"
        "    b = a + self.x\n    return [out(b, c) for c in b]\n"
    ).body
    found = workers.names_read(node)
    assert found == {"mark", "Base", "limit", "start", "out"}


def test_twice_is_two_modules(notebook):
    notebook(IMPORTS)
    first, second = (notebook(WHO)["Who"] for _ in range(2))
    assert first is not second and first.__module__ != second.__module__


def test_importing_starts_nothing():
    code = (
        "import sys, course_utils.workers, tempfile; before = list(sys.path);"
        "print(course_utils.workers._folder.cache_info().currsize)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0"
