"""Options that go together, as the work behind a command takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s0.models import ModelSource


@dataclass(frozen=True)
class ModelOptions:
    """A model by name, and how it is loaded."""

    name: str
    _: KW_ONLY
    dtype: str | None = None
    device: str | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    kernels: str | None = None

    @property
    def source(self) -> ModelSource:
        """The same as what loads it.

        Raises:
            ConfigError: there is no such dtype or device, or there are no such kernels.
        """
        from s0.models import LoadSettings, ModelSource  # brings torch, without which help is instant

        loading = LoadSettings(self.dtype, self.device, self.revision, self.trust_remote_code, self.kernels)
        loading.require_device()  # before any other work
        return ModelSource(self.name, loading)

    def as_typed(self) -> list[str]:
        """These options as words of a command."""
        return ["--model", self.name, *self.loading_as_typed()]

    def loading_as_typed(self) -> list[str]:
        """All but the name as words of a command."""
        named = {"--dtype": self.dtype, "--device": self.device, "--kernels": self.kernels, "--revision": self.revision}
        words = [word for option, value in named.items() if value for word in (option, value)]
        return [*words, "--trust-remote-code"] if self.trust_remote_code else words


@dataclass(frozen=True)
class StateOptions:
    """What was tuned, by folder or Hugging Face id, and whether the weights it was tuned on may be others."""

    names: Sequence[str] = ()
    _: KW_ONLY
    allow_other_base: bool = False

    def as_typed(self) -> list[str]:
        """These options as words of a command."""
        words = [word for name in self.names for word in ("--state", name)]
        return [*words, "--allow-other-base"] if self.allow_other_base else words


@dataclass(frozen=True)
class PromptOptions:
    """Prompts as they were typed, a file of more of them, and whether texts go through the chat template."""

    texts: Sequence[str]
    _: KW_ONLY
    file: Path | None = None
    chat: bool = False


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How the tokens of texts are chosen, and how many texts there are for each prompt."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    samples: int


@dataclass(frozen=True)
class TaskOptions:
    """A task by name, where its problems come from, and which of them are meant."""

    name: str
    _: KW_ONLY
    data: Path | None = None
    split: str = "final"
    limit: int | None = None

    def as_typed(self) -> list[str]:
        """The task and its data as words of a command."""
        return ["--task", self.name, *(["--data", str(self.data)] if self.data else [])]


@dataclass(frozen=True, kw_only=True)
class AskingOptions:
    """How problems are put to a model, how long its answers may be, and how several to each problem are sampled."""

    chat: bool
    max_new_tokens: int | None
    batch_rows: int
    samples: int
    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class CollectingOptions(AskingOptions):
    """The same for a collection, and which of the samples that pass are kept."""

    keep: str


@dataclass(frozen=True, kw_only=True)
class RoundOptions(AskingOptions):
    """The same for rounds of collecting and training: how many, and what is drawn and kept in each."""

    rounds: int
    keep: int
    select_samples: int


@dataclass(frozen=True)
class MethodOptions:
    """A method by name, and the settings that were given; None where its own default holds."""

    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class ExampleOptions:
    """Files of examples to learn from, and to choose on."""

    train: Path
    _: KW_ONLY
    select: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ChoosingOptions:
    """What is chosen on select examples, or on the select problems of a task."""

    auto: bool = False
    alpha_by: str = "loss"
    task: str | None = None
    data: Path | None = None

    @property
    def problems(self) -> TaskOptions | None:
        """The select problems of the task, if one is named."""
        return TaskOptions(self.task, data=self.data, split="select") if self.task else None

    @property
    def by_verdicts(self) -> bool:
        """Whether problems are answered, and the answers judged, to choose the scale."""
        return self.alpha_by == "pass-rate"


@dataclass(frozen=True)
class OutOptions:
    """Where a result goes, and whether it may take the place of an earlier one."""

    path: Path
    _: KW_ONLY
    overwrite: bool = False


@dataclass(frozen=True)
class CheckpointedOut(OutOptions):
    """The same for a training, which keeps what it has learned so far, every so many steps."""

    checkpoint_every: int = 10


@dataclass(frozen=True, kw_only=True)
class JudgingOptions:
    """What programs are judged in; None for the default limit of time."""

    timeout_s: float | None = None
    unsafe: bool = False

    def as_typed(self) -> list[str]:
        """The limit of time as words of a command; to go without a sandbox is typed anew each time."""
        return [] if self.timeout_s is None else ["--timeout-s", f"{self.timeout_s:g}"]


@dataclass(frozen=True)
class StudyOptions:
    """A study file, the folder of the records of all studies, and whether it is run in small."""

    file: Path
    records: Path
    _: KW_ONLY
    quick: bool = False


@dataclass(frozen=True)
class ExecutorOptions:
    """How many units are done at a time, by whom, and whether those that failed are done again."""

    jobs: int
    _: KW_ONLY
    slurm: bool = False
    retry_failed: bool = False


@dataclass(frozen=True)
class ServedStates:
    """States as they were typed, NAME=STATE, those that are pinned, and where more may come from."""

    named: tuple[str, ...]
    _: KW_ONLY
    base_name: str | None
    pinned: tuple[str, ...]
    folders: tuple[Path, ...]
    max_states: int


@dataclass(frozen=True)
class AddressOptions:
    """Where a server listens, and who may ask it."""

    host: str
    port: int
    _: KW_ONLY
    api_key_file: Path | None
    no_api_keys: bool


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """What a server holds requests to."""

    max_rows: int
    max_batch_tokens: int | None
    max_waiting: int
    prefix_mib: int
    timeout_s: float
    max_prompt_tokens: int | None
    max_new_tokens: int
    max_samples: int
    max_body_bytes: int
    grace_s: float
