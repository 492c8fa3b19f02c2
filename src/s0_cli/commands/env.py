"""`s0 env` and `s0 --version`: on what this runs, as a report of a fault has to tell."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from s0_cli import options
from s0_cli.exits import in_one_line, put

_PACKAGES = ("s0-tuning", "torch", "transformers", "peft", "accelerate", "safetensors")
_OF_KERNELS = ("flash-linear-attention", "mamba-ssm", "causal-conv1d", "triton", "kernels")
_TORCH = "transformers' own, in PyTorch"


def print_version(asked: bool) -> None:
    """What `--version` does."""
    if asked:
        put(f"s0-tuning {version('s0-tuning')}")
        raise typer.Exit


@in_one_line
def env(as_json: options.Json = False) -> None:
    """Tell what this runs on: versions, devices, kernels, sandbox. A report of a fault should have it.

    Example: s0 env
    """
    facts = environment()
    if as_json:
        put(json.dumps(facts, ensure_ascii=False))
    else:
        _show(facts)


def environment() -> dict[str, Any]:
    """What this runs on.

    Returns:
        `versions`: of packages, those for kernels where they are installed; `python`, `platform`; `cpus`: how many this
        process may use; `devices`: name and memory of each GPU; `kernels`: see `_kernels`; `sandbox`: the one in force;
        `troubles`: by one of these names, why it cannot be told. Something broken is what such a report is for.
    """
    parts: Mapping[str, Callable[[], Any]] = {"devices": devices, "kernels": _kernels, "sandbox": _sandbox}
    answers: dict[str, Any] = {}
    troubles: dict[str, str] = {}
    for name, tell in parts.items():
        try:
            answers[name] = tell()
        except Exception as error:
            answers[name], troubles[name] = None, f"{type(error).__name__}: {error}"
    return {
        "kind": "env",
        "versions": _versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **answers,
        "troubles": troubles,
    }


def _versions() -> dict[str, str | None]:
    numbers = {name: _version(name) for name in (*_PACKAGES, *_OF_KERNELS)}
    return {name: number for name, number in numbers.items() if number or name in _PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def devices() -> list[dict[str, Any]]:
    """The GPUs that are here: `device`, as PyTorch calls it, `name`, and `memory_bytes`."""
    import torch

    gpus: list[dict[str, Any]] = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        gpus.append({"device": f"cuda:{index}", "name": facts.name, "memory_bytes": facts.total_memory})
    if torch.backends.mps.is_available():
        memory = torch.mps.recommended_max_memory()
        gpus.append({"device": "mps", "name": platform.processor(), "memory_bytes": memory})
    return gpus


def _kernels() -> list[dict[str, Any]]:
    """What runs the recurrences here: `kernel` as models call it, `runs`: what that is, `families` with this kernel."""
    from s0.core.families import FAMILIES
    from s0.core.kernel_backends import implementation_of

    families: dict[tuple[str, str], list[str]] = {}
    for family in FAMILIES:
        try:
            code = vars(import_module(f"transformers.models.{family}.modeling_{family}"))
        except ModuleNotFoundError:
            continue  # not in this release of transformers
        for name, kernel in code.items():
            implementation = implementation_of(kernel) if callable(kernel) else None
            if implementation is not None:
                families.setdefault((name, _called(implementation)), []).append(family)
    return [{"kernel": name, "runs": runs, "families": of} for (name, runs), of in sorted(families.items())]


def _called(implementation: Callable[..., Any]) -> str:
    module = str(implementation.__module__)
    return _TORCH if module.startswith("transformers.") else f"{module}.{implementation.__name__}"


def _sandbox() -> str:
    from s0.tasks.sandbox.backends import strongest

    return strongest()


def _show(facts: Mapping[str, Any]) -> None:
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for name, number in {**facts["versions"], "Python": facts["python"]}.items():
        console.print(f"{name}: {number or 'not installed'}")
    console.print(f"platform: {facts['platform']}, {facts['cpus']} CPUs")
    for device in facts["devices"] or ():
        console.print(f"{device['device']}: {device['name']}, {device['memory_bytes'] / 2**30:.1f} GiB")
    if facts["devices"] == []:
        console.print("devices: no GPU")
    kernels = facts["kernels"] or ()
    if kernels and all(row["runs"] == _TORCH for row in kernels):
        console.print(f"kernels: all of them {_TORCH}")
    else:
        for row in kernels:
            console.print(f"kernel {row['kernel']}: {row['runs']} ({', '.join(row['families'])})")
    if facts["sandbox"]:
        console.print(f"sandbox: {facts['sandbox']}")
    for name, trouble in facts["troubles"].items():
        console.print(f"{name}: cannot be told: {trouble}")
