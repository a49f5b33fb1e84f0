"""The exercises of chapter 19: mistakes are refused, each for its own reason."""

import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from booktools.chapter_code import exercises
from course_utils import checks

EXERCISES = exercises("19_schedules")
Cosine = lr_scheduler.CosineAnnealingLR


def solution(name):
    return EXERCISES[name].answer(EXERCISES[name].solution)


# Wrong answers, each with words of the verdict that must stop it.


def cosine_from_zero(t, base, warm, total, low=0.0):
    if t < warm:
        return base * t / warm
    return solution("19.warmup_cosine")(t, base, warm, total, low)


def cosine_late(t, base, warm, total, low=0.0):
    if t < warm:
        return base * (t + 1) / (warm + 1)
    return solution("19.warmup_cosine")(t, base, warm, total, low)


def cosine_counts_on(t, base, warm, total, low=0.0):
    if t < warm:
        return base * (t + 1) / warm
    part = min(1.0, t / (total - 1))
    return low + (base - low) * (1 + math.cos(math.pi * part)) / 2


def cosine_never_arrives(t, base, warm, total, low=0.0):
    if t < warm:
        return base * (t + 1) / warm
    part = min(1.0, (t - warm) / (total - warm))
    return low + (base - low) * (1 + math.cos(math.pi * part)) / 2


def cosine_comes_back(t, base, warm, total, low=0.0):
    if t < warm:
        return base * (t + 1) / warm
    part = (t - warm) / (total - 1 - warm)
    return low + (base - low) * (1 + math.cos(math.pi * part)) / 2


def cosine_ignores_low(t, base, warm, total, low=0.0):
    return solution("19.warmup_cosine")(t, base, warm, total)


def cosine_divides(t, base, warm, total, low=0.0):
    ramp = base * (t + 1) / warm
    return min(ramp, solution("19.warmup_cosine")(t, base, warm, total, low))


def cosine_ramps_from_low(t, base, warm, total, low=0.0):
    if t < warm:
        return low + (base - low) * (t + 1) / warm
    return solution("19.warmup_cosine")(t, base, warm, total, low)


def cosine_never_below_low(t, base, warm, total, low=0.0):
    return max(low, solution("19.warmup_cosine")(t, base, warm, total, low))


def rates_as_given(optimizer, epochs, batches):
    used = []
    for _ in range(epochs):
        scheduler = Cosine(optimizer, T_max=epochs)
        for _ in range(batches):
            scheduler.step()
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
    return used


def rates_rebuilt(optimizer, epochs, batches):
    used = []
    for _ in range(epochs):
        scheduler = Cosine(optimizer, T_max=epochs * batches)
        for _ in range(batches):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return used


def rates_in_epochs(optimizer, epochs, batches):
    scheduler, used = Cosine(optimizer, T_max=epochs), []
    for _ in range(epochs * batches):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


def rates_per_epoch(optimizer, epochs, batches):
    scheduler, used = Cosine(optimizer, T_max=epochs), []
    for _ in range(epochs):
        for _ in range(batches):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
        scheduler.step()
    return used


def rates_noted_after(optimizer, epochs, batches):
    scheduler, used = Cosine(optimizer, T_max=epochs * batches), []
    for _ in range(epochs * batches):
        optimizer.step()
        scheduler.step()
        used.append(optimizer.param_groups[0]["lr"])
    return used


def rates_noted_first(optimizer, epochs, batches):
    """The list is right; the updates used other rates."""
    scheduler, used = Cosine(optimizer, T_max=epochs * batches), []
    for _ in range(epochs * batches):
        used.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
        optimizer.step()
    return used


def rates_without_updates(optimizer, epochs, batches):
    count, base = epochs * batches, optimizer.param_groups[0]["lr"]
    return [base * (1 + math.cos(math.pi * t / count)) / 2 for t in range(count)]


def sequence_counts_on(formulas, milestones):
    if len(formulas) != len(milestones) + 1:
        raise ValueError("counts")
    return lambda t, base: formulas[sum(t >= m for m in milestones)](t, base)


def sequence_late(formulas, milestones):
    if len(formulas) != len(milestones) + 1:
        raise ValueError("counts")
    starts = [0, *milestones]

    def formula(t, base):
        turn = sum(t > m for m in milestones)
        return formulas[turn](t - starts[turn], base)

    return formula


