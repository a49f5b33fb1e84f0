"""The exercises of chapter 1: mistakes are refused, each for its own reason."""

import pytest
from answers import assert_changed, assert_verdict

from booktools import chapter_code

EXERCISES = chapter_code.exercises("01_workshop")

# The exercise, a change of the solution's source, and words of the verdict.
CHANGES = [
    ("number_list", "range(low, high + 1)", "range(low, high)", "one number"),
    ("number_list", "high < low", "False", "'5-2' is refused"),
    ("number_list", "int(first)\n", "int(first or 0)\n", "''"),
    ("number_list", "if dash else", "if last else", "'2-' is refused"),
    ("number_list", "return numbers", "return sorted(numbers)", "the reader's"),
    ("number_list", "int(first)\n", "int(float(first))\n", "'1.5' is refused"),
    ("number_list", "return numbers", "return list(dict.fromkeys(numbers))", "twice"),
    ("number_list", "low < 0 or", "low < 0 or dash and not low or", "a range from 0"),
    ("newest", "found[int(number)]", "found[number]", "10 is more than 9"),
    (
        "newest",
        "return found[max(found)] if found else None",
        "return found[max(found)]",
        "",
    ),
    (
        "newest",
        "found[max(found)] if",
        "str(found[max(found)]) if",
        "a Path is expected",
    ),
    (
        "newest",
        "number.isascii() and number.isdigit() and ",
        "number != 'best' and ",
        "",
    ),
    ("newest", " and path.is_file()", "", "a folder does not count"),
    ("newest", "Path(folder).glob", "folder.glob", "as a string"),
    ("newest", 'glob("model_*.pt")', 'rglob("model_*.pt")', "old/model_5.pt"),
    (
        "newest",
        "number.isascii() and number.isdigit() and ",
        "set(number) <= set('0123456789_') and ",
        "digits only",
    ),
    (
        "newest",
        "return found[max(found)] if found else None",
        "return Path(found[max(found)].name) if found else None",
        "must begin with the folder",
    ),
    (
        "newest",
        "return found[max(found)]",
        "return max(found.values(), key=lambda p: p.stat().st_mtime)",
        "10 is more than 9",
    ),
    ("newest", 'glob("model_*.pt")', 'glob("model_*")', "half a file"),
    ("newest", 'glob("model_*.pt")', 'glob("*_*.pt")', None),
    ("build", ", required=True", "", "must be given"),
    ("build", "required=True", "default=0.1", "must be given"),
    ("build", "action=flag, default=True", "type=bool, default=True", "--no-shuffle"),
    ("build", "action=flag, default=True", 'action="store_true"', "defaults"),
    ("build", "action=flag, default=True", 'action="store_false"', "--no-shuffle"),
    ("build", 'nargs="+", ', "", "defaults"),
    ("build", 'nargs="+", ', 'nargs="*", ', "no size"),
    ("build", 'nargs="+", ', "nargs=2, ", "one size"),
    ("build", 'choices=devices, default="cpu"', 'default="cpu"', "gpu is no device"),
    ("build", '"cpu", "cuda", "mps"', '"cpu", "cuda"', "mps"),
    ("build", "type=float", "type=str", "defaults"),
    ("build", "return parser", "return parser.parse_args()", "without a parse_args"),
    ("build", 'nargs="+", ', 'nargs="+", action="append", ', "two sizes"),
    ("merged", "(layer or {})", "layer", "None says nothing"),
    ("merged", "if key not in result:", "if False:", ""),
    ("merged", "value = merged(result[key], value)", "pass", "inside a dictionary"),
    ("merged", "merged(result[key]", "merged(defaults[key]", "two layers inside"),
    (
        "merged",
        "!= isinstance(value, dict)",
        "!= isinstance(value, dict) and value is not None",
        "None for a dictionary",
    ),
    ("merged", "value = merged(result[key], value)", "value = result[key] | value", ""),
    ("merged", "merged(v) if isinstance(v, dict) else v", "v", "the result is new"),
    ("merged", "isinstance(result[key], dict) != isinstance(value, dict)", "False", ""),
    ("merged", "for layer in layers:", "for layer in reversed(layers):", "last layer"),
    (
        "merged",
        "            result[key] = value",
        "            if value:\n                result[key] = value",
        "None wins",
    ),
    ("logged", "            done += 1\n", "", "one item"),
    (
        "logged",
        "            yield item\n            done += 1\n",
        "            done += 1\n            yield item\n",
        "in hand",
    ),
    ("logged", "% every == 0", "% every == 1", ""),
    (
        "logged",
        "    finally:\n",
        "    except ValueError:\n        raise\n    else:\n",
        "left early",
    ),
    (
        "logged",
        "complete = True\n    finally",
        "complete = False\n    finally",
        "no items",
    ),
    ("logged", "complete = False\n", "complete = True\n", "left early"),
    ("logged", "    if every < 1:", "    if every < 0:", "every=0"),
    ("logged", "every=10", "every=5", "the default"),
    ("logged", "    if every < 1:", "    if not every:", "every=-1"),
    (
        "logged",
        "        for item in items:\n            yield item\n",
        "        items = list(items)\n        for item in items:\n"
        "            complete = done + 1 == len(items)\n            yield item\n",
        "left at the last item",
    ),
]


@pytest.mark.parametrize(("name", "old", "new", "says"), CHANGES)
def test_changed_solutions(name, old, new, says):
    assert_changed(EXERCISES[f"01.{name}"], old, new, says)


BROKEN_PARSER = """
def build():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float)
    parser.add_argument("--shuffle", type=bool, default=True)
    parser.add_argument("--sizes", type=int, default=[256])
    parser.add_argument("--device", default="cpu")
    return parser
"""
BY_TEXT = """
def newest(folder):
    paths = sorted(Path(folder).glob("model_*.pt"))
    return paths[-1] if paths else None
"""
BY_PATTERN = """
def newest(folder):
    import re
    found = [(int(m[1]), p) for p in Path(folder).iterdir()
             if p.is_file() and (m := re.fullmatch(r"model_([0-9]+)[.]pt", p.name))]
    return max(found)[1] if found else None
"""
NEVER_STOPPED = """
def logged(items, write, every=10):
    count = 0
    for count, item in enumerate(items, 1):
        yield item
        if count % every == 0:
            write(f"{count} items")
    write(f"{count} items, done")
"""
EAGER = """
def logged(items, write, every=10):
    if every < 1:
        raise ValueError(every)

    def run():
        done, word = 0, "stopped"
        try:
            for item in items:
                yield item
                done += 1
                if done % every == 0:
                    write(f"{done} items")
            word = "done"
        finally:
            write(f"{done} items, {word}")

    return run()
"""
SHALLOW = """
def merged(defaults, *layers):
    result = dict(defaults)
    for layer in layers:
        result.update(layer or {})
    return result
"""


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("build", BROKEN_PARSER, "must be given"),
        ("newest", BY_TEXT, "10 is more than 9"),
        ("newest", BY_PATTERN, None),
        ("logged", NEVER_STOPPED, "left early"),
        ("logged", EAGER, "before the first next"),
        ("merged", SHALLOW, "inside a dictionary"),
    ],
)
def test_other_answers(name, source, says):
    assert_verdict(EXERCISES[f"01.{name}"], source, says)
