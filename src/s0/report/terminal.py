"""A record as tables for people, on a terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from s0.record import (
    Comparison,
    Difference,
    Estimate,
    Examples,
    Rate,
    Record,
    Sampled,
    SampledDifference,
    Summary,
)
from s0.report.wording import (
    finding,
    form_name,
    form_words,
    left_out,
    not_judged,
    only_some,
    reservation,
    too_little_to_ask,
)

_SCORINGS = ("standard", "paper")
_NARROW = 60  # columns of a terminal
_WORD = len("difference")
_SPLITS = {"train": "to learn from", "select": "to choose settings on"}


CONSOLE = Console(stderr=True, highlight=False, markup=False)
"""Names may hold what rich would take for markup. It looks sys.stderr up when it prints."""


def show_record(record: Record) -> None:
    """Print rates with intervals, differences, forms, and what to know of them."""
    if record.examples:
        _print_origin(record, record.examples)
    table = Table(
        title=f"{record.model.name} on {record.task.name}: greedy pass@1 in %, {record.n_problems} problems",
        caption="[ , ] 95% interval, Wilson's",
        box=SIMPLE,
    )
    _add_columns(table, "scoring", *_SCORINGS)
    for name, summary in record.final.items():
        table.add_row(name, *(_rate(rate) for _, rate in summary.pass_at_1.items()))
    _print(table)
    if record.comparisons:
        _print(_differences(record.comparisons))
    if record.sampled is not None:
        _print(_sampled(record.sampled))
        if record.sampled.comparisons:
            _print(_sampled_differences(record.sampled))
    for scoring, note in record.task.scorings.items():
        CONSOLE.print(f"  {scoring}: {note}", style="dim")
    _print(_formats(record.final))
    for comparison in record.gains:
        CONSOLE.print(_in_words(comparison, record.bases), soft_wrap=True)
    if record.comparisons and (too_little := too_little_to_ask(record)):
        CONSOLE.print(f"note: {too_little}", soft_wrap=True)
    if some := only_some(record):
        CONSOLE.print(f"note: {some}", soft_wrap=True)
    for name, run in record.variants.items():
        for caution in run.cautions or ():
            CONSOLE.print(f"note: {name}: {caution}", soft_wrap=True)
    for unjudged in not_judged(record):
        CONSOLE.print(f"note: {unjudged}", soft_wrap=True)
    if rows := left_out(record.task.left_out):
        CONSOLE.print(f"note: {rows}", soft_wrap=True)


def _print_origin(record: Record, examples: Mapping[str, Examples]) -> None:
    """What was learned from, how that went, and how long it took."""
    for split, verified in examples.items():
        CONSOLE.print(
            f"{split} examples: {verified.n} verified, from {verified.of_problems} problems {_SPLITS.get(split, '')}"
        )
    for name, run in record.variants.items():
        if run.training is not None:
            CONSOLE.print(
                f"{name}: {run.parameters} numbers trained; loss in nats per token (lower is better) "
                f"{_loss(run.training.initial_loss)} -> {_loss(run.training.final_loss)}"
                + (f" at the scale (alpha) {run.scale.chosen:g}" if run.scale else ""),
                soft_wrap=True,
            )
    CONSOLE.print(
        "seconds: " + ", ".join(f"{name} {spent:.0f}" for name, spent in record.seconds.items()), soft_wrap=True
    )


def _add_columns(table: Table, *names: str) -> None:
    """Words to the left, figures to the right; where there is no room for them, broken, never cut off."""
    for name in names:
        table.add_column(name, justify="left" if name in ("", "scoring") else "right", overflow="fold")


def _print(table: Table) -> None:
    """On a narrow terminal with little between columns, each of which has room for its words before any has more."""
    if CONSOLE.width < _NARROW:
        table.padding = 0
        texts = [[str(text) for text in (column.header, *column.cells)] for column in table.columns]
        words = [max((len(word) for text in column for word in text.split()), default=0) for column in texts]
        words = [min(longest, _WORD) for longest in words]
        spare = CONSOLE.width - len(texts) - 1 - sum(words)
        for column, least, column_texts in reversed([*zip(table.columns, words, texts, strict=True)]):
            column.width = max(least, min(max(map(len, column_texts)), least + spare))
            spare -= column.width - least
    CONSOLE.print(table)


def _loss(loss: float | None) -> str:
    return "not told" if loss is None else f"{loss:.3f}"


def _rate(rate: Rate | Estimate) -> str:
    return f"{100 * rate.value:.1f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def _differences(comparisons: Sequence[Comparison]) -> Table:
    table = Table(
        title="differences in points, pair by pair",
        caption="[ , ] 95% interval, Tango's for pairs; p: chance of such flips without any effect, McNemar's exact "
        "test, raised for the number of comparisons (Holm); + / -: problems gained / lost",
        box=SIMPLE,
    )
    _add_columns(table, "", "scoring", "difference", "p", "+ / -")
    for comparison in comparisons:
        pair = f"{comparison.second} - {comparison.first}"
        for scoring, difference in comparison.items():
            flips = f"{len(difference.gained)} / {len(difference.lost)}"
            table.add_row(pair, scoring, _points(difference), f"{difference.p_holm:.1g}", flips)
            pair = ""
    return table


def _sampled(sampled: Sampled) -> Table:
    table = Table(
        title=f"pass@k in %, {sampled.n} samples a problem, temperature {sampled.temperature:g}, "
        f"top_p {sampled.top_p:g}",
        caption="unbiased; [ , ] 95% over problems, Wilson at the effective number of problems",
        box=SIMPLE,
    )
    _add_columns(table, "", "k", *_SCORINGS)
    for name, summary in sampled.final.items():
        for i, (k, estimate) in enumerate(summary.pass_at_k.standard.items()):
            table.add_row("" if i else name, k, _rate(estimate), _rate(summary.pass_at_k.paper[k]))
    return table


def _sampled_differences(sampled: Sampled) -> Table:
    table = Table(
        title="differences in pass@k in points, problem by problem",
        caption="[ , ] 95%; p: paired t-test over problems, Holm-adjusted",
        box=SIMPLE,
    )
    _add_columns(table, "", "k", "scoring", "difference", "p")
    for comparison in sampled.comparisons:
        pair = f"{comparison.second} - {comparison.first}"
        for scoring, differences in comparison.items():
            for k, difference in differences.items():
                table.add_row(pair, k, scoring, _points(difference), f"{difference.p_holm:.1g}")
                pair = ""
    return table


def _points(compared: Difference | SampledDifference) -> str:
    return f"{100 * compared.difference:+.1f} [{100 * compared.low:+.1f}, {100 * compared.high:+.1f}]"


def _formats(final: Mapping[str, Summary]) -> Table:
    failures = ("unparsable", "empty")
    forms = {form for summary in final.values() for form in summary.formats}
    table = Table(title="form of the answers, in %", box=SIMPLE)
    _add_columns(table, "", *final)
    for form in [*sorted(forms - {*failures}), *failures]:
        rates = (summary.formats.get(form, 0.0) for summary in final.values())
        table.add_row(form_name(form), *(f"{100 * rate:.1f}" for rate in rates))
    table.add_row("truncated", *(f"{100 * summary.truncated:.1f}" for summary in final.values()))
    table.caption = f"{form_words([*forms, *failures])}; truncated: cut off at the limit of length"
    return table


def _in_words(comparison: Comparison, bases: Collection[str]) -> str:
    return f"Under the standard scoring {finding(comparison, bases)}. {reservation(comparison)}".rstrip()
