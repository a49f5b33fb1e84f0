"""Exercises of chapter 19, learning-rate schedules."""

import math
import warnings

import torch
from torch import nn

from course_utils.checks.core import Case, Wrong, exercise

__all__: list[str] = []


def _near(got, wanted, within: float = 1e-9) -> bool:
    size = max(abs(wanted), 1e-12)
    return isinstance(got, (int, float)) and abs(got - wanted) <= within * size


# --- 1 ------------------------------------------------------------------------


@exercise(
    "19.predict",
    hint="Write down the rate before each of the four calls of scheduler.step(). "
    "Which of the calls multiply it, and what do they multiply?",
)
def predict() -> list[Case]:
    def values(answer) -> list[float]:
        if not isinstance(answer, (tuple, list)) or len(answer) != 5:
            raise Wrong(f"five numbers are wanted, in order; got {answer!r}")
        if any(isinstance(value, str) for value in answer):
            raise Wrong(f"five plain numbers are wanted; got {answer!r}")
        try:
            return [float(value) for value in answer]
        except (TypeError, ValueError):
            raise Wrong(f"five plain numbers are wanted; got {answer!r}") from None

    def first(answer):
        got = values(answer)[:2]
        if not _near(got[0], 0.8):
            raise Wrong("the first update uses the rate the optimizer was made with")
        if not _near(got[1], 0.8):
            raise Wrong("step_size is 2: how many updates does the first rate last?")

    def third(answer):
        if not _near(values(answer)[2], 0.4):
            raise Wrong("two calls of step() have been made by then: 0.8 times gamma")

    def fourth(answer):
        got = values(answer)[3]
        if not _near(got, 1.0):
            raise Wrong("what does the loop write just before it notes this rate?")

    def fifth(answer):
        got = values(answer)[4]
        if _near(got, 0.2):
            raise Wrong(
                "0.2 would come from a closed form; StepLR has no memory of 0.8"
            )
        if _near(got, 1.0):
            raise Wrong("the fourth call of step() falls on a multiple of step_size")
        if not _near(got, 0.5):
            raise Wrong("StepLR multiplies the rate it finds in the group by gamma")

    return [
        Case("five numbers", test=values),
        Case("the first two", test=first),
        Case("the third", test=third),
        Case("the fourth, after the edit", test=fourth),
        Case("the fifth", test=fifth),
    ]


# --- 2 ------------------------------------------------------------------------


def _warmup_cosine(t, base, warm, total, low=0.0):
    if t < warm:
        return base * (t + 1) / warm
    part = 1.0 if t >= total - 1 else (t - warm) / (total - 1 - warm)
    return low + (base - low) * (1 + math.cos(math.pi * part)) / 2


