"""What of other libraries is replaced for the whole process, and what that they keep private is leaned on.

`import s0` calls `install`, which replaces what the first table lists, all of it PEFT's; no import replaces anything
else. Models without states pass through it as before. "Seen in" is the oldest release that the tests run with, and
nobody has looked at older ones; "until" says what would make a row needless, as far as that is known.

| replaced                          | what would go wrong in silence                            | seen in   | until    |
|-----------------------------------|-----------------------------------------------------------|-----------|----------|
| PeftType                          | nothing: PEFT has no call that adds a method's name       | peft 0.21 | it has   |
| PEFT_TYPE_TO_CONFIG_MAPPING,      | nothing: what PEFT's register_peft_method enters          | peft 0.21 | stays    |
| PEFT_TYPE_TO_PREFIX_MAPPING,      |                                                           |           |          |
| PEFT_TYPE_TO_TUNER_MAPPING        |                                                           |           |          |
| BaseTuner.inject_adapter          | a LoRA would be left out inside a state's layers; of a    | peft 0.21 | unknown  |
|                                   | LoRA and a state of one name, one would be saved          |           |          |
| PeftModel.__init__,               | states would be rounded to the model's dtype              | peft 0.21 | unknown  |
| PeftModel.add_adapter             |                                                           |           |          |
| PeftModel.load_adapter            | the same; a config without tensors would be a state of    | peft 0.21 | unknown  |
|                                   | zero; tensors of another scale or base model would enter  |           |          |
| PeftModel.from_pretrained         | a config without tensors would be a state of zero         | peft 0.21 | unknown  |
| PeftModel.save_pretrained         | the shard of one process would be saved as the state      | peft 0.21 | unknown  |
| PeftModel.generate,               | prompts that end in a pad would be continued from it      | peft 0.21 | unknown  |
| PeftModelForCausalLM.generate     |                                                           |           |          |
| PeftModel._upload_modified_files  | a template would replace the state's card on the Hub      | peft 0.21 | unknown  |

Replaced later, by what first needs it: the kernels for the whole process, where mixers look them up, with functions
that act for state layers alone; the others on one model alone. Until when is unknown of all of them:

| replaced                          | what would go wrong in silence   | seen in           | by                        |
|-----------------------------------|----------------------------------|-------------------|---------------------------|
| torch_chunk_gated_delta_rule,     | pads would decay the state that  | transformers 5.23 | core/recurrences/         |
| chunk_kimi_delta_attention,       | a cache keeps; in Mamba-1 no     |                   |                           |
| mamba2_chunk_scan,                | state would enter; no offset     |                   |                           |
| mamba_selective_scan              | would be read                    |                   |                           |
| torch_recurrent_gated_delta_rule, | no offset would be read          | transformers 5.23 | core/recurrences/         |
| recurrent_kimi_delta_attention,   |                                  |                   |                           |
| mamba2_selective_state_update,    |                                  |                   |                           |
| mamba_selective_state_update      |                                  |                   |                           |
| _gradient_checkpointing_func      | rows would be computed again     | transformers 5.23 | core/row_choice.py,       |
|                                   | from other states: wrong         |                   | adapter/model.py,         |
|                                   | gradients                        |                   | train/modes.py            |
| MiniMaxCache                      | it would tell a wrong length,    | transformers 5.23 | core/recurrences/         |
|                                   | and lose states to beams         |                   |                           |
| support_avx512bf16_for_cpu        | no gradient would pass a 4-bit   | bitsandbytes 0.50 | core/quantised.py         |
|                                   | layer that has run               |                   |                           |
| enable_input_require_grads        | nothing: it would leave hooks,   | transformers 5.23 | adapter/attach.py         |
|                                   | while a state is put on          |                   |                           |
| prepare_inputs_for_generation     | a prefix that is switched off    | peft 0.21         | train/baseline_trainer.py |
|                                   | would stay                       |                   |                           |

Leaned on as they are, though private, or known by their insides; until when is unknown of these, too:

| leaned on                                | for                       | seen in           | by                        |
|------------------------------------------|---------------------------|-------------------|---------------------------|
| _prepare_adapter_config,                 | what PEFT calls of a      | peft 0.21         | adapter/model.py          |
| _create_and_replace,                     | method: overridden        |                   |                           |
| _check_target_module_exists,             |                           |                   |                           |
| _replace_module,                         |                           |                   |                           |
| _enable_peft_forward_hooks,              |                           |                   |                           |
| _remap_adapter_state_dict_for_load       |                           |                   |                           |
| _get_available_adapters                  | names of other adapters   | peft 0.21         | adapter/model.py          |
| _active_adapter, _disable_adapters       | switches that leave       | peft 0.21         | core/layer.py,            |
|                                          | requires_grad alone       |                   | adapter/model.py,         |
|                                          |                           |                   | adapter/attach.py,        |
|                                          |                           |                   | train/scale.py            |
| auto_mapping_dict                        | telling PEFT's call from  | peft 0.21         | adapter/config.py         |
|                                          | transformers'             |                   |                           |
| _adapters_disabled,                      | switching a baseline      | peft 0.21         | train/baseline_trainer.py |
| base_model_prepare_inputs_for_generation |                           |                   |                           |
| _prepare_prompt_learning_config          | what PEFT makes of a      | peft 0.21         | train/baselines.py        |
|                                          | cache                     |                   |                           |
| implementation, torch_function,          | telling and changing what | transformers 5.23 | core/kernel_backends.py   |
| applicable_params, is_new_implementation | a kernel runs on          |                   |                           |
| co_names                                 | a mixer is what it calls  | transformers 5.23 | core/families.py,         |
|                                          |                           |                   | train/placement.py        |
| _attn_implementation                     | keeping documents apart   | transformers 5.23 | core/packing.py           |
| _experts_implementation                  | copies in float64         | transformers 5.23 | verify/subject.py         |
| _TRL_REFERENCE                           | TRL's name for a copy     | trl 1.16          | adapter/model.py          |
| _shared_state                            | asking, not setting up    | accelerate 1.15   | train/distributed.py      |
| _forward_pre_hooks, _forward_hooks,      | taking hooks off copies   | torch 2.13        | core/hooks.py             |
| _forward_pre_hooks_with_kwargs,          | of a model                |                   |                           |
| _forward_hooks_always_called             |                           |                   |                           |
| _modules                                 | a head without its body   | torch 2.13        | train/token_losses.py     |
| _apply                                   | states that stay float32  | torch 2.13        | core/raw_states.py        |
| _assert_async                            | refusals in a graph       | torch 2.13        | core/padding.py           |
| _dynamo                                  | checks of a fresh         | torch 2.13        | verify/adapters.py        |
|                                          | compiler                  |                   |                           |
| _cdata, _local_scalar_dense              | counting what lives       | torch 2.13        | train/memory.py           |
| _is_replica, _is_fsdp_managed_module     | who has sharded a layer   | torch 2.13        | core/sharding.py          |
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel, PeftModelForCausalLM
from peft.tuners.tuners_utils import BaseTuner, check_target_module_exists
from peft.utils import PeftType, register_peft_method
from torch import nn

from s0.adapter import state_files
from s0.adapter.card import write_card
from s0.adapter.config import S0AdapterConfig, loading_a_state
from s0.adapter.model import S0Model
from s0.core.families import plain_name
from s0.core.generate_arguments import refuse_pads
from s0.core.layer import TunedLayer
from s0.core.sharding import refuse_shards
from s0.core.states import state_layers
from s0.errors import ConfigError, StateMismatchError

Method = Callable[..., Any]


@functools.cache
def install() -> None:
    """Register S0 as a method of PEFT's and replace what the table above lists; once, however often it is called."""
    _add_to_peft_types("S0")
    register_peft_method(name="s0", config_cls=S0AdapterConfig, model_cls=S0Model, prefix=S0Model.prefix)
    for owner, name, around in _AROUND:
        method = inspect.getattr_static(owner, name)
        if isinstance(method, classmethod):
            setattr(owner, name, classmethod(around(method.__func__)))
        else:
            setattr(owner, name, around(method))


