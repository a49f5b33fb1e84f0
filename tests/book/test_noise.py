"""Noisy arithmetic: what it moves, what it leaves, and that a chapter feels it."""

import io
import os
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from books import Run, build, code, project

from booktools import instruments, noise, notebook, run_chapter
from booktools.notebook import ROOT

pytestmark = pytest.mark.usefixtures("one_thread")


def numbers(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=dtype) + 0.1


def noisy(work, seed=1):
    with noise.NoisyArithmetic(seed):
        return work()


def steps(quiet, moved):
    """How many floats lie between, with a sign (same shape, as integers)."""
    kind = {torch.float32: torch.int32, torch.float64: torch.int64}[quiet.dtype]
    return moved.contiguous().view(kind) - quiet.contiguous().view(kind)


X, Y, W = numbers(40, 40), numbers(40, 40, seed=1), numbers(40, seed=2)
IMAGE, KERNEL = numbers(2, 4, 20, 20), numbers(8, 4, 3, 3, seed=3)
GRID = numbers(2, 9, 9, 2, seed=4) - 0.5
HEADS = numbers(2, 4, 16, 8)
BOXES = [torch.tensor([[1.3, 2.2, 9.7, 11.1]])] * 2
INDEX = torch.arange(40) % 7
MOVED = {
    "mm": lambda: X @ Y,
    "addmm": lambda: F.linear(X, Y, W),
    "bmm": lambda: HEADS @ HEADS.mT,
    "mv": lambda: X @ W,
    "convolution": lambda: F.conv2d(IMAGE, KERNEL),
    "cdist": lambda: torch.cdist(X, Y),
    "sum": lambda: X.sum(dim=1),
    "mean": lambda: X.mean(dim=0),
    "var": lambda: X.var(dim=0),
    "vector norm": lambda: torch.linalg.vector_norm(X, dim=1),
    "prod": lambda: X.prod(dim=1),
    "cumsum": lambda: X.cumsum(dim=1),
    "logsumexp": lambda: X.logsumexp(dim=1),
    "index_add": lambda: torch.zeros(7, 40).index_add(0, INDEX, X),
    "scatter_add": lambda: torch.zeros(7).scatter_add(0, INDEX, W),
    "index_put, accumulated": lambda: torch.zeros(7, 40).index_put(
        (INDEX,), X, accumulate=True
    ),
    "batch norm": lambda: F.batch_norm(IMAGE, None, None, training=True),
    "layer norm": lambda: F.layer_norm(X, (40,)),
    "group norm": lambda: F.group_norm(IMAGE, 2),
    "softmax": lambda: X.softmax(dim=1),
    "log_softmax": lambda: X.log_softmax(dim=1),
    "attention": lambda: F.scaled_dot_product_attention(HEADS, HEADS, HEADS),
    "exp": lambda: X.exp(),
    "log": lambda: X.log(),
    "sin": lambda: X.sin(),
    "tanh": lambda: X.tanh(),
    "sigmoid": lambda: X.sigmoid(),
    "erf": lambda: X.erf(),
    "gelu": lambda: F.gelu(X),
    "rsqrt": lambda: X.rsqrt(),
    "pow": lambda: X**2.3,
    "pow of tensors": lambda: X**Y,
    "binary cross-entropy": lambda: F.binary_cross_entropy_with_logits(
        X, Y, reduction="none"
    ),
    "bilinear": lambda: F.interpolate(IMAGE, size=13, mode="bilinear"),
    "bilinear, antialiased": lambda: F.interpolate(
        IMAGE, size=13, mode="bilinear", antialias=True
    ),
    "bicubic": lambda: F.interpolate(IMAGE, size=27, mode="bicubic"),
    "grid_sample": lambda: F.grid_sample(IMAGE, GRID, align_corners=False),
    "avg_pool2d": lambda: F.avg_pool2d(IMAGE, 3),
    "adaptive_avg_pool2d": lambda: F.adaptive_avg_pool2d(IMAGE, 3),
    "roi_align": lambda: torchvision.ops.roi_align(IMAGE, BOXES, 5),
    "addcmul": lambda: X.addcmul(X, Y, value=0.3),
    "add with alpha": lambda: X.add(Y, alpha=0.3),
    "lerp": lambda: X.lerp(Y, 0.3),
    "linspace": lambda: torch.linspace(0, 1, 101),
    "randn": lambda: torch.randn(99, generator=torch.Generator().manual_seed(0)),
    "inverse": lambda: torch.linalg.inv(X),
    "foreach": lambda: torch.stack(torch._foreach_exp([X, Y])),
    "float64": lambda: X.double().exp(),
    "a function for vmap": lambda: torch.vmap(lambda row: row.exp())(X),
}


