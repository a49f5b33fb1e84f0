"""Run the chapters as another machine would: ``make test-noise``, ``make test-device``.

Two instruments, each switched on by an environment variable, alone or together:

- ``COURSE_NOISE=1``: arithmetic that is a little different, another one for every seed
  (:mod:`booktools.noise`);
- ``COURSE_DEVICE=standin``: an accelerator in CPU memory that refuses what CUDA refuses
  (:mod:`booktools.standin`).

They are on in a chapter's kernel and in the Python processes that it starts. The
comparison is the usual one, texts and figures. As a program, this compares the chapters
with one instrument, says for each chapter how many cells hold, and which do not::

    python -m booktools.instruments noise --seeds 1 2 3 --chapters 03_tensors
    python -m booktools.instruments device

It uses all cores; with ``COURSE_WORKERS=1`` one chapter runs at a time. What pytest
said is left in ``_build/instruments``.
"""

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from booktools.notebook import CHAPTERS, ROOT

__all__ = ["PROBE", "environment", "main", "problem", "requested", "start", "verify"]

NOISE, DEVICE, STANDIN = "COURSE_NOISE", "COURSE_DEVICE", "standin"
START = ROOT / "booktools" / "instruments_start"
WHERE = ROOT / "_build" / "instruments"

# For a kernel, before its first cell: fails where an instrument asked for is not on.
PROBE = "__import__('booktools.instruments', fromlist=['verify']).verify()"


def requested(variables=os.environ) -> dict[str, str]:
    """The instruments that the environment asks for: variable and value."""
    found = {}
    if variables.get(NOISE):
        found[NOISE] = variables[NOISE]
    if variables.get(DEVICE) == STANDIN:
        found[DEVICE] = STANDIN
    return found


def problem(variables=os.environ) -> str:
    """Why the instruments asked for cannot be had, in one line; empty if they can."""
    asked = requested(variables)
    if NOISE in asked and not _is_seed(asked[NOISE]):
        return f"{NOISE} must be an integer from 0 to 2**32 - 1, got {asked[NOISE]!r}"
    if DEVICE in asked:
        from booktools import standin

        return standin.lacking()
    return ""


def _is_seed(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,10}", text)) and int(text) < 2**32


def environment(variables=os.environ) -> dict[str, str]:
    """What a kernel's environment needs so that the instruments start with torch."""
    if not requested(variables):
        return {}
    paths = [str(START), str(ROOT), variables.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        DEVICE: variables.get(DEVICE) or "cpu",  # the noise moves nothing on a GPU
    }


_on: dict[str, object] = {}  # the instruments of this process


def start() -> None:
    """Switch on what the environment asks for, in this process; twice does no more."""
    asked = requested()
    if DEVICE in asked and DEVICE not in _on:
        from booktools import standin

        _on[DEVICE] = standin.install()
    if NOISE in asked and NOISE not in _on:
        from booktools import noise

        _on[NOISE] = noise.NoisyArithmetic(int(asked[NOISE]))
        _on[NOISE].__enter__()  # for as long as the process lives


def verify() -> None:
    """Check that this process computes with the instruments asked for.

    Raises:
        RuntimeError: one is not on.
    """
    import torch

    asked = requested()
    if NOISE in asked:
        from torch.utils._python_dispatch import _disable_current_modes

        numbers = torch.arange(1, 65) / 7
        with _disable_current_modes():
            quiet = numbers.exp()
        if torch.equal(numbers.exp(), quiet):
            raise RuntimeError(f"{NOISE} is set, but the arithmetic is the plain one")
    if DEVICE in asked:
        from course_utils import runtime

        made = torch.ones(2, device=runtime.device())
        if made.device.type != STANDIN:
            raise RuntimeError(f"{DEVICE} is {STANDIN}, but tensors are on {made}")


# --- the comparison ------------------------------------------------------------------


