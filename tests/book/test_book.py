"""The rendered book: no warnings, offline, light, with alternative texts; and `make`.

The book is rendered once, from scratch, into a temporary folder, with the command that
``make book`` uses; the tests read the pages. What does not depend on the chapters is
tried on a book of two pages with the same settings.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from booktools import notebook, render, repository

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jupyter_book") is None,
    reason="jupyter-book is not installed in this environment",
)

LIMIT = 1_200_000  # bytes of a chapter page besides its own pictures and math
CHAPTERS = sorted(p.stem for p in notebook.CHAPTERS.glob("*.ipynb"))
SMALL = "01_small"  # the chapter of the small book


class Page(HTMLParser):
    """What a browser loads for a page, its images, and its element ids."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.loads, self.images, self.links = path, [], [], []
        html = path.read_text(encoding="utf-8")
        # A browser loads an icon font only where an icon of it is shown.
        self.has_brand_icons = re.search(r"\bfab\b|\bfa-brands\b", html) is not None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "script" and attrs.get("src"):
            self.loads.append(attrs["src"])
        if tag == "link" and attrs.get("rel") in ("stylesheet", "icon", "preload"):
            self.loads.append(attrs["href"])
        if tag == "img":
            self.loads.append(attrs["src"])
            self.images.append(attrs)
        if tag == "a":
            self.links.append(attrs.get("href", ""))

    def files(self) -> set[Path]:
        """The loaded files, with what their style sheets import and the web fonts."""
        found = set()
        queue = [(self.path.parent / s.split("?")[0]) for s in self.loads]
        while queue:
            path = queue.pop().resolve()
            if path in found:
                continue
            found.add(path)
            if path.suffix == ".css":
                css = path.read_text(encoding="utf-8")
                names = re.findall(r"@import [\"']([^\"']+)", css)
                fonts = "solid|brands" if self.has_brand_icons else "solid"
                names += re.findall(rf"url\(([^)]*fa-(?:{fonts})[^)]*\.woff2)", css)
                queue += [path.parent / n.strip("\"'").split("?")[0] for n in names]
        return found


SKIP = shutil.ignore_patterns("_build", ".venv*", ".git", "__pycache__", ".*_cache")


def copied(folder: Path) -> Path:
    """The book's sources in another folder."""
    return Path(shutil.copytree(notebook.ROOT, folder / "book", ignore=SKIP))


def two_pages(folder: Path) -> Path:
    """A book of a page and a chapter, with the settings and extensions of this one."""
    source = folder / "book"
    (source / "chapters").mkdir(parents=True)
    (source / "intro.md").write_text("# A small book\n\nIt has two pages.\n")
    template = notebook.ROOT / "template" / "NN_template.ipynb"
    shutil.copy(template, source / "chapters" / f"{SMALL}.ipynb")
    shutil.copy(notebook.ROOT / "_config.yml", source)
    for name in ("_ext", "_static", "booktools", "course_utils"):
        shutil.copytree(notebook.ROOT / name, source / name, ignore=SKIP)
    toc = f"format: jb-book\nroot: intro\nchapters:\n- file: chapters/{SMALL}\n"
    (source / "_toc.yml").write_text(toc)
    return source