@exercise(
    "19.warmup_cosine",
    hint="Three cases, told apart by t: the ramp, the wave, and what comes after "
    "it. For the wave, first find the part of the way that is done: 0 at t "
    "= warm, 1 at t = total - 1.",
)
def warmup_cosine() -> list[Case]:
    def case(says, *args, **kwargs):
        wanted = _warmup_cosine(*args, **kwargs)

        def test(answer):
            got = answer(*args, **kwargs)
            if got is None:
                raise Wrong("None came back: does the function end with a return?")
            close = isinstance(got, (int, float)) and math.isclose(
                got, wanted, rel_tol=1e-9, abs_tol=1e-12
            )
            if not close:
                named = "".join(f", {key}={value}" for key, value in kwargs.items())
                call = "t={}, base={}, warm={}, total={}".format(*args) + named
                raise Wrong(f"input:    {call}\nexpected: {wanted:g}\ngot:      {got}")

        return Case(says, test=test)

    return [
        case("the first step is a fraction of the base, not 0", 0, 0.8, 2, 5),
        case("the last warm-up step reaches the base", 1, 0.8, 2, 5),
        case("the cosine begins at the base", 2, 0.8, 2, 5),
        case("half-way down", 3, 0.8, 2, 5),
        case("the last step reaches 0", 4, 0.8, 2, 5),
        case("no warm-up at all, first step", 0, 0.8, 0, 5),
        case("no warm-up at all, third step", 2, 0.8, 0, 5),
        case("a floor, half-way", 3, 0.8, 2, 5, low=0.2),
        case("a floor, at the end", 4, 0.8, 2, 5, low=0.2),
        case("the floor does not touch the warm-up", 0, 0.8, 4, 8, low=0.3),
        case("long after the end it stays there", 9, 0.8, 2, 5, low=0.2),
        case("warm-up to the last step but one", 2, 0.8, 2, 4),
        case("a long run", 137, 0.3, 20, 300, low=0.001),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "19.train_rates",
    hint="Which of the lines should run once, which once for each batch? Then "
    "ask how often scheduler.step() is called in the whole run.",
)
def train_rates() -> list[Case]:
    def case(says, epochs, batches, base=0.8):
        count = epochs * batches

        def test(answer):
            updates = []

            class Counting(torch.optim.SGD):
                def step(self, closure=None):
                    updates.append(self.param_groups[0]["lr"])
                    return super().step(closure)

            optimizer = Counting([nn.Parameter(torch.zeros(1))], lr=base)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                got = answer(optimizer, epochs, batches)
            what = f"epochs={epochs}, batches={batches}, base rate {base}"
            if got is None:
                raise Wrong("None came back: does the function end with a return?")
            if not isinstance(got, (list, tuple)):
                raise Wrong(f"a list of rates is wanted; got a {type(got).__name__}")
            wanted = [
                base * (1 + math.cos(math.pi * t / count)) / 2 for t in range(count)
            ]
            if len(got) != count:
                raise Wrong(f"{what}: {count} rates are wanted, {len(got)} came")
            if len(updates) != count:
                raise Wrong(f"{what}: {len(updates)} updates were made, not {count}")
            for t in range(count):
                if not _near(got[t], wanted[t], 1e-7):
                    raise Wrong(
                        f"input:    {what}\n"
                        f"update {t} expected: {wanted[t]:.6f}\n"
                        f"update {t} got:      {got[t]:.6f}"
                    )
                if not _near(updates[t], wanted[t], 1e-7):
                    raise Wrong(
                        f"{what}: update {t} really used {updates[t]:.6f}, "
                        f"while the list says {got[t]:.6f}"
                    )
            if caught:
                first = str(caught[0].message).split(". ")[0]
                raise Wrong(f"{what}: it caused a warning: {first}")

        return Case(says, test=test)

    return [
        case("one update: the base rate itself", 1, 1),
        case("one epoch of four batches", 1, 4),
        case("two epochs: one wave, no restart", 2, 3),
        case("epochs of a single batch", 5, 1),
        case("a longer run, another base rate", 4, 25, base=0.03),
        case("no epochs", 0, 3),
    ]


# --- 4 ------------------------------------------------------------------------


def _linear(t, base):
    return base * (t + 1)


def _halving(t, base):
    return base * 0.5**t


def _quarter(t, base):
    return base * 0.25 / (t + 1)


