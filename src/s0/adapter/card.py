"""The model card of a state: what it is, what it was trained on and how, and how to load it.

Every saved state gets one as README.md. A card that somebody has written is left alone; one made here, or a template of
PEFT's or transformers', is replaced.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import UNSET

from s0.adapter.names_on_disk import NAMES_ON_DISK
from s0.cautions import cautions
from s0.files import write_text
from s0.record import Difference, Record

CARD_FILE = "README.md"
_MARK = "<!-- Made from adapter_config.json; without this line, the card is left as it is. -->"
_TEMPLATE = "[More Information Needed]"  # in every template, many times
_SETTINGS = ("n_steps", "lr", "l2_lambda", "grad_clip", "normalize", "scale_in_training", "patience", "state_rank")

_KINDS = {
    "state": (
        "An initial state",
        "This is not a set of weights: it is where the recurrent state of each of the model's recurrent layers starts, "
        "learned while every weight stayed as it was ([S0 tuning](https://arxiv.org/abs/2604.01168)). The first token "
        "absorbs it; from the second one on the model does exactly the work of the untouched model.",
    ),
    "state and gains": (
        "An initial state with gains",
        "This is where the recurrent state of each of the model's recurrent layers starts "
        "([S0 tuning](https://arxiv.org/abs/2604.01168)), and a factor for each number that the model's norms give, "
        "learned together while every weight stayed as it was. The first token absorbs the state; the factors hold at "
        "every token, and cost a multiplication until they are merged into the norms' weights.",
    ),
    "offset": (
        "A state offset",
        "This is not a set of weights: it is what each of the model's recurrent layers adds to its recurrent state "
        "wherever that is read, learned while every weight stayed as it was (state-offset tuning). It is read at every "
        "token and costs a little at every token.",
    ),
}
"""{kind: what a card calls it, and what it says of it}; with gains, a state is of a kind of its own here."""


def write_card(folder: str | Path, config: Mapping[str, Any], record: Record | None = None) -> None:
    """Write a state's card into its folder, unless somebody has written one there; see `card_for`."""
    text = card_for(folder, config, record)
    if text is not None:
        write_text(Path(folder) / CARD_FILE, text)


def card_for(folder: str | Path, config: Mapping[str, Any], record: Record | None = None) -> str | None:
    """The card to write into a state's folder; None where somebody has written one there.

    Args:
        folder: where the state lies, or is about to lie.
        config: the adapter's by its keys in a file, see `s0.adapter.state_files`.
        record: of an evaluation with this state; without one, the card tells no figures.
    """
    path = Path(folder) / CARD_FILE
    present = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else _MARK
    return card(config, record) if _MARK in present or _TEMPLATE in present else None


def remove_card(folder: str | Path) -> None:
    """Remove a card that this module has made, and nobody has taken over."""
    path = Path(folder) / CARD_FILE
    if path.is_file() and _MARK in path.read_text(encoding="utf-8", errors="replace"):
        path.unlink(missing_ok=True)


def card(config: Mapping[str, Any], record: Record | None = None) -> str:
    """The card's text: the Hub's YAML header, then Markdown."""
    base = str(config.get("base_model_name_or_path") or "") or None
    on_hub = base is not None and base.count("/") == 1 and not Path(base).exists()
    header: dict[str, Any] = {
        **({"base_model": base} if on_hub else {}),
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["s0", "state-tuning", *([f"base_model:adapter:{base}"] if on_hub else [])],
    }
    shapes: Mapping[str, list[int]] = config.get("state_shapes") or {}
    n_values = sum(math.prod(shape) for shape in shapes.values())
    scale = "alpha * S / ||S||" if config.get("normalize") else "alpha * S"
    facts: dict[str, Any] = {
        "base model": base or "not recorded",
        "fingerprint of the base": config.get("fingerprint"),
        "recurrence": config.get(NAMES_ON_DISK["recurrence"]),
        "layers": f"{len(shapes)}, {n_values:,} numbers in float32",
        "scale": f"alpha = {config.get('alpha')}; what enters the model is {scale}",
    }
    gains: Mapping[str, list[int]] = config.get("gain_shapes") or {}
    if gains:
        facts["gains"] = (
            f"of {len(gains)} norms, {sum(map(math.prod, gains.values())):,} numbers in float32, not scaled"
        )
    title, what = _KINDS["state and gains" if gains else config.get(NAMES_ON_DISK["kind"]) or "state"]
    parts = [
        "---\n" + "\n".join(f"{name}: {json.dumps(value)}" for name, value in header.items()) + "\n---",
        f"# {title} for {base or 'a hybrid language model'}",
        what,
        _table(facts),
        "## How it was trained",
        _training(config.get("training") or {}),
        *([] if record is None else ["## Evaluation", _figures(record)]),
        "## How to load it",
        _loading(base),
        _MARK,
    ]
    return "\n\n".join(parts) + "\n"


