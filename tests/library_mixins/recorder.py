"""pytest plugin: how each test ended, and why it was skipped -> a JSON file (`--outcomes`)."""

import json
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the place of the file."""
    parser.addoption("--outcomes", type=Path, required=True)


def pytest_configure(config: pytest.Config) -> None:
    """Record into the file of `--outcomes`."""
    config.pluginmanager.register(Recorder(config.getoption("outcomes")))


class Recorder:
    """One entry a test: {"outcome", "subtests", "reason", "file"}, the last two if skipped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one report; a test has several, one of each phase and of each subtest."""
        test = self.tests.setdefault(report.nodeid, {"outcome": "passed", "subtests": 0})
        is_subtest = hasattr(report, "context")
        if report.failed:
            test["outcome"] = "failed"
        elif report.skipped and not is_subtest and test["outcome"] == "passed":
            file, _, reason = report.longrepr
            reason = reason.removeprefix("Skipped: ")
            test |= {"outcome": "skipped", "reason": reason, "file": Path(file).name}
        elif is_subtest and report.passed:
            test["subtests"] += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be read is a failure."""
        if report.failed:
            self.tests[report.nodeid] = {"outcome": "failed", "subtests": 0}

    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        self.path.write_text(json.dumps(self.tests), encoding="utf-8")
