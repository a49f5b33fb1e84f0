"""Exercises of chapter 28, attention."""

import inspect
import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.checks.core import Case, Wrong, exercise
from course_utils.checks.samples import uniform

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


def _pairs(lengths: list[int], n: int, causal: bool) -> torch.Tensor:
    """What query i may read, entry by entry: (B, 1, n, n)."""
    rows = [
        [[[j < length and (j <= i or not causal) for j in range(n)] for i in range(n)]]
        for length in lengths
    ]
    return torch.tensor(rows, dtype=torch.bool).reshape(len(lengths), 1, n, n)


@exercise(
    "28.allowed_pairs",
    hint="Compare `torch.arange(n)` with the lengths, after giving both axes of "
    "size 1 so that they broadcast to (B, 1, n, n).",
)
def allowed_pairs() -> list[Case]:
    def case(says, lengths, n, causal):
        given = torch.tensor(lengths, dtype=torch.int64)
        wanted = _pairs(lengths, n, causal)
        return Case(says, args=(given, n, causal), expect=wanted)

    def served(answer):
        """The mask does its work in torch's function, for two heads."""
        lengths, x = torch.tensor([3, 1]), uniform(2, 2, 3, 4)
        mask = answer(lengths, 3, True)
        got = F.scaled_dot_product_attention(x, x, x, attn_mask=mask)
        wanted = F.scaled_dot_product_attention(
            x, x, x, attn_mask=_pairs([3, 1], 3, True)
        )
        if not torch.allclose(got, wanted):
            raise Wrong("in F.scaled_dot_product_attention it reads other tokens")

    return [
        case("one token", [1], 1, False),
        case("two of three, causal", [2], 3, True),
        case("two of three", [2], 3, False),
        case("nothing filled up, causal", [3], 3, True),
        case("two sequences", [3, 1], 3, False),
        case("two sequences, causal", [3, 1], 3, True),
        case("a sequence of length 0", [0, 2], 2, False),
        case("more room than tokens", [2, 1], 5, True),
        case("as many sequences as tokens", [1, 2, 3], 3, True),
        case("no sequences", [], 2, True),
        case("no tokens", [0], 0, True),
        Case("it fits two heads", test=served),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "28.relative_bias",
    hint="Build the matrix of distances j - i with `torch.arange`. By how much must "
    "it be shifted to become column numbers of the table?",
)
def relative_bias() -> list[Case]:
    def wanted(table, n):
        span = (table.shape[1] + 1) // 2
        out = table.new_zeros(table.shape[0], n, n)
        for i in range(n):
            for j in range(n):
                out[:, i, j] = table[:, j - i + span - 1]
        return out

    def case(says, table, n):
        return Case(says, args=(table, n), expect=wanted(table, n))

    ramp = torch.tensor([[1.0, 2.0, 3.0]])
    wide = uniform(2, 9, dtype=torch.float32)

    def trained(answer):
        table = uniform(1, 5).requires_grad_()
        out = answer(table, 3)
        if not (isinstance(out, torch.Tensor) and out.requires_grad):
            raise Wrong("no gradient reaches the table: was it copied or detached?")
        out.sum().backward()
        counts = torch.tensor([[1.0, 2, 3, 2, 1]], dtype=torch.float64)
        if not torch.equal(table.grad, counts):
            raise Wrong(
                "summed over a 3 by 3 bias, the five distances count 1, 2, 3, 2, 1 "
                f"times; the gradient says {table.grad.tolist()}"
            )

    return [
        case("one token", torch.tensor([[7.0]]), 1),
        case("two tokens", ramp, 2),
        case("fewer tokens than the span", ramp, 1),
        case("three of a span of five", wide, 3),
        case("two heads, the whole span", wide, 5),
        case("integers stay integers", torch.arange(5)[None], 2),
        case("no tokens", ramp, 0),
        case("no heads", torch.zeros(0, 3), 2),
        Case("more tokens than the span", args=(ramp, 3), expect=ValueError),
        Case("far more", args=(wide, 50), expect=ValueError),
        Case("the table is trained", test=trained),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "28.repaired",
    hint="Check one line at a time: which tokens end up in one row after `view`? "
    "What do the weights of one query add up to, before and after the mask?",
)
def repaired() -> list[Case]:
    names = ("query", "key", "value", "out")

    def make(answer, d, heads):
        if not (inspect.isclass(answer) and issubclass(answer, nn.Module)):
            raise Wrong("hand over the class itself, a subclass of nn.Module")
        net = answer(d, heads).double()
        for seed, name in enumerate(names):
            layer = getattr(net, name, None)
            if not isinstance(layer, nn.Linear):
                raise Wrong(f"the layer {name} must be an nn.Linear, got {layer!r}")
            with torch.no_grad():
                layer.weight.copy_(uniform(d, d, seed=seed, low=-1, high=1))
                layer.bias.copy_(uniform(d, seed=seed + 9, low=-1, high=1))
        return net

    def wanted(net, x, heads, allowed):
        q, k, v = (
            getattr(net, name)(x).unflatten(-1, (heads, -1)).transpose(1, 2)
            for name in names[:3]
        )
        scores = (q @ k.mT) / math.sqrt(q.shape[-1])
        scores = scores.masked_fill(~allowed, -math.inf)
        joined = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return net.out(joined)

    def case(says, shape, heads, allowed, blame):
        def test(answer):
            net = make(answer, shape[-1], heads)
            x = uniform(*shape, seed=20)
            before = x.clone()
            got, right = net(x, allowed), wanted(net, x, heads, allowed)
            if not isinstance(got, torch.Tensor) or got.shape != right.shape:
                found = tuple(getattr(got, "shape", ())) or repr(got)
                raise Wrong(f"x of shape {shape} gives {found}, not the shape of x")
            if not torch.allclose(got, right, atol=1e-9):
                off = (got - right).abs().max().item()
                raise Wrong(
                    f"x of shape {shape}, {heads} heads: outputs off by up to "
                    f"{off:.2g}; {blame}"
                )
            if not torch.equal(x, before):
                raise Wrong("the input was changed on the way")

        return Case(says, test=test)

    def everything(n):
        return torch.ones(n, n, dtype=torch.bool)

    def causal(answer):
        net, x = make(answer, 4, 2), uniform(1, 3, 4, seed=21).requires_grad_()
        net(x, everything(3).tril())[0, 0].sum().backward()
        if x.grad[0, 1:].abs().max() > 0:
            raise Wrong("with a causal mask the first token still reads later ones")
        if not x.grad[0, 0].abs().max() > 0:
            raise Wrong("with a causal mask the first token must read itself")

    def sees_no_scale(answer):
        """Large scores: a wrong root is no longer hidden by rounding."""
        net, x = make(answer, 8, 4), 3 * uniform(2, 4, 8, seed=22)
        got, right = net(x, everything(4)), wanted(net, x, 4, everything(4))
        if not torch.allclose(got, right, atol=1e-9):
            raise Wrong("eight features, four heads: is the root that of a head's d?")

    def strided(answer):
        net = make(answer, 4, 2)
        x = uniform(3, 4, 2, seed=23).permute(2, 0, 1)
        right = wanted(net, x, 2, everything(3))
        if not torch.allclose(net(x, everything(3)), right, atol=1e-9):
            raise Wrong("an input that is not contiguous gives other outputs")

    padded = torch.tensor([[True, True, False]])
    each = torch.stack([everything(3).tril(), everything(3)])[:, None]
    rows = "is the root right, and do the weights of each query add up to 1?"
    masks = "does a forbidden key take part in the softmax?"
    views = "does each head get the features of one token?"
    return [
        case("one token", (1, 1, 2), 1, everything(1), "one token reads itself"),
        case("one head", (1, 3, 4), 1, everything(3), rows),
        case("one head, filled up", (1, 3, 4), 1, padded, masks),
        case("two heads", (1, 3, 4), 2, everything(3), views),
        case("two heads, causal", (2, 3, 4), 2, everything(3).tril(), masks),
        Case("no token reads the future", test=causal),
        case("a mask for each sample", (2, 3, 4), 2, each, "B masks, (B, 1, N, N)"),
        Case("four heads, large scores", test=sees_no_scale),
        Case("not contiguous", test=strided),
        case("as many heads as features", (2, 5, 4), 4, everything(5), views),
        case("no samples", (0, 3, 4), 2, everything(3), "an empty batch"),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "28.reads",
    hint="Give a fresh copy of x `requires_grad_()`, and ask `torch.autograd.grad` for "
    "the slope of one number at a time, with `retain_graph=True`.",
)
def reads() -> list[Case]:
    def table(rows: list[str]) -> torch.Tensor:
        return torch.tensor([[c == "x" for c in row] for row in rows])

    def case(says, function, x, rows):
        def test(answer):
            before = x.clone()
            got = answer(function, x)
            right = table(rows) if rows else torch.zeros(0, len(x), dtype=torch.bool)
            if not isinstance(got, torch.Tensor):
                raise Wrong(f"a boolean tensor is wanted, got {got!r}")
            if got.dtype != torch.bool or got.shape != right.shape:
                raise Wrong(
                    f"{says}: a boolean tensor {tuple(right.shape)} is wanted, got "
                    f"{got.dtype} {tuple(got.shape)}"
                )
            if not torch.equal(got, right):
                i, j = (got != right).nonzero()[0].tolist()
                does = "reads" if right[i, j] else "does not read"
                raise Wrong(f"{says}: output {i} {does} token {j}; the table is wrong")
            if not torch.equal(x, before) or x.requires_grad or x.grad is not None:
                raise Wrong("x was changed, or has a gradient now")

        return Case(says, test=test)

    def mixing(allowed):
        def function(x):
            scores = (x @ x.mT).masked_fill(~allowed, -math.inf)
            return scores.softmax(-1) @ x

        return function

    def centered(x):  # its numbers always add up to 0
        return F.layer_norm(mixing(torch.ones(3, 3).tril().bool())(x), (4,))

    def opposed(x):  # token 1 counts once plus and once minus
        return torch.stack([x[0] + x[1], x[0] - x[1]], -1).reshape(1, -1)

    def no_gradients(answer):
        with torch.no_grad():
            got = answer(lambda x: x, uniform(2, 2))
        if not (isinstance(got, torch.Tensor) and torch.equal(got, torch.eye(2) > 0)):
            raise Wrong(
                "called under torch.no_grad(), each token no longer reads itself"
            )

    def kept(answer):
        x, weight = uniform(2, 3), uniform(3, 3, seed=1).requires_grad_()
        answer(lambda x: x @ weight, x)
        if weight.grad is not None:
            raise Wrong("a gradient was left behind in the function's own weights")

    x = uniform(3, 4, seed=3)
    start = x[:2].clone()
    trained = uniform(2, 4, seed=4).requires_grad_()
    return [
        case("each token itself", lambda x: 2 * x, x[:2], ["x.", ".x"]),
        case("turned round", lambda x: x.flip(0), x[:2], [".x", "x."]),
        case("the mean", lambda x: x.mean(0, keepdim=True), x, ["xxx"]),
        case(
            "more outputs than tokens",
            lambda x: x[[0, 0, 1]],
            x[:2],
            ["x.", "x.", ".x"],
        ),
        case("one feature of one token", lambda x: x[1:2, 2:3], x, [".x."]),
        case(
            "causal attention",
            mixing(torch.ones(3, 3).tril().bool()),
            x,
            ["x..", "xx.", "xxx"],
        ),
        case("behind a layer normalization", centered, x, ["x..", "xx.", "xxx"]),
        case("slopes that cancel", opposed, x[:2], ["xx"]),
        case(
            "slopes that cancel in one token",
            lambda x: x[:, :1] - x[:, 1:2],
            x[:2],
            ["x.", ".x"],
        ),
        case("outputs of 0", lambda x: x - start, x[:2], ["x.", ".x"]),
        case("a constant", lambda x: torch.ones(2, 4), x, ["...", "..."]),
        case(
            "constant in part",
            lambda x: torch.cat([x[:1], torch.ones(1, 4, dtype=x.dtype)]),
            x,
            ["x..", "..."],
        ),
        case("trained, but without x", lambda x: 2 * trained, x, ["...", "..."]),
        case("slopes below 0", lambda x: -x, x[:2], ["x.", ".x"]),
        case("tiny slopes", lambda x: 1e-12 * x, x[:2], ["x.", ".x"]),
        case("rounding, slope 0", lambda x: x.round(), x[:2], ["..", ".."]),
        case(
            "one number reads another token",
            lambda x: torch.cat([x[:, :1].flip(0), x[:, 1:]], 1),
            x[:2],
            ["xx", "xx"],
        ),
        case("no outputs", lambda x: x[:0], x, []),
        Case("under torch.no_grad()", test=no_gradients),
        Case("no gradient is left behind", test=kept),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "28.merge",
    hint="The share of a machine is its exponential sum over that of all: the "
    "exponential of a difference of two logarithms.",
)
def merge() -> list[Case]:
    def case(says, outs, logs, out, log, **more):
        return Case(says, args=(outs, logs), expect=(out, log), **more)

    def tensor(values):
        return torch.tensor(values, dtype=torch.float64)

    inf = math.inf
    score, value = uniform(5, 12, seed=1, high=6), uniform(12, 3, seed=2)

    def split(sizes, shift=0.0):
        moved = score + shift
        parts = zip(moved.split(sizes, 1), value.split(sizes), strict=True)
        pairs = [(s.softmax(1) @ v, s.logsumexp(1)) for s, v in parts]
        outs, logs = (torch.stack(kind) for kind in zip(*pairs, strict=True))
        return outs, logs, moved.softmax(1) @ value, moved.logsumexp(1)

    def blind():
        outs, logs, *_ = split([4, 8])
        outs[1, 2], logs[1, 2] = 0, -inf  # the second machine had no key for it
        out, log = split([4, 8])[2:]
        out[2], log[2] = outs[0, 2], logs[0, 2]
        return outs, logs, out, log

    half = tensor([[[50 / 3]], [[250 / 7]]]), tensor([[math.log(3)], [math.log(7)]])

    def gradient(answer):
        outs = tensor([[[1.0]], [[0.0]]]).requires_grad_()
        logs = tensor([[0.5], [-inf]])
        got = answer(outs, logs)[0]
        got.sum().backward()
        if outs.grad is None or not torch.equal(outs.grad, tensor([[[1.0]], [[0.0]]])):
            raise Wrong("the slope of the only machine with keys is 1, the other's 0")

    return [
        case(
            "one machine",
            tensor([[[5.0]]]),
            tensor([[2.0]]),
            tensor([[5.0]]),
            tensor([2.0]),
        ),
        case("the first example", *half, tensor([[30.0]]), tensor([math.log(10)])),
        case("five queries, two machines", *split([4, 8])),
        case("five queries, three machines", *split([1, 4, 7])),
        case("logarithms near 1000", *split([4, 8], 1000.0)),
        case("logarithms near -1000", *split([4, 8], -1000.0)),
        case(
            "far apart",
            tensor([[[1.0]], [[9.0]]]),
            tensor([[0.0], [1000.0]]),
            tensor([[9.0]]),
            tensor([1000.0]),
        ),
        case(
            "queries far apart",
            tensor([[[1.0], [2.0]], [[3.0], [6.0]]]),
            tensor([[0.0, 1000.0], [0.0, 1000.0]]),
            tensor([[2.0], [4.0]]),
            tensor([math.log(2), 1000 + math.log(2)]),
        ),
        case("a machine without a key for one query", *blind()),
        case(
            "no machine has a key",
            tensor([[[1.0, 2.0]], [[3.0, 4.0]]]),
            tensor([[-inf], [-inf]]),
            tensor([[0.0, 0.0]]),
            tensor([-inf]),
        ),
        case(
            "no queries",
            torch.zeros(2, 0, 3),
            torch.zeros(2, 0),
            torch.zeros(0, 3),
            torch.zeros(0),
        ),
        Case("gradients reach the outputs", test=gradient),
    ]