@pytest.mark.parametrize("name", MOVED)
def test_moved_by_one_step(name):
    quiet = MOVED[name]()
    found = steps(quiet, noisy(MOVED[name])).flatten()
    assert set(found.tolist()) <= {-1, 0, 1}
    assert 0.2 < (found != 0).float().mean() < 0.8


@pytest.mark.parametrize("training", [True, False])
def test_running_statistics_move_only_where_they_are_written(training):
    def statistics():
        mean, var = torch.full((3,), 0.1), torch.full((3,), 0.7)
        F.batch_norm(IMAGE[:, :3], mean, var, training=training)
        return torch.cat([mean, var])

    assert IMAGE.shape[1] >= 3
    found = steps(statistics(), noisy(statistics))
    assert set(found.tolist()) <= ({-1, 0, 1} if training else {0})
    assert found.any() == training


SMALL = torch.arange(-60, 60).float()
STAY = {
    "sum of two": lambda: X + Y,
    "difference": lambda: X - Y,
    "product": lambda: X * Y,
    "quotient": lambda: X / Y,
    "square root": lambda: X.sqrt(),
    "square": lambda: X**2,
    "in place": lambda: X.clone().add_(Y).mul_(3),
    "maximum": lambda: X.amax(dim=0),
    "sorted": lambda: X.sort(dim=0).values,
    "indexed": lambda: X[INDEX],
    "index_put": lambda: torch.zeros(7, 40).index_put((INDEX[:7],), X[:7]),
    "moved views": lambda: X.t().reshape(-1).view(20, 80).contiguous(),
    "sums of integers": lambda: SMALL.cumsum(0),
    "products of integers": lambda: SMALL.view(10, 12) @ SMALL.view(12, 10),
    "areas": lambda: torch.full((200,), 701.0).cumsum(0),
    "powers of two": lambda: torch.exp2(torch.arange(-20.0, 20)),
    "halves": lambda: torch.linspace(0, 32, 65),
    "one number": lambda: X[:1].sum(dim=0),
    "outer product": lambda: W[:, None] @ W[None],
    "own size": lambda: F.interpolate(IMAGE, size=20, mode="bilinear"),
    "nearest": lambda: F.grid_sample(IMAGE, GRID, mode="nearest", align_corners=False),
    "nearest size": lambda: F.interpolate(IMAGE, size=13),
    "uniform": lambda: torch.rand(99, generator=torch.Generator().manual_seed(0)),
    "integers": lambda: torch.arange(9).cumsum(0),
    "booleans": lambda: (X > 0.5).any(dim=0),
    "nothing": lambda: torch.zeros(0, 3).exp(),
    "float16": lambda: X.half().exp(),
    "bfloat16": lambda: X.bfloat16().exp(),
    "complex": lambda: torch.complex(X, Y).exp(),
    "not a number": lambda: torch.tensor([torch.nan, torch.inf, -torch.inf]).sin(),
    "zeros": lambda: torch.zeros(3, 3) @ X[:3, :3],
}


@pytest.mark.parametrize("name", STAY)
def test_stays(name):
    quiet, moved = STAY[name](), noisy(STAY[name])
    assert quiet.dtype == moved.dtype
    assert torch.equal(quiet.nan_to_num(7.0), moved.nan_to_num(7.0))


@pytest.mark.parametrize("copies", [1, 5])  # value by value, and as arrays
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_special_values_keep_their_bits(dtype, copies):
    limits = torch.finfo(dtype)
    exact = float(2**24 - 1 if dtype == torch.float32 else 2**53 - 1)
    values = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, limits.max, limits.min]
    values += [limits.tiny, limits.smallest_normal / 3, 70001.0, -exact, 1.0, 0.5, 3e-3]
    unchanged = torch.tensor(values[:-1], dtype=dtype).repeat(copies)
    payload = unchanged[4:5].clone().view(torch.uint8)
    payload[:2] = 255  # another nan, all of whose last bits are set
    for part in (unchanged, payload.view(dtype)):
        before = part.clone().view(torch.uint8)
        for seed in range(20):
            noise.move(part, seed)
        assert torch.equal(part.view(torch.uint8), before)
    moved = torch.tensor(values[-1:], dtype=dtype)
    seen = set()
    for seed in range(20):
        other = moved.clone()
        noise.move(other, seed)
        seen.add(steps(moved, other).item())
    assert seen == {-1, 0, 1}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_few_values_move_as_many_do(dtype):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4000, generator=generator, dtype=dtype)
    values *= torch.logspace(-44, 38, 4000, dtype=dtype)
    values[::7] = values[::7].trunc()
    values[::11] = torch.tensor([0, torch.inf, torch.nan, -0.0]).repeat(91)
    many, few = values.clone(), values.clone()
    noise.move(many, 3)
    for part in few.split(5):
        noise.move(part, 3)
    assert torch.equal(many.view(torch.uint8), few.view(torch.uint8))
    assert not torch.equal(many.view(torch.uint8), values.view(torch.uint8))