def _add_to_peft_types(name: str) -> None:
    """Add a member to PEFT's enumeration of methods, which it offers no call for."""
    member = str.__new__(PeftType, name)
    member._name_, member._value_ = name, name
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
    type.__setattr__(PeftType, name, member)


def _minding_states(inject_adapter: Method) -> Method:
    """`BaseTuner.inject_adapter` that refuses what PEFT does not see where another method meets a state.

    Refused are two methods' adapters of one name, of which one is saved; and adapters that would be left out inside
    the recurrent layers, where PEFT enters nothing once a state is around them.
    """

    @functools.wraps(inject_adapter)
    def minding(self: BaseTuner, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, S0Model):
            config = self.peft_config.pop(adapter_name)  # back in the account of all wrappers if it is not refused
            holder = next((layer for layer in state_layers(model) if adapter_name in layer.s0_state), None)
            if holder is not None:
                self.peft_config[adapter_name] = holder.deployments[adapter_name]  # which PEFT has put the new one over
                raise ConfigError(
                    f"expected a new adapter name, got {adapter_name!r}, under which a state is on this model: only "
                    "one of the two would be saved; choose another name"
                )
            left_out = _left_out(config, model)
            if left_out is not None:
                raise ConfigError(
                    f"expected adapter {adapter_name!r} on the model before any state, got it afterwards: PEFT would "
                    f"leave out its targets inside the recurrent layers, such as {left_out}; add the state last "
                    "(unload() takes states off and leaves other adapters on), or name targets outside of them"
                )
            self.peft_config[adapter_name] = config
        return inject_adapter(self, model, adapter_name, *args, **kwargs)

    return minding


