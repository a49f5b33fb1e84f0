"""Worker processes from a notebook: classes that they can import."""

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