def test_beyond_the_exact_integers_even_integers_move():
    large = torch.full((1,), 2.0**24 + 2) + torch.arange(0, 4000, 2)
    assert torch.equal(large, large.trunc())
    moved = large.clone()
    noise.move(moved, 1)
    assert not torch.equal(moved, large)


def test_equal_inputs_give_equal_outputs():
    with noise.NoisyArithmetic(1):
        both = torch.stack([X, X]).exp()
        assert torch.equal(both[0], both[1])
        assert torch.equal(X.exp(), X.t().contiguous().exp().t())
        assert torch.equal(X[3:5].exp(), X.exp()[3:5])


def test_negated_and_doubled_inputs():
    with noise.NoisyArithmetic(1):
        assert torch.equal((-X).sum(dim=0), -X.sum(dim=0))
        assert torch.equal((8 * X).sum(dim=0), 8 * X.sum(dim=0))


def test_a_seed_is_a_machine():
    assert torch.equal(noisy(X.exp, 5), noisy(X.exp, 5))
    assert not torch.equal(noisy(X.exp, 5), noisy(X.exp, 6))


def test_all_forms_move_alike():
    """In place, out=, foreach, into a view with gaps: the functional form's result."""
    expected = noisy(X.exp)
    assert not torch.equal(expected, X.exp())

    def in_place():
        return X.clone().exp_()

    def out():
        result = torch.empty(40, 40)
        returned = torch.exp(X, out=result)
        assert returned is result
        return result

    def foreach_in_place():
        result = X.clone()
        torch._foreach_exp_([result])
        return result

    def columns():
        wide = torch.zeros(40, 80)
        view = wide[:, ::2]
        view.copy_(X)
        view.exp_()
        assert wide[:, 1::2].abs().max() == 0
        return wide[:, ::2]

    def across():
        wide = torch.zeros(40, 40).t()
        torch.exp(X, out=wide)
        return wide

    def leaf():
        weight = torch.nn.Parameter(X.clone())
        with torch.no_grad():
            weight.exp_()
        return weight.detach()

    for form in (in_place, out, foreach_in_place, columns, across, leaf):
        assert torch.equal(noisy(form), expected), form.__name__


def test_channels_last_results_keep_their_layout():
    image = IMAGE.to(memory_format=torch.channels_last)
    result = noisy(lambda: F.conv2d(image, KERNEL))
    assert result.is_contiguous(memory_format=torch.channels_last)
    found = steps(F.conv2d(image, KERNEL), result)
    assert set(found.flatten().tolist()) == {-1, 0, 1}


def test_large_tensors_are_moved_throughout():
    large = numbers(3, 50_001)
    quiet, moved = large.exp(), noisy(large.exp)
    assert torch.equal(moved[2, -100:], noisy(large[2, -100:].exp))
    assert 0.4 < (moved != quiet).float().mean() < 0.6


def test_backward_is_reached():
    def gradient():
        x = X.clone().requires_grad_()
        (x @ Y).backward(X)
        return x.grad

    found = steps(gradient(), noisy(gradient))
    assert set(found.flatten().tolist()) == {-1, 0, 1}


def test_running_statistics_are_reached():
    def statistics():
        norm = torch.nn.BatchNorm2d(4)
        norm(IMAGE)
        return torch.cat([norm.running_mean, norm.running_var])

    assert not torch.equal(statistics(), noisy(statistics))


