"""torch's own recurrent layers start from the learned states, exactly as if the caller had passed them."""

from __future__ import annotations

import copy
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from s0 import rnn
from s0.adapter import state_files, tensor_keys
from s0.errors import ConfigError, StateMismatchError, UnsupportedModelError
from s0.rnn import InitialState
from tests import zoo
from tests.core.helpers import tuned

KINDS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "rnn_tanh": (nn.RNN, {}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
    "lstm_proj": (nn.LSTM, {"proj_size": 2}),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
STOCK = {"num_layers": 1, "bidirectional": False, "batch_first": False}
LAYOUTS = [dict(zip(STOCK, values, strict=True)) for values in itertools.product((1, 3), (False, True), (False, True))]
every_layout = pytest.mark.parametrize(
    "layout", LAYOUTS, ids=lambda one: "-".join(str(int(value)) for value in one.values())
)


def layer_of(kind: str, seed: int = 0, **settings: Any) -> Any:
    """A layer in which a state reaches the end: large weights, and positive ones where a relu would cut it off."""
    cls, fixed = KINDS[kind]
    layer, generator = cls(3, 4, **fixed, **settings), torch.Generator().manual_seed(seed)
    low, high = (0.0, 0.3) if kind == "rnn_relu" else (-1.0, 1.0)
    for weight in layer.parameters():
        nn.init.uniform_(weight, low, high, generator=generator)
    return layer


def filled(layer: Any, seed: int = 1, **settings: Any) -> InitialState:
    """Random states in steps of 1/16, so that halving them and small steps from them are exact in float32."""
    wrapped = InitialState(layer, **settings)
    generator = torch.Generator().manual_seed(seed)
    for raw in wrapped.s0_state.values():
        raw.data.copy_(torch.randint(8, 33, raw.shape, generator=generator) / 16)
        raw.data *= torch.randint(2, raw.shape, generator=generator) * 2 - 1
    return wrapped


def explicit(wrapped: InitialState, layer: Any, rows: int | None) -> Any:
    """`hx` as a caller would write it by torch's documentation: layer by layer, direction by direction."""
    stacks = []
    for letter in "hc" if isinstance(layer, nn.LSTM) else "h":
        rows_of = []
        for i in range(layer.num_layers):
            for end in ("", "_reverse") if layer.bidirectional else ("",):
                raw = wrapped.s0_state[f"{letter}_l{i}{end}"].detach()
                rows_of.append(wrapped.alpha * (raw / raw.norm() if wrapped.normalize else raw))
        stack = torch.stack(rows_of)
        stacks.append(stack if rows is None else stack[:, None].repeat(1, rows, 1))
    return tuple(stacks) if len(stacks) == 2 else stacks[0]


def flat(output: Any) -> Tensor:
    """Everything a layer returned, as one vector."""
    sequence, final = output
    return torch.cat([part.flatten() for part in (sequence, *(final if isinstance(final, tuple) else (final,)))])


def inputs(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed))


# --- What enters ---


@every_kind
@every_layout
@torch.no_grad()
def test_it_is_the_layer_with_the_effective_state_as_hx(kind: str, layout: dict[str, Any]) -> None:
    layer = layer_of(kind, **layout)
    wrapped = filled(layer, alpha=0.5)
    for shape, rows in (((5, 5), 5), ((2, 5), 2 if layout["batch_first"] else 5), ((5,), None)):
        x = inputs(*shape)
        got, want = wrapped(x), layer(x, explicit(wrapped, layer, rows))
        assert (want[0] - layer(x)[0]).abs().max() > 0.05
        assert torch.equal(flat(got), flat(want))


