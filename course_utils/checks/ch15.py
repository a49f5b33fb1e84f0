"""Exercises of chapter 15, saving and surgery."""

import inspect
import io
import pickle
import zipfile
from collections import OrderedDict

import torch
from torch import nn

from course_utils.checks.core import Case, Wrong, difference, exercise

__all__: list[str] = []


def _ramp(*shape: int) -> torch.Tensor:
    """Numbers from -1 to 1 in even steps."""
    count = torch.Size(shape).numel()
    return torch.linspace(-1, 1, count).reshape(shape)


def _linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias)
    with torch.no_grad():
        layer.weight.copy_(_ramp(outputs, inputs))
        if bias:
            layer.bias.copy_(_ramp(outputs) / 2)
    return layer


def _dictionary(what: str, got) -> dict:
    if not isinstance(got, dict):
        raise Wrong(f"{what}: a dictionary is wanted, got {type(got).__name__}")
    return got


# --- 1 ------------------------------------------------------------------------


@exercise(
    "15.clean_names",
    hint="`name.startswith` takes a tuple of beginnings. Which statement repeats as "
    "long as one of them is there?",
)
def clean_names() -> list[Case]:
    def names(before, after):
        def test(answer):
            state = {name: torch.tensor(float(k)) for k, name in enumerate(before)}
            kept = dict(state)
            got = _dictionary(f"from {before}", answer(state))
            if list(got) != after:
                raise Wrong(f"the names {before} became {list(got)}, not {after}")
            if any(
                value is not kept[old]
                for value, old in zip(got.values(), before, strict=True)
            ):
                raise Wrong(f"the names {before}: the tensors must be the same objects")
            if got is state:
                raise Wrong("a new dictionary is wanted; it is the one handed over")
            if list(state) != before:
                raise Wrong(f"the dictionary handed over was changed to {list(state)}")

        return test

    def clash(before):
        def test(answer):
            try:
                got = answer({name: torch.zeros(1) for name in before})
            except ValueError:
                return
            raise Wrong(
                f"the names {before} become one: expected a ValueError, got "
                f"{list(got) if isinstance(got, dict) else got!r}"
            )

        return test

    return [
        Case("no entries", test=names([], [])),
        Case("nothing to take off", test=names(["0.weight"], ["0.weight"])),
        Case("module.", test=names(["module.0.weight"], ["0.weight"])),
        Case("_orig_mod.", test=names(["_orig_mod.0.weight"], ["0.weight"])),
        Case("one in the other", test=names(["module._orig_mod.b"], ["b"])),
        Case("the other in the one", test=names(["_orig_mod.module.b"], ["b"])),
        Case("twice", test=names(["module.module.b"], ["b"])),
        Case(
            "seven, mixed",
            test=names(
                ["_orig_mod.module._orig_mod.module._orig_mod.module._orig_mod.b"],
                ["b"],
            ),
        ),
        Case(
            "in the middle it stays",
            test=names(
                ["body.module.b", "module.a._orig_mod.c"],
                ["body.module.b", "a._orig_mod.c"],
            ),
        ),
        Case(
            "a name that only begins like it",
            test=names(
                ["modules.0.b", "module_list.b"], ["modules.0.b", "module_list.b"]
            ),
        ),
        Case("the order stays", test=names(["module.b", "a"], ["b", "a"])),
        Case("two become one", test=clash(["module.b", "b"])),
        Case("two become one, deeper", test=clash(["_orig_mod.b", "module.b"])),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "15.best",
    hint="Ask of each line: which loss is smaller than the first one, is the state "
    "whole, is it a copy, and would `strict=False` tell you if something were missing?",
)
def best() -> list[Case]:
    def make(answer):
        if not inspect.isclass(answer):
            raise Wrong("hand over the class itself")
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        fill(model, 0)
        return model, answer(model)

    def fill(model, value):
        with torch.no_grad():
            for entry in model.state_dict().values():
                entry.fill_(value)

    def value(model, wanted, when):
        for name, entry in model.state_dict().items():
            got = entry.flatten()[0].item()
            if got != wanted:
                raise Wrong(f"{when}: {name} should hold {wanted}, it holds {got:g}")

    def said(got, wanted, when):
        if not isinstance(got, bool) or got is not wanted:
            raise Wrong(f"{when}: update should return {wanted}, it returned {got!r}")

    def first(answer):
        model, kept = make(answer)
        fill(model, 1)
        said(kept.update(2.5), True, "the first loss, 2.5")
        fill(model, 9)
        kept.restore()
        value(model, 1, "kept at 1, trained to 9, restored")

    def worse(answer):
        model, kept = make(answer)
        for number, (loss, better) in enumerate(
            [(3.0, True), (2.0, True), (2.5, False), (2.0, False)], 1
        ):
            fill(model, number)
            said(kept.update(loss), better, f"loss {loss} as number {number}")
        kept.restore()
        value(model, 2, "losses 3, 2, 2.5, 2: the second is the best")

    def twice(answer):
        model, kept = make(answer)
        fill(model, 1)
        kept.update(1.0)
        for value_after in (5, 6):
            fill(model, value_after)
            kept.restore()
            value(model, 1, "restored, trained on, restored again")

    def nothing(answer):
        model, kept = make(answer)
        fill(model, 4)
        kept.restore()
        value(model, 4, "nothing was kept")

    def nan(answer):
        model, kept = make(answer)
        said(kept.update(float("nan")), False, "a first loss of nan")
        fill(model, 1)
        said(kept.update(7.0), True, "a loss of 7 after nan")
        fill(model, 2)
        said(kept.update(float("nan")), False, "nan after 7")
        kept.restore()
        value(model, 1, "losses nan, 7, nan")

    def negative(answer):
        model, kept = make(answer)
        said(kept.update(-1.0), True, "the loss -1")
        fill(model, 3)
        said(kept.update(-2.0), True, "the loss -2 after -1")

    def large(answer):
        model, kept = make(answer)
        fill(model, 1)
        said(kept.update(1e30), True, "a first loss of 1e30")
        fill(model, 2)
        kept.restore()
        value(model, 1, "a first loss of 1e30")

    def tensor(answer):
        model, kept = make(answer)
        loss = torch.tensor(2.0)
        fill(model, 1)
        said(kept.update(loss), True, "a loss that is a tensor, 2")
        loss.fill_(9)
        fill(model, 2)
        said(kept.update(torch.tensor(3.0)), False, "3 after 2, as tensors")

    def in_place(answer):
        model, kept = make(answer)
        own = model[0].weight
        kept.update(1.0)
        kept.restore()
        if model[0].weight is not own:
            raise Wrong("restore must fill the model's parameters, not replace them")

    def whole(answer):
        model, kept = make(answer)
        kept.update(1.0)
        model[1] = nn.Identity()  # now the kept state has entries too many
        try:
            kept.restore()
        except RuntimeError:
            return
        raise Wrong("the model lost a layer, and restore said nothing: load strictly")

    return [
        Case("nothing was kept", test=nothing),
        Case("one update, all of the state", test=first),
        Case("better and worse losses", test=worse),
        Case("restored twice", test=twice),
        Case("a loss of nan", test=nan),
        Case("negative losses", test=negative),
        Case("a large first loss", test=large),
        Case("losses that are tensors", test=tensor),
        Case("the same parameters", test=in_place),
        Case("a state that does not fit", test=whole),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "15.new_head",
    hint="Build the new layer, then fill it row by row under `torch.no_grad()`. "
    "`old.index(kind)` finds a class's row.",
)
def new_head() -> list[Case]:
    def rows(old, new, bias=True, dtype=torch.float32):
        def test(answer):
            layer = _linear(3, len(old), bias).to(dtype)
            before = [p.detach().clone() for p in layer.parameters()]
            said = f"old {old}, new {new}"
            lists = list(old), list(new)
            got = answer(layer, *lists)
            if lists != (old, new):
                raise Wrong(f"{said}: the lists are now {lists[0]} and {lists[1]}")
            if not isinstance(got, nn.Linear):
                raise Wrong(f"{said}: an nn.Linear is wanted, got {got!r}")
            if (got.bias is not None) != bias:
                raise Wrong(
                    f"{said}: the new layer {'has no' if bias else 'has a'} bias"
                )
            if (got.in_features, got.out_features) != (3, len(new)):
                raise Wrong(f"{said}: the new layer is {got}")
            for name, one in layer.named_parameters():
                wanted = [
                    one[old.index(kind)] if kind in old else one.mean(0) for kind in new
                ]
                wanted = torch.stack(wanted).detach()
                why = difference(getattr(got, name).detach(), wanted, 1e-5)
                if why:
                    raise Wrong(f"{said}: {name}: {why}")
            with torch.no_grad():
                for parameter in got.parameters():
                    parameter.add_(1)
            for one, other in zip(layer.parameters(), before, strict=True):
                if not torch.equal(one, other):
                    raise Wrong(f"{said}: the old layer was changed, or shares memory")

        return test

    def trains(answer):
        got = answer(_linear(2, 2), ["a", "b"], ["b", "c"])
        bad = [
            n for n, p in got.named_parameters() if not (p.is_leaf and p.requires_grad)
        ]
        if bad:
            raise Wrong(f"{', '.join(bad)} cannot be trained: no leaf with a gradient")

    def frozen(answer):
        layer = _linear(2, 2).requires_grad_(False)
        got = answer(layer, ["a", "b"], ["b", "c"])
        if not all(p.requires_grad for p in got.parameters()):
            raise Wrong("the old layer was frozen, and the new one is, too")
        if any(p.requires_grad for p in layer.parameters()):
            raise Wrong("the old layer was frozen, and is not any more")

    return [
        Case("one class, the same", test=rows(["cat"], ["cat"])),
        Case("one of two", test=rows(["cat", "dog"], ["dog"])),
        Case("another order", test=rows(["cat", "dog"], ["dog", "cat"])),
        Case("a new class", test=rows(["cat", "dog"], ["dog", "cow"])),
        Case("all new", test=rows(["cat", "dog", "hen"], ["cow", "pig"])),
        Case(
            "more than there were",
            test=rows(["cat", "dog"], ["cow", "dog", "pig", "cat"]),
        ),
        Case("no bias", test=rows(["cat", "dog"], ["dog", "cow"], bias=False)),
        Case("float64", test=rows(["cat", "dog"], ["cow"], dtype=torch.float64)),
        Case("it can be trained", test=trains),
        Case("a frozen old layer", test=frozen),
    ]