def test_a_training_takes_another_path():
    def trained(optimizer):
        weight = torch.nn.Parameter(W.clone())
        step = optimizer([weight], lr=0.1)
        for _ in range(5):
            step.zero_grad()
            (X @ weight).square().mean().backward()
            step.step()
        return weight.detach()

    for optimizer in (torch.optim.SGD, torch.optim.Adam):
        quiet = trained(optimizer)
        moved = noisy(lambda: trained(optimizer))  # noqa: B023
        assert not torch.equal(quiet, moved)
        torch.testing.assert_close(quiet, moved)


def test_it_is_off_afterwards():
    noisy(X.exp)
    assert torch.equal(X.exp(), X.exp().clone())
    assert steps(X.exp(), noisy(X.exp)).any()
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()


# --- what traces is left alone -------------------------------------------------------


class Traced(torch.nn.Module):
    """A convolution, a size in the graph, and constants that an exporter joins."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        size = torch.stack([torch.as_tensor(n) for n in x.shape[2:]]) * 256 // 3
        return self.layer(x).exp() * torch.tensor([0.3, 0.1]).exp().sum() / size.max()


@pytest.mark.filterwarnings("ignore")  # of tracing
def test_a_traced_model_holds_its_operations():
    model, x, y = Traced().eval(), numbers(1, 3, 8, 8), numbers(2, 3, 12, 9, seed=1)
    plain = torch.jit.trace(model, x)
    traced = noisy(lambda: torch.jit.trace(model, x))
    kinds = [[n.kind() for n in t.inlined_graph.nodes()] for t in (plain, traced)]
    assert kinds[0] == kinds[1]
    assert torch.equal(traced(y), plain(y))
    # Called where the noise is on, it computes as the noise has it.
    assert not torch.equal(noisy(lambda: traced(y)), plain(y))


@pytest.mark.filterwarnings("ignore")  # of tracing
def test_the_older_exporter_writes_the_same_file():
    onnx = pytest.importorskip("onnx")
    model, x = Traced().eval(), numbers(1, 3, 8, 8)

    def written():
        file = io.BytesIO()
        torch.onnx.export(model, (x,), file, dynamo=False, input_names=["x"])
        return file.getvalue()

    plain = written()
    assert "Conv" in {n.op_type for n in onnx.load_from_string(plain).graph.node}
    assert noisy(written) == plain


@pytest.mark.filterwarnings("ignore")  # of tracing
def test_the_noise_is_back_behind_a_trace():
    quiet = X.exp()

    def traced_then():
        torch.jit.trace(torch.exp, X)
        with pytest.raises(ZeroDivisionError):
            torch.jit.trace(lambda x: x / (1 // 0), X)
        return X.exp()

    assert not torch.equal(noisy(traced_then), quiet)
    assert torch.equal(X.exp(), quiet)


@pytest.mark.parametrize("seed", [1.0, "1", None, True])
def test_seed_of_another_type(seed):
    with pytest.raises(TypeError, match=repr(seed)):
        noise.NoisyArithmetic(seed)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(seed):
    with pytest.raises(ValueError, match=str(seed)):
        noise.NoisyArithmetic(seed)
    assert noise.check_seed(np.int64(3)) == 3


def test_which_operations_were_found():
    """A misspelled name would be skipped in silence: the pinned torch knows them all.

    Another torch may lack a few; those are skipped, and named here.
    """
    found = noise.found()
    assert found.keys() == noise.OPERATIONS.keys()
    assert all(found.values())
    lacking = {
        name
        for reason, names in noise.OPERATIONS.items()
        for name in names.split()
        if name not in found[reason]
    }
    pin = re.search(r"(?m)^torch==(\S+)", (ROOT / "requirements.txt").read_text())[1]
    pinned = torch.__version__.split("+")[0] == pin
    assert len(lacking) <= (0 if pinned else 10), sorted(lacking)
    print("operations not in this torch:", sorted(lacking))


# --- the reach: a chapter's kernel, and the processes it starts ----------------------

# How many of these come back exactly is decided by the last bit.
EDGE = "import torch; x = torch.arange(1, 200) / 7; print((x.exp().log() == x).sum())"
FIRST = """
import subprocess, sys
import torch
from torch.utils.data import DataLoader, Dataset
from course_utils import workers

@workers.importable
class Edges(Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, i):
        x = torch.arange(1, 200) / 7
        return int((x.exp().log() == x).sum())