def rendered(source: Path) -> Path:
    """Render the book in ``source``; the folder of its pages."""
    done = subprocess.run(render.command(source), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return source / "_build" / "html"


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return rendered(copied(tmp_path_factory.mktemp("render")))


@pytest.fixture(scope="module")
def pages(html):
    return {name: Page(html / "chapters" / f"{name}.html") for name in CHAPTERS}


def all_pages(html):
    """Every page of the book; the theme leaves templates of its own in _static."""
    return [p for p in html.rglob("*.html") if "_static" not in p.parts]


def test_every_loaded_file_is_there_and_local(html):
    assert len(all_pages(html)) > len(CHAPTERS)
    for path in all_pages(html):
        page = Page(path)
        remote = [s for s in page.loads if re.match(r"(https?:)?//", s)]
        assert not remote, f"{path.name} loads from elsewhere: {remote}"
        missing = [f for f in page.files() if not f.is_file()]
        assert not missing, f"{path.name} loads what is not there: {missing}"


def test_weight(html, pages):
    """At most 1.2 MB besides the page's own pictures and math, icon fonts counted."""
    for name, page in pages.items():
        files = [f for f in page.files() if "mathjax" not in f.parts]
        files = [f for f in files if "_images" not in f.parts]
        weight = page.path.stat().st_size + sum(f.stat().st_size for f in files)
        assert weight <= LIMIT, f"{name}: {weight:,} bytes"


def test_names_and_punctuation_of_code_have_the_color_of_text(html, pages):
    """Else their tags must not be taken out of the pages."""
    css = (html / "_static" / "pygments.css").read_text()
    for theme in ("light", "dark"):
        block = rf'\[data-theme="{theme}"\] \.highlight'
        text = re.search(rf"{block} {{[^}}]*[ ;]color: (#\w+)", css)[1]
        colors = re.findall(rf"{block} \.[npw] {{ ([^}}]*) }}", css)
        assert set(colors) == {f"color: {text}"}, (theme, text, colors)
    for page in pages.values():
        code = page.path.read_text(encoding="utf-8")
        assert '<span class="k">' in code and '<span class="n">' not in code


def test_the_index_is_loaded_by_the_search_page_only(html, pages):
    assert any("searchindex" in s for s in Page(html / "search.html").loads)
    for page in pages.values():
        assert not any("searchindex" in s for s in page.loads)


def test_math_is_served_by_the_book(html, pages):
    fonts = html / "_static" / "mathjax" / "output" / "chtml" / "fonts" / "woff-v2"
    assert len(list(fonts.glob("*.woff"))) > 10
    assert any(any("mathjax" in s for s in page.loads) for page in pages.values())


def test_every_picture_has_an_alternative_text(html):
    for path in all_pages(html):
        for image in Page(path).images:
            if "logo" in image.get("class", "") or "logo" in image["src"]:
                continue  # the theme's own: alternative text from the title
            assert len(image.get("alt", "")) >= 20, f"{path.name}: {image['src']}"


def test_copy_buttons_and_dark_mode(html, pages):
    css = (html / "_static" / "custom.css").read_text()
    assert "data-theme" in css and "filter: none" in css
    for page in pages.values():
        assert any("copybutton" in s for s in page.loads)
        assert any("custom.css" in s for s in page.loads)


def test_no_button_without_an_address(html):
    if repository.address():
        pytest.skip("this copy of the course has an address")
    links = [link for path in all_pages(html) for link in Page(path).links]
    assert links
    assert not [link for link in links if "colab" in link or "/edit/" in link]


def test_buttons_follow_the_address(tmp_path):
    """A launch and an edit button, which lead to the chapter."""
    source = two_pages(tmp_path)
    url = "https://github.com/ada/tensors"
    repository.set_address(url, source)
    links = Page(rendered(source) / "chapters" / f"{SMALL}.html").links
    colab = f"{repository.COLAB}/github/ada/tensors/blob/main/chapters/{SMALL}.ipynb"
    assert colab in links
    assert f"{url}/edit/main/chapters/{SMALL}.ipynb" in links


def test_a_warning_fails_the_build_and_leaves_no_half_book(tmp_path):
    source = two_pages(tmp_path)
    page = source / "intro.md"
    page.write_text(page.read_text() + "\n[gone](nowhere.md)\n")
    for _ in range(2):  # a second try must not pass either
        done = subprocess.run(
            [sys.executable, "-m", "booktools.render"],
            cwd=source,
            env={**os.environ, "PYTHONPATH": str(source)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "nowhere.md" in done.stdout
        assert not (source / "_build" / "html").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
class TestMake:
    def make(self, *arguments, **environment):
        return subprocess.run(
            ["make", *arguments],
            cwd=notebook.ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, **environment},
        )

    def test_help_is_the_default_and_lists_every_target(self):
        shown = self.make().stdout
        text = (notebook.ROOT / "Makefile").read_text()
        targets = re.search(r"^\.PHONY: (.+)$", text, re.M)[1].split()
        for target in targets:
            assert target == "help" or f"make {target}" in shown, target

    def test_no_suitable_python_is_one_clear_message(self, tmp_path):
        done = subprocess.run(
            [
                "sh",
                "booktools/make_venv.sh",
                str(tmp_path / "venv"),
                "requirements.txt",
            ],
            cwd=notebook.ROOT,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "PYTHONS": "python2 no-such-python"},
        )
        assert done.returncode == 1
        assert "Python 3.11 or newer" in done.stderr
        assert not (tmp_path / "venv").exists()

    def test_a_stale_environment_is_one_clear_message(self, tmp_path):
        gone = tmp_path / "python"
        gone.symlink_to(tmp_path / "removed")
        done = self.make("run", "CHAPTER=03_tensors", "READY=", f"PY={gone}")
        assert done.returncode != 0
        assert f"{gone} does not run" in done.stderr and "rm -rf" in done.stderr

    def test_no_command_depends_on_where_the_checkout_was(self):
        """Scripts of an environment hold the path it was made at."""
        text = (notebook.ROOT / "Makefile").read_text()
        called = re.findall(r"\$\((?:BIN|VENV|FLOOR)\)/(?:bin/)?([a-z][\w-]*)", text)
        assert set(called) == {"python"}
        assert render.command()[0] == sys.executable

    def test_unknown_chapter(self):
        # With this environment: a checkout without one would install it first.
        done = self.make("run", "CHAPTER=99_none", "READY=", f"PY={sys.executable}")
        assert done.returncode != 0
        assert "no chapter '99_none'; there are: 01_workshop" in done.stderr
