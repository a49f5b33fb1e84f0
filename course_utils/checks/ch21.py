"""Exercises of chapter 21, transfer learning."""

import torch
from torch import nn

from course_utils.checks.core import Case, Wrong, difference, exercise
from course_utils.checks.samples import uniform

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


@exercise(
    "21.nearest_mean",
    hint="`F.normalize(rows, dim=1)` divides each row by its length. "
    "`known[labels == k]` are the rows of class k.",
)
def nearest_mean() -> list[Case]:
    def case(says, known, labels, new, expect):
        args = (
            torch.tensor(known, dtype=torch.float64),
            torch.tensor(labels),
            torch.tensor(new, dtype=torch.float64).reshape(-1, len(known[0])),
        )
        return Case(says, args=args, expect=torch.tensor(expect, dtype=torch.int64))

    x, y = [1.0, 0.0], [0.0, 1.0]
    long = [[100.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.3]]
    return [
        case("one class", [x], [0], [y], [0]),
        case("two classes, one row each", [x, y], [0, 1], [[2.0, 1.0]], [0]),
        case("lengths do not count", [x, [0.0, 9.0]], [0, 1], [[2.0, 1.0]], [0]),
        # The mean of class 0 is (1/3, 2/3), nearer to (1, 1) than (1, 0.3) is.
        case("each row is divided first", long, [0, 0, 0, 1], [[1.0, 1.0]], [0]),
        # Class 0 spreads, so its mean is short, and points exactly at the new row.
        case(
            "the mean's length does not count",
            [[1.0, 3.0], [1.0, -3.0], [1.0, 1.0]],
            [0, 0, 1],
            [[1.0, 0.2]],
            [0],
        ),
        case("labels in any order", [y, x, y], [1, 0, 1], [x, y, x], [0, 1, 0]),
        case("classes of several sizes", [x, x, x, y], [1, 1, 1, 0], [y], [0]),
        case("negative numbers", [x, [-1.0, 0.0]], [0, 1], [[-5.0, 1.0]], [1]),
        case("no new rows", [x, y], [0, 1], [], []),
    ]


# --- 2 ------------------------------------------------------------------------


def _linear(inputs: int, outputs: int, seed: int = 0) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        for k, parameter in enumerate(layer.parameters()):
            parameter.copy_(uniform(*parameter.shape, seed=seed + k))
    return layer


@exercise(
    "21.falling_rates",
    hint="Go through the parts from the last to the first, and count the distance "
    "from the end. Remember which weights you have had, by `id`.",
)
def falling_rates() -> list[Case]:
    def gives(make, wanted):
        """``wanted``: for each group the numbers of its parts' weights and its rate."""

        def test(answer):
            parts = make()
            named: dict[int, str] = {}
            for k, part in enumerate(parts):
                for name, p in part.named_parameters():
                    named[id(p)] = f"parts[{k}].{name}"
            got = answer(parts, 0.1, 0.5)
            kinds = [type(part).__name__ for part in parts]
            said = f"parts {kinds}, rate 0.1, factor 0.5"
            if not isinstance(got, list) or not all(isinstance(g, dict) for g in got):
                raise Wrong(f"{said}: a list of dictionaries is wanted, got {got!r}")
            shown = []
            for group in got:
                if set(group) != {"params", "lr"}:
                    raise Wrong(f"{said}: a group has the keys {sorted(group)}")
                names = [named.get(id(p), "a stranger") for p in group["params"]]
                shown.append((names, group["lr"]))
            expected = [([named[id(p)] for p in ps], lr) for ps, lr in wanted(parts)]
            if [names for names, _ in shown] != [names for names, _ in expected]:
                raise Wrong(
                    f"{said}: expected groups of {[n for n, _ in expected]}, "
                    f"got {[n for n, _ in shown]}"
                )
            rates = [lr for _, lr in shown]
            why = difference(rates, [lr for _, lr in expected])
            if why:
                raise Wrong(
                    f"{said}: expected the rates {[lr for _, lr in expected]}, "
                    f"got {rates}"
                )
            if got:
                torch.optim.SGD(got)

        return test

    def frozen_all():
        parts = [_linear(2, 2), _linear(2, 2), _linear(2, 1)]
        parts[1].requires_grad_(False)
        return parts

    def frozen_some():
        parts = [_linear(2, 2), _linear(2, 1)]
        parts[0].weight.requires_grad_(False)
        return parts

    def shared():
        parts = [_linear(2, 2), nn.ReLU(), _linear(2, 2)]
        parts[0].weight = parts[2].weight
        return parts

    def nested():
        return [nn.Sequential(_linear(2, 2), nn.ReLU()), _linear(2, 1)]

    def twice():
        part = _linear(2, 2)
        return [part, nn.ReLU(), part]

    def all_of(part):
        return list(part.parameters())

    return [
        Case("no parts", test=gives(list, lambda parts: [])),
        Case(
            "one part",
            test=gives(lambda: [_linear(2, 1)], lambda p: [(all_of(p[0]), 0.1)]),
        ),
        Case(
            "two parts",
            test=gives(
                lambda: [_linear(2, 2), _linear(2, 1)],
                lambda p: [(all_of(p[0]), 0.05), (all_of(p[1]), 0.1)],
            ),
        ),
        Case(
            "a part without weights counts",
            test=gives(
                lambda: [_linear(2, 2), nn.ReLU(), _linear(2, 1)],
                lambda p: [(all_of(p[0]), 0.025), (all_of(p[2]), 0.1)],
            ),
        ),
        Case(
            "the last part has no weights",
            test=gives(
                lambda: [_linear(2, 2), nn.ReLU()],
                lambda p: [(all_of(p[0]), 0.05)],
            ),
        ),
        Case(
            "a frozen part",
            test=gives(
                frozen_all, lambda p: [(all_of(p[0]), 0.025), (all_of(p[2]), 0.1)]
            ),
        ),
        Case(
            "a part with one frozen weight",
            test=gives(
                frozen_some, lambda p: [([p[0].bias], 0.05), (all_of(p[1]), 0.1)]
            ),
        ),
        Case(
            "a shared weight",
            test=gives(shared, lambda p: [([p[0].bias], 0.025), (all_of(p[2]), 0.1)]),
        ),
        Case(
            "layers in a part",
            test=gives(nested, lambda p: [(all_of(p[0]), 0.05), (all_of(p[1]), 0.1)]),
        ),
        Case(
            "the same part twice",
            test=gives(twice, lambda p: [(all_of(p[2]), 0.1)]),
        ),
    ]


