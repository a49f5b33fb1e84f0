"""The exercises of chapter 1, The workshop."""

import argparse
import contextlib
import io
import os
import tempfile
from pathlib import Path

from course_utils.checks.core import Case, Wrong, exercise

__all__: list[str] = []


# --- 1 ------------------------------------------------------------------------


@exercise(
    "01.number_list",
    hint="Split at the commas first, then each part at its dash: str.partition tells "
    "whether there was one. int() itself refuses most of the rest.",
)
def _number_list():
    def refused(text):
        def test(answer):
            try:
                got = answer(text)
            except ValueError:
                return
            raise Wrong(f"{text!r} must be a ValueError, got {got!r}")

        return test

    return [
        Case("one number", ("3",), expect=[3]),
        Case("two numbers", ("1,4",), expect=[1, 4]),
        Case("a range holds both ends", ("2-5",), expect=[2, 3, 4, 5]),
        Case("both", ("0,2-3",), expect=[0, 2, 3]),
        Case("a range of one", ("7-7",), expect=[7]),
        Case("a range from 0", ("0-2",), expect=[0, 1, 2]),
        Case("two digits", ("9-11,20",), expect=[9, 10, 11, 20]),
        Case("the order is the reader's", ("4,1",), expect=[4, 1]),
        Case("given twice, it stays twice", ("2,1-2",), expect=[2, 1, 2]),
        *(
            Case(f"{text!r} is refused", test=refused(text))
            for text in ("", "1,", "5-2", "-1", "a", "1-2-3", "1.5", "2-")
        ),
    ]


# --- 2 ------------------------------------------------------------------------


@exercise(
    "01.newest",
    hint="Path(folder).glob lists candidates. What stands between `model_` and `.pt` "
    "must consist of digits, and numbers are compared as numbers.",
)
def _newest():
    def among(expected, *names, folders=(), as_text=False):
        def test(answer):
            with tempfile.TemporaryDirectory() as where:
                where = Path(where).resolve()
                for name in folders:
                    (where / name).mkdir()
                for age, name in enumerate(sorted(names, key=lambda n: n != expected)):
                    (where / name).touch()
                    os.utime(where / name, (1_000_000 + age,) * 2)  # the right: oldest
                got = answer(str(where) if as_text else where)
                among = [*names, *(f"{name}/" for name in folders)]
                if expected is None:
                    if got is not None:
                        raise Wrong(f"{among}: expected None, got {got!r}")
                    return
                if not isinstance(got, Path):
                    raise Wrong(f"a Path is expected, got {got!r}")
                if got == Path(expected):
                    raise Wrong(f"the path must begin with the folder, got {got!r}")
                if got != where / expected:
                    wrong = got.relative_to(where) if where in got.parents else got
                    raise Wrong(f"{among}: expected {expected}, got {wrong}")

        return test

    return [
        Case("an empty folder", test=among(None)),
        Case("one checkpoint", test=among("model_0.pt", "model_0.pt")),
        Case(
            "10 is more than 9",
            test=among("model_10.pt", "model_9.pt", "model_10.pt", "model_2.pt"),
        ),
        Case(
            "zeros in front", test=among("model_011.pt", "model_011.pt", "model_9.pt")
        ),
        Case("the best does not count", test=among(None, "model_best.pt")),
        Case(
            "half a file does not count",
            test=among("model_2.pt", "model_2.pt", "model_3.pt.part"),
        ),
        Case(
            "another name does not count",
            test=among("model_2.pt", "model_2.pt", "old_model_9.pt", "model_9.pth"),
        ),
        Case("no sign, no fraction", test=among(None, "model_-1.pt", "model_1.5.pt")),
        Case("digits only", test=among("model_2.pt", "model_2.pt", "model_1_0.pt")),
        Case(
            "a folder does not count",
            test=among("model_1.pt", "model_1.pt", folders=("model_5.pt",)),
        ),
        Case(
            "what lies in a folder inside does not count",
            test=among("model_1.pt", "model_1.pt", "old/model_5.pt", folders=("old",)),
        ),
        Case(
            "the folder as a string",
            test=among("model_1.pt", "model_1.pt", as_text=True),
        ),
    ]


# --- 3 ------------------------------------------------------------------------


