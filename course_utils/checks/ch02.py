"""The exercises of chapter 2, The Python you need."""

import copy
import itertools
import math
from collections.abc import Iterator
from unittest import mock

import torch
from torch import nn

from course_utils.checks.core import Case, Wrong, exercise

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


@exercise(
    "02.grouped",
    hint="Collect items in a list. When the list is full, yield it and begin a new "
    "one. What is left in it when the loop ends?",
)
def _grouped():
    def listed(*arguments):
        def test(answer):
            got = answer(*arguments)
            if not isinstance(got, Iterator):
                raise Wrong(f"it must return an iterator, got {type(got).__name__}")
            return list(itertools.islice(got, 20))

        return test

    def equal(arguments, expected):
        def test(answer):
            got = listed(*arguments)(answer)
            if got != expected:
                raise Wrong(f"expected {expected}, got {got}")

        return test

    def endless(answer):
        def numbers():
            for number in itertools.count():
                if number > 1000:  # a list of them would never be full
                    raise Wrong("it reads on and on before it hands out a group")
                yield number

        source = numbers()
        first = next(iter(answer(source, 3)))
        if first != [0, 1, 2]:
            raise Wrong(f"the first group of 0, 1, 2, ... is {first}")
        if (after := next(source)) != 3:
            raise Wrong(f"it had read up to {after - 1} before handing out the first 3")

    def own(answer):
        one, two = answer("abcd", 2)
        if one is two or one != ["a", "b"]:
            raise Wrong(f"each group is a list of its own, got {one} and {two}")

    def refused(items, size):
        def test(answer):
            try:
                groups = answer(items, size)
            except ValueError:
                raise Wrong("the ValueError came before the first next") from None
            try:
                next(groups)
            except ValueError:
                return
            except StopIteration:
                raise Wrong(f"size {size} gave no groups, and no ValueError") from None
            raise Wrong(f"size {size} gave a group, and no ValueError")

        return test

    return [
        Case("nothing gives no groups", test=equal(("", 2), [])),
        Case("one item, one group", test=equal(([7], 2), [[7]])),
        Case("the example", test=equal(("abcde", 2), [["a", "b"], ["c", "d"], ["e"]])),
        Case(
            "a last group that is full is not followed by an empty one",
            test=equal(("abcd", 2), [["a", "b"], ["c", "d"]]),
        ),
        Case("size 1", test=equal(((0, None), 1), [[0], [None]])),
        Case("each group is a list of its own", test=own),
        Case(
            "an iterator instead of a list",
            test=equal((iter("abc"), 2), [["a", "b"], ["c"]]),
        ),
        Case("items that never end", test=endless),
        Case("size 0 is a ValueError", test=refused("ab", 0)),
        Case("size -1 is a ValueError", test=refused("ab", -1)),
        Case("size 0 without items, too", test=refused("", 0)),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "02.average",
    hint="Where does the list live that all averages share? And which of `+=` and "
    "`append` on a list handed over would its owner notice?",
)
def _average():
    def means(*steps, begin=None):
        def test(answer):
            average = answer() if begin is None else answer(list(begin))
            for value in steps:
                average.add(value)
            return average.mean()

        return test

    def equal(expected, *steps, begin=None):
        def test(answer):
            got = means(*steps, begin=begin)(answer)
            if got != expected:
                raise Wrong(f"the mean must be {expected}, got {got!r}")

        return test

    def apart(answer):
        one, two = answer(), answer()
        one.add(1.0)
        two.add(3.0)
        if (got := (one.mean(), two.mean())) != (1.0, 3.0):
            raise Wrong(f"1 went to one average, 3 to another; their means are {got}")

    def asked_again(answer):
        average = answer([2.0, 4.0])
        got = [average.mean(), average.mean()]
        average.add(6.0)
        if (got := [*got, average.mean()]) != [3.0, 3.0, 4.0]:
            raise Wrong(f"two means of 2 and 4, and one with 6 added, gave {got}")

    def owner(answer):
        mine = [1.0]
        answer(mine).add(2.0)
        if mine != [1.0]:
            raise Wrong(f"the list handed over was [1.0] and is {mine}")

    def kept(answer):
        mine = [1.0]
        average = answer(mine)
        mine.append(5.0)
        if (got := average.mean()) != 1.0:
            raise Wrong(f"its owner appended to the list; the mean went to {got}")

    def empty(answer):
        for begin in ((), ([],)):
            if not math.isnan(got := answer(*begin).mean()):
                raise Wrong(f"the mean of no values must be nan, got {got!r}")

    return [
        Case("one value", test=equal(2.0, 2.0)),
        Case("two averages are two", test=apart),
        Case("begun with values", test=equal(3.0, 5.0, begin=[1.0, 3.0])),
        Case("asked again, and after more values", test=asked_again),
        Case("a list handed over stays as it was", test=owner),
        Case("later changes of that list do not matter", test=kept),
        Case("no values", test=empty),
        Case("a zero is a value", test=equal(0.0, 0.0)),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "02.chain",
    hint="Keep the functions in a tuple. A call loops over them and replaces x by each "
    "result. An index may be a slice: isinstance(index, slice).",
)
def _chain():
    def called(expected, x, *functions):
        def test(answer):
            got = answer(*functions)(x)
            if got != expected or type(got) is not type(expected):
                raise Wrong(f"expected {expected!r}, got {got!r}")

        return test

    def identity(answer):
        x = [1]
        if answer()(x) is not x:
            raise Wrong("a chain of nothing must return x itself")

    def lengths(answer):
        if (got := [len(answer()), len(answer(str, int))]) != [0, 2]:
            raise Wrong(f"the lengths of chains of 0 and 2 functions are {got}")

    def indexed(answer):
        chain = answer(str, int, abs)
        for index, one in ((0, str), (-1, abs)):
            if chain[index] is not one:
                raise Wrong(f"chain[{index}] must be {one.__name__}")
        try:
            chain[3]
        except IndexError:
            return
        raise Wrong("chain[3] of three functions must raise an IndexError")

    def sliced(answer):
        part = answer(abs, str, len)[1:]
        if not isinstance(part, answer):
            raise Wrong(f"chain[1:] must be a chain, got {type(part).__name__}")
        if (got := part(-123)) != 4:
            raise Wrong(f"chain[1:] of abs, str, len on -123 must give 4, got {got}")

    def again(answer):
        chain = answer(lambda x: x + 1)
        if (got := (chain(1), chain(1))) != (2, 2):
            raise Wrong(f"two calls must give the same, got {got}")

    def nested(answer):
        inner = answer(abs, str)
        outer = answer(inner, len)
        if (got := outer(-12)) != 2:
            raise Wrong(f"a chain is a function, too: expected 2, got {got}")
        if (got := len(outer)) != 2:
            raise Wrong(f"a chain inside counts as one function: expected 2, got {got}")

    def refused(answer):
        for bad in ((3,), (abs, "str")):
            try:
                answer(*bad)
            except TypeError:
                continue
            raise Wrong(f"Chain{bad!r} must be refused with a TypeError")

    def looped(answer):
        if (got := list(answer(str, abs))) != [str, abs]:
            raise Wrong(f"a loop over the chain must give its functions, got {got}")

    return [
        Case("a chain of nothing", test=identity),
        Case("one function", test=called(3, -3, abs)),
        Case("the first function acts first", test=called("3", -3, abs, str)),
        Case("a result of 0 is handed on", test=called("0", 0, abs, str)),
        Case("a result of None is a result", test=called(None, 1, {}.get)),
        Case("its length", test=lengths),
        Case("its functions by index", test=indexed),
        Case("called twice", test=again),
        Case("a slice is a chain", test=sliced),
        Case("a chain in a chain", test=nested),
        Case("a loop over it", test=looped),
        Case("a class is a function, too", test=called([1, 2], (2, 1), sorted, list)),
        Case("what cannot be called is refused", test=refused),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "02.all_eval",
    hint="Note each part's mode before the block: a list of pairs (part, mode) does. "
    "After it, give each part its own mode back; `train` would change its children, "
    "too.",
)
def _all_eval():
    def network():
        net = nn.Sequential(
            nn.Linear(1, 1), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(1))
        )
        net.train()
        net[1].eval()  # a frozen part
        net[1][0].train()  # with a part that trains
        return net

    def modes(net):
        return [part.training for part in net.modules()]

    def inside(answer):
        net = network()
        with answer(net):
            if any(modes(net)):
                raise Wrong("inside, a part is still in training mode")

    def hands_out(answer):
        net = network()
        with answer(net) as got:
            if got is not net:
                raise Wrong(f"`with all_eval(net) as x`: x must be net, got {got!r}")

    def restored(answer, error=None):
        net = network()
        before = modes(net)
        try:
            with answer(net):
                if error:
                    raise error
        except (ZeroDivisionError, KeyboardInterrupt):
            pass
        if (after := modes(net)) != before:
            raise Wrong(f"the modes were {before} and came back as {after}")

    def evaluated(answer):
        net = network().eval()
        with answer(net):
            pass
        if any(modes(net)):
            raise Wrong("a model in evaluation mode must stay in it")

    def after_error(answer):
        restored(answer, ZeroDivisionError())

    def after_interruption(answer):
        restored(answer, KeyboardInterrupt())

    def passed_on(answer):
        try:
            with answer(network()):
                raise ZeroDivisionError
        except ZeroDivisionError:
            return
        raise Wrong("the error inside the block was swallowed")

    def nested(answer):
        net = network()
        before = modes(net)
        with answer(net):
            with answer(net[1]):
                pass
            if any(modes(net)):
                raise Wrong("after an inner block a part trains in the outer one")
        if modes(net) != before:
            raise Wrong("after two nested blocks the modes are not as before")

    return [
        Case("inside, every part is in evaluation mode", test=inside),
        Case("it hands out the model", test=hands_out),
        Case("afterwards every part is as it was", test=restored),
        Case("a model that was not training", test=evaluated),
        Case("after an error, too", test=after_error),
        Case("after an interruption, too", test=after_interruption),
        Case("the error goes on", test=passed_on),
        Case("one inside another", test=nested),
    ]


