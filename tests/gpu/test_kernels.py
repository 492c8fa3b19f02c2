"""With the kernels that transformers binds on a GPU, a tuned state does what it does on the torch path.

GatedDeltaNet and KDA run on flash-linear-attention, Mamba-2 on mamba-ssm. Everything here needs a CUDA device and the
package in question and is skipped, with the reason, where one is missing.

Left alone, Triton, fla and cuDNN multiply float32 matrices in TF32, which keeps 10 bits: differences of 3e-3 that say
nothing of the state. Here they multiply in float32, so that what is left is the order of sums. Tolerances are relative
to the largest value, and every comparison first asserts that the untouched model is over 100 times as far away.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.qwen3_5 import modeling_qwen3_5

from s0 import S0AdapterConfig
from s0.core.kernel_backends import implementation_of, kernels_of, torch_path
from s0.core.states import state_layers
from s0.errors import EngineError
from tests import zoo
from tests.core.helpers import feed, fill, forward, gradients, logits, loss, pad, tokens

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# Head dims that the matrix products of Triton take, beside the sizes of the zoo: family -> (package, settings). Tokens
# of Kimi go to all experts: of four with equal chances, rounding would change which two they go to.
_GDN = {"hidden_size": 64, "linear_key_head_dim": 32, "linear_value_head_dim": 64}
_MAMBA2 = {"hidden_size": 64, "mamba_d_ssm": 256, "mamba_d_head": 64, "mamba_d_state": 32, "mamba_chunk_size": 64}
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_5": ("fla", _GDN),
    "kimi_linear": ("fla", {"hidden_size": 64, "linear_head_dim": 32, "num_experts_per_tok": 4}),
    "falcon_h1": ("mamba_ssm", _MAMBA2),
}
TOLERANCE = 1e-4
SOLVERS = ("fla.ops.gated_delta_rule.chunk_fwd", "fla.ops.kda.chunk_intra", "fla.ops.utils.solve_tril")


@pytest.fixture(autouse=True, scope="module")
def float32_products() -> Iterator[None]:
    """fla names TF32 itself where it solves triangular systems; all else follows the defaults."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_F32_DEFAULT", "ieee")
        patch.setattr(torch.backends.cudnn, "allow_tf32", False)
        for name in SOLVERS if importlib.util.find_spec("fla") else ():
            module = importlib.import_module(name)
            patch.setattr(module, "SOLVE_TRIL_DOT_PRECISION", module.tl.constexpr("ieee"), raising=False)
        yield


def model_of(family: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """As `zoo.make`: slow decays, so that the state is alive at every position."""
    model_type, settings = zoo.TUNABLE[family]
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**zoo._COMMON, **settings, **SETTINGS[family][1]})
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "A_log" in name:
                weight.fill_(-2.5)
            elif "dt_bias" in name:
                weight.fill_(-2.0)
            elif weight.ndim >= 2:
                weight.copy_(torch.randn(weight.shape) * (0.4 if "conv" in name else 0.6 / weight.shape[-1] ** 0.5))
    return model.to(DEVICE, dtype).eval()


def tuned(family: str, dtype: torch.dtype = torch.float32) -> PeftModel:
    model = get_peft_model(model_of(family, dtype), S0AdapterConfig())
    fill(model)
    return model


def assert_close(got: Tensor, want: Tensor, stock: Tensor, tolerance: float = TOLERANCE) -> None:
    size = want.abs().max().item()
    distance = (want - stock).abs().amax(-1).min().item()
    assert distance > 100 * tolerance * size, f"the state has died out ({distance / size:.2g})"
    torch.testing.assert_close(got, want, atol=tolerance * size, rtol=0)


def assert_close_gradient(got: Tensor, want: Tensor, tolerance: float = 1e-2) -> None:
    assert got.dtype == torch.float32 and want.abs().max() > 1e-3
    assert (got - want).norm() < tolerance * want.norm()


def ids_of(rows: int, length: int, seed: int = 0) -> Tensor:
    return tokens(rows, length, seed).to(DEVICE)


