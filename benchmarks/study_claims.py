"""What the studies say in sentences, which claim what the tests do, and beside what the paper reports."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from study_tables import NAMES, TUNED, answers_in, contrasts, rows, runs_of, study_of

from s0.bench.stats import mean_pass_at_k
from s0.errors import GridNotDoneError
from s0.study.findings import AHEAD, BEHIND, NOT_SHOWN, NOT_TESTED, OF_THIS_TRAINING, ON_THESE, difference_of, finding
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
    """Under the standard scoring, and under the paper's."""
    here = [row for table, row in rows(study, variant) if (table.model, table.task) == (model, task)]
    if not here or here[0].gain is None or here[0].paper_gain is None:
        return "not run"
    return f"{points(here[0].gain, '+')}; paper's scoring {points(here[0].paper_gain, '+')}"


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
    """pass@1, 5 and 10 of the samples on functions, the mean over seeds."""
    try:
        runs = runs_of("pass_at_k", variant, model, _CODE)
    except GridNotDoneError:
        return "not run"
    if len(runs) < len(study_of("pass_at_k").seeds):
        return "not run"
    estimates = []
    for run in runs.values():
        drawn, n = answers_in(run).drawn, run.unit.drawn.n if run.unit.drawn else 0
        assert drawn is not None
        verdicts = drawn.verdicts["standard"]
        counts = [verdicts[i : i + n].count("1") for i in range(0, len(verdicts), n)]
        estimates.append([100 * mean_pass_at_k(n, counts, k)[0] for k in (1, 5, 10)])
    return " / ".join(f"{statistics.fmean(each):.1f}" for each in zip(*estimates, strict=True))


def _prefix(model: str) -> str:
    return f"{_gained('main', 'prefix', _CODE, 'pocket:transformer')} (pocket:transformer)" if model == TUNED[0] else ""


_CODE, _MATH, _SQL = "pocket-code", "pocket-math", "pocket-sql"
_GAINED, _DIFFERS = partial(_gained, "main"), partial(_differs, "main")
_S0_ON_CODE = "+23.6 ± 1.7 (Qwen3.5-4B), +31.3 (FalconH1-7B)"
_CLAIMS: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("S0 on functions", _S0_ON_CODE, partial(_GAINED, "s0_auto", _CODE)),
    ("S0 at the published settings", _S0_ON_CODE, partial(_GAINED, "s0_published", _CODE)),
    ("LoRA r24 on functions", "+12.7 (Qwen3.5-4B), +30.9 (FalconH1-7B)", partial(_GAINED, "lora_r24", _CODE)),
    ("S0 - LoRA r24", "+10.8 (Qwen3.5-4B), +0.4 (FalconH1-7B)", partial(_DIFFERS, "lora_r24", "s0_auto", _CODE)),
    ("LoRA of as many numbers", "+2.1 ± 17.0 (r48), -15.5 ± 18.9 (r64)", partial(_GAINED, "lora_matched", _CODE)),
    ("S0 on mathematics", "+4.8 (MATH-500), +2.8 (GSM8K)", partial(_GAINED, "s0_auto", _MATH)),
    ("S0 on SQL", "-2.3 to +0.1 (Spider, five scales)", partial(_GAINED, "s0_auto", _SQL)),
    ("S0 from 10 / 25 / 50 examples", "+25.4 / +22.6 / +22.6", partial(_by_amount, "s0", (10, 25, 50))),
    ("offset - S0", "+3.6", partial(_differs, "offset", "s0", "offset", _CODE)),
    ("prefix tuning of a Transformer", "-13.9", _prefix),
    ("sampled pass@1 / 5 / 10, untouched", "41.9 / 64.2 / 69.4", partial(_sampled, "base")),
    ("sampled pass@1 / 5 / 10, S0", "70.3 / 84.5 / 88.5", partial(_sampled, "s0")),
    ("sampled pass@1 / 5 / 10, LoRA r24", "56.3 / 64.1 / 66.7", partial(_sampled, "lora")),
)


def tally(said: Sequence[str]) -> str:
    """How often each thing can be said: "ahead on 2 of 6, ahead, on these problems on 1 of 6, ..."."""
    words = (each + narrowed for each in (AHEAD, BEHIND) for narrowed in ("", ON_THESE, OF_THIS_TRAINING))
    counts = {word: said.count(word) for word in (*words, NOT_SHOWN, NOT_TESTED)}
    return ", ".join(f"{word.replace(',', '')} on {n} of {len(said)}" for word, n in counts.items() if n)


def between(values: Sequence[float]) -> str:
    """From the smallest to the largest."""
    low, high = f"{min(values):+.1f}", f"{max(values):+.1f}"
    return low if low == high else f"{low} to {high}"


def compared(those: Iterable[tuple[Table, Row | Contrast]], n_planned: int) -> str:
    """The range of differences in points, and what can be said of how many of them."""
    pairs = [pair for _, pair in those]
    if not pairs:
        return "not run"
    differences = [difference[0] for pair in pairs if (difference := difference_of(pair))]
    left = "" if len(pairs) == n_planned else f" ({n_planned - len(pairs)} not run yet)"
    return f"{between(differences)} points, {tally([finding(pair) for pair in pairs])}{left}"


def findings() -> str:
    """What can be said, a sentence for each question; of pairs of model and task."""
    n_planned = len(TUNED) * len(study_of("main").tasks)

    def beside_base(variant: str) -> str:
        return compared(rows("main", variant), n_planned)

    def beside(first: str) -> str:
        return compared(contrasts("main", first, "s0_auto"), n_planned)

    sentences = (
        f"**A tuned initial state**, beside the untouched model: {beside_base('s0_auto')}; {_by_paper('s0_auto')}.",
        f"**Rate and scale chosen on select examples**, beside the published ones: {beside('s0_published')}.",
        f"**S0 beside LoRA r24**: {beside('lora_r24')}; beside LoRA of as many numbers as the state: "
        f"{beside('lora_matched')}.",
        f"**By number of examples**, S0 beside LoRA r24 on functions: {'; '.join(map(_by_number, TUNED))}.",
        "**Right forms with wrong contents** learned instead, beside the untouched model: "
        f"{beside_base('format_control')}.",
    )
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _by_paper(variant: str) -> str:
    """The same under the paper's scoring, by task: it takes one form of answer."""
    gains: dict[str, list[float]] = {}
    for table, row in rows("main", variant):
        if row.paper_gain:
            gains.setdefault(NAMES[table.task], []).append(row.paper_gain[0])
    words = [f"{between(each)} on {task}" for task, each in gains.items()]
    return f"under the paper's scoring {', '.join(words) or 'not run'}"


def _by_number(model: str) -> str:
    by_words: dict[str, list[str]] = {}
    for table, contrast in contrasts("examples", "lora", "s0"):
        if table.model == model and table.amount is not None:
            by_words.setdefault(finding(contrast), []).append(str(table.amount))
    words = ", ".join(f"{said} at {' and '.join(amounts)}" for said, amounts in by_words.items())
    return f"on {model} {words or 'not run'}"