def training_facts(training: Mapping[str, Any]) -> dict[str, Any]:
    """What there is to tell of a training, by what it is called where people read; None where it was not recorded.

    Args:
        training: its account, as `s0.adapter.checks.check_account` lets it pass.
    """
    settings: Mapping[str, Any] = training.get("settings") or {}
    return {
        "examples": training.get("n_examples"),
        "sha256 of their tokens": training.get("tokens_sha256"),
        "examples that settings were chosen on": training.get("n_select"),
        "sha256 of those": training.get("select_tokens_sha256"),
        **{name: settings.get(name) for name in _SETTINGS},
        "loss before, nats per token": training.get("initial_loss"),
        "loss after, as deployed": training.get("final_loss"),
        "loss on select examples before": training.get("select_initial_loss"),
        "loss on select examples after": training.get("select_final_loss"),
        "scale chosen by": (training.get("scale") or {}).get("by", "nothing: it was given, or is the published one"),
        "adapters it combines": training.get("combined"),
        "versions": ", ".join(f"{name} {number}" for name, number in (training.get("versions") or {}).items()) or None,
    }


def _training(training: Mapping[str, Any]) -> str:
    if not training:
        return "Not recorded."
    interrupted = ["**The training was interrupted before its end.**"] if training.get("interrupted") else []
    notes = "\n".join(f"- {caution}" for caution in cautions(training))
    with_care = [f"To be read with care:\n\n{notes}"] if notes else []
    return "\n\n".join([*interrupted, _table(training_facts(training)), *with_care])


def _figures(record: Record) -> str:
    task = record.task
    some = "" if record.of_problems is UNSET else f", {record.n_problems} of its {record.of_problems} problems"
    scorings = [scoring for scoring, _ in record.final[record.untouched].pass_at_1.items()]
    lines = [
        f"Task {task.name}, version {task.version}, split {record.split}{some}; one greedy answer to each problem, "
        f"95% intervals; sha256 of the data {task.data_sha256}.",
        "",
        "| | " + " | ".join(f"pass@1, {scoring} scoring" for scoring in scorings) + " |",
        "|---|" + "---|" * len(scorings),
    ]
    for variant, summary in record.final.items():
        rates = " | ".join(
            f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})" for _, rate in summary.pass_at_1.items()
        )
        lines.append(f"| {_shown(variant)} | {rates} |")
    if record.gains:
        shown = "; ".join(f"{comparison.second}: {comparison.effect}" for comparison in record.gains)
        lines += [
            "",
            f"Against the untouched model, by the standard scoring: {shown}. In points, with 95% intervals for pairs "
            "(Tango) and p of McNemar's exact test, raised for the number of comparisons (Holm):",
            "",
            "| | " + " | ".join(f"{scoring} scoring" for scoring in scorings) + " |",
            "|---|" + "---|" * len(scorings),
        ]
    for comparison in record.gains:
        gains = " | ".join(_gain(difference) for _, difference in comparison.items())
        lines.append(f"| {_shown(comparison.second)} | {gains} |")
    rows = [row.partition(":")[0] for row in task.left_out]
    if rows:
        lines += ["", f"Left out of every score, as no answer to them can be judged: {', '.join(rows)}."]
    for variant, summary in record.final.items():
        if summary.not_judged:
            unjudged = ", ".join(summary.not_judged)
            lines += ["", f"{variant}: answers to {unjudged} could not be judged and count as failed."]
    return "\n".join(lines)


def _gain(difference: Difference) -> str:
    value, low, high = (100 * share for share in (difference.difference, difference.low, difference.high))
    p_value = "< 0.001" if difference.p_holm < 0.001 else f"= {difference.p_holm:.2g}"
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f}; p {p_value})"


def _loading(base: str | None) -> str:
    return f"""```python
import s0  # registers the method
from peft import PeftModel

model, tokenizer = s0.load_model({json.dumps(base or "path/to/the/base/model")})
model = PeftModel.from_pretrained(model, "path/to/this/folder")  # or this repository's name
```

It is refused on a base model with other weights than those it was trained on."""


def _table(facts: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {_shown(value)} |" for name, value in facts.items() if value is not None]
    return "\n".join(["| | |", "|---|---|", *rows])


def _shown(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
