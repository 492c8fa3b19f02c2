"""One thread, no network, quiet libraries, reproducible properties. Set before anything imports torch."""

import os
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import HealthCheck, settings


def pytest_addoption(parser: pytest.Parser) -> None:
    """What .ci/run asks for."""
    parser.addoption(
        "--allowed-skips",
        type=Path,
        metavar="FILE",
        help="fail where a test skips for a reason that no line of FILE allows (REASON  # WHY, * for anything)",
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hold the skips of all workers against the list."""
    path = session.config.getoption("--allowed-skips")
    if path is None or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    allowed = [line.partition("  # ")[0] for line in path.read_text(encoding="utf-8").splitlines() if "  # " in line]
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in reporter.stats.get("skipped", [])}
    reasons |= {f"expected to fail: {report.nodeid}" for report in reporter.stats.get("xfailed", [])}
    unknown = sorted(reason for reason in reasons if not any(fnmatchcase(reason, pattern) for pattern in allowed))
    if unknown:
        reporter.write_line(f"\nskipped for reasons that {path} does not allow: {unknown}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is tried here and put into the temporary folder, by processes too, goes with pytest's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("tmp")))
        patch.setattr(tempfile, "tempdir", None)
        yield


def pytest_configure(config: pytest.Config) -> None:
    """PEFT still calls names of transformers' that are on their way out."""
    config.addinivalue_line("filterwarnings", "ignore:.*is deprecated and will be removed in v6:FutureWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take minutes run when they are asked for."""
    if not config.option.markexpr:
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes: make test-slow"))


settings.register_profile(
    "s0",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("s0")