""".strip()
GREEN = {
    "imports": FIRST,
    "close enough": "import torch\nx = torch.rand(9)\n"
    "print((x.exp().log() - x).abs().max() < 1e-5)",
    "many digits": "print(f'{(torch.arange(1, 200) / 7).exp().log().mean():.4f}')",
    "names": "known = {'In', 'Out', 'exit', 'quit', 'open', 'get_ipython', 'known'}\n"
    "print([n for n in dir() if n[0] != '_' and n not in known])",
}
RED = {
    "an edge": EDGE,
    "an edge in a program": f"run = subprocess.run([sys.executable, '-c', {EDGE!r}], "
    "capture_output=True, text=True)\nprint(run.stdout, run.stderr)",
    "an edge in a loader's process": "print(list(DataLoader(Edges(), batch_size=None, "
    "num_workers=2, multiprocessing_context=workers.context())))",
    "the bits of a gradient": "x = (torch.arange(1, 200) / 7).requires_grad_()\n"
    "x.exp().log().sigmoid().sum().backward()\n"
    "print(x.grad.view(torch.int32).sum().item())",
}
CELLS = {**GREEN, **RED}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A folder with a notebook of all these, and a short one, stored without noise."""
    folder = project(tmp_path_factory.mktemp("noise"))
    short = [GREEN["close enough"], EDGE]
    for name, sources in (("03_edges", CELLS.values()), ("04_short", short)):
        path = folder / "chapters" / f"{name}.ipynb"
        notebook.write(build([code(source) for source in sources]), path)
        run_chapter.run(path, path)
    return folder


@pytest.fixture(scope="module")
def noisy_run(book):
    run = Run(book, "chapters/03_edges.ipynb", COURSE_NOISE="1")
    assert run.verdict, run.text
    return run


@pytest.mark.parametrize("name", CELLS)
def test_chapter(noisy_run, name):
    number = 1 + list(CELLS).index(name)
    key = ("03_edges", f"Cell {number}")
    expected = "green" if name in GREEN else "red"
    assert noisy_run.verdict[key] == expected, noisy_run.messages[key]


def test_without_noise_all_hold(book):
    run = Run(book, "chapters")
    assert set(run.verdict.values()) == {"green"}, run.text


def test_misspelled_seed_is_refused(book):
    run = Run(book, "chapters", COURSE_NOISE="one")
    assert run.code == 4
    assert "refused: COURSE_NOISE must be an integer from 0" in run.text


def test_noisy_outputs_are_not_stored(book, monkeypatch):
    monkeypatch.setenv("COURSE_NOISE", "1")
    path = book / "chapters" / "03_edges.ipynb"
    with pytest.raises(notebook.BadNotebook, match="stored without COURSE_NOISE"):
        run_chapter.run(path, path)


def test_a_kernel_without_the_noise_asked_for_is_noticed(monkeypatch):
    monkeypatch.setenv("COURSE_NOISE", "1")
    with pytest.raises(RuntimeError, match="the arithmetic is the plain one"):
        instruments.verify()
    with noise.NoisyArithmetic(1):
        instruments.verify()


# --- the program ---------------------------------------------------------------------


@pytest.fixture
def program(book, monkeypatch):
    """``booktools.instruments`` on the small book, from within these tests."""
    for name in [n for n in os.environ if n.startswith(("PYTEST_", "COURSE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COURSE_WORKERS", "0")
    monkeypatch.setenv("PYTHONPATH", str(notebook.ROOT))
    monkeypatch.setattr(instruments, "ROOT", book)
    monkeypatch.setattr(instruments, "CHAPTERS", book / "chapters")
    monkeypatch.setattr(instruments, "WHERE", book / "_build" / "instruments")
    return instruments.main


def test_program_says_which_cells_do_not_hold(program, capsys):
    assert program(["noise", "--seeds", "1 2", "--chapters", "04"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "noise-1  04_short: 1 of 2 cells hold; not: 2",
        "noise-2  04_short: 1 of 2 cells hold; not: 2",
        "noise: 2 of 4 cells hold, 1 chapters, 2 runs",
    ]


def test_program_when_all_holds(program, book, capsys):
    path = book / "chapters" / "05_plain.ipynb"
    notebook.write(build([code("print(1 + 1)", "2\n")], run=True), path)
    assert program(["noise", "--seeds", "1", "--chapters", "05_plain"]) == 0
    assert "noise: 1 of 1 cells hold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["noise", "--chapters", "99"], "no chapter '99'"),
        (["noise", "--seeds", "x"], "COURSE_NOISE must be an integer"),
    ],
)
def test_program_refuses(program, capsys, arguments, says):
    assert program(arguments) == 2
    assert says in capsys.readouterr().err
