"""A study at a glance: what each variant solves and gains, wherever it was measured, in as few tables as can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from s0.study.findings import AHEAD, BEHIND, finding
from s0.study.lengths import Lengths
from s0.study.markdown import heads, in_cells, p_value, points, spread
from s0.study.spec import Study
from s0.study.tables import SEEDS_FOR_OTHER_PROBLEMS, Contrast, Row, Table

_CONTRASTED = ("second", "first", "second - first", "for other problems", "p", "says of the second")
"""Columns of a table of contrasts, see `_contrast_cells`."""


@dataclass(frozen=True)
class Place:
    """Where variants were measured, beside its like in a study.

    Attributes:
        name: what tells it from the others.
        table: of it.
    """

    name: str
    table: Table


def legend(study: Study) -> str:
    """What the tables at a glance show, in words."""
    reference = label_of(study, study.reference, study.models)
    shown = (
        "pass@1 in %, greedy, under the standard scoring and in brackets under the paper's; then the gain in points "
        f"over {reference}, standard scoring, with its 95% interval"
    )
    if len(study.seeds) == 1:
        return f"{shown} for other problems asked of this one training."
    return (
        f"{shown} over seeds, for these problems. **Bold**: it holds for other problems too (p < 0.05 after Holm over "
        "all that one model learns from one number of examples of one task, and an interval over seeds and problems "
        f"without 0, for which at least {SEEDS_FOR_OTHER_PROBLEMS} seeds are needed)."
    )


def overview(study: Study, tables: Sequence[Table]) -> list[str]:
    """The lines of a study's tables at a glance, in Markdown.

    Args:
        study: whose tables they are.
        tables: all of them.
    """
    lines: list[str] = []
    for title, places in groups(study, tables).items():
        lines += ([f"**{title}**", ""] if title else []) + [*_pass_rates(study, places), "", *_sampled(study, places)]
    return [*lines, *_contrasts(study, tables)]


def groups(study: Study, tables: Sequence[Table]) -> dict[str, list[Place]]:
    """A study's tables by what stands over them: model, and task where others are asked too; one where that is all."""
    by_title: dict[str, list[Place]] = {}
    for table in tables:
        by_title.setdefault(_learner(study, table), []).append(Place(_place(study, table), table))
    if all(len(places) == 1 for places in by_title.values()):
        return {"": [Place(title, place.table) for title, (place,) in by_title.items()]}
    return by_title


def _learner(study: Study, table: Table) -> str:
    return table.model + (f", learned on {table.task}" if len(study.asked) > 1 else "")


def _place(study: Study, table: Table) -> str:
    parts = [table.task] if len(study.tasks) > 1 and len(study.asked) < 2 else []
    parts += [table.asked] if len(study.asked) > 1 else []
    parts += [amount_in_words(table.amount)] if len(study.examples) > 1 else []
    return ", ".join(parts) or table.asked


def amount_in_words(amount: int | None) -> str:
    """How many examples were learned from; None for all."""
    return "all examples" if amount is None else f"{amount} examples"


def label_of(study: Study, variant: str, models: Iterable[str]) -> str:
    """What a variant is called."""
    for model in models:
        if spec := study.variants_on(model).get(variant):
            return spec.label or variant
    return variant


def _pass_rates(study: Study, places: Sequence[Place]) -> list[str]:
    cells = {place.name: {row.variant: _cell(row) for row in place.table.rows} for place in places}
    return _pivoted(study, places, cells, _published(places))


def _cell(row: Row) -> str:
    solved = f"{row.standard[0]:.1f} ({row.paper[0]:.1f})"
    if row.gain is None:
        return solved
    gain = f"**{row.gain[0]:+.1f}**" if finding(row) in (AHEAD, BEHIND) else f"{row.gain[0]:+.1f}"
    return f"{solved}, {gain}{spread(row.gain)}"


def _published(places: Sequence[Place]) -> dict[str, str]:
    by_variant: dict[str, dict[str, None]] = {}
    for place in places:
        for row in place.table.rows:
            if row.published:
                by_variant.setdefault(row.variant, {})[row.published] = None
    return {variant: "; ".join(texts) for variant, texts in by_variant.items()}


def _sampled(study: Study, places: Sequence[Place]) -> list[str]:
    """pass@k where answers were drawn."""
    ks = next((list(row.pass_at_k) for place in places for row in place.table.rows if row.pass_at_k), [])
    if not ks:
        return []
    cells = {
        place.name: {
            row.variant: " / ".join(f"{row.pass_at_k[k]:.1f}" for k in ks) for row in place.table.rows if row.pass_at_k
        }
        for place in places
    }
    return [f"Sampled: pass@{' / '.join(ks)}.", "", *_pivoted(study, places, cells, {}), ""]


def _pivoted(
    study: Study, places: Sequence[Place], cells: Mapping[str, Mapping[str, str]], published: Mapping[str, str]
) -> list[str]:
    """Variants by places, or places by variants where those are fewer; what was published beside or below them."""
    models = [place.table.model for place in places]
    variants = list(dict.fromkeys(row.variant for place in places for row in place.table.rows))
    columns = {**cells, **({"published": published} if published else {})}
    if len(cells) > len(variants):
        head = ["", *(label_of(study, variant, models) for variant in variants)]
        rows = [[name, *(column.get(variant, "") for variant in variants)] for name, column in columns.items()]
    else:
        head = ["", *columns]
        rows = [
            [label_of(study, variant, models), *(column.get(variant, "") for column in columns.values())]
            for variant in variants
        ]
    return [*heads(head), *map(in_cells, rows)]


def _contrasts(study: Study, tables: Sequence[Table]) -> list[str]:
    """Every contrast everywhere, with what can be said of it."""
    lines = [
        in_cells([f"{_learner(study, table)}, {_place(study, table)}", *_contrast_cells(study, table, contrast)])
        for table in tables
        for contrast in table.contrasts
    ]
    return [*heads(["where", *_CONTRASTED]), *lines, ""] if lines else []


def contrasts(study: Study, table: Table) -> list[str]:
    """The contrasts of one table, as a table of their own; nothing where there are none."""
    lines = [in_cells(_contrast_cells(study, table, contrast)) for contrast in table.contrasts]
    return [*heads(_CONTRASTED), *lines, ""] if lines else []


def _contrast_cells(study: Study, table: Table, contrast: Contrast) -> list[str]:
    """Who is compared, the difference with its interval, that for other problems, p, and what can be said."""
    names = [label_of(study, name, [table.model]) for name in (contrast.second, contrast.first)]
    others = spread(contrast.crossed).strip()
    return [*names, points(contrast.difference, "+"), others, p_value(contrast.p_holm), finding(contrast)]


def lengths_in_cells(study: Study, model: str, lengths: Lengths, variants: Iterable[str]) -> list[str]:
    """A table of what variants solve by length: a column for each part, a row for each variant."""
    lines = heads(["variant", *(f"{part.low} to {part.high} ({part.n})" for part in lengths.parts)])
    for variant in variants:
        lines.append(in_cells([label_of(study, variant, [model]), *(f"{rate:.1f}" for rate in lengths.means(variant))]))
    return lines
