"""`s0 --version` and `s0 env`: what a report of a fault has to tell."""

from __future__ import annotations

import functools
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest

from s0.core.families import FAMILIES
from s0.core.kernel_backends import implementation_of
from s0_cli.commands import env
from tests.cli.calls import result, s0


def test_the_version_is_told_without_loading_torch() -> None:
    code = (
        "import sys, atexit, s0_cli; sys.argv = ['s0', '--version'];"
        "atexit.register(lambda: print('torch' in sys.modules)); s0_cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.splitlines() == [f"s0-tuning {version('s0-tuning')}", "False"]


def test_env_tells_versions_devices_kernels_and_sandbox() -> None:
    told = result("env")
    assert told["troubles"] == {} and told["cpus"] >= 1 and told["sandbox"]
    for package in ("s0-tuning", "torch", "transformers", "peft", "accelerate", "safetensors"):
        assert told["versions"][package] == version(package)
    kernels = {row["kernel"]: row for row in told["kernels"]}
    families = {family for row in told["kernels"] for family in row["families"]}
    assert families <= {*FAMILIES} and {*FAMILIES} - families <= {"minimax", "lara_mini"}
    assert "qwen3_5" in kernels["torch_chunk_gated_delta_rule"]["families"]
    assert "falcon_h1" in kernels["mamba2_chunk_scan"]["families"]
    shown = s0("env")
    assert shown.returncode == 0 and shown.stdout == ""
    for words in (f"torch: {version('torch')}", "CPUs", "kernel", f"sandbox: {told['sandbox']}"):
        assert words in shown.stderr


def test_what_is_broken_is_told_beside_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no such device")

    monkeypatch.setattr(env, "devices", broken)
    monkeypatch.setattr("s0.tasks.sandbox.backends.BACKENDS", ())
    done = s0("env")
    assert done.returncode == 0 and "devices: cannot be told: RuntimeError: no such device" in done.stderr
    assert "sandbox: cannot be told: SandboxError: expected a machine where" in done.stderr
    assert "no GPU" not in done.stderr and "torch: " in done.stderr


def test_the_kernel_that_runs_is_found_behind_what_lies_around_it() -> None:
    def fast() -> None: ...

    def plain() -> None: ...

    def bound(implementation: Any) -> Any:
        @functools.wraps(plain)
        def wrapped() -> Any:
            return implementation()

        return wrapped

    @functools.wraps(seam_of := bound(fast))
    def seam() -> Any:
        return seam_of()

    assert implementation_of(bound(plain)) is plain
    assert implementation_of(seam) is fast
    assert implementation_of(plain) is None and implementation_of(int) is None