@exercise(
    "01.build",
    hint="Four arguments of add_argument are missing or wrong: required, action, nargs "
    "and choices.",
)
def _build():
    def parsed(answer, words):
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                parser = answer()
        except SystemExit:
            raise Wrong("build() must return the parser without a parse_args") from None
        if not isinstance(parser, argparse.ArgumentParser):
            raise Wrong(f"build() must return a parser, got {parser!r}")
        try:
            with (
                contextlib.redirect_stderr(io.StringIO()) as said,
                contextlib.redirect_stdout(io.StringIO()),
            ):
                return vars(parser.parse_args(words))
        except SystemExit:
            return said.getvalue().strip().splitlines()[-1]

    def gives(words, **expected):
        def test(answer):
            got = parsed(answer, words)
            if isinstance(got, str):
                raise Wrong(f"{words} was refused: {got}")
            for name, value in expected.items():
                if got.get(name) != value or type(got.get(name)) is not type(value):
                    raise Wrong(
                        f"{words}: {name} must be {value!r}, got {got.get(name)!r}"
                    )

        return test

    def refused(*words):
        def test(answer):
            got = parsed(answer, list(words))
            if not isinstance(got, str):
                raise Wrong(f"{list(words)} must be refused, and gave {got}")

        return test

    base = ["--lr", "0.1"]
    return [
        Case(
            "the defaults",
            test=gives(base, lr=0.1, shuffle=True, sizes=[256], device="cpu"),
        ),
        Case("--lr must be given", test=refused()),
        Case("--lr is a number", test=refused("--lr", "fast")),
        Case("--no-shuffle", test=gives([*base, "--no-shuffle"], shuffle=False)),
        Case("--shuffle", test=gives([*base, "--shuffle"], shuffle=True)),
        Case("two sizes", test=gives([*base, "--sizes", "1", "2"], sizes=[1, 2])),
        Case("one size is a list, too", test=gives([*base, "--sizes", "1"], sizes=[1])),
        Case("no size", test=refused(*base, "--sizes")),
        Case("sizes are whole", test=refused(*base, "--sizes", "1.5")),
        Case("cuda", test=gives([*base, "--device", "cuda"], device="cuda")),
        Case("mps", test=gives([*base, "--device", "mps"], device="mps")),
        Case("gpu is no device", test=refused(*base, "--device", "gpu")),
        Case("--shuffle takes no word", test=refused(*base, "--shuffle", "False")),
    ]


# --- 4 ------------------------------------------------------------------------


@exercise(
    "01.merged",
    hint="Begin with a copy of the defaults whose inner dictionaries are copies, too. "
    "Then go through the layers; for a dictionary inside, call merged itself.",
)
def _merged():
    def refused(*layers, quoted):
        def test(answer):
            try:
                got = answer(*layers)
            except ValueError as error:
                if quoted not in str(error):
                    raise Wrong(f"the message must quote {quoted!r}: {error}") from None
                return
            raise Wrong(f"{layers} must be a ValueError, got {got!r}")

        return test

    def fresh(answer):
        defaults, layer = {"a": {"b": 1}}, {"a": {}}
        got = answer(defaults, layer)
        got["a"]["b"] = 2
        if defaults != {"a": {"b": 1}} or layer != {"a": {}}:
            raise Wrong("changing the result changes what was handed over")
        got = answer(defaults)
        if got is defaults or got["a"] is defaults["a"]:
            raise Wrong("without layers the result is the defaults themselves")

    def from_layer(answer):
        layer = {"a": {"b": {"c": 5}}}
        got = answer({"a": {"b": {"c": 1}}}, layer)
        got["a"]["b"]["c"] = 9
        if layer != {"a": {"b": {"c": 5}}}:
            raise Wrong("changing the result changes a layer")

    sgd = {"sgd": {"lr": 0.1, "momentum": 0}}
    return [
        Case("no layers", ({"lr": 1},), expect={"lr": 1}),
        Case("a layer wins", ({"lr": 1, "n": 2}, {"lr": 5}), expect={"lr": 5, "n": 2}),
        Case("the last layer wins", ({"n": 1}, {"n": 2}, {"n": 3}), expect={"n": 3}),
        Case("None says nothing", ({"n": 1}, None, {"n": 3}), expect={"n": 3}),
        Case("an empty layer", ({"n": 1}, {}), expect={"n": 1}),
        Case("a value of None wins", ({"n": 1}, {"n": None}), expect={"n": None}),
        Case("False wins", ({"n": True}, {"n": False}), expect={"n": False}),
        Case(
            "inside a dictionary",
            (sgd, {"sgd": {"lr": 0.5}}),
            expect={"sgd": {"lr": 0.5, "momentum": 0}},
        ),
        Case(
            "two layers inside a dictionary",
            (sgd, {"sgd": {"lr": 0.5}}, {"sgd": {"momentum": 0.9}}),
            expect={"sgd": {"lr": 0.5, "momentum": 0.9}},
        ),
        Case(
            "two levels down",
            ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"d": 3}}}),
            expect={"a": {"b": {"c": 1, "d": 3}}},
        ),
        Case(
            "an unknown key",
            test=refused({"lr": 1}, {"learning": 2}, quoted="learning"),
        ),
        Case("unknown inside", test=refused(sgd, {"sgd": {"rate": 1}}, quoted="rate")),
        Case("a value for a dictionary", test=refused(sgd, {"sgd": 0.1}, quoted="sgd")),
        Case("None for a dictionary", test=refused(sgd, {"sgd": None}, quoted="sgd")),
        Case(
            "a dictionary for a value",
            test=refused({"lr": 1}, {"lr": {"x": 1}}, quoted="lr"),
        ),
        Case("the result is new, at every depth", test=fresh),
        Case("a layer stays as it was", test=from_layer),
    ]


