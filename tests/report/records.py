"""Records made by hand: a whole one, the smallest ones, and one in which every text is hostile."""

from __future__ import annotations

import json
import math
import random
from importlib.resources import files
from typing import Any

from s0.bench.evaluation import Samples
from s0.bench.record import sampled_part
from s0.bench.stats import compare, holm, rate
from s0.bench.variants import Outcome
from s0.record import Answer, plain

FORMATS = ("body", "body_unindented", "function", "fenced", "unparsable", "empty")
BREAKERS = "</style><script>alert(1)</script>\"'><img src=x onerror=alert(1)> {{ 7 * 7 }} {% raw %}"
UNSEEN = "\x00 \x1b[31m bidi \u202e gnp.exe \u2066 zero\u200bwidth \ufeff lone \ud800 \udfff \u2028 \x85 \U000e0041"
MATHS = "$\\frac{x}$ $y$ \\$ ^_ 数 _x"


def problems(split: str = "final") -> list[dict[str, Any]]:
    lines = files("s0.tasks").joinpath("data/pocket_code.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def demo_record(n: int = 240, seed: int = 0) -> dict[str, Any]:
    """Three variants: s0 helps much and loses a little, lora helps somewhat."""
    rng = random.Random(seed)
    asked = problems()[:n]
    answers = {
        "base": [answer(row, rng, 0.375, "body_unindented") for row in asked],
        "s0": [answer(row, rng, 0.70, "body") for row in asked],
        "lora": [answer(row, rng, 0.48, "function") for row in asked],
    }
    for before, after in zip(answers["base"], answers["s0"], strict=True):
        if before["passed"]["standard"] and rng.random() < 0.85:  # answers to one problem go together
            after["passed"] = {"standard": True, "paper": after["passed"]["paper"]}
            after["reason"] = {"standard": "passed", "paper": after["reason"]["paper"]}
    alphas = (0.0, 0.02, 0.035, 0.07, 0.13, 0.23, 0.4, 0.65, 1.0, 1.6, 2.5, 4.0)
    curve = [{"alpha": a, "value": 0.31 - 0.22 * math.exp(-((math.log(max(a, 1e-3)) + 0.4) ** 2) / 2)} for a in alphas]
    curve[-1]["value"] = None
    return evaluated(
        answers,
        {row["task_id"]: row["prompt"] for row in asked},
        {
            "base": {"method": "base"},
            "s0": {
                "method": "s0",
                "settings": {"n_steps": 20, "lr": 0.01, "l2_lambda": 0.0005, "alpha": "auto", "normalize": False},
                "parameters": 8192,
                "training": training(rng, 20, 0.62, 0.05, select=True),
                "scale": {"chosen": 0.65, "by": "loss", "helps": True, "curve": curve},
                "layers": [
                    {"name": f"layer {i}", "norm": 1.2 + math.sin(i), "shape": [4, 16, 32]} for i in (0, 1, 2, 4, 5, 6)
                ],
            },
            "lora": {
                "method": "lora",
                "settings": {"n_steps": 20, "lr": 0.002, "r": 8, "target_modules": ["q_proj", "v_proj"]},
                "parameters": 49152,
                "training": training(rng, 20, 0.62, 0.21, select=True),
            },
        },
        settings={"model": "pocket:gdn", "task": "pocket-code", "data": None, "seed": 0, "samples": 16},
        examples={
            "train": {"n": 384, "of_problems": 48, "sha256": "5f" * 32},
            "select": {"n": 61, "of_problems": 24, "sha256": "a0" * 32},
        },
        seconds={
            "collect train": 15.2, "collect select": 4.1, "train s0": 17.3, "train lora": 21.8,
            "evaluate base": 3.4, "evaluate s0": 3.1, "evaluate lora": 3.6,
        },
    )  # fmt: skip


def sampled_record(n: int = 40, samples: int = 8) -> dict[str, Any]:
    """`demo_record` with samples drawn from every variant."""
    record, rng, drawn = demo_record(n), random.Random(1), Samples(samples)
    answers = {
        name: [
            Answer(**{**one, "sample": i, "passed": {"standard": (good := rng.random() < skill), "paper": not good}})
            for one in given
            for skill in [rng.random()]
            for i in range(samples)
        ]
        for name, given in record["answers"].items()
    }
    outcomes = {name: Outcome({}, (), sampled=given) for name, given in answers.items()}
    return {**record, "sampled": plain(sampled_part(drawn, outcomes))}


def training(rng: random.Random, steps: int, first: float, last: float, select: bool = False) -> dict[str, Any]:
    losses = [last + (first - last) * math.exp(-4 * i / steps) + 0.01 * rng.random() for i in range(steps)]
    series: dict[str, Any] = {"losses": losses, "norms": [0.02 * i for i in range(1, steps + 1)]}
    if select:
        series["best_step"], series["select_initial_loss"], series["select_final_loss"] = steps, 1.1 * first, 1.1 * last
        series["select_losses"] = [1.1 * loss + 0.03 for loss in losses[1:]] + [1.1 * last + 0.04]
    return {"initial_loss": first, "training_loss": last, "final_loss": 1.02 * last, **series}


def answer(row: dict[str, Any], rng: random.Random, ability: float, form: str) -> dict[str, Any]:
    solved = rng.random() < ability
    body = row["canonical_solution"]
    if not solved:
        body = rng.choice(
            [body.replace("+", "-").replace("<", "<=").replace(">", "<"), "    return None\n", body[: len(body) // 2]]
        )
    text = {"body": body, "body_unindented": body[4:], "function": row["prompt"] + body}[form]
    paper = solved and form == "function"
    why = rng.choice(["check failed: AssertionError", "raised TypeError: unsupported operand", "timed out after 3.0 s"])
    return {
        "problem": row["task_id"],
        "sample": None,
        "completion": text,
        "n_tokens": len(text) // 3,
        "truncated": not solved and rng.random() < 0.05,
        "format": form if rng.random() < 0.93 else "unparsable",
        "passed": {"standard": solved, "paper": paper},
        "reason": {
            "standard": "passed" if solved else why,
            "paper": "passed" if paper else "does not parse: IndentationError",
        },
    }


def evaluated(
    answers: dict[str, list[dict[str, Any]]],
    prompts: dict[str, str],
    variants: dict[str, dict[str, Any]],
    **rest: Any,
) -> dict[str, Any]:
    """The record of given answers; its summaries and comparisons are computed from them."""
    names = list(answers)
    pairs = [(names[0], other) for other in names[1:]] + [(names[1], other) for other in names[2:]]
    compared: list[dict[str, Any]] = [{"first": one, "second": other} for one, other in pairs]
    for scoring in ("standard", "paper"):
        for entry in compared:
            first, second = ([one["passed"][scoring] for one in answers[entry[side]]] for side in ("first", "second"))
            result = compare(first, second)
            ids = [one["problem"] for one in answers[entry["first"]]]
            entry[scoring] = {
                "n": result.n, "difference": result.difference, "low": result.low, "high": result.high,
                "p_value": result.p_value,
                "gained": [ids[i] for i in result.gained], "lost": [ids[i] for i in result.lost],
            }  # fmt: skip
        for entry, p_holm in zip(compared, holm([entry[scoring]["p_value"] for entry in compared]), strict=True):
            entry[scoring]["p_holm"] = p_holm
    return {
        "kind": "demo" if len(names) > 1 else "eval",
        "environment": {
            "time": "2026-11-21T10:19:04+00:00",
            "versions": {"s0-tuning": "1.0.0.dev0", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2"},
            "python": "3.11.7", "platform": "Linux-6.18.44-x86_64-with-glibc2.36", "device": "cpu", "cpu_threads": 2,
        },
        "model": {"name": "pocket:gdn", "fingerprint": "9c41" * 16},
        "task": {"name": "pocket-code", "version": "1", "data_sha256": "e3b0c442" * 8},
        "split": "final",
        "chat": False,
        "seconds": {},
        "variants": variants,
        "final": {name: _summary(given) for name, given in answers.items()},
        "comparisons": compared,
        "sampled": None,
        "problems": prompts,
        "answers": answers,
        **rest,
    }  # fmt: skip


def _summary(given: list[dict[str, Any]]) -> dict[str, Any]:
    n = len(given)
    rates = {scoring: rate([one["passed"][scoring] for one in given]) for scoring in ("standard", "paper")}
    return {
        "pass_at_1": {scoring: plain(found) for scoring, found in rates.items()},
        "truncated": sum(one["truncated"] for one in given) / n,
        "formats": {form: sum(one["format"] == form for one in given) / n for form in FORMATS},
        "mean_tokens": sum(one["n_tokens"] for one in given) / n,
        "not_judged": {},
    }


def verdicts(**passed: tuple[list[bool], list[bool]]) -> dict[str, Any]:
    """A small record of variants with the given (standard, paper) verdicts, and nothing that was trained."""
    answers = {
        name: [
            {
                "problem": f"p{i}", "sample": None, "completion": f"    return {i}\n", "n_tokens": 5,
                "truncated": False, "format": "body",
                "passed": {"standard": standard, "paper": paper},
                "reason": {"standard": "passed" if standard else "failed", "paper": "passed" if paper else "failed"},
            }
            for i, (standard, paper) in enumerate(zip(*both, strict=True))
        ]
        for name, both in passed.items()
    }  # fmt: skip
    n = len(next(iter(answers.values())))
    return evaluated(
        answers, {f"p{i}": f"def f{i}():\n" for i in range(n)}, {name: {"method": "s0"} for name in passed}
    )


def hostile_record() -> dict[str, Any]:
    """Every text that comes from a model or a file tries to break out."""
    record = demo_record(n=12)
    texts = [BREAKERS + UNSEEN, UNSEEN + MATHS, MATHS + BREAKERS, "x" * 30_000, "\n\n  ", "שלום العالم " * 40]
    count = 0

    def poison(value: Any) -> Any:
        nonlocal count
        if isinstance(value, dict):
            return {key: poison(item) for key, item in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        if isinstance(value, str):
            count += 1
            return texts[count % len(texts)]
        return value

    renamed = {"base": "base" + UNSEEN + MATHS, "s0": BREAKERS, "lora": MATHS}
    ids = {old: f"{i} {texts[i % 3]}" for i, old in enumerate(record["problems"])}

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {renamed.get(key, ids.get(key, key)): rename(item) for key, item in value.items()}
        if isinstance(value, list):
            return [rename(item) for item in value]
        return renamed.get(value, ids.get(value, value)) if isinstance(value, str) else value

    record = rename(record)
    kept = {key: record[key] for key in ("kind", "comparisons", "final")}
    record = {**poison({key: value for key, value in record.items() if key not in kept}), **kept}
    for name, given in record["answers"].items():
        for one, old in zip(given, ids.values(), strict=True):
            one["problem"] = old
            one["completion"] = f"{name}\n{one['completion']}"
    for facts in record["variants"].values():
        if "scale" in facts:
            facts["scale"]["by"] = "loss"
    record["environment"][BREAKERS] = {UNSEEN: [MATHS, math.nan, None, True]}
    return record