# --- 5 ------------------------------------------------------------------------


def _forbidden(*arguments, **options):
    raise Wrong("copy.deepcopy was called: copy by hand")


def _shape(thing):
    """A thing's structure in words that can be compared, tensors by their numbers."""
    if isinstance(thing, torch.Tensor):
        return ("tensor", thing.tolist())
    if isinstance(thing, (list, tuple)):
        return (type(thing).__name__, [_shape(part) for part in thing])
    if isinstance(thing, dict):
        return ("dict", [(key, _shape(value)) for key, value in thing.items()])
    return thing


@exercise(
    "02.deep_copy",
    hint="Carry a dictionary along that maps id(old) to the copy, and look there "
    "first. Put a new list into it before you copy what is inside.",
)
def _deep_copy():
    def equal(build):
        def test(answer):
            old = build()
            with mock.patch.object(copy, "deepcopy", _forbidden):
                new = answer(old)
            if _shape(new) != (expected := _shape(build())):
                raise Wrong(f"expected {expected}, got {_shape(new)}")
            if _shape(old) != expected:
                raise Wrong("what was handed over has changed")
            return old, new

        return test

    def checked(build):
        test = equal(build)
        return lambda answer: test(answer) and None

    def apart(answer):
        old, new = equal(lambda: [[1], {"a": [2]}, ([3],)])(answer)
        inner = [(old, new), (old[0], new[0]), (old[1], new[1])]
        inner += [(old[1]["a"], new[1]["a"]), (old[2][0], new[2][0])]
        for a, b in inner:
            if a is b:
                raise Wrong(f"{a} is the same object in the copy")

    def tensors(answer):
        old, new = equal(lambda: {"w": torch.ones(2)})(answer)
        old["w"] += 1
        if new["w"].tolist() != [1, 1]:
            raise Wrong("a tensor of the copy changes with the original")

    def shared(answer):
        part, weight = [1], torch.ones(1)
        new = answer([part, part, {"a": weight, "b": weight}])
        if new[0] is not new[1] or new[2]["a"] is not new[2]["b"]:
            raise Wrong("what was one object in two places became two")
        if new[0] is part or new[2]["a"] is weight:
            raise Wrong("what was shared is not copied at all")

    def shared_tuple(answer):
        part = ([1],)
        new = answer([part, part])
        if new[0] is not new[1]:
            raise Wrong("a tuple in two places became two tuples")

    def in_tuple(answer):
        part = [1]
        new = answer((part, part))
        if new[0] is not new[1]:
            raise Wrong("a list that is twice in a tuple became two lists")

    def keys(answer):
        key = (1, 2)
        (new,) = answer({key: [1]})
        if new is not key:
            raise Wrong("a key was copied; keys stay")

    def circle(answer):
        old = [1]
        old.append(old)
        try:
            new = answer(old)
        except RecursionError:
            raise Wrong("a list that contains itself never comes to an end") from None
        if new is old or new[1] is not new or new[0] != 1:
            raise Wrong("the copy of a list that contains itself must contain itself")

    def in_dict(answer):
        old = {"a": 1}
        old["me"] = old
        try:
            new = answer(old)
        except RecursionError:
            raise Wrong("a dictionary that holds itself has no end") from None
        if new is old or new["me"] is not new:
            raise Wrong("the copy of a dictionary that holds itself must hold itself")

    def others(answer):
        thing = nn.Identity()
        if answer([thing])[0] is not thing:
            raise Wrong("anything else is returned as it is")

    def twice(answer):
        thing = [1]
        first = answer(thing)
        thing.append(2)
        if answer(thing) != [1, 2] or first != [1]:
            raise Wrong("a second call gave the first call's copy")

    def equal_not_same(answer):
        new = answer([[1], [1]])
        if new[0] is new[1]:
            raise Wrong("two equal lists became one")

    return [
        Case("a number", args=(3,), expect=3),
        Case("an empty list", test=checked(list)),
        Case("a list in a list, a dictionary, a tuple", test=apart),
        Case("tuples stay tuples", test=checked(lambda: ((1, 2), [(3,)], ()))),
        Case("keys and their order", test=checked(lambda: {2: [1], (1, 2): {}})),
        Case("keys stay", test=keys),
        Case(
            "None and strings inside", test=checked(lambda: [None, "ab", {"a": None}])
        ),
        Case("tensors are cloned", test=tensors),
        Case("anything else as it is", test=others),
        Case("what was shared stays shared", test=shared),
        Case("a tuple in two places", test=shared_tuple),
        Case("a list that is twice in a tuple", test=in_tuple),
        Case("two equal lists stay two", test=equal_not_same),
        Case("a list that contains itself", test=circle),
        Case("a dictionary that holds itself", test=in_dict),
        Case("each call begins anew", test=twice),
    ]
