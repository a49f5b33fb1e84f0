"""The style sheet keeps what a page can use, and only that."""

import sys

import pytest

from booktools import notebook

pytest.importorskip("tinycss2")
sys.path.insert(0, str(notebook.ROOT / "_ext"))
import lean_css  # noqa: E402

KNOWN = lean_css.words(
    ['<a class="kept also-kept">', 'show(); x = "bs-tooltip-" + place; "a-";']
)


@pytest.mark.parametrize(
    ("css", "expected"),
    [
        (".kept{a:b}.gone{a:b}", ".kept{a:b}"),
        (".kept,.gone{a:b}", ".kept{a:b}"),
        (".kept.gone{a:b}", ""),
        (".kept .also-kept>p{a:b}", ".kept .also-kept>p{a:b}"),
        ("p:not(.gone){a:b}", "p:not(.gone){a:b}"),
        (":is(h1,.kept) a{a:b}", ":is(h1,.kept) a{a:b}"),
        (".bs-tooltip-top{a:b}", ".bs-tooltip-top{a:b}"),  # a script completes it
        (".a-x{a:b}", ""),  # a stem that short would keep everything
        (":root,[data-x=y]{--c:1}", ":root,[data-x=y]{--c:1}"),
        ("@media (min-width:1px){.gone{a:b}}", ""),
        (
            "@media (min-width:1px){.kept{a:b}.gone{a:b}}",
            "@media (min-width:1px){.kept{a:b}}",
        ),
        ("@font-face{src:url(x.woff2)}", "@font-face{src:url(x.woff2)}"),
        ("@keyframes k{0%{a:b}}", "@keyframes k{0%{a:b}}"),
        ("/*! license */.kept{a:b}/* note */", "/*! license */.kept{a:b}"),
        ("", ""),
    ],
)
def test_purged(css, expected):
    assert lean_css.purged(css, KNOWN) == expected


def test_twice_is_once():
    css = "@media print{.kept,.gone{a:b}}.kept:hover{c:d}"
    once = lean_css.purged(css, KNOWN)
    assert lean_css.purged(once, KNOWN) == once
