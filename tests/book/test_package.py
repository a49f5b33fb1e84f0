"""The package as a whole: imports change nothing, and it works inside a notebook."""

import base64
import importlib
import io
import os
import pkgutil
import subprocess
import sys
import types

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

import course_utils

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(course_utils.__path__, "course_utils.")
)

# Side effects of the libraries themselves come first and do not count.
IMPORT = """
import os, random, sys, warnings
import matplotlib, matplotlib.pyplot, numpy, tensorboardX, torch, torchvision

def state():
    return {
        "rcParams": dict(matplotlib.rcParams),
        "backend": matplotlib.rcParams._get("backend"),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "warnings": list(warnings.filters),
        "random": random.getstate(),
        "numpy": str(numpy.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "precision": torch.get_float32_matmul_precision(),
        "tf32": torch.backends.cudnn.allow_tf32,
        "deterministic": torch.backends.cudnn.deterministic,
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "figures": matplotlib.pyplot.get_fignums(),
    }

before = state()
for name in sys.argv[1:]:
    __import__(name)
    after = state()
    changed = [key for key in before if before[key] != after[key]]
    assert not changed, f"importing {name} changes {changed}"
print(len(sys.argv) - 1, "modules")
"""


def run(*arguments: str, **environment: str):
    # pyparsing warns under the oldest matplotlib: not ours to mend.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning"]
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_the_walk_finds_the_modules():
    assert {"course_utils.runtime", "course_utils.checks.core"} <= set(MODULES)


def test_importing_any_module_changes_nothing_and_says_nothing():
    done = run("-c", IMPORT, "course_utils", *MODULES)
    assert done.stderr == "" and done.returncode == 0
    assert done.stdout == f"{len(MODULES) + 1} modules\n"


def test_the_package_alone_and_colab_import_no_library():
    # On Colab this runs before anything is installed.
    code = (
        "import sys, course_utils, course_utils.colab; "
        "print({'torch', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules))"
    )
    assert run("-c", code).stdout == "set()\n"


def test_the_style_outside_a_notebook():
    code = (
        "from course_utils import viz; viz.use_style(); viz.use_style(); "
        "import matplotlib; print(matplotlib.rcParams['figure.dpi'])"
    )
    done = run("-c", code, MPLBACKEND="agg")
    assert (done.stdout, done.stderr) == ("144.0\n", "")


def offers(module) -> list[str]:
    """What is wrong with what a module says of itself and offers."""
    found = [] if (module.__doc__ or "").strip() else ["it does not say what it is"]
    public = getattr(module, "__all__", None)
    if public is None:
        own = [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__
            and not name.startswith("_")
        ]
        return [*found, *([f"no __all__ beside {own}"] if own else [])]
    found += [f"it has no {name}" for name in public if not hasattr(module, name)]
    for name in public:
        thing = getattr(module, name, None)
        own = getattr(thing, "__module__", "") == module.__name__
        if own and callable(thing) and not (thing.__doc__ or "").strip():
            found.append(f"{name} does not say what it is")
    return found


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_and_what_it_offers(name):
    assert offers(importlib.import_module(name)) == []


def test_a_module_that_says_nothing_is_noticed():
    module = types.ModuleType("planted")
    assert offers(module) == ["it does not say what it is"]
    exec("def here(): pass", vars(module))
    assert offers(module)[1:] == ["no __all__ beside ['here']"]
    module.__doc__, module.__all__ = "Words.", ["here", "gone"]
    assert offers(module) == ["it has no gone", "here does not say what it is"]


# In a notebook: one kernel for all that follows.

FIGURE = """
figure, ax = plt.subplots(figsize=(3, 2))
ax.plot([1, 2])
ax.set_xlabel({label!r})
plt.show()
"""

STUB = """
def answer(shape, dtype):
    '''Bytes of a tensor.'''
    ...
checks.check("03.count_bytes", answer)
"""

CELLS = {
    "imports": (
        "import matplotlib.pyplot as plt\nimport torch\n"
        "from course_utils import checks, runtime, viz\n"
        "from course_utils.compare import compare\n"
        "runtime.setup()"
    ),
    "no label": FIGURE.format(label=""),
    "long label": FIGURE.format(label="three\nlines of a\nlabel"),
    "set up again": "runtime.setup()",
    "default size": "plt.plot([1, 2]);\nplt.show()",
    "stub": STUB,
    "none": STUB.replace("    ...", "    return None"),
    "pass": STUB.replace("    ...", "    pass"),
    "lambda": "checks.check('03.count_bytes', lambda shape, dtype: ...)",
    "method": (
        "class Answer:\n    def __init__(self):\n        self.x = 1\n"
        "    def area(self): ...\n"
        "checks.check('03.count_bytes', Answer)"
    ),
    "object": "checks.check('03.count_bytes', Answer())",
    "class": "class Answer: ...\nchecks.check('03.count_bytes', Answer)",
    "decorated": (
        "@torch.no_grad()\ndef answer(shape, dtype): ...\n"
        "checks.check('03.count_bytes', answer)"
    ),
    "no echo": "compare('x', torch.tensor([1.1]), torch.tensor([1.0]), within=0.2)",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, list]:
    """The outputs of each cell; any error in a cell is raised."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    )
    root = os.path.dirname(os.path.dirname(course_utils.__file__))
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    folder = str(tmp_path_factory.mktemp("folder"))
    environment = {
        **os.environ,
        "IPYTHONDIR": folder,  # no start-up files of this machine
        "PYTHONPATH": path,
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONWARNINGS": "default,ignore::DeprecationWarning",
    }
    client = NotebookClient(notebook, timeout=120, kernel_name="python3")
    client.execute(cwd=folder, env=environment)
    found = [cell.outputs for cell in notebook.cells]
    return dict(zip(CELLS, found, strict=True))


def test_set_up_is_silent(outputs):
    assert outputs["imports"] == outputs["set up again"] == []


@pytest.mark.parametrize(
    ("cell", "size"),
    [
        ("no label", (3 * 144, 2 * 144)),
        ("long label", (3 * 144, 2 * 144)),
        ("default size", (int(6.4 * 144), int(3.2 * 144))),
    ],
)
def test_figures_have_a_fixed_size_in_pixels(outputs, cell, size):
    [output] = outputs[cell]
    picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert picture.size == size
    assert np.asarray(picture.convert("L")).std() > 5  # it is not blank


@pytest.mark.parametrize(
    "cell", ["stub", "lambda", "method", "object", "class", "decorated"]
)
def test_stubs_in_a_notebook(outputs, cell):
    [output] = outputs[cell]
    where = "area: " if cell in ("method", "object") else ""
    assert output.text == (
        "Exercise 03.count_bytes: not attempted yet "
        f"({where}replace the ... in the body)\n"
    )


@pytest.mark.parametrize("cell", ["none", "pass"])
def test_attempts_in_a_notebook(outputs, cell):
    [output] = outputs[cell]
    assert output.name == "stdout"
    assert "got:      None (does the function end with a return?)" in output.text


def test_a_comparison_is_not_echoed(outputs):
    [output] = outputs["no echo"]
    assert output.text == "x: equal within 0.2\n"
