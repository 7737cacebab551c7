"""Tests on devices in the lab, reported here: the two sides of pytest's `--simmig-lab`.

This side leaves out the tests that need devices, and when the others are done boots the lab, where the same
pytest runs these alone. That side writes each report to a file below the current directory, which the lab shares;
here they count as if they had been made here, so that there is one summary and one exit status.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from simmig.verify.testing import MARK

DEVICES = "rxe0,rxe1"
_LOOK_S = 0.2
_RAN = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


def _split(items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Those that need devices, and the others."""
    need = [item for item in items if item.get_closest_marker(MARK) is not None]
    return need, [item for item in items if item not in need]


class Inside:
    """The lab's side: the tests that need devices, and nothing else."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._path = Path(config.getoption("--simmig-reports"))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what was run outside."""
        items[:], _ = _split(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell the other side."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(data, default=str) + "\n")


class Outside:
    """This side. Under pytest-xdist its workers leave tests out, and its controller boots the lab."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._is_worker = hasattr(config, "workerinput")
        self._known: list[pytest.Item] | None = None
        self._reported: set[str] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out what is for the lab."""
        self._known, items[:] = _split(items)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """The tests of this side, then the lab's."""
        result = yield
        if not self._is_worker and not session.config.option.collectonly and self._known != []:
            self._run_in_lab(session)
        return result

    def _run_in_lab(self, session: pytest.Session) -> None:
        here = Path.cwd()
        self._say("booting the lab for the tests on devices (under KVM seconds, emulated about a minute)")
        shared = Path(tempfile.mkdtemp(prefix=".simmig-lab-", dir=here))
        try:
            reports, output = shared / "reports", shared / "output"
            reports.touch()
            with output.open("wb") as sink:
                process = subprocess.Popen(self._command(reports), stdout=sink, stderr=subprocess.STDOUT)
            try:
                for data in _lines(reports, process):
                    self._take(session, data)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
            self._check(process.returncode, output.read_text(errors="replace"))
        finally:
            shutil.rmtree(shared, ignore_errors=True)

    def _command(self, reports: Path) -> list[str]:
        """The same pytest, in the lab; it has no other processes there, and no others' files to write."""
        arguments = [str(argument) for argument in self._config.invocation_params.args]
        if self._config.pluginmanager.hasplugin("xdist"):
            arguments.append("-n0")
        arguments += ["--simmig-devices", DEVICES, "--simmig-reports", str(reports), "-q", "--no-header"]
        path = [] if os.getcwd() in map(os.path.abspath, sys.path) else ["-P"]  # as this one was started
        pytest_there = [sys.executable, *path, "-m", "pytest", *arguments]
        return [sys.executable, "-m", "simmig.cli", "lab", "run", "--", *pytest_there]

    def _take(self, session: pytest.Session, data: dict[str, Any]) -> None:
        report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
        if report.nodeid not in self._reported:
            self._reported.add(report.nodeid)
            session.testscollected += 1
        self._config.hook.pytest_runtest_logreport(report=report)

    def _check(self, status: int, output: str) -> None:
        """Whatever was to run in the lab has run there, or this run of tests fails."""
        missing = [item.nodeid for item in self._known or () if item.nodeid not in self._reported]
        stopped = self._config.getoption("maxfail") and status == pytest.ExitCode.TESTS_FAILED
        if status in _RAN and (not missing or stopped):
            return
        told = f"the lab ended with status {status}" if status not in _RAN else f"not run: {', '.join(missing)}"
        pytest.exit(f"tests on devices did not run in the lab: {told}\n{output[-4000:]}", returncode=1)

    def _say(self, text: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(f"simmig: {text}")


def _lines(path: Path, process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """The reports as they come, until the process has ended and all are read."""
    with path.open(encoding="utf-8") as file:
        line = ""
        while True:
            over = process.poll() is not None
            while piece := file.readline():
                line += piece
                if line.endswith("\n"):
                    yield json.loads(line)
                    line = ""
            if over:
                return
            time.sleep(_LOOK_S)