@every_kind
@torch.no_grad()
def test_normalize_divides_each_vector_by_its_norm(kind: str) -> None:
    layer = layer_of(kind, num_layers=2, bidirectional=True)
    wrapped, x = filled(layer, alpha=0.7, normalize=True), inputs(4, 2)
    effective = wrapped.effective()
    for part in effective if isinstance(effective, tuple) else (effective,):
        torch.testing.assert_close(part.norm(dim=-1), torch.full((4,), 0.7))
    torch.testing.assert_close(flat(wrapped(x)), flat(layer(x, explicit(wrapped, layer, 2))))


@every_kind
@torch.no_grad()
def test_a_zero_state_is_bit_identical_to_the_layer(kind: str) -> None:
    layer = layer_of(kind, num_layers=2, bidirectional=True)
    for settings in ({}, {"normalize": True}):
        assert torch.equal(flat(InitialState(layer, **settings)(inputs(4, 2))), flat(layer(inputs(4, 2))))


@every_kind
@torch.no_grad()
def test_the_names_say_which_layer_and_direction_starts_there(kind: str) -> None:
    layer = layer_of(kind, num_layers=11, bidirectional=True)  # ten or more: by name, layer 10 sorts before layer 2
    wrapped, x = InitialState(layer), inputs(3, 1)
    half, stock = layer(x)[0].shape[-1] // 2, layer(x)[0]
    wrapped.s0_state["h_l10"].fill_(1.0)
    changed = (wrapped(x)[0] - stock).abs().amax(1) > 1e-3
    assert changed[0, :half].any() and not changed[:, half:].any()
    wrapped.s0_state["h_l10"].zero_()
    wrapped.s0_state["h_l10_reverse"].fill_(1.0)
    changed = (wrapped(x)[0] - stock).abs().amax(1) > 1e-3
    assert changed[-1, half:].any() and not changed[:, :half].any()  # it reads from the last token on
    wrapped.s0_state["h_l10_reverse"].zero_()
    wrapped.s0_state["h_l2"].fill_(1.0)
    assert ((wrapped(x)[0] - stock).abs().amax(1) > 0).all()  # everything above layer 2


@torch.no_grad()
def test_an_lstm_step_by_hand() -> None:
    layer, x = layer_of("lstm"), inputs(4)
    wrapped = filled(layer)
    h, c = wrapped.s0_state["h_l0"].clone(), wrapped.s0_state["c_l0"].clone()
    outputs = []
    for step in x:
        gates = layer.weight_ih_l0 @ step + layer.bias_ih_l0 + layer.weight_hh_l0 @ h + layer.bias_hh_l0
        enter, forget, value, leave = gates.chunk(4)
        c = forget.sigmoid() * c + enter.sigmoid() * value.tanh()
        h = leave.sigmoid() * c.tanh()
        outputs.append(h)
    assert (torch.stack(outputs) - layer(x)[0]).abs().amax(-1).min() > 1e-3
    torch.testing.assert_close(wrapped(x)[0], torch.stack(outputs), atol=1e-5, rtol=0)


@every_kind
@pytest.mark.parametrize("enforce_sorted", [True, False])
@torch.no_grad()
def test_packed_sequences_equal_single_runs(kind: str, enforce_sorted: bool) -> None:
    wrapped = filled(layer_of(kind, num_layers=2, bidirectional=True))
    rows = [inputs(n, seed=n) for n in ((5, 3, 1) if enforce_sorted else (3, 5, 1))]
    packed, final = wrapped(pack_sequence(rows, enforce_sorted=enforce_sorted))
    padded, lengths = pad_packed_sequence(packed)
    for i, row in enumerate(rows):
        alone, alone_final = wrapped(row)
        assert (alone - wrapped.base_layer(row)[0]).abs().amax(-1).min() > 1e-3
        torch.testing.assert_close(padded[: lengths[i], i], alone, atol=1e-5, rtol=0)
        for got, want in zip(*(f if isinstance(f, tuple) else (f,) for f in (final, alone_final)), strict=True):
            torch.testing.assert_close(got[:, i], want, atol=1e-5, rtol=0)


