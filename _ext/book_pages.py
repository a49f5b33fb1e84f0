"""Sphinx extension of this book: math that renders offline, lighter pages.

- MathJax is served from the book itself (the copy in ``sphinx-mathjax-offline``; only
  the files that a page asks for), so that formulas show without a network.
- The theme's ``fontawesome.js`` (1.5 MB) draws every icon a second time, as SVG. The
  web font that the pages load anyway draws them too, so the script is emptied.
- Every page would load the index of the whole book for a search box that leads to the
  search page anyway, and the files of two extensions that the book does not use. Their
  tags are taken out of every page but the search page.
- Each name, comma and bracket of the code stands in a tag that gives it the color that
  the text around it has. These tags, a third of a page, are taken out.
"""

import importlib.util
import re
import shutil
from pathlib import Path

from sphinx.util import logging

logger = logging.getLogger(__name__)

MATHJAX = "mathjax/tex-chtml.js"
NEEDED = ("tex-chtml.js", "output/chtml/fonts/woff-v2")
HEAVY = "scripts/fontawesome.js"
# Tags of live code cells, which the book does not offer.
THEBE = re.compile(
    r"\s*<(?:script|link)[^>]*sphinx-thebe[^>]*>(?:</script>)?"
    r"|\s*<script>const THEBE_JS_URL.*?</script>"
    r"|\s*<script type=\"text/x-thebe-config\">.*?</script>",
    re.S,
)
UNUSED = re.compile(
    r"\s*<(?:script|link)[^>]*(?:searchindex|searchtools|language_data"
    r"|design-tabs|sphinx-design)[^>]*>(?:</script>)?|" + THEBE.pattern,
    re.S,
)

# Pygments' names, punctuation and white space; the tests see that they look plain.
PLAIN = re.compile(r'<span class="[npw]">([^<]*)</span>')


def use_own_mathjax(app, config) -> None:
    """Point the pages at the copy that :func:`finish` puts beside them."""
    config.mathjax_path = MATHJAX
    config.mathjax_options = {"defer": "defer"}


def finish(app, error) -> None:
    """Copy MathJax, take out what no page needs; skipped where the build failed."""
    if error is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None:
        logger.warning("sphinx-mathjax-offline is not installed: math needs a network")
    else:
        source = Path(package.origin).parent / "static" / "mathjax"
        for name in NEEDED:
            target = static / "mathjax" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (source / name).is_dir():
                shutil.copytree(source / name, target, dirs_exist_ok=True)
            else:
                shutil.copy(source / name, target)
    script = static / HEAVY
    if script.exists():
        script.write_text("/* emptied: the web font draws the icons */\n")
    for page in Path(app.outdir).rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        lighter = (THEBE if page.name == "search.html" else UNUSED).sub("", html)
        lighter = PLAIN.sub(r"\1", lighter)
        if lighter != html:
            page.write_text(lighter, encoding="utf-8")


def setup(app):
    """Connect the hooks; safe for parallel builds."""
    app.connect("config-inited", use_own_mathjax, priority=900)
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
