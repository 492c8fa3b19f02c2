"""Models by name: a Hugging Face id, a local folder, or one of the pocket models that ship with the package."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from s0.core.kernel_backends import TORCH, take_torch_path
from s0.errors import ConfigError

POCKET_MODELS = {
    f"pocket:{name}": Path(__file__).parent / f"pocket_{name}" for name in ("gdn", "mamba2", "transformer")
}
"""Models of about 1M parameters, trained by this project, for trying everything on a laptop."""
STATES_FOLDER = "states"
"""In a pocket model's folder: the states that ship with it, each in a folder named for its task."""

_DTYPES = ("float32", "bfloat16", "float16")

_TOKENIZER_FILES = ("tokenizer*", "*vocab*", "*.model")


def _launched() -> bool:
    """Whether accelerate launch or torchrun has started several processes like this one."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def _own_gpu() -> int:
    """The number of the GPU that is this process's own, where several processes were launched."""
    return int(os.environ.get("LOCAL_RANK", 0))


def _auto_class(config: PreTrainedConfig) -> Any:
    kind = type(config)
    only_with_vision = kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and kind not in MODEL_FOR_CAUSAL_LM_MAPPING
    return AutoModelForImageTextToText if only_with_vision else AutoModelForCausalLM


def _require_kernels(kernels: str | None) -> None:
    if kernels not in (None, TORCH):
        raise ConfigError(
            f"expected `kernels` to be {TORCH}, or left out for those that are installed, got {kernels!r}"
        )


@dataclass(frozen=True)
class LoadSettings:
    """How a model is loaded, in words that can be written down.

    Attributes:
        dtype: float32, bfloat16 or float16; None for the default of `load_base_model`.
        device: all weights go there: cpu, cuda, cuda:1, mps; None for the default of `load_base_model`. With several
            launched processes, cuda is each one's own. It has to be there when the model is loaded, not before: what is
            written down here may be meant for another machine.
        revision: branch, tag or commit of a model from the hub; None for its main branch.
        trust_remote_code: run the code that comes with the model.
        kernels: "torch" for transformers' own functions in PyTorch; None for what it takes by itself, packages where
            they are installed.
    """

    dtype: str | None = None
    device: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    kernels: str | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in _DTYPES:
            raise ConfigError(f"expected `dtype` to be one of {', '.join(_DTYPES)}, got {self.dtype!r}")
        _require_kernels(self.kernels)

    def require_device(self) -> None:
        """Refuse a device that is none, or not of this machine.

        Raises:
            ConfigError: it is so; names those that are here.
        """
        if self.device is not None:
            _require_device(self.device)

    def arguments(self) -> dict[str, Any]:
        """The same as arguments of `load_model`.

        Raises:
            ConfigError: as of `require_device`.
        """
        self.require_device()
        arguments: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.dtype is not None:
            arguments["dtype"] = getattr(torch, self.dtype)
        if self.device is not None:
            is_own_gpu = self.device == "cuda" and _launched()
            arguments["device_map"] = {"": _own_gpu() if is_own_gpu else self.device}
        if self.revision is not None:
            arguments["revision"] = self.revision
        if self.kernels is not None:
            arguments["kernels"] = self.kernels
        return arguments


AS_PUBLISHED = LoadSettings()
"""The defaults of `load_base_model`, and no code but that of transformers."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        name: a Hugging Face id, a local folder, or a pocket model.
        loading: how it is loaded.
    """

    name: str
    loading: LoadSettings = AS_PUBLISHED

    def load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The model and its tokenizer; errors as of `load_model`."""
        return load_model(self.name, **self.loading.arguments())


def _require_device(name: str) -> None:
    """Refuse what is no device of this machine."""
    own = f"cuda:{_own_gpu()}" if name == "cuda" and _launched() else name  # the others have processes of their own
    try:
        torch.empty(0, device=own)
        device = torch.device(name)
        is_usable = device.type != "meta" and (device.type != "cpu" or not device.index)  # torch takes cpu:5 as well
    except (RuntimeError, AssertionError, NotImplementedError):  # torch has one for each kind of trouble
        is_usable = False
    if not is_usable:
        gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        devices = ["cpu", *gpus, *(["mps"] if torch.backends.mps.is_available() else [])]
        raise ConfigError(f"expected `device` to be one that is here ({', '.join(devices)}), got {name!r}")
    if torch.device(name).index is not None and _launched():
        raise ConfigError(
            f"expected `device=cuda` with several launched processes, each of which has its own GPU, got {name!r}"
        )


def shipped_states(name: str | Path) -> dict[str, Path]:
    """The states that ship with a model, by the tasks that they were tuned on; all but two pocket models have none."""
    if name not in POCKET_MODELS:
        return {}
    return {folder.name: folder for folder in sorted((POCKET_MODELS[str(name)] / STATES_FOLDER).glob("*"))}


def load_model(name: str | Path, **model_kwargs: Any) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in eval mode.

    Args:
        name: a Hugging Face id, a local folder, or one of `POCKET_MODELS`.
        model_kwargs: as for `load_base_model`.

    Raises:
        ConfigError: nothing can be loaded under that name, or not all of its weights, or no tokenizer; says what was
            tried.
    """
    tokenizer = load_tokenizer(name, **_of_the_repository(model_kwargs))
    return load_base_model(name, **model_kwargs), tokenizer