@every_kind
@torch.no_grad()
def test_a_given_hx_wins_so_pieces_equal_the_whole(kind: str) -> None:
    layer, x = layer_of(kind, num_layers=2), inputs(6, 2)
    wrapped = filled(layer)
    first, middle = wrapped(x[:2])
    second, final = wrapped(x[2:], middle)
    assert torch.equal(flat((second, final)), flat(layer(x[2:], middle)))
    assert torch.equal(flat((second, final)), flat(wrapped(x[2:], hx=middle)))
    torch.testing.assert_close(flat((torch.cat([first, second]), final)), flat(wrapped(x)), atol=1e-5, rtol=0)


def test_what_the_layer_refuses_it_refuses_in_its_own_words() -> None:
    layer = layer_of("gru")
    for bad in (torch.zeros(3), torch.zeros(2, 2, 2, 3), torch.zeros(2, 2, 5)):
        with pytest.raises(Exception) as own:
            layer(bad)
        with pytest.raises(own.type, match=re.escape(str(own.value))):
            InitialState(layer)(bad)


# --- Gradients and training ---


@every_kind
@pytest.mark.parametrize("normalize", [False, True])
def test_the_gradient_is_the_slope(kind: str, normalize: bool) -> None:
    layer = layer_of(kind, num_layers=2, bidirectional=True).double()
    wrapped, x = filled(layer, alpha=0.5, normalize=normalize), inputs(4, 2).double()
    weights = torch.randn(flat(wrapped(x)).shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def value() -> Tensor:
        return flat(wrapped(x)) @ weights

    value().backward()
    step, largest = 2.0**-10, 0.0
    for raw in wrapped.s0_state.values():
        slopes = []
        for i in range(raw.numel()):
            ends = []
            for sign in (1, -2):  # to +step, then to -step
                raw.data[i] += sign * step
                ends.append(value().item())
            raw.data[i] += step
            slopes.append((ends[0] - ends[1]) / (2 * step))
        largest = max(largest, *map(abs, slopes))
        torch.testing.assert_close(raw.grad, torch.tensor(slopes), atol=2e-4, rtol=0)
    assert largest > 0.02


def test_only_the_states_train() -> None:
    layer, x = layer_of("lstm", num_layers=2), inputs(4, 8)
    wrapped, weights = InitialState(layer, alpha=0.5), copy.deepcopy(layer.state_dict())
    assert {name for name, one in wrapped.named_parameters() if one.requires_grad} == {
        f"s0_state.{letter}_l{i}" for letter in "hc" for i in (0, 1)
    }
    with torch.no_grad():
        wanted = filled(layer_of("lstm", num_layers=2))(x)[0]
    optimizer = torch.optim.Adam(wrapped.s0_state.parameters(), lr=0.1)
    losses = []
    for _ in range(100):
        loss = (wrapped(x)[0] - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]
    assert all(torch.equal(value, weights[name]) for name, value in layer.state_dict().items())


# --- As a module ---


@torch.no_grad()
def test_it_is_a_module_like_any_other() -> None:
    wrapped, x = filled(layer_of("lstm", num_layers=2, batch_first=True), alpha=0.5), inputs(2, 4)
    before = flat(wrapped(x))
    assert wrapped.hidden_size == 4 and wrapped.batch_first and wrapped.weight_hh_l1.shape == (16, 4)
    wrapped.flatten_parameters()
    with pytest.raises(AttributeError, match="no_such_thing"):
        wrapped.no_such_thing  # noqa: B018
    twin = copy.deepcopy(wrapped)
    assert torch.equal(flat(twin(x)), before)
    twin.s0_state["h_l0"].zero_()
    assert not torch.equal(flat(twin(x)), before) and torch.equal(flat(wrapped(x)), before)
    twin.load_state_dict(wrapped.state_dict())
    assert torch.equal(flat(twin(x)), before)
    for dtype in (torch.float64, torch.bfloat16):
        twin.to(dtype)
        assert all(raw.dtype == torch.float32 for raw in twin.s0_state.values())
        assert all(
            torch.equal(raw, old) for raw, old in zip(twin.s0_state.values(), wrapped.s0_state.values(), strict=True)
        )
        got = flat(twin(x.to(dtype)))
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), before, atol=0.02, rtol=0)


