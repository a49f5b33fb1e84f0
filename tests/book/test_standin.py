"""The stand-in accelerator refuses what CUDA refuses, and computes all else.

It cannot be taken away again, so everything runs in a process of its own.
"""

import json
import subprocess
import sys

import pytest
from books import Run, build, clean_environment, code, project
from torch.utils import backend_registration

from booktools import instruments, notebook, run_chapter, standin, text_compare
from course_utils import runtime

needs_interface = pytest.mark.skipif(bool(standin.lacking()), reason=standin.lacking())

FIRST = """
import copy, io
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import nms, roi_align
from booktools import noise, standin

device = standin.install()
cpu = (torch.arange(12.0) / 8).reshape(3, 4)
x = cpu.to(device)
boxes = torch.tensor([[0, 0, 4, 4], [0, 0, 4, 3], [5, 5, 9, 9.0]], device=device)
scores = torch.tensor([0.5, 0.6, 0.7])
labels = torch.tensor([0, 1], device=device)
generator = torch.Generator().manual_seed(0)

def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
                         nn.Flatten(), nn.Linear(144, 2))

images = torch.rand(2, 3, 8, 8, generator=generator)

def trained(device, optimizer):
    net = model().to(device)
    step = optimizer(net.parameters(), lr=0.01)
    for _ in range(2):
        step.zero_grad()
        F.cross_entropy(net(images.to(device)), labels.to(device)).backward()
        step.step()
    return [p.detach().cpu() for p in net.parameters()]

def same(a, b):
    return all(torch.allclose(p, q, atol=1e-6) for p, q in zip(a, b))

def there(t):
    return t.device.type == "standin"
"""