@torch.no_grad()
def stock_logits(model: PeftModel, ids: Tensor) -> Tensor:
    with model.disable_adapter():
        return logits(model, ids)


@pytest.fixture(params=SETTINGS)
def family(request: pytest.FixtureRequest) -> str:
    package = SETTINGS[request.param][0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{request.param} runs on {package}, which is not installed")
    return str(request.param)


def test_the_package_is_what_runs(family: str) -> None:
    """Else every other test here would compare the torch path with itself."""
    model, ids = tuned(family), ids_of(1, 70)
    kernel = next(kernel for name, kernel in kernels_of(model).items() if "chunk" in name)
    runs = implementation_of(kernel)
    assert runs is not None and runs.__module__.split(".")[0] == SETTINGS[family][0]
    with torch.no_grad():
        got = logits(model, ids)
        with torch_path(model):
            assert not torch.equal(got, logits(model, ids))


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 7, 70])
def test_logits_are_those_of_the_torch_path(family: str, length: int) -> None:
    model, ids = tuned(family), ids_of(2, length)
    with torch_path(model):
        want = logits(model, ids)
    assert_close(logits(model, ids), want, stock_logits(model, ids))


@pytest.mark.parametrize("length", [1, 7, 70])
def test_the_gradient_is_that_of_the_torch_path(family: str, length: int) -> None:
    model, ids = tuned(family), ids_of(2, length + 1)

    def gradient() -> Tensor:
        output = logits(model, ids[:, :length])
        return gradients(model, nn.functional.cross_entropy(output.flatten(0, 1), ids[:, 1:].flatten()))

    with torch_path(model):
        want = gradient()
    assert_close_gradient(gradient(), want)


def test_the_gradient_is_float32_in_a_bfloat16_model(family: str) -> None:
    model, ids = tuned(family), ids_of(2, 70)
    with torch_path(model):
        want = gradients(model, loss(logits(model, ids), ids))
    model.to(torch.bfloat16)
    got = gradients(model, loss(logits(model, ids).float(), ids))
    assert got.dtype == torch.float32
    assert nn.functional.cosine_similarity(got, want, dim=0) > 0.99  # fla's own rounding leaves 0.9996


@torch.no_grad()
@pytest.mark.parametrize("sizes", [(66, 1, 1, 1, 1), (1,) * 5, (33, 37), (1, 69)])
def test_tokens_fed_over_a_cache_give_the_logits_of_the_whole(family: str, sizes: tuple[int, ...]) -> None:
    model, ids = tuned(family), ids_of(2, sum(sizes))
    before = [layer.s0_state["default"].clone() for layer in state_layers(model)]
    with torch_path(model):
        want = logits(model, ids)
    assert_close(feed(model, ids, sizes), want, stock_logits(model, ids))
    for layer, old in zip(state_layers(model), before, strict=True):  # single-step kernels write into their state
        assert torch.equal(layer.s0_state["default"], old)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_are_single_rows_forward_and_backward(family: str, side: str) -> None:
    model, rows = tuned(family), [ids_of(1, 70, seed=1), ids_of(1, 30, seed=2), ids_of(1, 2, seed=3)]
    ids, mask = pad(rows, side)
    batch = logits(model, ids, mask)
    for i, row in enumerate(rows):
        with torch.no_grad(), torch_path(model):
            want = logits(model, row)
        assert_close(batch[i, mask[i].bool()][None], want, stock_logits(model, row))
    with torch_path(model):
        want = sum(gradients(model, loss(logits(model, row), row)) for row in rows)
    assert_close_gradient(gradients(model, loss(batch, ids, mask)), want)


def test_packed_documents_are_refused(family: str) -> None:
    model, ids = tuned(family), ids_of(1, 70)
    borders = {"cu_seq_lens_q": torch.tensor([0, 30, 70], dtype=torch.int32, device=DEVICE)}
    with pytest.raises(EngineError, match="packed"), torch.no_grad():
        forward(model, ids, use_cache=False, **borders)


# --- What the kernels themselves promise: right gradients, and one initial state for each packed document ---


