"""The releases of transformers that this library says it knows are those it is installed and tested with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s0.core import releases
from s0.core.releases import CACHE_NAMES, NEWEST, OLDEST, cache_name, cache_of, call_arguments, check_release
from s0.core.releases import drops_prefixes as drops
from tests import forking
from tests.installed import AT_THE_NEWEST

ROOT = Path(__file__).parents[1]


def pins(path: str) -> dict[str, str]:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))


def test_what_is_installed_and_tested_is_what_the_constants_say() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (asked,) = re.findall(r'"transformers(>.*)"', project)
    assert asked == f">={OLDEST[0]}.{OLDEST[1]},<{NEWEST[0]}.{NEWEST[1] + 1}"
    oldest, newest = pins("constraints.txt"), pins("constraints-newest.txt")
    assert oldest["transformers"].startswith("{}.{}.".format(*OLDEST))
    assert newest["transformers"].startswith("{}.{}.".format(*NEWEST))
    builds_on = {"transformers", "peft", "trl", "tokenizers", "accelerate"}
    assert {name: pin for name, pin in oldest.items() if name not in builds_on} == {
        name: pin for name, pin in newest.items() if name not in builds_on
    }


def test_an_older_release_is_refused() -> None:
    with pytest.raises(
        ImportError, match=r"transformers >= 5\.23.*found 5\.22\.2: pip install 'transformers>=5\.23,<5\.25'"
    ):
        check_release("5.22.2")


@pytest.mark.parametrize("installed", ["5.23.0", "5.24.0", "5.24.3", "5.24.0.dev0"])
def test_a_known_release_goes_without_a_word(installed: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_release(installed)


@pytest.mark.parametrize("installed", ["5.25.0", "6.0.0rc1"])
def test_a_release_beyond_is_no_more_than_warned_about(installed: str) -> None:
    with pytest.warns(
        UserWarning, match=rf"tested with transformers 5\.23 to 5\.24.*{installed}.*`s0 verify MODEL`"
    ) as seen:
        check_release(installed)
    assert len(seen) == 1


def taking(names: str) -> Callable[..., Any]:
    made: dict[str, Any] = {}
    exec(f"def forward(self, input_ids=None, {names}=None, **kwargs): ...", made)
    forward: Callable[..., Any] = made["forward"]
    return forward


@pytest.mark.parametrize("name", CACHE_NAMES)
def test_a_cache_is_found_under_any_of_its_names(name: str) -> None:
    assert cache_name(taking(name)) == name
    assert cache_of({"logits": 1, name: 2}) == 2
    assert call_arguments(taking(name), (1, 2, 3), {"use_cache": True}) == {
        **dict(zip(("self", "input_ids", name), (1, 2, 3), strict=True)),
        "use_cache": True,
    }


def test_what_has_no_cache_has_none() -> None:
    assert cache_name(taking("states")) is None
    assert cache_of({"logits": 1}) is None


def test_a_prefix_is_dropped_only_by_old_peft_beside_new_transformers() -> None:
    assert drops(taking("cache"), "0.21.2")
    assert not drops(taking("cache"), "0.22.0")
    assert not drops(taking("past_key_values"), "0.21.2")


def test_the_warning_comes_once_at_import() -> None:
    code = (
        "import importlib.metadata as m; real = m.version;"
        "m.version = lambda name: '5.99.0' if name == 'transformers' else real(name);"
        "import s0; from s0 import load_model; import s0.core.releases"
    )
    done = forking.run(code)
    assert done.stderr.count("s0-tuning was tested with transformers") == 1


def test_a_command_on_an_older_release_ends_in_one_line() -> None:
    code = (
        "import importlib.metadata as m; real = m.version;"
        "m.version = lambda name: '5.22.2' if name == 'transformers' else real(name);"
        "import sys; sys.argv = ['s0', 'inspect', 'pocket:gdn']; from s0_cli import main; main()"
    )
    done = forking.run(code)
    assert done.returncode == 1
    assert done.stderr.startswith("error: s0-tuning needs transformers >= 5.23") and done.stderr.count("\n") == 1


@pytest.mark.skipif(not AT_THE_NEWEST, reason="the newest release says more of what is on its way out")
def test_no_command_of_ours_is_on_its_way_out(tmp_path: Path) -> None:
    # In processes of their own: the filters of this suite would hide the warnings.
    (tmp_path / "examples.jsonl").write_text('{"prompt": "def one():\\n", "completion": "    return 1\\n"}\n' * 4)
    rows = [f'{{"prompt": "{i} + 1 = ", "answer": "{i + 1}"}}\n' for i in range(3)]
    (tmp_path / "own.jsonl").write_text("".join(rows))
    commands = [
        "train --model pocket:gdn --examples examples.jsonl --n-steps 1 --out state",
        "train --model pocket:gdn --examples examples.jsonl --n-steps 1 --method lora --out lora",
        "eval --model pocket:gdn --state state --state lora --task own --data own.jsonl --max-new-tokens 4",
        "generate --model pocket:gdn --state state --max-new-tokens 3 def",
    ]
    environment = {**os.environ, "TRANSFORMERS_VERBOSITY": "warning"}
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-W", "default::FutureWarning", "-m", "s0_cli", *command.split()],
            cwd=tmp_path, capture_output=True, text=True, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        assert "FutureWarning" not in done.stderr and "`cache` instead" not in done.stderr, (command, done.stderr)
        assert "gemm_4bit_forward" not in done.stderr, (command, done.stderr)


def test_only_releases_tells_one_release_from_another() -> None:
    core = Path(releases.__file__).parent
    for path in {*core.glob("*.py")} - {core / "releases.py"}:
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text(encoding="utf-8"))
        assert not re.search(r"\b(past_key_values|cache_params|__version__)\b", code), path