def load_base_model(name: str | Path, *, kernels: str | None = None, **model_kwargs: Any) -> PreTrainedModel:
    """Load a causal language model without its tokenizer, in eval mode.

    Args:
        name: as for `load_model`.
        kernels: "torch" to have all kernels of the model's mixers run by transformers' own functions in PyTorch, and
            those of any other model of the same code in the process; by default packages run them where they are
            installed.
        model_kwargs: passed to `from_pretrained` of `AutoModelForCausalLM`, or of `AutoModelForImageTextToText` where
            transformers has a family with its vision part only. By default the dtype is the checkpoint's
            (float32 for pocket models, which is the fast one on a CPU) and the model goes to the GPU if there is one;
            with several launched processes, to each one's own.

    Raises:
        ConfigError: nothing can be loaded under that name, or not all of its weights; says what was tried.
    """
    source = _source(name)
    _require_kernels(kernels)
    _require_repository(source, model_kwargs.get("revision"))
    is_pocket = name in POCKET_MODELS
    model_kwargs.setdefault("dtype", torch.float32 if is_pocket else "auto")
    if torch.cuda.is_available():
        model_kwargs.setdefault("device_map", {"": _own_gpu()} if _launched() else "auto")
    try:
        kind = _auto_class(AutoConfig.from_pretrained(source, **_of_the_repository(model_kwargs)))
        loaded: Any = kind.from_pretrained(source, output_loading_info=True, **model_kwargs)
    except Exception as error:  # damaged files end in whatever error the code had that reads them
        raise _loading_error(name, error) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ConfigError(
            f"expected all weights of {str(name)!r} in its files, got none for {missing[0]} and {len(missing) - 1} "
            "more, which would stay random; download the model again, or load what its config describes"
        )
    if is_pocket:
        model.name_or_path = name  # not the folder: states record where they come from
    model.train(False)
    if kernels == TORCH:
        take_torch_path(model)
    return model  # type: ignore[no-any-return]


def model_without_weights(name: str | Path, **model_kwargs: Any) -> PreTrainedModel:
    """A model as its config describes it, on PyTorch's meta device, in eval mode: nothing but the config is read.

    Args:
        name: as for `load_model`.
        model_kwargs: as for `load_base_model`; a device counts for nothing.

    Raises:
        ConfigError: there is no config under that name, or none that describes a causal language model.
    """
    source = _source(name)
    repository = _of_the_repository(model_kwargs)
    _require_repository(source, repository.get("revision"))
    try:
        config = AutoConfig.from_pretrained(source, **repository)
        published = torch.float32 if name in POCKET_MODELS else config.dtype
        with torch.device("meta"):
            model: PreTrainedModel = _auto_class(config).from_config(
                config,
                dtype=model_kwargs.get("dtype", published),
                trust_remote_code=repository.get("trust_remote_code", False),
            )
    except Exception as error:  # as above
        raise _loading_error(name, error) from error
    model.train(False)
    return model


def load_tokenizer(name: str | Path, **repository: Any) -> PreTrainedTokenizerBase:
    """Load a model's tokenizer.

    Args:
        name: as for `load_model`.
        repository: `revision`, `trust_remote_code` and `token`, as for `from_pretrained`.

    Raises:
        ConfigError: there is none under that name, or it is damaged; says what was tried.
    """
    source = _source(name)
    _require_repository(source, repository.get("revision"))
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, **repository)
    except Exception as error:  # as above
        folder = Path(source)
        is_model = (folder / "config.json").is_file()
        if is_model and not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
            raise _tokenizer_error(name) from error
        raise _loading_error(name, error) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes one up where it finds no files
        raise _tokenizer_error(name)
    return tokenizer


def _source(name: str | Path) -> str:
    if not isinstance(name, (str, Path)):
        raise ConfigError(
            f"expected a Hugging Face id, a local model folder, or one of {sorted(POCKET_MODELS)}, got an object of "
            f"{type(name).__name__}; if it is a model that is loaded, pass the model and tokenizer to "
            "S0Trainer(model, tokenizer)"
        )
    if str(name).startswith("pocket:") and name not in POCKET_MODELS:
        raise ConfigError(f"expected one of the pocket models {sorted(POCKET_MODELS)}, got {name!r}")
    return str(POCKET_MODELS.get(str(name), name))


def _require_repository(source: str, revision: str | None) -> None:
    """Refuse a revision of what has none: transformers would load a folder as it is, whatever is asked for."""
    if revision is not None and Path(source).is_dir():
        raise ConfigError(
            f"expected `revision` with a model from the Hugging Face hub, got {revision!r} for the folder {source}; "
            "leave it out"
        )


def _of_the_repository(model_kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: model_kwargs[name] for name in ("revision", "trust_remote_code", "token") if name in model_kwargs}


def _loading_error(name: str | Path, error: Exception) -> ConfigError:
    lines = str(error).split("\n")
    reasons = lines[:2] + [line for line in lines[2:] if "trust_remote_code" in line]
    reason = " ".join(reasons).strip() or type(error).__name__
    where = "" if Path(str(name)).exists() else "no folder of that name, and: "
    return ConfigError(
        f"expected a Hugging Face id, a local model folder, or one of {sorted(POCKET_MODELS)}, got {str(name)!r}: "
        f"{where}{reason}"
    )


def _tokenizer_error(name: str | Path) -> ConfigError:
    return ConfigError(
        f"expected a model with its tokenizer, but there is no tokenizer in {str(name)!r}; copy tokenizer.json and "
        "tokenizer_config.json there from the model that it was made from"
    )