@every_kind
@pytest.mark.slow
def test_it_compiles(kind: str) -> None:
    wrapped, x = filled(layer_of(kind, num_layers=2, bidirectional=True)), inputs(3, 2)
    torch._dynamo.reset()
    compiled = torch.compile(wrapped, backend="eager")
    assert (wrapped(x)[0] - wrapped.base_layer(x)[0]).abs().max() > 0.05
    torch.testing.assert_close(flat(compiled(x)), flat(wrapped(x)))
    states = list(wrapped.s0_state.values())
    want = torch.autograd.grad(flat(wrapped(x)).sum(), states)
    assert want[0].abs().max() > 1e-3
    torch.testing.assert_close(torch.autograd.grad(flat(compiled(x)).sum(), states), want)
    with torch.no_grad():
        states[0].zero_()  # a compiled module sees what training does to the state
        torch.testing.assert_close(flat(compiled(x)), flat(wrapped(x)))


@pytest.mark.parametrize("wrong", [nn.Linear(2, 2), nn.LSTMCell(2, 2), nn.Sequential(nn.GRU(2, 2)), "lstm", None])
def test_other_modules_are_refused(wrong: Any) -> None:
    with pytest.raises(UnsupportedModelError, match=r"nn\.RNN, nn\.GRU or nn\.LSTM"):
        InitialState(wrong)


@pytest.mark.parametrize(
    "settings", [{"alpha": float("nan")}, {"alpha": float("inf")}, {"alpha": "1"}, {"alpha": 1e39}, {"normalize": 1}]
)
def test_scales_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        InitialState(nn.GRU(2, 2), **settings)


# --- Files ---


@every_kind
def test_saved_states_are_loaded_exactly(kind: str, tmp_path: Path) -> None:
    layer, x = layer_of(kind, num_layers=2, bidirectional=True), inputs(4, 2)
    wrapped = filled(layer, alpha=0.3, normalize=True)
    wrapped.save(tmp_path / "state")
    again = InitialState(layer_of(kind, num_layers=2, bidirectional=True))
    again.load(tmp_path / "state")
    assert (again.alpha, again.normalize) == (0.3, True)
    with torch.no_grad():
        assert torch.equal(flat(again(x)), flat(wrapped(x)))
    assert {path.name for path in (tmp_path / "state").iterdir()} == {state_files.CONFIG_FILE, state_files.STATE_FILE}


def refuses(folder: Path, wrapped: InitialState, match: str) -> None:
    """`wrapped` does not take the folder, and nothing of it changes."""
    before, scale = copy.deepcopy(wrapped.state_dict()), (wrapped.alpha, wrapped.normalize)
    with pytest.raises(StateMismatchError, match=match):
        wrapped.load(folder)
    assert all(torch.equal(value, before[name]) for name, value in wrapped.state_dict().items())
    assert (wrapped.alpha, wrapped.normalize) == scale


@pytest.mark.parametrize(
    "other",
    [
        layer_of("gru", num_layers=2),
        layer_of("rnn_tanh", num_layers=2),
        layer_of("rnn_relu", num_layers=2),
        layer_of("lstm_proj", num_layers=2),
        layer_of("lstm", num_layers=1),
        layer_of("lstm", num_layers=3),
        layer_of("lstm", num_layers=2, bidirectional=True),
        nn.LSTM(3, 5, num_layers=2),
    ],
    ids=lambda layer: str(layer).replace(" ", ""),
)
def test_states_of_another_layer_are_refused(other: Any, tmp_path: Path) -> None:
    filled(layer_of("lstm", num_layers=2)).save(tmp_path)
    refuses(tmp_path, filled(other, seed=3, alpha=0.5), "tuned on another layer")


