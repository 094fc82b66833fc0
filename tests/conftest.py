"""Settings of every test run: no skip goes unnoticed, and how long Hypothesis searches."""

from __future__ import annotations

import os
import re

import hypothesis
import pytest

# Reasons for which a test may be skipped, as regular expressions for `re.search`: each a fact about the
# machine that no change to this project can mend. Anything else that is skipped fails the run.
ALLOWED_SKIPS: tuple[str, ...] = ()

# Choose one with CCM_TEST_PROFILE. A test that needs other numbers says so relative to these, or
# the longer profiles do not reach it. CI asks whether a change broke something, so it draws the same
# examples every time; new ones are drawn by everybody's own runs and by the long ones.
PROFILES = {
    "default": hypothesis.settings(
        max_examples=50, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
}
PROFILES["ci"] = hypothesis.settings(
    PROFILES["default"], max_examples=100, print_blob=True, derandomize=True, database=None
)
PROFILES["torture"] = hypothesis.settings(
    PROFILES["default"], max_examples=5000, stateful_step_count=100, print_blob=True
)

for _name, _profile in PROFILES.items():
    hypothesis.settings.register_profile(_name, _profile)
hypothesis.settings.load_profile(
    os.environ.get("CCM_TEST_PROFILE", "ci" if "CI" in os.environ else "default")
)


class SkipGuard:
    """Fails the run when a test was skipped for a reason that is not allowed, and says which."""

    def __init__(self) -> None:
        self._unexpected: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not hasattr(report, "wasxfail"):  # an expected failure is reported as skipped, too
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            if not any(re.search(allowed, reason) for allowed in ALLOWED_SKIPS):
                self._unexpected[report.nodeid] = reason

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        passed = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if self._unexpected and session.exitstatus in passed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._unexpected:
            terminalreporter.section("unexpected skips (a failure; see ALLOWED_SKIPS)", red=True)
            for nodeid, reason in self._unexpected.items():
                terminalreporter.line(f"{nodeid}: {reason}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--allow-skips", action="store_true", help="pass although tests were skipped")


def pytest_configure(config: pytest.Config) -> None:
    # With pytest-xdist the workers' reports reach the process that started them: it alone decides.
    if not config.getoption("--allow-skips") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipGuard(), "ccm-skip-guard")