@exercise(
    "19.sequence",
    hint="The returned function has to find out whose turn it is: count the "
    "milestones that t has reached. When did that formula take over?",
)
def sequence() -> list[Case]:
    def case(says, formulas, milestones, t, base, wanted):
        names = {_linear: "f", _halving: "g", _quarter: "h"}
        listed = ", ".join(names[formula] for formula in formulas)
        call = f"sequence([{listed}], {milestones})({t}, {base})"
        call += "\nwith f: base * (t + 1), g: base * 0.5**t, h: base / 4 / (t + 1)"

        def test(answer):
            formula = answer(list(formulas), list(milestones))
            if not callable(formula):
                raise Wrong(f"a function of (t, base) must come back, not {formula!r}")
            got = formula(t, base)
            if not _near(got, wanted):
                raise Wrong(f"input:    {call}\nexpected: {wanted:g}\ngot:      {got}")

        return Case(says, test=test)

    def any_order(answer):
        formula = answer([_linear, _halving], [3])
        forward = [formula(t, 0.1) for t in range(6)]
        if [formula(t, 0.1) for t in reversed(range(6))] != forward[::-1]:
            raise Wrong("the formula must not remember earlier calls: it is a formula")

    def untouched(answer):
        formulas, milestones = [_linear, _halving], [3]
        formula = answer(formulas, milestones)
        formula(5, 0.1)
        if formulas != [_linear, _halving] or milestones != [3]:
            raise Wrong("the lists that were handed over have been changed")

    def refuses(formulas, milestones):
        def test(answer):
            counts = f"{len(formulas)} formulas, {len(milestones)} milestones"
            try:
                answer(formulas, milestones)
            except ValueError:
                return
            raise Wrong(f"{counts}: a ValueError is expected, nothing was raised")

        return test

    two, three = (_linear, _halving), (_linear, _halving, _quarter)
    four = (_linear, _quarter, _linear, _halving)
    return [
        case("a single formula, no milestone", (_linear,), [], 4, 0.1, 0.5),
        case("before the milestone", two, [3], 2, 0.1, 0.3),
        case("at the milestone the next one begins", two, [3], 3, 0.1, 0.1),
        case("after it, counted from there", two, [3], 5, 0.1, 0.025),
        case("three formulas, the second", three, [3, 5], 4, 0.1, 0.05),
        case("three formulas, the third", three, [3, 5], 7, 0.6, 0.05),
        case("a milestone at 0 skips the first", two, [0], 1, 0.1, 0.05),
        case("four formulas, the fourth", four, [2, 4, 6], 7, 0.1, 0.05),
        case("two milestones at one place", three, [3, 3], 4, 0.8, 0.1),
        Case("called in any order", test=any_order),
        Case("the lists are left alone", test=untouched),
        Case("too few formulas", test=refuses([_linear], [3])),
        Case("too many formulas", test=refuses([_linear, _halving], [])),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "19.unfreeze",
    hint="Parameters are told apart by identity, id(w), not by value. Collect "
    "the ids that the optimizer holds in all of its groups.",
)
def unfreeze() -> list[Case]:
    def make():
        body, head = nn.Linear(2, 2), nn.Linear(2, 1)
        body.requires_grad_(False)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.5, weight_decay=0.01)
        return body, head, optimizer

    def run(answer, optimizer, module, lr, added, groups):
        got = answer(optimizer, module, lr)
        if not all(w.requires_grad for w in module.parameters()):
            raise Wrong("some of the module's parameters still require no gradient")
        if len(optimizer.param_groups) != groups:
            raise Wrong(
                f"{groups} groups are expected, "
                f"the optimizer has {len(optimizer.param_groups)}"
            )
        if got is None:
            raise Wrong("None came back: the number of added parameters is wanted")
        if isinstance(got, bool) or got != added:
            raise Wrong(f"{added} parameters were to be added and counted; got {got!r}")
        if added and optimizer.param_groups[-1]["lr"] != lr:
            rate = optimizer.param_groups[-1]["lr"]
            raise Wrong(f"the new group has the rate {rate}, not {lr}")
        if added and len(optimizer.param_groups[-1]["params"]) != added:
            raise Wrong("the new group does not hold the added parameters")

    def plain(answer):
        body, _, optimizer = make()
        run(answer, optimizer, body, 0.1, added=2, groups=2)
        if optimizer.param_groups[0]["lr"] != 0.5:
            raise Wrong("the rate of the old group was changed")

    def moves(answer):
        body, head, optimizer = make()
        answer(optimizer, body, 0.1)
        before = body.weight.detach().clone()
        head(body(torch.ones(1, 2))).square().sum().backward()
        optimizer.step()
        if torch.equal(before, body.weight):
            raise Wrong("after a step the body's weight is where it was")

    def some_known(answer):
        body, head, optimizer = make()
        optimizer.add_param_group({"params": [body.bias]})
        both = nn.Sequential(body, head)
        run(answer, optimizer, both, 0.1, added=1, groups=3)
        if optimizer.param_groups[-1]["params"][0] is not body.weight:
            raise Wrong("the new group should hold the body's weight, and only that")

    def all_known(answer):
        _, head, optimizer = make()
        head.requires_grad_(False)  # known to the optimizer, and frozen later
        run(answer, optimizer, head, 0.1, added=0, groups=1)

    def again(answer):
        body, _, optimizer = make()
        answer(optimizer, body, 0.1)
        run(answer, optimizer, body, 0.1, added=0, groups=2)

    def nothing(answer):
        _, _, optimizer = make()
        run(answer, optimizer, nn.ReLU(), 0.1, added=0, groups=1)

    def equal_values(answer):
        body, head, optimizer = make()
        twin = nn.Linear(2, 1)  # equal to the head, but not the head
        twin.load_state_dict(head.state_dict())
        twin.requires_grad_(False)
        run(answer, optimizer, twin, 0.1, added=2, groups=2)

    def shared(answer):
        body, _, optimizer = make()
        pair = nn.Sequential(body, nn.Linear(2, 2))
        pair[1].weight = body.weight
        run(answer, optimizer, pair, 0.1, added=3, groups=2)

    tests = {
        "a module without parameters": nothing,
        "a frozen body": plain,
        "it moves": moves,
        "everything is known already": all_known,
        "called twice": again,
        "one of them is known already": some_known,
        "equal values are not the same parameter": equal_values,
        "a weight shared by two layers": shared,
    }
    return [Case(says, test=test) for says, test in tests.items()]