def sequence_two_only(formulas, milestones):
    if len(formulas) != len(milestones) + 1:
        raise ValueError("counts")

    def formula(t, base):
        if not milestones or t < milestones[0]:
            return formulas[0](t, base)
        return formulas[1](t - milestones[0], base)

    return formula


def sequence_three_at_most(formulas, milestones):
    formula = solution("19.sequence")(formulas, milestones)
    if len(milestones) < 3:
        return formula
    return solution("19.sequence")(formulas[:3], milestones[:2])


def sequence_durations(formulas, milestones):
    """Takes the milestones for lengths."""
    ends = [sum(milestones[: i + 1]) for i in range(len(milestones))]
    return solution("19.sequence")(formulas, ends)


def sequence_unchecked(formulas, milestones):
    starts = [0, *milestones]

    def formula(t, base):
        turn = sum(t >= m for m in milestones)
        return formulas[turn](t - starts[turn], base)

    return formula


def sequence_remembers(formulas, milestones):
    if len(formulas) != len(milestones) + 1:
        raise ValueError("counts")
    state = {"turn": 0}
    starts = [0, *milestones]

    def formula(t, base):
        while state["turn"] < len(milestones) and t >= milestones[state["turn"]]:
            state["turn"] += 1
        return formulas[state["turn"]](t - starts[state["turn"]], base)

    return formula


def sequence_pops(formulas, milestones):
    formula = solution("19.sequence")(list(formulas), list(milestones))
    formulas.pop()
    return formula


def sequence_calls(formulas, milestones):
    return solution("19.sequence")(formulas, milestones)(0, 0.1)


def layers_first_is_largest(model, lr, factor):
    groups = solution("19.layer_groups")(model, lr, factor)
    return [{**g, "lr": lr * factor**i} for i, g in enumerate(groups)]


def layers_count_empty(model, lr, factor):
    layers = list(model.children())
    groups = []
    for i, layer in enumerate(layers):
        mine = [w for w in layer.parameters() if w.requires_grad]
        if mine:
            rate = lr * factor ** (len(layers) - 1 - i)
            groups.append({"params": mine, "lr": rate})
    return groups


def layers_empty_groups(model, lr, factor):
    layers = list(model.children())
    last = len(layers) - 1
    return [
        {"params": list(layer.parameters()), "lr": lr * factor ** (last - i)}
        for i, layer in enumerate(layers)
    ]


def layers_frozen_too(model, lr, factor):
    layers, seen = [], set()
    for layer in model.children():
        mine = [w for w in layer.parameters() if id(w) not in seen]
        seen.update(map(id, mine))
        if mine:
            layers.append(mine)
    top = len(layers) - 1
    return [{"params": m, "lr": lr * factor ** (top - i)} for i, m in enumerate(layers)]


def layers_count_frozen(model, lr, factor):
    layers = [x for x in model.children() if any(True for _ in x.parameters())]
    groups, seen, top = [], set(), len(layers) - 1
    for i, layer in enumerate(layers):
        mine = [w for w in layer.parameters() if w.requires_grad and id(w) not in seen]
        seen.update(map(id, mine))
        if mine:
            groups.append({"params": mine, "lr": lr * factor ** (top - i)})
    return groups


def layers_count_shared(model, lr, factor):
    layers = [
        x for x in model.children() if any(w.requires_grad for w in x.parameters())
    ]
    groups, seen, top = [], set(), len(layers) - 1
    for i, layer in enumerate(layers):
        mine = [w for w in layer.parameters() if w.requires_grad and id(w) not in seen]
        seen.update(map(id, mine))
        if mine:
            groups.append({"params": mine, "lr": lr * factor ** (top - i)})
    return groups


def layers_shared_twice(model, lr, factor):
    layers = [
        [w for w in layer.parameters() if w.requires_grad] for layer in model.children()
    ]
    layers = [mine for mine in layers if mine]
    top = len(layers) - 1
    return [{"params": m, "lr": lr * factor ** (top - i)} for i, m in enumerate(layers)]


def layers_generators(model, lr, factor):
    groups = solution("19.layer_groups")(model, lr, factor)
    return [{**g, "params": iter(g["params"])} for g in groups]


def layers_by_tensor(model, lr, factor):
    mine = [w for w in model.parameters() if w.requires_grad]
    top = len(mine) - 1
    return [{"params": [w], "lr": lr * factor ** (top - i)} for i, w in enumerate(mine)]