# --- 3 ------------------------------------------------------------------------


class _Once:
    """Batches in another order each time they are asked for."""

    def __init__(self, batches):
        self.batches, self.reads = batches, 0

    def __iter__(self):
        self.reads += 1
        k = (self.reads - 1) % len(self.batches)
        return iter(self.batches[k:] + self.batches[:k])


def _body() -> nn.Sequential:
    body = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.ReLU()
    ).double()
    with torch.no_grad():
        body[0].weight.copy_(torch.tensor([1.0, -2.0]).view(2, 1, 1, 1))
        body[0].bias.copy_(torch.tensor([0.5, 1.0]))
        body[1].running_mean.copy_(torch.tensor([0.25, 0.5]))
    return body


@exercise(
    "21.store_features",
    hint="In which mode do the same pictures always give the same features? What "
    "does a shuffled loader give when it is read a second time?",
)
def store_features() -> list[Case]:
    def pictures(*sizes):
        return [
            (uniform(n, 1, 2, 3, seed=k), 10 * k - torch.arange(n))
            for k, n in enumerate(sizes)
        ]

    def stores(*sizes):
        def test(answer):
            body, loader = _body(), _Once(pictures(*sizes))
            with torch.no_grad():
                quiet = _body().eval()
                rows = [quiet(x).mean((2, 3)) for x, _ in loader.batches]
            expected = torch.cat(rows), torch.cat([y for _, y in loader.batches])
            got = answer(body, loader)
            said = f"batches of {list(sizes)}"
            if not isinstance(got, (tuple, list)) or len(got) != 2:
                raise Wrong(f"{said}: features and labels are wanted, got {got!r}")
            for name, one, wanted in zip(
                ("features", "labels"), got, expected, strict=True
            ):
                why = difference(
                    one.detach() if isinstance(one, torch.Tensor) else one, wanted
                )
                if why:
                    raise Wrong(f"{said}: the {name} are not right: {why}")

        return test

    def no_graph(answer):
        features, _ = answer(_body(), pictures(2))
        if features.requires_grad:
            raise Wrong("the features hold the graph of all batches: no_grad")

    def trains(answer):
        head = _linear(2, 1).double()
        features, _ = answer(_body(), pictures(2))
        on = torch.is_grad_enabled()
        torch.set_grad_enabled(True)
        if not on:
            raise Wrong("afterwards no gradients are computed any more, for no tensor")
        try:
            head(features).sum().backward()
        except RuntimeError as error:
            raise Wrong(f"a head cannot be trained on the features: {error}") from None

    def modes(answer):
        body = nn.Sequential(_body(), nn.Identity()).train()
        body[0][1].eval()
        before = [part.training for part in body.modules()]
        state = {n: v.clone() for n, v in body.state_dict().items()}
        answer(body, pictures(2, 1))
        after = [part.training for part in body.modules()]
        if after != before:
            raise Wrong(
                "body in training mode, its batch normalization in evaluation mode: "
                f"training was {before} in its parts, and is {after} afterwards"
            )
        moved = [
            n for n, v in body.state_dict().items() if not torch.equal(v, state[n])
        ]
        if moved:
            raise Wrong(f"the body was changed: {', '.join(moved)}")

    def gradients(answer):
        body = _body()
        answer(body, pictures(1))
        off = [n for n, p in body.named_parameters() if not p.requires_grad]
        if off:
            raise Wrong(f"requires_grad was switched off: {', '.join(off)}")

    def once(answer):
        loader = _Once(pictures(1, 1))
        answer(_body(), loader)
        if loader.reads != 1:
            raise Wrong(f"the loader was read {loader.reads} times, not once")

    return [
        Case("one picture", test=stores(1)),
        Case("one batch", test=stores(3)),
        Case("a smaller last batch", test=stores(3, 3, 1)),
        Case("rows and labels of the same reading", test=stores(2, 2)),
        Case("no graph", test=no_graph),
        Case("a head trains on them", test=trains),
        Case("modes and state stay", test=modes),
        Case("requires_grad stays", test=gradients),
        Case("the loader is read once", test=once),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "21.audit",
    hint="Copy all values before the step: without a clone, both names show the same "
    "memory. `torch.allclose` has an argument for nan.",
)
def audit() -> list[Case]:
    def tells(make, step, parameters, buffers):
        def test(answer):
            model, calls = make(), []

            def counted(given):
                calls.append(given is model)
                step(given)

            got = answer(model, counted)
            if calls != [True]:
                raise Wrong(f"step(model) was called {len(calls)} times, not once")
            expected = {"parameters": parameters, "buffers": buffers}
            if got != expected:
                raise Wrong(f"expected {expected}, got {got}")

        return test

    def net():
        return nn.Sequential(_linear(2, 2), nn.BatchNorm1d(2))

    def nothing(model):
        pass

    @torch.no_grad()
    def weight(model):
        model[0].weight[0, 0] += 1

    @torch.no_grad()
    def tiny(model):
        model[0].bias.copy_(torch.nextafter(model[0].bias, torch.tensor(9.0)))

    def passed(model):
        model.train()(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))

    def replaced(model):
        model[0].bias = nn.Parameter(model[0].bias.detach() + 1)

    def trained(model):
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        x = torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]])
        (model.train()(x) * torch.tensor([1.0, 2.0])).square().sum().backward()
        optimizer.step()

    def broken():
        model = net()
        with torch.no_grad():
            model[0].weight[0, 1] = float("nan")
            model[1].running_mean[0] = float("inf")
        return model

    @torch.no_grad()
    def mended(model):
        model[0].weight[0, 1] = 0.0

    @torch.no_grad()
    def spoiled(model):
        model[0].weight[0, 0] = float("nan")

    @torch.no_grad()
    def beside(model):
        model[0].weight[1, 1] += 1

    def unsaved():
        model = nn.Sequential(_linear(2, 2))
        model.register_buffer("mean", torch.zeros(2), persistent=False)
        return model

    def filled(model):
        model.mean.fill_(1.0)

    stats = ["1.num_batches_tracked", "1.running_mean", "1.running_var"]
    every = ["0.weight", "1.bias", "1.weight"]  # a bias before a mean has no slope

    def learns(answer):
        model = net()
        got = answer(model, trained)
        if not isinstance(got, dict) or set(got) != {"parameters", "buffers"}:
            raise Wrong(f"a dictionary of two lists is wanted, got {got!r}")
        missed = [n for n in every if n not in got["parameters"]]
        if missed or got["buffers"] != stats:
            raise Wrong(f"a training step: expected {every} and {stats}, got {got}")

    return [
        Case("nothing at all", test=tells(nn.Sequential, nothing, [], [])),
        Case("nothing moves", test=tells(net, nothing, [], [])),
        Case("one number", test=tells(net, weight, ["0.weight"], [])),
        Case("the smallest change", test=tells(net, tiny, ["0.bias"], [])),
        Case("statistics", test=tells(net, passed, [], stats)),
        Case("a training step", test=learns),
        Case("another object", test=tells(net, replaced, ["0.bias"], [])),
        Case("nan that stays", test=tells(broken, nothing, [], [])),
        Case("nan that goes", test=tells(broken, mended, ["0.weight"], [])),
        Case("nan that comes", test=tells(net, spoiled, ["0.weight"], [])),
        Case("a number beside nan", test=tells(broken, beside, ["0.weight"], [])),
        Case("a buffer that is not saved", test=tells(unsaved, filled, [], ["mean"])),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "21.thaw",
    hint="First make the list of the places of those parts that have parameters. Its "
    "last `count` entries are thawed: mind a count of 0, and one that is too large.",
)
def thaw() -> list[Case]:
    def net():
        return nn.Sequential(
            nn.Dropout(), _linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), _linear(3, 1)
        )

    def gives(counts, grads, modes, number, make=net):
        """``grads`` and ``modes``: one a part, after the last of ``counts``."""

        def test(answer):
            own = make()
            for count in counts:
                got = answer(own, count)
            said = f"count {' and then '.join(map(str, counts))}"
            for k, part in enumerate(own):
                kind = f"part {k}, {type(part).__name__}"
                free = [p.requires_grad for p in part.parameters()]
                if free and set(free) != {grads[k]}:
                    raise Wrong(
                        f"{said}: {kind}: requires_grad should be {grads[k]}, "
                        f"got {free}"
                    )
                inner = {p.training for p in part.modules()}
                if inner != {modes[k]}:
                    raise Wrong(
                        f"{said}: {kind}: training should be {modes[k]}, "
                        f"got {sorted(inner)}"
                    )
            if own.training != any(grads):
                raise Wrong(f"{said}: net.training should be {any(grads)}")
            if got != number or isinstance(got, bool):
                raise Wrong(f"{said}: expected {number} weights, got {got!r}")

        return test

    def nested():
        inner = nn.Sequential(_linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
        return nn.Sequential(inner, nn.Dropout(), _linear(2, 1))

    def ending():
        return nn.Sequential(_linear(2, 2), nn.Dropout())

    def bare():
        """A normalization without parameters: it has buffers only."""
        return nn.Sequential(
            _linear(2, 2), nn.BatchNorm1d(2, affine=False), _linear(2, 1)
        )

    def refuses(answer):
        own = net()
        try:
            got = answer(own, -1)
        except ValueError:
            pass
        else:
            raise Wrong(f"count -1: expected: ValueError, got {got!r}")
        changed = [k for k, part in enumerate(own) if not part.training]
        changed += [n for n, p in own.named_parameters() if not p.requires_grad]
        if changed or not own.training:
            raise Wrong("count -1: ValueError is right, but the net was changed before")

    no, yes = False, True
    return [
        Case("nothing", test=gives([0], [no] * 5, [no] * 5, 0)),
        Case("an empty net", test=gives([2], [], [], 0, nn.Sequential)),
        Case(
            "the last part",
            test=gives([1], [no, no, no, no, yes], [no, no, no, no, yes], 4),
        ),
        Case(
            "two parts, and the one between",
            test=gives([2], [no, no, yes, no, yes], [no, no, yes, yes, yes], 10),
        ),
        Case(
            "all that have weights",
            test=gives([3], [no, yes, yes, no, yes], [no, yes, yes, yes, yes], 19),
        ),
        Case(
            "one more than there are",
            test=gives([4], [no, yes, yes, no, yes], [no, yes, yes, yes, yes], 19),
        ),
        Case(
            "many more than there are",
            test=gives([9], [no, yes, yes, no, yes], [no, yes, yes, yes, yes], 19),
        ),
        Case(
            "called again, with less",
            test=gives([3, 1], [no, no, no, no, yes], [no, no, no, no, yes], 4),
        ),
        Case(
            "called again, with nothing",
            test=gives([3, 0], [no] * 5, [no] * 5, 0),
        ),
        Case(
            "parts in a part",
            test=gives([1], [no, no, yes], [no, no, yes], 3, nested),
        ),
        Case(
            "parts in a part, thawed",
            test=gives([2], [yes, no, yes], [yes, yes, yes], 13, nested),
        ),
        Case("dropout at the end", test=gives([1], [yes, no], [yes, yes], 6, ending)),
        Case(
            "a part with buffers only",
            test=gives([2], [yes, no, yes], [yes, yes, yes], 9, bare),
        ),
        Case("a negative count", test=refuses),
    ]