# --- 4 ------------------------------------------------------------------------


class _Call:
    """Rebuilt by a call of ``function``."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def _saved(content, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


# What a call of an exercise's file would be noticed by.
_calls: list[str] = []


def _noticed(*_) -> None:
    _calls.append("called")


@exercise(
    "15.named_globals",
    hint="`zipfile.ZipFile(io.BytesIO(data))` opens the bytes. The loop over "
    "`pickletools.genops` is in the first section.",
)
def named_globals() -> list[Case]:
    rebuild, ordered = "torch._utils._rebuild_tensor_v2", "collections.OrderedDict"

    def lists(content, expect):
        def test(answer):
            before = len(_calls)
            got = answer(_saved(content))
            if not isinstance(got, list):
                raise Wrong(f"a list is wanted, got {got!r}")
            if got != expect:
                raise Wrong(f"expected {expect}, got {got}")
            if len(_calls) != before:
                raise Wrong("the file was carried out")

        return test

    def harmless(answer):
        data, before = _saved({"note": _Call(_noticed)}), len(_calls)
        got = answer(data)
        if len(_calls) != before:
            raise Wrong("the file's function was called: nothing may be carried out")
        if got != [f"{__name__}._noticed"]:
            raise Wrong(f"expected [{__name__ + '._noticed'!r}], got {got}")

    def newer(answer):
        try:
            got = answer(_saved({"note": _Call(print, "x")}, pickle_protocol=4))
        except ValueError:
            return
        raise Wrong(f"the file has a STACK_GLOBAL: expected a ValueError, got {got}")

    def stored_numbers(answer):
        """A storage that looks like a pickle must not be looked at."""
        trap = pickle.dumps(_Call(print, "x"), 4)
        numbers = torch.frombuffer(bytearray(trap), dtype=torch.uint8)
        wanted = [ordered, "torch.ByteStorage", rebuild]
        got = answer(_saved({"bytes": numbers}))
        if got != wanted:
            raise Wrong(f"a tensor of bytes: expected {wanted}, got {got}")

    def renamed(answer):
        """The archive's folder may have any name."""
        data, stream = _saved({"a": torch.ones(1)}), io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(data)) as old,
            zipfile.ZipFile(stream, "w") as new,
        ):
            for name in reversed(old.namelist()):
                new.writestr(name.replace("archive", "model_3", 1), old.read(name))
        wanted = [ordered, "torch.FloatStorage", rebuild]
        got = answer(stream.getvalue())
        if got != wanted:
            raise Wrong(f"a file saved as model_3.pt: expected {wanted}, got {got}")

    def newer_without_names(answer):
        """The version alone says nothing of names."""
        got = answer(_saved({"epoch": 3}, pickle_protocol=4))
        if got != []:
            raise Wrong(f"a newer pickle that names nothing: expected [], got {got}")

    floats = [ordered, "torch.FloatStorage", rebuild]
    two = {"a": torch.ones(2), "b": torch.zeros(3)}
    return [
        Case("plain numbers", test=lists({"epoch": 3}, [])),
        Case("an ordered dictionary", test=lists(OrderedDict(a=1), [ordered])),
        Case("one tensor", test=lists(torch.ones(1), floats)),
        Case("two tensors, each name once", test=lists(two, floats)),
        Case(
            "a function of Python", test=lists([_Call(len, "x")], ["__builtin__.len"])
        ),
        Case("nothing is carried out", test=harmless),
        Case("numbers are no instructions", test=stored_numbers),
        Case("words are no instructions", test=lists({"note": "cos\nsystem\n"}, [])),
        Case("another folder in the archive", test=renamed),
        Case("a newer pickle", test=newer),
        Case("a newer pickle that names nothing", test=newer_without_names),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "15.insert",
    hint="`name.partition('.')` gives the number and the rest. Which numbers move, "
    "and are they compared as numbers?",
)
def insert() -> list[Case]:
    def places(make, index, layer, wanted=None):
        """Insert into a new net; the old state must fit, and all must be there."""

        def test(answer):
            net, added = make(), layer()
            parts = list(net)
            # An earlier state: its values are not those that the net has now.
            state = {n: v.detach() + 1 for n, v in net.state_dict().items()}
            before = dict(state)
            said = f"{len(parts)} parts, index {index}"
            got = _dictionary(said, answer(net, index, added, state))
            if list(net) != [*parts[:index], added, *parts[index:]]:
                kinds = [type(part).__name__ for part in net]
                raise Wrong(f"{said}: the parts are now {kinds}")
            if dict(state) != before or got is state:
                raise Wrong(f"{said}: the old state was changed")
            own = {f"{index}.{n}" for n in added.state_dict()}
            expected = [n for n in net.state_dict() if n not in own]
            if sorted(got) != sorted(expected):
                odd = sorted(set(got) ^ set(expected))
                raise Wrong(
                    f"{said}: expected the names {expected}, got {list(got)}; "
                    f"the first difference is {odd[0]}"
                )
            for name, value in got.items():
                why = difference(value, net.state_dict()[name] + 1, 0)
                if why:
                    raise Wrong(
                        f"{said}: {name} has not the values of its entry in state: "
                        f"{why}"
                    )

        return test

    def pair():
        return nn.Sequential(_linear(2, 3), _linear(3, 2))

    def nested():
        return nn.Sequential(
            _linear(2, 2), nn.Sequential(_linear(2, 2), nn.Sequential(_linear(2, 2)))
        )

    def twelve():
        net = nn.Sequential(*(nn.Linear(1, 1) for _ in range(12)))
        with torch.no_grad():
            for k, parameter in enumerate(net.parameters()):
                parameter.fill_(k)
        return net

    def buffers():
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
        net[1].running_mean.fill_(3)
        return net

    relu, norm = nn.ReLU, lambda: nn.BatchNorm1d(3)
    return [
        Case("into an empty one", test=places(nn.Sequential, 0, relu)),
        Case("at the end", test=places(pair, 2, relu)),
        Case("at the beginning", test=places(pair, 0, relu)),
        Case("in the middle", test=places(pair, 1, relu)),
        Case("a layer with entries", test=places(pair, 1, norm)),
        Case("parts in parts", test=places(nested, 1, relu)),
        Case("buffers move, too", test=places(buffers, 1, relu)),
        Case("twelve parts, index 2", test=places(twelve, 2, relu)),
        Case("twelve parts, index 10", test=places(twelve, 10, relu)),
    ]