# --- 6 ------------------------------------------------------------------------


def _check_groups(model: nn.Sequential, wanted: list, lr: float, factor: float):
    """``wanted``: for each group the names of its parameters, and its rate."""
    names = {id(w): name for name, w in model.named_parameters()}

    def test(answer):
        got = answer(model, lr, factor)
        if got is None:
            raise Wrong("None came back: does the function end with a return?")
        if not isinstance(got, (list, tuple)):
            raise Wrong(f"a list of groups is wanted; got a {type(got).__name__}")
        found = []
        for group in got:
            if not isinstance(group, dict) or not {"params", "lr"} <= set(group):
                raise Wrong(f"each group is a dict with params and lr; got {group!r}")
            if not isinstance(group["params"], (list, tuple)):
                kind = type(group["params"]).__name__
                raise Wrong(f"params must be a list, not a {kind}: make a list of it")
            found.append([names.get(id(w), "?") for w in group["params"]])
        if found != [group for group, _ in wanted]:
            raise Wrong(
                f"expected groups: {[group for group, _ in wanted]}\n"
                f"got groups:      {found}"
            )
        for group, (params, rate) in zip(got, wanted, strict=True):
            if not _near(group["lr"], rate):
                raise Wrong(
                    f"lr={lr}, factor={factor}, {len(wanted)} groups\n"
                    f"the rate of {params} should be {rate:g}, got {group['lr']}"
                )
        if got:
            torch.optim.SGD(list(got), lr=lr)

    return test


@exercise(
    "19.layer_groups",
    hint="First collect, layer by layer, the parameters that count, and drop the "
    "layers that keep none. Only then number the rest, from the last one.",
)
def layer_groups() -> list[Case]:
    one = nn.Sequential(nn.Linear(1, 1))
    two = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    mixed = nn.Sequential(
        nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3, bias=False), nn.ReLU(),
        nn.Linear(3, 1), nn.Flatten(),
    )  # fmt: skip
    nested = nn.Sequential(
        nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)),
        nn.Linear(2, 1, bias=False),
    )
    frozen = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    frozen[0].requires_grad_(False)
    frozen[1].bias.requires_grad_(False)
    tied = nn.Sequential(
        nn.Linear(2, 2, bias=False), nn.Linear(2, 2), nn.Linear(2, 2, bias=False)
    )
    tied[1].weight = tied[0].weight
    between = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    between[1].requires_grad_(False)
    copied = nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(3)))
    copied[1].weight = copied[0].weight
    again = nn.Linear(2, 2, bias=False)
    twice = nn.Sequential(again, nn.ReLU(), again, nn.Linear(2, 1, bias=False))
    both = ["0.weight", "0.bias"]

    def case(says, model, wanted, lr=0.1, factor=0.5):
        return Case(says, test=_check_groups(model, wanted, lr, factor))

    return [
        case("one layer", one, [(both, 0.1)]),
        case("two layers", two, [(both, 0.05), (["1.weight", "1.bias"], 0.1)]),
        case(
            "layers without parameters do not count",
            mixed,
            [(both, 0.025), (["2.weight"], 0.05), (["4.weight", "4.bias"], 0.1)],
        ),
        case(
            "a layer made of layers is one group",
            nested,
            [(["0.0.weight", "0.1.weight"], 0.05), (["1.weight"], 0.1)],
        ),
        case(
            "frozen parameters are left out",
            frozen,
            [(["1.weight"], 0.05), (["2.weight", "2.bias"], 0.1)],
        ),
        case(
            "a shared weight belongs to the first layer only",
            tied,
            [(["0.weight"], 0.025), (["1.bias"], 0.05), (["2.weight"], 0.1)],
        ),
        case(
            "a frozen layer in between does not count",
            between,
            [(both, 0.05), (["2.weight", "2.bias"], 0.1)],
        ),
        case(
            "a layer with nothing of its own does not count",
            copied,
            [(["0.weight"], 0.05), (["2.weight"], 0.1)],
        ),
        case(
            "a layer used twice",
            twice,
            [(["0.weight"], 0.01), (["3.weight"], 0.1)],
            factor=0.1,
        ),
        case("no parameters at all", nn.Sequential(nn.ReLU()), []),
    ]
