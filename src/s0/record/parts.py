"""What a record is made of; `s0.record` draws how the parts belong together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

FORMAT_VERSION = 1
LEVEL = 0.05
HELPED, HURT, UNCLEAR = "helped", "hurt", "no clear difference"
KINDS = ("demo", "eval")

Value = TypeVar("Value")


class _Part(msgspec.Struct, frozen=True):
    """What a record always tells."""


class _Facts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a record tells where there is something to tell."""


class Scored(_Part, Generic[Value], frozen=True):
    """Something under both scorings."""

    standard: Value
    paper: Value

    def items(self) -> Iterator[tuple[str, Value]]:
        """Name of the scoring and what is said under it, the standard one first."""
        yield "standard", self.standard
        yield "paper", self.paper


class Rate(_Part, frozen=True):
    """A share of n with its 95% interval."""

    count: int
    n: int
    value: float
    low: float
    high: float


class Estimate(_Part, frozen=True):
    """A figure between 0 and 1 with its 95% interval."""

    value: float
    low: float
    high: float


class Summary(_Part, frozen=True):
    """What a variant's greedy answers come to.

    Attributes:
        pass_at_1: by scoring.
        truncated: share of answers cut off at the limit of length.
        formats: shares of the forms of answers.
        mean_tokens: of an answer.
        not_judged: by problem, why its answer could not be judged.
    """

    pass_at_1: Scored[Rate]
    truncated: float
    formats: dict[str, float]
    mean_tokens: float
    not_judged: dict[str, str] = {}


class SampledSummary(_Part, frozen=True):
    """What a variant's drawn answers come to: pass@k by scoring and k; `n` problems; the rest as of `Summary`."""

    pass_at_k: Scored[dict[str, Estimate]]
    n: int
    truncated: float
    formats: dict[str, float]
    mean_tokens: float
    not_judged: dict[str, str] = {}


class Difference(_Part, frozen=True):
    """The difference of two variants' pass@1 on n problems: 95% interval (Tango), McNemar's p, flips, p by Holm."""

    n: int
    difference: float
    low: float
    high: float
    p_value: float
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    p_holm: float


class SampledDifference(_Part, frozen=True):
    """The difference of two variants' pass@k: 95% t-interval over problems, p of the paired t-test, p by Holm."""

    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float


class Comparison(_Part, frozen=True):
    """`second` against `first`, and what the standard scoring shows of it; see `effect_of`."""

    first: str
    second: str
    standard: Difference
    paper: Difference
    effect: str = ""

    def items(self) -> Iterator[tuple[str, Difference]]:
        """Name of the scoring and the difference under it, the standard one first."""
        yield "standard", self.standard
        yield "paper", self.paper


class SampledComparison(_Part, frozen=True):
    """`second` against `first`: by scoring, the differences by k."""

    first: str
    second: str
    standard: dict[str, SampledDifference]
    paper: dict[str, SampledDifference]

    def items(self) -> Iterator[tuple[str, dict[str, SampledDifference]]]:
        """Name of the scoring and the differences under it, the standard one first."""
        yield "standard", self.standard
        yield "paper", self.paper


class Answer(_Part, frozen=True):
    """One completion and its verdicts.

    Attributes:
        problem: the problem's id.
        sample: its number among several, from 0; None for a greedy one.
        completion: what the model wrote.
        n_tokens: its length.
        truncated: it hit the limit before an end.
        format: how the standard scoring read it, one of the task's `scorer.formats`.
        passed: verdict by scoring.
        reason: why, by scoring.
    """

    problem: str
    sample: int | None
    completion: str
    n_tokens: int
    truncated: bool
    format: str
    passed: dict[str, bool]
    reason: dict[str, str]


class Sampled(_Part, frozen=True):
    """Answers that were drawn: `n` to each problem, and how."""

    n: int
    temperature: float
    top_p: float
    seed: int
    final: dict[str, SampledSummary]
    comparisons: tuple[SampledComparison, ...]
    answers: dict[str, tuple[Answer, ...]]


class Training(_Facts, frozen=True):
    """The account of a training. Losses are in nats per token; of those that are series, one per step.

    Attributes:
        dtype: of the model's weights; None for float32, and where an earlier version has not told it.
        losses, norms, select_losses: before, after, after each step; None where a loss was not finite.
        best_step: after so many steps the tensors were as they were kept.
        initial_loss, training_loss, final_loss: untouched, as trained, as deployed.
        candidates: what a search has tried.
        combined: of a state that was combined from others, from which.
    """

    settings: dict[str, Any] | None = None
    dtype: str | None = None
    n_examples: int | None = None
    tokens_sha256: str | None = None
    select_tokens_sha256: str | None = None
    versions: dict[str, str] | None = None
    n_select: int | None = None
    n_select_shared: int | None = None
    interrupted: bool = False
    losses: tuple[float | None, ...] | None = None
    norms: tuple[float | None, ...] | None = None
    best_step: int | None = None
    select_losses: tuple[float | None, ...] | None = None
    candidates: tuple[dict[str, Any], ...] | None = None
    combined: Any = None
    lr: float | None = None
    n_steps: int | None = None
    initial_loss: float | None = None
    training_loss: float | None = None
    final_loss: float | None = None
    select_initial_loss: float | None = None
    select_final_loss: float | None = None
    avg_state_norm: float | None = None
    avg_norm: float | None = None
    alpha: float | None = None