MIXED = "RuntimeError: Expected all tensors to be on the same device"
GENERATOR = "RuntimeError: Expected a 'standin' device type for generator but found"
TO_NUMPY = "TypeError: can't convert standin:0 device type tensor to numpy"
REFUSED = {
    "x + cpu": MIXED,
    "x @ cpu.T": MIXED,
    "x.clone().add_(cpu)": MIXED,
    "torch.add(x, x, out=torch.empty(3, 4))": MIXED,
    "torch.where(cpu > 1, x, 0 * x)": MIXED,
    "x.masked_fill(cpu > 1, 0.0)": MIXED,
    "x.masked_select(cpu > 1)": MIXED,
    "x.gather(0, torch.zeros(1, 4, dtype=torch.long))": MIXED,
    "x.index_select(0, torch.tensor([0]))": MIXED,
    "torch.cat([x, cpu])": MIXED,
    "torch.stack([x.sum(), torch.tensor(0.0)])": MIXED,
    "torch.equal(x, cpu)": MIXED,
    "cpu * x.sum()": MIXED,
    "torch.tensor(0.0).add_(x.sum())": MIXED,
    "x.clone().index_put_((labels,), cpu[:2])": MIXED,
    "x.__setitem__(torch.tensor([0, 1]), cpu[:2])": MIXED,
    "model()(images.to(device))": MIXED,
    "model().to(device)(images)": MIXED,
    "F.cross_entropy(x[:2], labels.cpu())": MIXED,
    "nms(boxes, scores, 0.5)": MIXED,
    "cpu[x > 1]": "RuntimeError: indices should be either on cpu or on the same device",
    "torch.rand(3, generator=generator, device=device)": GENERATOR,
    "torch.randperm(3, generator=generator, device=device)": GENERATOR,
    "x.clone().normal_(generator=generator)": GENERATOR,
    "torch.multinomial(x, 1, generator=generator)": GENERATOR,
    "x.numpy()": TO_NUMPY,
    "np.asarray(x)": TO_NUMPY,
    "np.maximum(x, 0)": TO_NUMPY,
    "x.pin_memory()": "RuntimeError: cannot pin a tensor on standin:0",
    "torch.add(x, x, out=torch.empty(0, device=device))": "NotImplementedError: the "
    "stand-in device cannot resize a tensor in place",
}
ALLOWED = {
    "x + torch.tensor(2.0)": "there(_)",
    "torch.tensor(2.0) * x": "there(_)",
    "torch.where(x > 1, x, torch.tensor(0.0))": "there(_)",
    "x.masked_fill(x > 1, torch.tensor(0.0))": "there(_)",
    "x[cpu > 1]": "there(_) and _.tolist() == cpu[cpu > 1].tolist()",
    "x[torch.tensor([2, 0])]": "there(_)",
    "x[[0, 2]], x[:, [1]], x[..., 0], x[None], x[x > 1]": "all(map(there, _))",
    "x.clone().__setitem__(slice(2), cpu[:2])": "_ is None",
    "x.clone().index_put_((torch.tensor([0]),), torch.tensor(1.0))": "there(_)",
    "x.clone().copy_(cpu + 1)": "there(_) and torch.equal(_.cpu(), cpu + 1)",
    "torch.zeros(3, 4).copy_(x)": "not there(_) and torch.equal(_, cpu)",
    "x.cpu(), x.to('cpu'), x.cpu().numpy()": "torch.equal(_[0], cpu)",
    "x.new_tensor([1, 2]), x.new_zeros(2), torch.as_tensor([1.0], device=device)": (
        "all(map(there, _)) and _[0].dtype == torch.float32"
    ),
    "x.new_zeros(2, device='cpu')": "not there(_)",
    "torch.arange(5, device=device), torch.eye(3, device=device)": (
        "_[0].shape == (5,) and there(_[0] + 1) and _[1].shape == (3, 3)"
    ),
    "torch.meshgrid(*[torch.arange(3, device=device)] * 2, indexing='ij')": (
        "_[0].shape == (3, 3) and there(_[0])"
    ),
    "x[:1].clone().squeeze_(0).unsqueeze_(1)": "_.shape == (4, 1) and there(_ + 1)",
    "x.tolist(), x.sum().item(), float(x[0, 1]), f'{x[0, 1]:.3f}'": (
        "_[0] == cpu.tolist() and _[2] == 0.125 and _[3] == '0.125'"
    ),
    "repr(x[0])": '_ == "tensor([0.0000, 0.1250, 0.2500, 0.3750], '
    "device='standin:0')\"",
    "repr((x[0, :1].requires_grad_() * 2))": '_ == "tensor([0.], '
    "device='standin:0', grad_fn=<MulBackward0>)\"",
    "repr(nn.Parameter(x[0, :1]))": "_ == 'Parameter containing:\\n'"
    "\"tensor([0.], device='standin:0', requires_grad=True)\"",
    "trained(device, torch.optim.SGD)": "same(_, trained('cpu', torch.optim.SGD))",
    "trained(device, torch.optim.AdamW)": "same(_, trained('cpu', torch.optim.AdamW))",
    "copy.deepcopy(model().to(device))": "there(_[0].weight) and _[0].weight.is_leaf "
    "and isinstance(_[0].weight, nn.Parameter)",
    "nms(boxes, scores.to(device), 0.5)": "_.tolist() == [2, 1]",
    "roi_align(torch.rand(1, 1, 9, 9).to(device), [boxes], 2)": "there(_)",
    "F.interpolate(images.to(device), size=5, mode='bilinear', antialias=True)": (
        "there(_)"
    ),
    "torch.vmap(lambda r: r.sin().sum())(x), torch.func.jacrev(torch.sin)(x[0])": (
        "all(map(there, _))"
    ),
    "[torch.ones(2).pin_memory(), torch.ones(2)]": (
        "[t.is_pinned() for t in _] == [True, False]"
    ),
    "[b.is_pinned() for b in torch.utils.data.DataLoader(cpu, pin_memory=True)]": (
        "_ == [True] * 3"
    ),
    "(torch.accelerator.current_accelerator(), torch.cuda.is_available())": (
        "_ == (torch.device('standin'), False)"
    ),
}
MORE = {
    "random numbers are the device's own, and follow the seed": """
def draw(where):
    torch.manual_seed(3)
    return torch.rand(9, device=where).cpu()
assert torch.equal(draw(device), draw(device))
assert not torch.equal(draw(device), draw("cpu"))
torch.manual_seed(3)
torch.rand(9, device=device)
assert torch.equal(torch.rand(9), draw("cpu")), "the CPU's numbers are not touched"
assert not torch.equal(F.dropout(x), F.dropout(x))
""",
    "files": """
file = io.BytesIO()
torch.save(model().to(device).state_dict(), file)
def load(**more):
    file.seek(0)
    return torch.load(file, **more)
assert all(map(there, load().values()))
assert not any(map(there, load(map_location="cpu").values()))
assert not any(map(there, load(map_location=torch.device("cpu")).values()))
net = model().to(device)
net.load_state_dict(load())
assert same([net[0].weight.cpu()], [model()[0].weight])
""",
    "mixed precision": """
net = model().to(device)
with torch.autocast("standin", dtype=torch.bfloat16):
    logits = net(images.to(device))
    loss = F.cross_entropy(logits, labels)
assert (logits.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
assert net(images.to(device)).dtype == torch.float32
with torch.autocast("standin", dtype=torch.float16):
    loss = F.cross_entropy(net(images.to(device)), labels)
scaler = torch.amp.GradScaler("standin")
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
before = net[0].weight.detach().clone()
scaler.scale(loss).backward()
scaler.step(optimizer)
scaler.update()
assert there(net[0].weight.grad) and isinstance(scaler.get_scale(), float)
""",
    "with noise": """
def gradient(where):
    w = (torch.arange(1.0, 65) / 7).reshape(8, 8).to(where).requires_grad_()
    (w.sigmoid() @ w).sum().backward()
    return w.grad.cpu()
plain = gradient(device)
assert torch.equal(plain, gradient("cpu"))
with noise.NoisyArithmetic(1):
    moved = gradient(device)
    assert torch.equal(moved, gradient("cpu")), "the same arithmetic in both places"
assert not torch.equal(moved, plain)
assert torch.allclose(moved, plain)
""",
    "the device of a chapter": """
from course_utils import runtime
assert runtime.device("standin") == torch.device("standin", 0)
""",
}