def unfreeze_only(optimizer, module, lr):
    module.requires_grad_(True)
    return len(list(module.parameters()))


def unfreeze_all_added(optimizer, module, lr):
    module.requires_grad_(True)
    new = list(module.parameters())
    optimizer.add_param_group({"params": new, "lr": lr})
    return len(new)


def unfreeze_forgets_the_switch(optimizer, module, lr):
    known = {id(w) for g in optimizer.param_groups for w in g["params"]}
    new = [w for w in module.parameters() if id(w) not in known]
    if new:
        optimizer.add_param_group({"params": new, "lr": lr})
    return len(new)


def unfreeze_by_switch(optimizer, module, lr):
    """Takes what was frozen for what was unknown."""
    new = [w for w in module.parameters() if not w.requires_grad]
    module.requires_grad_(True)
    if new:
        optimizer.add_param_group({"params": new, "lr": lr})
    return len(new)


def unfreeze_empty_group(optimizer, module, lr):
    module.requires_grad_(True)
    known = {id(w) for g in optimizer.param_groups for w in g["params"]}
    new = [w for w in module.parameters() if id(w) not in known]
    optimizer.add_param_group({"params": new, "lr": lr})
    return len(new)


def unfreeze_default_rate(optimizer, module, lr):
    module.requires_grad_(True)
    known = {id(w) for g in optimizer.param_groups for w in g["params"]}
    new = [w for w in module.parameters() if id(w) not in known]
    if new:
        optimizer.add_param_group({"params": new})
    return len(new)


def unfreeze_group_each(optimizer, module, lr):
    module.requires_grad_(True)
    known = {id(w) for g in optimizer.param_groups for w in g["params"]}
    new = [w for w in module.parameters() if id(w) not in known]
    for w in new:
        optimizer.add_param_group({"params": [w], "lr": lr})
    return len(new)


def unfreeze_first_group_only(optimizer, module, lr):
    module.requires_grad_(True)
    known = {id(w) for w in optimizer.param_groups[0]["params"]}
    new = [w for w in module.parameters() if id(w) not in known]
    if new:
        optimizer.add_param_group({"params": new, "lr": lr})
    return len(new)


def unfreeze_counts_numbers(optimizer, module, lr):
    before = {id(w) for g in optimizer.param_groups for w in g["params"]}
    solution("19.unfreeze")(optimizer, module, lr)
    return sum(w.numel() for w in module.parameters() if id(w) not in before)


def unfreeze_says_nothing(optimizer, module, lr):
    solution("19.unfreeze")(optimizer, module, lr)