class Point(_Part, frozen=True):
    """A scale that was tried, and what was measured at it; None where that was not finite."""

    alpha: float
    value: float | None


class Scale(_Part, frozen=True):
    """A state's scale: the one chosen, by what ("loss" or "pass rate"), whether it helps, and all that were tried."""

    chosen: float
    by: str
    helps: bool
    curve: tuple[Point, ...]


class Layer(_Part, frozen=True):
    """One layer of a state: its name, its tensor's shape and norm."""

    name: str
    shape: tuple[int, ...]
    norm: float


class Run(_Facts, frozen=True):
    """The run of a variant (`s0.bench.Variant`): its method and settings, and what came of its training.

    Attributes:
        method: base, few-shot, s0, offset, lora or prefix.
        path: where it was loaded from.
        content: "wrong" where it was trained on wrong content in the right form.
        examples, examples_sha256: how many it learned from, and the hash of those, or of those that it was shown.
        shots: how many are shown in front of every problem.
        settings: what it was trained with.
        parameters: how many numbers it is.
        cautions: what to know before its result is believed.
    """

    method: str
    path: str | None = None
    shots: int | None = None
    content: str | None = None
    examples: int | None = None
    examples_sha256: str | None = None
    settings: dict[str, Any] | None = None
    parameters: int | None = None
    training: Training | None = None
    cautions: tuple[str, ...] | None = None
    scale: Scale | None = None
    layers: tuple[Layer, ...] | None = None


class Model(_Facts, frozen=True):
    """Who was asked: its name, its fingerprint, and how it was loaded."""

    name: str
    fingerprint: str
    dtype: str | None = None
    device: str | None = None
    revision: str | None = None
    kernels: str | None = None


class TaskFacts(_Part, frozen=True):
    """What was asked: the task's rules by version, its data by hash, what its scorings mean, the rows left out."""

    name: str
    version: str
    data_sha256: str
    scorings: dict[str, str] = {}
    left_out: tuple[str, ...] = ()


class Examples(_Part, frozen=True):
    """What was collected to learn from or choose on: `n` from so many problems."""

    n: int
    of_problems: int
    sha256: str


class Record(_Part, frozen=True, kw_only=True):
    """Variants that answered the same questions.

    Attributes:
        kind: which job made it, one of `KINDS`.
        environment: when and on what it was made, see `s0.bench.record.environment`.
        sandbox: backend and limits that programs were judged under; None for the process-wide ones.
        split: train, select or final.
        chat: whether the questions went through the chat template.
        seconds: how long each stage took.
        variants: by name. The others are compared with the first one: the untouched model, where there is one.
        final: by variant, in the same order: what its greedy answers come to.
        problems: those that were asked: id and prompt.
        of_problems: how many the split has, where not all of them were asked.
        max_new_tokens: the limit of an answer's length. Earlier versions have not recorded it.
        answers: by variant, in the order of `problems`.
        settings: what a demo was started with.
        examples: what was collected, by split.
    """

    format_version: int = 0
    kind: str
    environment: dict[str, Any]
    model: Model
    task: TaskFacts
    sandbox: dict[str, Any] | None = None
    split: str
    chat: bool
    seconds: dict[str, float]
    variants: dict[str, Run]
    final: dict[str, Summary]
    comparisons: tuple[Comparison, ...]
    sampled: Sampled | None
    problems: dict[str, str]
    answers: dict[str, tuple[Answer, ...]]
    settings: dict[str, Any] | UnsetType = UNSET
    examples: dict[str, Examples] | UnsetType = UNSET
    of_problems: int | UnsetType = UNSET
    max_new_tokens: int | UnsetType = UNSET

    @property
    def untouched(self) -> str:
        """The first variant, which others are compared with."""
        return next(iter(self.final))

    @property
    def bases(self) -> tuple[str, ...]:
        """The variants that nothing was done to: the first, and of joined records those that differ from it."""
        return tuple(name for name in self.final if name == self.untouched or self.variants[name].method == "base")

    @property
    def gains(self) -> tuple[Comparison, ...]:
        """The comparisons of something tuned with the untouched model that it was tuned on."""
        bases = self.bases
        return tuple(each for each in self.comparisons if each.first in bases and each.second not in bases)

    @property
    def n_problems(self) -> int:
        """How many problems were asked."""
        return self.final[self.untouched].pass_at_1.standard.n


def effect_of(standard: Difference) -> str:
    """What the standard scoring shows of the second variant: "helped", "hurt" or "no clear difference".

    Clear is a difference whose 95% interval (Tango's) leaves out 0 and whose p-value (McNemar's), adjusted by Holm for
    all comparisons of the record, is at most 0.05.
    """
    if not standard.p_holm <= LEVEL:  # nor NaN
        return UNCLEAR
    return HELPED if standard.low > 0 else HURT if standard.high < 0 else UNCLEAR
