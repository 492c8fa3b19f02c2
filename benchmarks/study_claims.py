"""What the studies say in sentences, which claim what the tests do, and beside what the paper reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from study_tables import TUNED, contrasts, rows

from s0.study.findings import AHEAD, BEHIND, NOT_SHOWN, NOT_TESTED, ON_THESE, difference_of, finding
from s0.study.markdown import heads, in_cells, points
from s0.study.tables import Contrast, Row, Table


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
        n = sum(each in (word, word + ON_THESE) for each in said)
        only_here = said.count(word + ON_THESE)
        if n:
            parts.append(f"{word} on {n} of {len(said)}" + (f" ({only_here}{ON_THESE[1:]} only)" if only_here else ""))
    if n_not_tested := said.count(NOT_TESTED):
        parts.append(f"not tested on {n_not_tested} of {len(said)}")
    return ", ".join(parts)


def compared(those: Iterable[tuple[Table, Row | Contrast]]) -> str:
    """The range of differences in points, and what can be said of how many of them."""
    each = [compared for _, compared in those]
    if not each:
        return "not run"
    differences = [difference[0] for pair in each if (difference := difference_of(pair))]
    low, high = f"{min(differences):+.1f}", f"{max(differences):+.1f}"
    return f"{low if low == high else f'{low} to {high}'} points, {tally([finding(pair) for pair in each])}"


def findings() -> str:
    """What can be said, a sentence for each question; of pairs of model and task."""
    main = partial(contrasts, "main")
    sentences = (
        f"**A tuned initial state**, beside the untouched model: {compared(rows('main', 's0_auto'))}.",
        "**Rate and scale chosen on select examples**, beside the published ones: "
        f"{compared(main('s0_published', 's0_auto'))}.",
        f"**S0 beside LoRA r24**: {compared(main('lora_r24', 's0_auto'))}; beside LoRA of as many numbers as the "
        f"state: {compared(main('lora_matched', 's0_auto'))}.",
        f"**By number of examples**, S0 beside LoRA r24 on functions: {'; '.join(map(_by_number, TUNED))}.",
        "**Right forms with wrong contents** learned instead, beside the untouched model: "
        f"{compared(rows('main', 'format_control'))}.",
    )
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _by_number(model: str) -> str:
    by_words: dict[str, list[str]] = {}
    for table, contrast in contrasts("examples", "lora", "s0"):
        if table.model == model and table.amount is not None:
            by_words.setdefault(finding(contrast) or "not tested", []).append(str(table.amount))
    words = ", ".join(f"{said} at {' and '.join(amounts)}" for said, amounts in by_words.items())
    return f"on {model} {words or 'not run'}"