def _left_out(config: PeftConfig, model: nn.Module) -> str | None:
    """The name of something within a state layer that `config` targets, if there is any."""
    targets = getattr(config, "target_modules", None)
    exact = [*(getattr(config, "target_parameters", None) or ()), *(getattr(config, "modules_to_save", None) or ())]
    for path, layer in model.named_modules():
        if not isinstance(layer, TunedLayer):
            continue
        modules = [plain_name(f"{path}.{name}") for name, _ in layer.base_layer.named_modules() if name]
        modules = modules or [plain_name(path)]  # a norm has nothing in it, and its copy would have no gain
        parameters = [plain_name(f"{path}.{name}") for name, _ in layer.base_layer.named_parameters()]
        for name in modules:  # without targets, or with all linear layers, PEFT makes a choice of its own
            if targets in (None, "all-linear") or check_target_module_exists(config, name):
                return name
        for name in modules + parameters:
            if f".{name}".endswith(tuple(f".{target}" for target in exact)):
                return name
    return None


def _checking_states(load_adapter: Method) -> Method:
    """`PeftModel.load_adapter` that checks the file of a state that is loaded into an adapter that exists.

    PEFT reads the tensors alone then, not the scale and base model they were trained with: so when a Trainer goes on
    from a checkpoint or ends with its best one, and in `PeftModel.from_pretrained(..., config=...)`.
    """

    @functools.wraps(load_adapter)
    def checked(self: PeftModel, model_id: str | Path, adapter_name: str, *args: Any, **kwargs: Any) -> Any:
        config = self.peft_config.get(adapter_name)
        if isinstance(config, S0AdapterConfig):
            hub = {name: kwargs[name] for name in state_files.HUB_SETTINGS if kwargs.get(name) is not None}
            stored = state_files.read(model_id, kwargs.get("subfolder"), kind=config.kind, **hub)
            state_files.match(stored, self, allow_other_base=config.allow_other_base)
            if (stored.alpha, stored.normalize) != (config.alpha, config.normalize):
                raise StateMismatchError(
                    f"expected adapter {adapter_name!r} to have the scale that the state in {model_id} was saved with, "
                    f"alpha={stored.alpha} and normalize={stored.normalize}, got alpha={config.alpha} and "
                    f"normalize={config.normalize}; set these in its config, or load the state under a new name"
                )
        return load_adapter(self, model_id, adapter_name, *args, **kwargs)

    return checked