def test_the_nonlinearity_of_a_plain_rnn_counts(tmp_path: Path) -> None:
    filled(layer_of("rnn_tanh")).save(tmp_path)
    refuses(tmp_path, filled(layer_of("rnn_relu"), seed=3), "tuned on another layer")


def test_states_of_other_weights_need_leave(tmp_path: Path) -> None:
    filled(layer_of("gru")).save(tmp_path)
    wrapped = filled(layer_of("gru", seed=9), seed=3)
    refuses(tmp_path, wrapped, "other weights")
    wrapped.load(tmp_path, allow_other_base=True)
    assert torch.equal(wrapped.s0_state["h_l0"], filled(layer_of("gru")).s0_state["h_l0"])
    wrapped = filled(layer_of("gru").to(torch.bfloat16), seed=3)
    wrapped.load(tmp_path)  # the same weights in another dtype


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    wrapped = filled(layer_of("gru", num_layers=2))
    wrapped.save(tmp_path)
    tensors, config = (
        load_file(tmp_path / state_files.STATE_FILE),
        json.loads((tmp_path / state_files.CONFIG_FILE).read_text()),
    )
    key = "base_model.model.h_l1.s0_state"
    assert set(tensors) == {key, "base_model.model.h_l0.s0_state"}

    def with_tensor(value: Tensor) -> None:
        changed = {**tensors, key: value}
        save_file(changed, tmp_path / state_files.STATE_FILE)
        names = {tensor_keys.layer_name(one): tensor for one, tensor in changed.items()}
        (tmp_path / state_files.CONFIG_FILE).write_text(
            json.dumps({**config, "checksum": state_files.checksum(names, config)})
        )

    with_tensor(torch.full((4,), float("nan")))
    refuses(tmp_path, wrapped, "NaN")
    with_tensor(torch.ones(5))
    refuses(tmp_path, wrapped, r"\[4\]")
    save_file({**tensors, key: tensors[key] + 1}, tmp_path / state_files.STATE_FILE)
    (tmp_path / state_files.CONFIG_FILE).write_text(json.dumps(config))
    refuses(tmp_path, wrapped, "checksum")
    save_file(tensors, tmp_path / state_files.STATE_FILE)
    (tmp_path / state_files.CONFIG_FILE).write_text(json.dumps({**config, "alpha": 2.0}))
    refuses(tmp_path, wrapped, "checksum")
    (tmp_path / state_files.STATE_FILE).write_bytes(b"not tensors")
    refuses(tmp_path, wrapped, "safetensors")
    refuses(tmp_path / "nowhere", wrapped, "no such folder")


def test_a_state_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    wrapped = filled(layer_of("gru"))
    wrapped.s0_state["h_l0"].data[1] = float("inf")
    with pytest.raises(StateMismatchError, match="NaN or inf"):
        wrapped.save(tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_states_of_language_models_and_of_layers_are_not_confused(tmp_path: Path) -> None:
    wrapped, model = filled(layer_of("gru")), tuned("qwen3_5")
    wrapped.save(tmp_path / "layer")
    model.save_pretrained(tmp_path / "model")
    refuses(tmp_path / "model", wrapped, "tuned on another layer")
    with pytest.raises(StateMismatchError, match="tuned on another model"):
        PeftModel.from_pretrained(zoo.make("qwen3_5"), tmp_path / "layer")
    with pytest.raises(StateMismatchError):
        state_files.match(state_files.read(tmp_path / "layer"), zoo.make("qwen3_5"))


# --- The page ---


def test_the_example_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[1] / "docs" / "rnn.md"
    [block] = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, page.name, "exec"), {})
    untouched, tuned_loss = map(float, re.findall(r"\d\S*e-\d+", capsys.readouterr().out))
    assert tuned_loss < untouched / 1000
    assert rnn.InitialState is InitialState