PROGRAM = """
import json, sys
first, expressions, tests = json.load(sys.stdin)
exec(first)
said = {}
for source, test in expressions.items():
    try:
        _ = eval(source)
        said[source] = "computed" if not test else f"holds: {bool(eval(test))}"
    except Exception as error:
        said[source] = f"{type(error).__name__}: {error}"
for name, source in tests.items():
    try:
        exec(source)
        said[name] = "holds: True"
    except Exception as error:
        said[name] = f"{type(error).__name__}: {error}"
json.dump(said, sys.stdout)
"""


@pytest.fixture(scope="module")
def said():
    """What a process with the device said to each case."""
    cases = {**dict.fromkeys(REFUSED, ""), **ALLOWED}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([FIRST, cases, MORE]),
        env=clean_environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_interface
@pytest.mark.parametrize("source", REFUSED)
def test_refused(said, source):
    assert said[source].startswith(REFUSED[source])


@needs_interface
@pytest.mark.parametrize("source", ALLOWED)
def test_allowed(said, source):
    assert said[source] == "holds: True"


@needs_interface
@pytest.mark.parametrize("name", MORE)
def test_more(said, name):
    assert said[name] == "holds: True"


# --- chapters ------------------------------------------------------------------------

GREEN = {
    "imports": "import torch\nfrom course_utils import runtime\n"
    "device = runtime.device()\nx = torch.arange(6.0).to(device)",
    "a printed tensor": "x",
    "by way of the CPU": "print(x.cpu().numpy(), (x * 2).sum().item())",
    "numbers drawn on the CPU": "generator = torch.Generator().manual_seed(0)\n"
    "print(torch.rand(2, generator=generator).to(device))",
    "a mask in its place": "print(torch.where(x > 2, x, torch.tensor(0.0)))",
}
RED = {
    "numpy": "print(x.numpy())",
    "a CPU mask": "print(torch.where(torch.arange(6) > 2, x, 0 * x))",
    "a CPU generator": "generator = torch.Generator().manual_seed(0)\n"
    "print(torch.rand(2, generator=generator, device=device))",
    "numbers drawn on the device": "torch.manual_seed(0)\n"
    "print(torch.rand(2, device=device))",
    "the device's name": "print(x.device)",
}
CELLS = {**GREEN, **RED}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A notebook stored on the CPU and compared on the stand-in device."""
    folder = project(tmp_path_factory.mktemp("standin"))
    path = folder / "chapters" / "03_places.ipynb"
    notebook.write(build([code(source) for source in CELLS.values()]), path)
    run_chapter.run(path, path)
    return Run(folder, "chapters", COURSE_DEVICE="standin")


@needs_interface
@pytest.mark.parametrize("name", CELLS)
def test_chapter(run, name):
    key = ("03_places", f"Cell {1 + list(CELLS).index(name)}")
    assert key in run.verdict, run.text
    expected = "green" if name in GREEN else "red"
    assert run.verdict[key] == expected, run.messages[key]


def test_printed_device_is_the_cpus_text():
    stored = "tensor([1., 2.])"
    assert text_compare.same_text(stored, "tensor([1., 2.], device='standin:0')")
    assert not text_compare.same_text(stored, "tensor([1., 3.], device='standin:0')")


# --- where it is not there -----------------------------------------------------------


def test_readers_do_not_have_it():
    with pytest.raises(ValueError, match="must be 'cpu', 'cuda' or 'mps', got 'stand"):
        runtime.device("standin")


def test_a_torch_without_the_interface(monkeypatch, capsys):
    monkeypatch.delattr(backend_registration, standin._REGISTER, raising=False)
    reason = standin.lacking()
    assert standin._REGISTER in reason and "\n" not in reason
    with pytest.raises(RuntimeError, match="no stand-in device: torch"):
        standin.install.__wrapped__()
    assert instruments.main(["device"]) == 0
    assert capsys.readouterr().out == f"device: skipped: {reason}\n"
    assert instruments.problem({"COURSE_DEVICE": "standin"}) == reason


def test_a_kernel_without_the_device_is_noticed(monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "standin")
    with pytest.raises(ValueError, match="got 'standin'"):
        instruments.verify()