# --- 5 ------------------------------------------------------------------------


@exercise(
    "01.logged",
    hint="An item is done when the code after its `yield` runs. What must run in any "
    "case stands in `finally`; a variable tells it whether the loop came to its end.",
)
def _logged():
    def lines(items, every, take=None):
        def run(answer):
            written = []
            source = answer(iter(items), written.append, every)
            got = []
            for item in source:
                got.append(item)
                if take is not None and len(got) == take:
                    source.close()
                    break
            return got, written

        return run

    def writes(items, every, *expected, take=None):
        def test(answer):
            got, written = lines(items, every, take)(answer)
            if got != list(items)[: take if take is not None else len(items)]:
                raise Wrong(f"the items {items!r} came out as {got!r}")
            if written != list(expected):
                raise Wrong(f"expected {list(expected)}, got {written}")

        return test

    def in_time(answer):
        written = []
        source = answer([1, 2, 3], written.append, 1)
        next(source)
        if written:
            raise Wrong(f"before the first item is done it wrote {written}")
        next(source)
        if written != ["1 items"]:
            raise Wrong(f"when the first item is done it has written {written}")
        source.close()

    def failing(answer):
        def broken():
            yield 1
            raise OSError("disk")

        written = []
        try:
            list(answer(broken(), written.append, 5))
        except OSError:
            pass
        else:
            raise Wrong("an error of the items must go on")
        if written != ["1 items, stopped"]:
            raise Wrong(f"after an error it wrote {written}")

    def default(answer):
        written = []
        list(answer(range(20), written.append))
        if written != ["10 items", "20 items", "20 items, done"]:
            raise Wrong(f"20 items with the default of 10 wrote {written}")

    def refused(every):
        def test(answer):
            try:
                source = answer([1], lambda text: None, every)
            except ValueError:
                raise Wrong("the ValueError came before the first next") from None
            try:
                next(source)
            except ValueError:
                return
            raise Wrong(f"every={every} must be a ValueError at the first next")

        return test

    return [
        Case("no items", test=writes("", 10, "0 items, done")),
        Case("one item", test=writes("a", 10, "1 items, done")),
        Case(
            "every second",
            test=writes("abcde", 2, "2 items", "4 items", "5 items, done"),
        ),
        Case(
            "the last one is a round number",
            test=writes("abcd", 2, "2 items", "4 items", "4 items, done"),
        ),
        Case("an item is done when the next is asked for", test=in_time),
        Case("the default", test=default),
        Case(
            "left early: the item in hand is not done",
            test=writes("abcde", 2, "2 items", "2 items, stopped", take=3),
        ),
        Case(
            "left at the last item, before the next was asked for",
            test=writes("abc", 2, "2 items", "2 items, stopped", take=3),
        ),
        Case("the items fail", test=failing),
        Case("every=0 is refused", test=refused(0)),
        Case("every=-1 is refused", test=refused(-1)),
    ]
