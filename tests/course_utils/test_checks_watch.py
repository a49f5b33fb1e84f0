"""checks.watch: what an answer calls is seen, however it is written."""

import pytest
import torch
from torch.autograd import grad
from torchvision import ops

from course_utils.checks import samples
from course_utils.checks.core import Wrong
from course_utils.checks.watch import Watch, by_hand, called_by, without


def test_calls_by_hand():
    x = torch.arange(6.0)
    with Watch() as watch:
        torch.outer(x, x).sum()
        x.data  # noqa: B018
    assert watch.names == ["outer", "sum", ".data"] and watch.largest == 36
    torch.exp(x)  # outside, nothing is noted
    assert len(watch.names) == 3


SCORES = torch.tensor([0.5, 0.75])


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("logsumexp", lambda: torch.logsumexp(SCORES, 0)),
        ("logsumexp", lambda: SCORES.logsumexp(0)),
        ("norm", lambda: SCORES.norm()),
        ("linalg_vector_norm", lambda: torch.linalg.vector_norm(SCORES)),
        ("nms", lambda: ops.nms(samples.some_boxes(2, 0), SCORES, 0.5)),
        ("nms", lambda: ops.boxes.nms(samples.some_boxes(2, 0), SCORES, 0.5)),
        ("cross_entropy", lambda: torch.nn.CrossEntropyLoss()(SCORES, SCORES)),
        ("tolist", lambda: SCORES.tolist()),
    ],
)
def test_what_is_forbidden_is_refused(name, call):
    with pytest.raises(Wrong, match=f"^{name} was called"), without(name):
        call()
    with pytest.raises(Wrong, match="^not that$"), without(name, says="not that"):
        call()
    with without(f"not_{name}"):
        call()


def by_backward(x):
    leaf = x.clone().requires_grad_()
    leaf.square().sum().backward()


def by_property(x):
    leaf = x.clone()
    leaf.requires_grad = True


def by_argument(x):
    torch.zeros(2, requires_grad=True)


def by_functorch(x):
    torch.func.grad(lambda x: x.square().sum())(x)


def by_name(x):
    with torch.enable_grad():
        grad((WATCHED * 2).sum(), WATCHED)


WATCHED = torch.ones(2, requires_grad=True)


@pytest.mark.parametrize(
    "answer", [by_backward, by_property, by_argument, by_functorch, by_name]
)
def test_autograd_is_refused(answer):
    answer(SCORES)
    with pytest.raises(Wrong, match="write the slope by hand"), by_hand():
        answer(SCORES)


def test_what_is_no_autograd_is_allowed():
    with by_hand():
        x = SCORES.clone()
        x.requires_grad = False
        torch.zeros(2, requires_grad=False)
        assert not (x * WATCHED).requires_grad


def test_who_called():
    seen = []

    def f(x):
        seen.append(called_by("torch._functorch"))
        return 2 * x

    f(SCORES)
    torch.func.jacrev(f)(SCORES)
    assert seen == [False, True]
    assert called_by("_pytest") and not called_by("_pyt")


def test_samples_are_the_same_everywhere():
    boxes = samples.some_boxes(50, 3, high=12, smallest=2)
    assert boxes.shape == (50, 4) and boxes.dtype == torch.float32
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= 2 and sides.max() < 12 and boxes[:, :2].max() < 12
    assert torch.equal(boxes, samples.some_boxes(50, 3, high=12, smallest=2))
    drawn = samples.uniform(1000, seed=1, low=-1, high=3)
    assert drawn.dtype == torch.float64 and drawn.min() >= -1 and drawn.max() < 3
    assert drawn.min() < -0.9 and drawn.max() > 2.9
    assert samples.uniform().shape == () and samples.EMPTY.shape == (0, 4)
