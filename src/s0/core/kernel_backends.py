"""What runs when a mixer calls its kernel: a package's function, or transformers' own in PyTorch.

transformers (5.23, 5.24) settles that when it imports a model's code, by what is installed then, and keeps it in the
closure of what mixers call. So it can be told, and changed, for all models of that code in the process at once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from types import CellType

import torch
from torch import nn

from s0.core.families import find_mixers, kernel_globals
from s0.core.recurrences import GATED_DELTA_NET, Kernel
from s0.errors import EngineError, UnsupportedModelError

TORCH = "torch"
"""What `packages_of` calls transformers' own functions."""
HOPPER = 9
"""The major number of the compute capability of H100 and H200, among the cards of NVIDIA."""
GOOD_TRITON = (3, 7, 1)
_WRONG_TRITON = (3, 4)


def implementation_of(kernel: Kernel) -> Kernel | None:
    """What runs when a mixer calls `kernel`. None for a function that keeps nothing of that name."""
    cell = _closure(_settled(kernel)).get("implementation")
    implementation: Kernel | None = None if cell is None else cell.cell_contents
    return implementation


def kernels_of(model: nn.Module) -> dict[str, Kernel]:
    """The kernels that the recurrent mixers of `model` can call, by name; none where it has no such mixer."""
    try:
        mixers = find_mixers(model).values()
    except UnsupportedModelError:
        return {}
    namespace = kernel_globals(next(iter(mixers)))
    return {
        name: value for name, value in namespace.items() if callable(value) and implementation_of(value) is not None
    }


def packages_of(model: nn.Module) -> dict[str, str]:
    """The package that runs each kernel of `model`'s mixers, by the kernel's name; "torch" for transformers' own."""
    runs = {name: implementation_of(kernel) for name, kernel in kernels_of(model).items()}
    packages = {name: kernel.__module__.partition(".")[0] for name, kernel in runs.items() if kernel is not None}
    return {name: TORCH if package == "transformers" else package for name, package in packages.items()}


def versions_of(packages: Iterable[str]) -> str:
    """Packages of kernels with their versions, and that of Triton, which compiles them, where it is installed.

    Without a package there is nothing to tell, whether Triton is installed or has been imported or not.
    """
    named = sorted(packages)
    compilers = ["triton"] if named and find_spec("triton") is not None else []
    return ", ".join(map(_with_version, [*named, *compilers]))


@cache
def _with_version(package: str) -> str:
    distributions = packages_distributions().get(package, ())  # fla comes with fla-core, say
    return " ".join([package, *(version(name) for name in dict.fromkeys(distributions))])


@contextmanager
def torch_path(model: nn.Module) -> Iterator[None]:
    """Within it, all kernels of `model`'s mixers are transformers' own functions in PyTorch: slow, and always right.

    So they are for any other model of the same code in the process, on all threads: only one thread may be in it, and
    what takes that path for good within it does so until it ends.
    """
    before = [(cell, cell.cell_contents) for cells in _cells_of(model) for cell in cells.values()]
    try:
        take_torch_path(model)
        yield
    finally:
        for cell, content in before:
            cell.cell_contents = content


def take_torch_path(model: nn.Module) -> None:
    """From now on, and to the end of the process, run all kernels of `model`'s mixers as within `torch_path`."""
    for cells in _cells_of(model):
        own = cells["torch_function"].cell_contents
        cells["implementation"].cell_contents = own
        cells["applicable_params"].cell_contents = tuple(inspect.signature(own).parameters)
        cells["is_new_implementation"].cell_contents = False


def refuse_wrong_gradients(model: nn.Module) -> None:
    """Refuse to train `model` where the gradient is known to be wrong: see `refuse_wrong_gradient`."""
    try:
        mixers = find_mixers(model).values()
    except UnsupportedModelError:
        return
    for mixer in mixers:
        refuse_wrong_gradient(mixer)


def refuse_wrong_gradient(mixer: nn.Module) -> None:
    """Refuse to let a state learn through `mixer` where its gradient is known to be wrong.

    There fla 0.5 and 0.6 raise an error in the middle of a step, and older ones give a wrong gradient without a word
    (flash-linear-attention, issue 640). So it is refused before the first step.

    Raises:
        EngineError: it runs GatedDeltaNet by flash-linear-attention, on a Hopper GPU, with Triton 3.4 to 3.7.0 and
            without tilelang.
    """
    is_rocm = torch.version.hip is not None  # its cards, CDNA 2 and 3, call themselves 9.0 and 9.4, too
    if is_rocm or not any(major == HOPPER for major, _ in _capabilities(mixer)):
        return
    kernel = kernel_globals(mixer).get(GATED_DELTA_NET.recognised_by)
    runs = None if kernel is None else implementation_of(kernel)
    if runs is not None and runs.__module__.startswith("fla.") and _triton_is_wrong():
        raise EngineError(
            "expected Triton >= 3.7.1, or < 3.4, or tilelang beside it, got Triton "
            f"{'.'.join(map(str, _release('triton')))} on a Hopper GPU, where the gradient of flash-linear-attention's "
            "gated delta rule is wrong (its issue 640); pip install 'triton>=3.7.1' or tilelang, or train on PyTorch's "
            "own functions, which are slower: --kernels torch, or load_model(..., kernels='torch')"
        )


@cache
def _triton_is_wrong() -> bool:
    """Whether the Triton that is installed makes a wrong kernel; read once, since layers ask at every call."""
    return _WRONG_TRITON <= _release("triton") < GOOD_TRITON and find_spec("tilelang") is None


def _capabilities(mixer: nn.Module) -> set[tuple[int, int]]:
    devices = {parameter.device for parameter in mixer.parameters() if parameter.device.type == "cuda"}
    return {torch.cuda.get_device_capability(device) for device in devices}


def _release(package: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in re.findall(r"\d+", version(package))[:3])
    except PackageNotFoundError:
        return ()


def _cells_of(model: nn.Module) -> list[Mapping[str, CellType]]:
    """What transformers has settled, for each kernel of `model`'s mixers."""
    return [_closure(_settled(kernel)) for kernel in kernels_of(model).values()]


def _settled(kernel: Kernel) -> Kernel:
    """The function around `kernel`'s implementation, behind whatever lies around it."""
    settled: Kernel = inspect.unwrap(kernel, stop=lambda function: "implementation" in _closure(function))
    return settled


def _closure(function: Kernel) -> Mapping[str, CellType]:
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    return {} if code is None or cells is None else dict(zip(code.co_freevars, cells, strict=True))
