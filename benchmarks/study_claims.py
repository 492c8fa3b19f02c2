"""What the studies say in sentences, which claim what the tests do, and beside what the paper reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from study_tables import TUNED, contrasts, rows

from s0.study.findings import AHEAD, BEHIND, NOT_SHOWN, ON_THESE, finding
from s0.study.markdown import heads, in_cells, points


def published() -> str:
    """Claims of the paper beside what was seen here."""
    lines = heads(["", "published (Young 2026)", *TUNED])
    for claim, figures_there, cells in _CLAIMS:
        lines.append(in_cells([claim, figures_there, *(cells(model) for model in TUNED)]))
    below = (
        "Points; here with the 95% t-interval over seeds. The published figures are of other models and tasks, some "
        "thousand times larger: they stand beside ours to be compared in direction, not in size."
    )
    return "\n".join([*lines, "", below])


def _gained(study: str, variant: str, task: str, model: str) -> str:
    here = [row.gain for table, row in rows(study, variant) if (table.model, table.task) == (model, task)]
    return points(here[0], "+") if here and here[0] else "not run"


def _differs(study: str, first: str, second: str, task: str, model: str) -> str:
    here = [
        contrast.difference
        for table, contrast in contrasts(study, first, second)
        if (table.model, table.task) == (model, task)
    ]
    return points(here[0], "+") if here else "not run"


def _by_amount(variant: str, amounts: Sequence[int], model: str) -> str:
    gains = {table.amount: row.gain for table, row in rows("examples", variant) if table.model == model}
    cells = [f"{gain[0]:+.1f}" if (gain := gains.get(amount)) else "not run" for amount in amounts]
    return " / ".join(cells)


def _sampled(variant: str, model: str) -> str:
    here = [
        row.pass_at_k
        for table, row in rows("pass_at_k", variant)
        if (table.model, table.task) == (model, "pocket-code")
    ]
    return " / ".join(f"{value:.1f}" for value in here[0].values()) if here and here[0] else "not run"


def _prefix(model: str) -> str:
    here = [row.gain for table, row in rows("main", "prefix") if table.task == "pocket-code"]
    return points(here[0], "+") + " (pocket:transformer)" if model == TUNED[0] and here and here[0] else ""


_CODE, _MATH, _SQL = "pocket-code", "pocket-math", "pocket-sql"
_GAINED, _DIFFERS = partial(_gained, "main"), partial(_differs, "main")
_CLAIMS: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("S0 on functions", "+23.6 ± 1.7 (Qwen3.5-4B), +31.3 (FalconH1-7B)", partial(_GAINED, "s0_auto", _CODE)),
    ("S0 at the published settings", "the same", partial(_GAINED, "s0_published", _CODE)),
    ("LoRA r24 on functions", "+12.7 (Qwen3.5-4B), +30.9 (FalconH1-7B)", partial(_GAINED, "lora_r24", _CODE)),
    ("S0 - LoRA r24", "+10.8 (Qwen3.5-4B), +0.4 (FalconH1-7B)", partial(_DIFFERS, "lora_r24", "s0_auto", _CODE)),
    ("LoRA of as many numbers", "+2.1 ± 17.0 (r48), -15.5 ± 18.9 (r64)", partial(_GAINED, "lora_matched", _CODE)),
    ("S0 on mathematics", "+4.8 (MATH-500), +2.8 (GSM8K)", partial(_GAINED, "s0_auto", _MATH)),
    ("S0 on SQL", "-2.3 to +0.1 (Spider, five scales)", partial(_GAINED, "s0_auto", _SQL)),
    ("S0 from 10 / 25 / 50 examples", "+25.4 / +22.6 / +22.6", partial(_by_amount, "s0", (10, 25, 50))),
    ("offset - S0", "+3.6", partial(_differs, "offset", "s0", "offset", _CODE)),
    ("prefix tuning of a Transformer", "-13.9", _prefix),
    ("sampled, untouched", "pass@1 / 5 / 10: 41.9 / 64.2 / 69.4", partial(_sampled, "base")),
    ("sampled, S0", "70.3 / 84.5 / 88.5", partial(_sampled, "s0")),
    ("sampled, LoRA r24", "56.3 / 64.1 / 66.7", partial(_sampled, "lora")),
)


def tally(said: Sequence[str]) -> str:
    """How often something can be said: "ahead on 3 of 6 (1 on these problems only), no difference shown on 3 of 6"."""
    parts = []
    for word in (AHEAD, BEHIND, NOT_SHOWN):
        n = sum(each.startswith(word) for each in said)
        only_here = sum(each == word + ON_THESE for each in said)
        if n:
            parts.append(f"{word} on {n} of {len(said)}" + (f" ({only_here}{ON_THESE[1:]} only)" if only_here else ""))
    return ", ".join(parts)


def between(values: Sequence[float]) -> str:
    return f"{min(values):+.1f} to {max(values):+.1f}" if len(values) > 1 else f"{values[0]:+.1f}"


def findings() -> str:
    """What holds and what does not, a sentence each."""
    return "\n".join(f"- {sentence}" for sentence in (_gains(), _scale(), _against_lora(), _few(), _controls()))


def _gains() -> str:
    said, gained = zip(*((finding(row), row.gain[0]) for _, row in rows("main", "s0_auto") if row.gain), strict=True)
    return (
        f"**Tuning the initial state** gains {between(gained)} points over the untouched model: {tally(said)} pairs of "
        "model and task."
    )


def _scale() -> str:
    named = [contrast for _, contrast in contrasts("main", "s0_published", "s0_auto")]
    differences = [contrast.difference[0] for contrast in named]
    return (
        "**The scale decides**: rate and scale chosen on select examples, beside the published ones, "
        f"{between(differences)} points: {tally([finding(contrast) for contrast in named])}."
    )


def _against_lora() -> str:
    sentences = []
    for variant, words in (("lora_r24", "LoRA r24"), ("lora_matched", "LoRA of as many numbers as the state")):
        named = [contrast for _, contrast in contrasts("main", variant, "s0_auto")]
        differences = [contrast.difference[0] for contrast in named]
        sentences.append(f"{words} ({between(differences)}): {tally([finding(each) for each in named])}")
    return f"**S0 beside** {'; beside '.join(sentences)}."


def _few() -> str:
    sentences = []
    for model in TUNED:
        by_words: dict[str, list[int]] = {}
        for table, contrast in contrasts("examples", "lora", "s0"):
            if table.model == model and table.amount is not None:
                by_words.setdefault(finding(contrast) or "not tested", []).append(table.amount)
        words = "; ".join(f"{said} at {', '.join(map(str, amounts))}" for said, amounts in by_words.items())
        sentences.append(f"on {model}, {words or 'not run'}")
    return f"**By number of examples**, S0 beside LoRA r24 on functions: {'. And '.join(sentences)}."


def _controls() -> str:
    wrong = [(finding(row), row.gain[0]) for _, row in rows("main", "format_control") if row.gain]
    said, gained = zip(*wrong, strict=True)
    return (
        f"**It is not form alone**: the same training on right forms with wrong contents changes pass@1 by "
        f"{between(gained)} points: {tally(said)}."
    )