@dataclass
class Row:
    """What one run said of one chapter."""

    chapter: str
    held: int
    failed: list[str]

    @property
    def text(self) -> str:
        count = self.held + len(self.failed)
        line = f"{self.chapter}: {self.held} of {count} cells hold"
        return line + (f"; not: {', '.join(self.failed)}" if self.failed else "")


def rows(report: Path) -> list[Row]:
    """The chapters of a pytest run, from its XML report."""
    found: dict[str, Row] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        place = f"{case.get('classname', '')}.{case.get('name', '')}"
        chapter = re.search(r"(\w+)[./]ipynb", place)
        stem = chapter[1] if chapter else place
        row = found.setdefault(stem, Row(stem, 0, []))
        if any(part.tag in ("failure", "error") for part in case):
            row.failed.append(case.get("name", "").removeprefix("Cell ") or "whole")
        else:
            row.held += 1
    return [found[stem] for stem in sorted(found)]


def compare(name: str, variables: dict[str, str], chapters: list[Path]) -> list[Row]:
    """Run pytest over the chapters with these variables set.

    Raises:
        RuntimeError: pytest stopped before it compared anything.
    """
    WHERE.mkdir(parents=True, exist_ok=True)
    report, log = WHERE / f"{name}.xml", WHERE / f"{name}.txt"
    report.unlink(missing_ok=True)
    workers = os.environ.get("COURSE_WORKERS", "logical")
    command = [sys.executable, "-m", "pytest", "-n", workers, f"--junitxml={report}"]
    with log.open("w") as text:
        code = subprocess.run(
            [*command, *map(str, chapters)],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=text,
            stderr=subprocess.STDOUT,
        ).returncode
    found = rows(report) if report.is_file() else []
    missing = {path.stem for path in chapters} - {row.chapter for row in found}
    if missing or (code != 0) != any(row.failed for row in found):
        last = (log.read_text().strip().splitlines() or [""])[-1]
        raise RuntimeError(f"pytest gave {code}: {last} (see {log.relative_to(ROOT)})")
    return found


def chosen(names: list[str]) -> list[Path]:
    """The notebooks of these names (``03_tensors`` or ``03``); all if there is none.

    Raises:
        ValueError: no such chapter.
    """
    every = sorted(CHAPTERS.glob("*.ipynb"))
    picked = []
    for name in names:
        stem = name.removeprefix("chapters/").removesuffix(".ipynb")
        fits = [p for p in every if p.stem == stem or p.stem.split("_")[0] == stem]
        if not fits:
            raise ValueError(f"no chapter {name!r}")
        picked += [path for path in fits if path not in picked]
    return picked or every


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m booktools.instruments")
    parser.add_argument("instrument", choices=["noise", "device"])
    parser.add_argument("--seeds", nargs="*", default=[], help="one run for each")
    parser.add_argument("--chapters", nargs="*", default=[], help="default: all")
    options = parser.parse_args(arguments)
    runs: dict[str, dict[str, str]] = {}
    seeds = [seed for text in options.seeds for seed in text.split()]
    if options.instrument == "device":
        from booktools import standin

        if reason := standin.lacking():
            print(f"device: skipped: {reason}")
            return 0
        for seed in seeds or [""]:
            runs["-".join(["device", *seed.split()])] = {DEVICE: STANDIN, NOISE: seed}
    else:
        runs = {
            f"noise-{seed}": {NOISE: seed, DEVICE: "cpu"} for seed in seeds or "123"
        }
    results = {}
    try:
        for variables in runs.values():
            if reason := problem(variables):
                raise ValueError(reason)
        chapters = chosen(options.chapters)
        for label, variables in runs.items():
            results[label] = compare(label, variables, chapters)
            for row in results[label]:
                print(f"{label}  {row.text}", flush=True)
    except (ValueError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    held = sum(row.held for found in results.values() for row in found)
    failed = sum(len(row.failed) for found in results.values() for row in found)
    print(
        f"{options.instrument}: {held} of {held + failed} cells hold, "
        f"{len(chapters)} chapters, {len(runs)} runs"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
