"""What the tests cost, in CPU-seconds, and in which order they start.

A test's cost is the CPU time of the process that runs it and of all its children, a
chapter's kernel among them. Seconds here times the machine's factor
(:mod:`benchmarks.yardstick`) are *reference seconds*, so that a budget means the same
everywhere.

- ``pytest --costs`` (part of ``make test``) prints the factor, the ten dearest tests,
  the chapters, and the sum of each part.
- ``pytest --update-costs`` (``make costs``) records what each file cost in
  ``tests/costs.json``, which tells what was measured from what was estimated.
- Under ``-n`` the dearest files start first, by that table; a file that is not in it
  comes before all others.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil
import pytest

__all__ = [
    "CostsPlugin",
    "by_cost",
    "contradicted",
    "cpu_seconds",
    "measured",
    "read_table",
]

TABLE = Path("tests", "costs.json")
ESTIMATED, MEASURED = "estimated", "measured"
DEAREST = 10


def cpu_seconds() -> float:
    """CPU time of this process and of all its children, ended ones included."""
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # ended just now: counted with its parent from now on
        total += times.user + times.system
        total += getattr(times, "children_user", 0.0)
        total += getattr(times, "children_system", 0.0)
    return total


def read_table(root: Path) -> dict[str, float]:
    """Reference seconds of each test file, by its path; empty where there is no table.

    Raises:
        ValueError: the table is not a mapping of paths to numbers.
    """
    return {
        path: cost for part in _tables(root).values() for path, cost in part.items()
    }


def measured(root: Path) -> dict[str, float]:
    """The same, of the files whose costs ``make costs`` has measured."""
    return _tables(root)[MEASURED]


def _tables(root: Path) -> dict[str, dict[str, float]]:
    try:
        table = json.loads((root / TABLE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        table = {}
    parts = {ESTIMATED: {}, MEASURED: {}}
    wrong = ValueError(f"{TABLE} must map paths to numbers, got {table!r:.80}")
    if not isinstance(table, dict):
        raise wrong
    if any(not isinstance(value, dict) for value in table.values()):
        table = {ESTIMATED: table}  # no word on where the numbers come from
    for name, part in table.items():
        if name not in parts or not all(
            isinstance(v, (int, float)) for v in part.values()
        ):
            raise wrong
        parts[name] = part
    return parts


def contradicted(stated: float, cost: float) -> bool:
    """Whether a measured cost is more than twice, or less than half, what is stated."""
    return not stated / 2 <= cost <= 2 * stated


def by_cost(files: Iterable[str], table: Mapping[str, float]) -> list[str]:
    """The files, the dearest first; unknown ones before all, each once."""
    unique = dict.fromkeys(files)
    return sorted(unique, key=lambda file: -table.get(file, math.inf))


def file_of(nodeid: str) -> str:
    return nodeid.split("::", 1)[0]


def pytest_addoption(parser):
    group = parser.getgroup("costs")
    group.addoption(
        "--costs", action="store_true", help="print what the tests cost in CPU-seconds"
    )
    group.addoption(
        "--update-costs",
        action="store_true",
        help=f"the same, and record the files' costs in {TABLE}",
    )


def pytest_configure(config):
    if config.option.costs or config.option.update_costs:
        config.pluginmanager.register(CostsPlugin(config), "book-costs")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Under ``-n``: a long file that starts last would keep one core busy alone."""
    if not hasattr(config, "workerinput"):
        return
    files = by_cost([file_of(i.nodeid) for i in items], read_table(config.rootpath))
    place = {file: number for number, file in enumerate(files)}
    items.sort(key=lambda item: place[file_of(item.nodeid)])  # keeps a file's order