WRONG = [
    ("19.predict", [0.8, 0.8, 0.4, 1.0, 0.2], "no memory of 0.8"),
    ("19.predict", [0.8, 0.8, 0.4, 1.0, 1.0], "multiple of step_size"),
    ("19.predict", [0.8, 0.4, 0.4, 1.0, 0.5], "how many updates"),
    ("19.predict", [0.8, 0.8, 0.8, 1.0, 0.5], "two calls"),
    ("19.predict", [0.8, 0.8, 0.4, 0.4, 0.2], "just before"),
    ("19.predict", [0.4, 0.4, 0.2, 1.0, 0.5], "made with"),
    ("19.predict", [0.8, 0.8, 0.4, 1.0], "five numbers"),
    ("19.predict", 0.8, "five numbers"),
    ("19.predict", ["a"] * 5, "plain numbers"),
    ("19.predict", ["0.8", "0.8", "0.4", "1.0", "0.5"], "plain numbers"),
    ("19.warmup_cosine", cosine_ramps_from_low, "not yet: the floor does not touch"),
    ("19.warmup_cosine", cosine_never_below_low, "not yet: the floor does not touch"),
    ("19.warmup_cosine", cosine_from_zero, "not 0"),
    ("19.warmup_cosine", cosine_late, "not yet: the first step"),
    ("19.warmup_cosine", cosine_counts_on, "not yet: the cosine begins"),
    ("19.warmup_cosine", cosine_never_arrives, "not yet: half-way"),
    ("19.warmup_cosine", cosine_comes_back, "not yet: long after"),
    ("19.warmup_cosine", cosine_ignores_low, "not yet: a floor"),
    ("19.warmup_cosine", cosine_divides, "not yet: no warm-up at all"),
    ("19.warmup_cosine", lambda t, base, warm, total, low=0.0: None, "return"),
    ("19.train_rates", rates_as_given, "not yet: one update"),
    ("19.train_rates", rates_rebuilt, "not yet: two epochs"),
    ("19.train_rates", rates_in_epochs, "not yet: one epoch of four"),
    ("19.train_rates", rates_per_epoch, "not yet: one epoch of four"),
    ("19.train_rates", rates_noted_after, "not yet: one update"),
    ("19.train_rates", rates_noted_first, "really used"),
    ("19.train_rates", rates_without_updates, "0 updates were made"),
    ("19.train_rates", lambda optimizer, epochs, batches: None, "return"),
    ("19.sequence", sequence_counts_on, "counted from there|at the milestone"),
    ("19.sequence", sequence_late, "not yet: at the milestone"),
    ("19.sequence", sequence_two_only, "not yet: three formulas, the third"),
    ("19.sequence", sequence_three_at_most, "not yet: four formulas"),
    ("19.sequence", sequence_durations, "not yet: three formulas, the third"),
    ("19.sequence", sequence_unchecked, "a ValueError is expected"),
    ("19.sequence", sequence_remembers, "must not remember|not yet: called in any"),
    ("19.sequence", sequence_pops, "have been changed"),
    ("19.sequence", sequence_calls, "a function of"),
    ("19.layer_groups", layers_first_is_largest, "not yet: two layers"),
    ("19.layer_groups", layers_count_empty, "not yet: layers without parameters"),
    ("19.layer_groups", layers_empty_groups, "not yet: layers without parameters"),
    ("19.layer_groups", layers_frozen_too, "not yet: frozen"),
    ("19.layer_groups", layers_count_frozen, "not yet: a frozen layer in between"),
    ("19.layer_groups", layers_count_shared, "not yet: a layer with nothing of"),
    ("19.layer_groups", layers_shared_twice, "not yet: a shared weight"),
    ("19.layer_groups", layers_generators, "make a list"),
    ("19.layer_groups", layers_by_tensor, "not yet: one layer"),
    ("19.unfreeze", unfreeze_only, "groups are expected|were to be added"),
    ("19.unfreeze", unfreeze_all_added, "not yet"),
    ("19.unfreeze", unfreeze_forgets_the_switch, "require no gradient"),
    ("19.unfreeze", unfreeze_by_switch, "not yet: everything is known"),
    ("19.unfreeze", unfreeze_empty_group, "not yet: a module without|1 groups"),
    ("19.unfreeze", unfreeze_default_rate, "has the rate"),
    ("19.unfreeze", unfreeze_group_each, "not yet: a frozen body"),
    ("19.unfreeze", unfreeze_first_group_only, "it raised ValueError"),
    ("19.unfreeze", unfreeze_counts_numbers, "were to be added"),
    ("19.unfreeze", unfreeze_says_nothing, "None came back"),
]


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    WRONG,
    ids=[f"{n}-{getattr(a, '__name__', i)}" for i, (n, a, _) in enumerate(WRONG)],
)
def test_wrong_answer_is_refused_for_its_own_reason(name, answer, words):
    verdict = checks.judge(name, answer)
    assert verdict.status == "failed", verdict.text
    assert any(part in verdict.text for part in words.split("|")), verdict.text


def test_at_least_three_wrong_answers_each():
    for name in EXERCISES:
        assert sum(name == wrong[0] for wrong in WRONG) >= 3, name


def test_other_right_answers_pass():
    def clever(optimizer, epochs, batches):
        """The rate by formula instead of torch's scheduler."""
        base, count = optimizer.param_groups[0]["lr"], epochs * batches
        used = []
        for t in range(count):
            rate = base * (1 + math.cos(math.pi * t / count)) / 2
            optimizer.param_groups[0]["lr"] = rate
            used.append(rate)
            optimizer.step()
        return used

    assert checks.judge("19.train_rates", clever).status == "passed"
    right = (0.8, 0.8, 0.4, 1, 0.5)
    assert checks.judge("19.predict", right).status == "passed"


def test_prediction_is_what_torch_does():
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.8)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    used = []
    for epoch in range(5):
        if epoch == 3:
            optimizer.param_groups[0]["lr"] = 1.0
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert checks.judge("19.predict", used).status == "passed"
