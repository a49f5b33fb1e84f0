"""Take the rules out of a style sheet that no page of the book can use.

The theme's main style sheet (0.4 MB) carries all of Bootstrap and 1,900 icons; the
book uses a quarter of it. A rule stays when each class it names occurs in some page
or script, also as the beginning of a name that a script completes (``bs-tooltip-``).
"""

import re
from collections.abc import Iterable

import tinycss2

__all__ = ["purged", "words"]

NESTED = {"media", "supports", "layer", "container"}


def words(texts: Iterable[str]) -> set[str]:
    """Every name that occurs in the pages and scripts."""
    return {w for text in texts for w in re.findall(r"[A-Za-z_][\w-]*", text)}


def purged(css: str, known: set[str]) -> str:
    """The style sheet without the rules for classes that are not ``known``."""
    stems = tuple(w for w in known if w.endswith("-") and len(w) > 4)
    rules = tinycss2.parse_stylesheet(css, skip_comments=False, skip_whitespace=True)
    return _purged(rules, known, stems)


def _purged(rules, known, stems) -> str:
    kept = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = _split(tinycss2.serialize(rule.prelude))
            used = [s for s in selectors if _used(s, known, stems)]
            if used:
                body = tinycss2.serialize(rule.content)
                kept.append(f"{','.join(used)}{{{body}}}")
        elif rule.type == "at-rule" and rule.content and rule.at_keyword in NESTED:
            inner = tinycss2.parse_rule_list(rule.content, skip_whitespace=True)
            body = _purged(inner, known, stems)
            if body:
                prelude = tinycss2.serialize(rule.prelude)
                kept.append(f"@{rule.at_keyword}{prelude}{{{body}}}")
        elif rule.type != "comment" or rule.value.startswith("!"):
            kept.append(rule.serialize())
    return "".join(kept)


def _split(prelude: str) -> list[str]:
    """The selectors of a rule: split at commas outside parentheses."""
    return [s.strip() for s in re.split(r",(?![^(]*\))", prelude)]


def _used(selector: str, known, stems) -> bool:
    # What stands inside :not(...) need not occur for the rule to apply.
    plain = re.sub(r":not\([^)]*\)", "", selector)
    classes = re.findall(r"\.(-?[A-Za-z_](?:[\w-]|\\.)*)", plain)
    return all(c in known or "\\" in c or c.startswith(stems) for c in classes)