class CostsPlugin:
    """Measures each test where it runs; adds up and prints in the first process."""

    def __init__(self, config):
        self.config = config
        self.costs: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.workers_total = 0.0
        self.yardstick: dict[str, float] = {}

    @property
    def is_worker(self) -> bool:
        return hasattr(self.config, "workerinput")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session):
        if not self.is_worker:  # before the workers start, which would slow it down
            from benchmarks import yardstick

            self.yardstick = yardstick.measure()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item):
        self.start = cpu_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item):
        try:
            return (yield)
        finally:
            item.user_properties.append(("cpu", cpu_seconds() - self.start))

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown":
            for name, seconds in report.user_properties:
                if name == "cpu":
                    self.costs[report.nodeid] = seconds

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        if self.is_worker:
            self.config.workeroutput["cpu"] = cpu_seconds()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error):
        self.ended[node.gateway.id] = time.perf_counter()
        self.workers_total += getattr(node, "workeroutput", {}).get("cpu", 0.0)

    def pytest_terminal_summary(self, terminalreporter):
        if self.is_worker or not self.costs:
            return
        from benchmarks import yardstick

        factor = yardstick.factor(self.yardstick)
        write = terminalreporter.write_line
        terminalreporter.section("what the tests cost, in reference CPU-seconds")
        write(yardstick.describe(self.yardstick))
        total = self.workers_total if self.ended else cpu_seconds()
        for line in report(self.costs, total, factor, list(self.ended.values())):
            write(line)
        if self.config.option.update_costs:
            write(f"recorded in {update(self.config.rootpath, self.costs, factor)}")


def report(
    costs: Mapping[str, float], total: float, factor: float, ended: list[float]
) -> list[str]:
    """The lines to print.

    Args:
        costs: CPU-seconds of each test here, by its node id.
        total: CPU-seconds of all processes that ran tests, collection included.
        factor: this machine's speed, the reference's is 1.
        ended: when each worker ended, in seconds of any clock.
    """
    files = per_file(costs)
    tests = {k: v for k, v in costs.items() if not file_of(k).endswith(".ipynb")}
    dearest = sorted(tests.items(), key=lambda row: -row[1])[:DEAREST]
    chapters = {k: v for k, v in files.items() if k.endswith(".ipynb")}
    lines = [f"the {DEAREST} dearest tests:"] if dearest else []
    lines += [f"{v * factor:8.1f} s  {k}" for k, v in dearest]
    lines += ["chapters:"] if chapters else []
    lines += [
        f"{chapters[k] * factor:8.1f} s  {k}" for k in by_cost(chapters, chapters)
    ]
    lines.append("parts:")
    parts: dict[str, float] = {}
    for file, seconds in files.items():
        part = str(Path(file).parent)
        parts[part] = parts.get(part, 0.0) + seconds
    parts["start, imports, collection"] = max(0.0, total - sum(parts.values()))
    lines += [f"{v * factor:8.1f} s  {k}" for k, v in parts.items()]
    lines.append(
        f"{total * factor:8.1f} s  in all: {total * factor / 60:.1f} CPU-minutes of "
        f"the reference, {total / 60:.1f} here"
    )
    if len(ended) > 1:
        lines.append(f"the workers ended {max(ended) - min(ended):.0f} s apart")
    return lines


def per_file(costs: Mapping[str, float]) -> dict[str, float]:
    """The sum over the tests of each file."""
    files: dict[str, float] = {}
    for nodeid, seconds in costs.items():
        files[file_of(nodeid)] = files.get(file_of(nodeid), 0.0) + seconds
    return files


def update(root: Path, costs: Mapping[str, float], factor: float) -> Path:
    """Record the costs of the files that ran; those that are gone leave the table."""
    parts = _tables(root)
    now = {file: round(cost * factor, 1) for file, cost in per_file(costs).items()}
    for file in now:
        parts[ESTIMATED].pop(file, None)
    parts[MEASURED] |= now
    kept = {
        name: {file: part[file] for file in sorted(part) if (root / file).is_file()}
        for name, part in parts.items()
    }
    text = json.dumps({name: part for name, part in kept.items() if part}, indent=1)
    (root / TABLE).write_text(f"{text}\n", encoding="utf-8")
    return TABLE