@pytest.mark.parametrize(("heads", "key_dim", "value_dim"), [((2, 2), 32, 64), ((4, 8), 128, 128)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 3e-2)])
def test_every_gradient_of_fla_is_that_of_the_torch_function(
    heads: tuple[int, int], key_dim: int, value_dim: int, dtype: torch.dtype, tolerance: float
) -> None:
    """A state below other layers learns through all of them; rounding to bfloat16 leaves under 1e-2 of each."""
    ops = pytest.importorskip("fla.ops.gated_delta_rule", reason="flash-linear-attention is not installed")
    own = inspect.unwrap(modeling_qwen3_5.torch_chunk_gated_delta_rule)
    generator, length = torch.Generator(DEVICE).manual_seed(0), 70
    few, many = heads

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=DEVICE).to(torch.bfloat16).float()

    inputs = {
        "query": random(2, length, few, key_dim),
        "key": random(2, length, few, key_dim),
        "value": random(2, length, many, value_dim),
        "g": -0.01 * random(2, length, many).abs(),
        "beta": random(2, length, many).sigmoid(),
        "initial_state": random(2, many, key_dim, value_dim),
    }
    weight = random(2, length, many, value_dim)

    def gradients_of(kernel: Callable[..., Any], dtype: torch.dtype) -> dict[str, Tensor]:
        kept = {"g", "initial_state"}  # float32 in a model of any dtype
        leaves = {
            name: value.to(torch.float32 if name in kept else dtype).requires_grad_() for name, value in inputs.items()
        }
        q, k, v, *_ = leaves.values()
        rest = {name: leaves[name] for name in ("g", "beta", "initial_state")}
        output, _ = kernel(q, k, v, **rest, output_final_state=True, use_qk_l2norm_in_kernel=True)
        gradients = torch.autograd.grad((output.float() * weight).sum(), list(leaves.values()))
        return dict(zip(leaves, gradients, strict=True))

    want, got = gradients_of(own, torch.float32), gradients_of(ops.chunk_gated_delta_rule, dtype)
    errors = {name: ((got[name].float() - want[name]).norm() / want[name].norm()).item() for name in want}
    assert max(errors.values()) < tolerance, errors


@pytest.mark.parametrize("name", ["chunk_gated_delta_rule", "chunk_kda"])
def test_fla_starts_every_packed_document_from_its_own_state(name: str) -> None:
    ops = pytest.importorskip(
        "fla.ops.gated_delta_rule" if name == "chunk_gated_delta_rule" else "fla.ops.kda",
        reason="flash-linear-attention is not installed",
    )
    kernel, generator = getattr(ops, name), torch.Generator(DEVICE).manual_seed(0)
    borders, heads, dim = [0, 30, 100, 101], 2, 64

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=DEVICE)

    q, k, v = random(3, 1, borders[-1], heads, dim).unbind()
    decay = (borders[-1], heads) if name == "chunk_gated_delta_rule" else (borders[-1], heads, dim)
    g, beta = -0.01 * random(1, *decay).abs(), random(1, borders[-1], heads).sigmoid()
    states = random(len(borders) - 1, heads, dim, dim).requires_grad_()
    shared = dict(output_final_state=True, use_qk_l2norm_in_kernel=True)
    packed, finals = kernel(
        q, k, v, g=g, beta=beta, initial_state=states, cu_seqlens=torch.tensor(borders, device=DEVICE), **shared
    )
    gradient = torch.autograd.grad(packed.square().sum(), states)[0]
    for i, (start, end) in enumerate(itertools.pairwise(borders)):
        piece = slice(start, end)
        own = states[i : i + 1].detach().requires_grad_()
        parts = [x[:, piece].contiguous() for x in (q, k, v)]
        alone, final = kernel(
            *parts, g=g[:, piece].contiguous(), beta=beta[:, piece].contiguous(), initial_state=own, **shared
        )
        assert own.abs().max() > 1
        torch.testing.assert_close(packed[:, piece], alone, atol=5e-3, rtol=0)
        torch.testing.assert_close(finals[i], final[0], atol=5e-3 * final.abs().max().item(), rtol=0)
        assert_close_gradient(gradient[i], torch.autograd.grad(alone.square().sum(), own)[0][0])