def _refusing_a_config_alone(load: Method) -> Method:
    """`PeftModel.from_pretrained` or `load_adapter` that asks for a state beside an S0 config, before all else."""

    @functools.wraps(load)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        with loading_a_state():
            return load(*args, **kwargs)

    return refusing


def _keeping_float32(method: Method) -> Method:
    """A method of `PeftModel` that refuses to give states the dtype of a model whose dtype is not theirs."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def keeping(self: PeftModel, *args: Any, **kwargs: Any) -> Any:
        passed = signature.bind(self, *args, **kwargs).arguments
        if not passed.get("autocast_adapter_dtype", True):
            config = passed["peft_config"] if "peft_config" in passed else self.peft_config.get(passed["adapter_name"])
            if isinstance(config, S0AdapterConfig):
                _require_float32(passed.get("model", self))
        return method(self, *args, **kwargs)

    return keeping


def _require_float32(model: nn.Module) -> None:
    others = {str(weight.dtype) for weight in model.parameters() if weight.is_floating_point()} - {"torch.float32"}
    if others:
        raise ConfigError(
            f"expected autocast_adapter_dtype=True on a model with weights in {', '.join(sorted(others))}, got False: "
            "states are float32 in models of every dtype; leave the argument out"
        )


def _refusing_pads(generate: Method) -> Method:
    """`generate` of a PeftModel that looks at its prompts' pads first, while a state is on the model."""

    @functools.wraps(generate)
    def refusing(self: PeftModel, *args: Any, **kwargs: Any) -> Any:
        layers = [layer for layer in state_layers(self) if not layer.disable_adapters]
        if any(layer.active_adapters or kwargs.get("adapter_names") for layer in layers):
            refuse_pads(self.get_base_model(), layers[0].limits, args, kwargs)
        return generate(self, *args, **kwargs)

    return refusing


def _saving_whole_states(save: Method) -> Method:
    """`PeftModel.save_pretrained` that writes no shard of a state."""

    @functools.wraps(save)
    def saving(self: PeftModel, *args: Any, **kwargs: Any) -> Any:
        passed = kwargs.get("state_dict")
        tensors = dict(self.named_parameters()) if passed is None else passed
        refuse_shards(tensor for name, tensor in tensors.items() if f".{S0Model.prefix}." in name)
        return save(self, *args, **kwargs)

    return saving


def _uploading_the_card(upload: Method) -> Method:
    """The last step of `PeftModel.push_to_hub`, which has replaced the state's card by a template of transformers'."""

    @functools.wraps(upload)
    def uploading(self: PeftModel, working_dir: str | Path, *args: Any, **kwargs: Any) -> Any:
        config = self.peft_config.get("default")  # the one that lies in the folder itself
        if isinstance(config, S0AdapterConfig):
            write_card(working_dir, config.to_dict())
        return upload(self, working_dir, *args, **kwargs)

    return uploading


_AROUND: tuple[tuple[type, str, Callable[[Method], Method]], ...] = (
    (BaseTuner, "inject_adapter", _minding_states),
    (PeftModel, "__init__", _keeping_float32),
    (PeftModel, "add_adapter", _keeping_float32),
    (PeftModel, "load_adapter", lambda load: _refusing_a_config_alone(_keeping_float32(_checking_states(load)))),
    (PeftModel, "from_pretrained", _refusing_a_config_alone),
    (PeftModel, "save_pretrained", _saving_whole_states),
    (PeftModel, "generate", _refusing_pads),
    (PeftModelForCausalLM, "generate", _refusing_pads),
    (PeftModel, "_upload_modified_files", _uploading_the_card),
)
"""Whose method is replaced, its name, and what is put around it; models without states pass through as before."""
