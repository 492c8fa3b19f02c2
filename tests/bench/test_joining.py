"""Records of the same problems are joined, or refused by name."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from typing import Any

import pytest
from msgspec import UNSET, structs

from s0.bench import join
from s0.errors import DatasetError
from s0.record import Record, parsed, plain
from s0.report.wording import finding, headline
from s0.tasks.sandbox import Limits
from tests.report.records import demo_record, evaluated, sampled_record, verdicts

N = 40
HALF = [i % 2 == 0 for i in range(N)]
YES, NO = [True] * N, [False] * N


def evaluation(**passed: list[bool]) -> dict[str, Any]:
    """The record of a base, and of what was tuned on it, by their verdicts under the standard scoring."""
    record = verdicts(**{name: (given, NO[: len(given)]) for name, given in passed.items()})
    record["variants"]["base"] = {"method": "base"}
    record["task"] |= {"scorings": {}, "left_out": []}
    return {**record, "max_new_tokens": 256}


def joined(**records: dict[str, Any]) -> Record:
    return join({name: parsed(record) for name, record in records.items()})


def pairs(record: Record) -> list[tuple[str, str]]:
    return [(comparison.first, comparison.second) for comparison in record.comparisons]


def test_one_record_stays_as_it_is() -> None:
    record = parsed(sampled_record())
    assert join({"alone": record}) == record


def test_the_records_of_single_states_join_to_that_of_all_of_them() -> None:
    whole = parsed(evaluation(base=HALF, a=YES, b=NO))
    got = joined(first=evaluation(base=HALF, a=YES), second=evaluation(base=HALF, b=NO))
    assert got.answers == whole.answers
    assert [one.pass_at_1 for one in got.final.values()] == [one.pass_at_1 for one in whole.final.values()]
    assert got.comparisons == whole.comparisons and len(got.comparisons) == 3
    assert headline(got) == headline(whole) == "a helped; b hurt"
    assert join({"again": parsed(plain(got))}) == got  # what is shown as JSON is read again


def test_names_that_several_records_have_get_the_name_of_the_record() -> None:
    got = joined(one=evaluation(base=HALF, s0=YES, lora=YES), two=evaluation(base=HALF, s0=NO))
    assert [*got.final] == [*got.variants] == [*got.answers] == ["base", "s0 (one)", "lora", "s0 (two)"]
    assert [comparison.effect for comparison in got.gains] == ["helped", "helped", "hurt"]
    assert pairs(got)[3:] == [("s0 (one)", "lora"), ("s0 (one)", "s0 (two)")]


def test_a_record_of_the_untouched_model_alone_adds_nothing() -> None:
    got = joined(one=evaluation(base=HALF), two=evaluation(base=HALF, s0=YES))
    assert [*got.final] == ["base", "s0"] and pairs(got) == [("base", "s0")]


@pytest.mark.parametrize("by", ["answers", "weights"])
def test_untouched_models_that_differ_are_both_kept_and_each_is_what_its_own_is_compared_with(by: str) -> None:
    second = evaluation(base=HALF if by == "weights" else NO, lora=YES)
    if by == "weights":
        second["model"] = {"name": "other", "fingerprint": "0"}
    got = joined(one=evaluation(base=HALF, s0=YES), two=second)
    assert [*got.final] == ["base (one)", "s0", "base (two)", "lora"]
    assert pairs(got) == [
        ("base (one)", "s0"),
        ("base (two)", "lora"),
        ("base (one)", "base (two)"),
        ("s0", "lora"),
    ]
    assert got.bases == ("base (one)", "base (two)") and headline(got) == "s0 and lora helped"
    said = finding(got.comparisons[2], got.bases)
    worse = "base (two) is worse than base (one)"
    assert said == (worse if by == "answers" else "no clear difference between base (two) and base (one)")
    assert got.model.name == ("pocket:gdn" if by == "answers" else "pocket:gdn, other")


def in_dtype(dtype: str | None, **facts: str) -> dict[str, Any]:
    record = evaluation(base=HALF, s0=YES)
    record["model"] |= {"dtype": dtype, **facts}
    return record


def test_how_the_models_were_loaded_is_kept_where_alike_and_listed_where_not() -> None:
    alike = joined(one=in_dtype("float32", device="cpu", revision="v1"), two=in_dtype("float32", device="cpu"))
    assert (alike.model.dtype, alike.model.device, alike.model.revision) == ("float32", "cpu", "v1, not recorded")
    assert not any(run.cautions for run in alike.variants.values())
    got = joined(one=in_dtype("float32"), two=in_dtype("bfloat16"), three=in_dtype(None))
    assert (got.model.dtype, got.model.device) == ("float32, bfloat16, not recorded", None)
    cautions = {name: (run.cautions or ("none",))[-1] for name, run in got.variants.items()}
    assert cautions.keys() == {"base", "s0 (one)", "s0 (two)", "s0 (three)"}
    assert all("records are of float32 and bfloat16" in caution for caution in cautions.values())
    assert cautions["s0 (two)"].startswith("answered in bfloat16, ")
    assert cautions["s0 (three)"].startswith("answered in a dtype that its record does not tell, ")


def test_p_is_adjusted_for_all_comparisons_of_the_joined_record() -> None:
    few = [True, *HALF[1:]]  # one flip more than none
    six = [passed or i < 12 for i, passed in enumerate(HALF)]
    alone = parsed(evaluation(base=HALF, a=six))
    got = joined(one=evaluation(base=HALF, a=six), two=evaluation(base=HALF, b=few, c=few))
    assert alone.comparisons[0].effect == "helped"
    assert got.comparisons[0].standard.p_value == alone.comparisons[0].standard.p_value
    assert got.comparisons[0].standard.p_holm > alone.comparisons[0].standard.p_holm
    assert got.comparisons[0].effect == "no clear difference"


def test_answers_are_compared_problem_by_problem_whatever_their_order() -> None:
    first, second = evaluation(base=HALF, a=YES), evaluation(base=HALF, b=YES[:20] + NO[20:])
    want = joined(first=first, second=second)
    turned = copy.deepcopy(second)
    for given in turned["answers"].values():
        given.reverse()
    turned["problems"] = dict(reversed(turned["problems"].items()))
    assert joined(first=first, second=turned).comparisons == want.comparisons


def test_times_and_surroundings_of_each_record_are_kept() -> None:
    first, other = demo_record(N), demo_record(N, seed=1)
    kept = {name: other[name] for name in ("settings", "examples", "seconds")}
    answers = {**other["answers"], "base": first["answers"]["base"]}
    second = evaluated(answers, other["problems"], other["variants"], **kept)
    second["environment"]["time"] = "2027-01-01"
    got = joined(one=first, two=second)
    assert got.kind == "eval" and got.environment["time"] == "2027-01-01"
    assert got.environment["joined"] == {"one": first["environment"], "two": second["environment"]}
    assert got.settings == {"one": first["settings"], "two": second["settings"]}
    assert got.seconds["train s0 (two)"] == 17.3 and got.seconds["collect train (one)"] == 15.2
    assert got.seconds["evaluate base"] == 3.4


def test_drawn_answers_are_joined_where_they_were_drawn_alike() -> None:
    first = {**sampled_record(N), "max_new_tokens": 256}
    got = joined(one=first, two=first)
    assert got.sampled is not None and [*got.sampled.final] == [*got.final]
    assert [(each.first, each.second) for each in got.sampled.comparisons] == pairs(got)
    other = {**first, "sampled": {**first["sampled"], "seed": 1}}
    for second in (other, {**first, "sampled": None}):
        got = joined(one=first, two=second)
        assert got.sampled is None and got.variants["s0 (one)"].cautions is not None
        assert "its drawn answers are left out" in got.variants["s0 (one)"].cautions[-1]


SMALL = asdict(Limits(timeout_s=1.0))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda r: r["task"].update(name="mbpp"), "one task, got 'pocket-code' in one and 'mbpp' in two"),
        (lambda r: r["task"].update(version="9"), "one version of the task, got '1' in one and '9' in two"),
        (lambda r: r["task"].update(data_sha256="0"), r"one data \(sha256\), got 'e3b0"),
        (lambda r: r.update(split="select"), "one split, got 'final' in one and 'select' in two"),
        (lambda r: r.update(chat=True), "asking .chat., got False in one and True in two"),
        (lambda r: r.update(sandbox={"backend": "landlock", **SMALL}), "scoring limits, got .* evaluate both with"),
        (
            lambda r: r.update(max_new_tokens=8),
            "length, got 256 in one and 8 in two; evaluate both with one --max-new-",
        ),
        (lambda r: r["problems"].update(p3="def other():"), "same problems, got 40 in one and 40 in two, of which 39"),
        (lambda r: r.update(evaluation(base=HALF[:39])), "same problems, got 40 in one and 39 in two, of which 39"),
    ],
)
def test_what_was_not_asked_or_judged_alike_is_refused(spoil: Any, says: str) -> None:
    record, other = evaluation(base=HALF), evaluation(base=HALF)
    spoil(other)
    with pytest.raises(DatasetError, match=f"expected .*{says}"):
        joined(one=record, two=other)


def test_a_record_that_lacks_an_answer_is_refused() -> None:
    whole = parsed(evaluation(base=HALF))
    lacking = structs.replace(whole, answers={"base": whole.answers["base"][:-1]})
    with pytest.raises(DatasetError, match="answers of every variant, 1 to each problem, got others in two"):
        join({"one": whole, "two": lacking})


def all_passed(record: dict[str, Any]) -> None:
    for answer in record["answers"]["s0"]:
        answer["passed"] = {"standard": True, "paper": True}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (all_passed, "'final.s0.pass_at_1.standard.count'"),
        (lambda r: r["final"]["s0"]["pass_at_1"]["standard"].update(value=1.0), "got 1.0 as 'final.s0.pass_at_1.stan"),
        (lambda r: r["final"]["base"].update(mean_tokens=1.0), "'final.base.mean_tokens'"),
        (lambda r: r["final"]["base"]["formats"].update(body=1.0), "'final.base.formats.body'"),
        (lambda r: r["comparisons"][0]["standard"].update(difference=0.9, p_value=0.0), "0.9 as 'comparisons.s0 agai"),
        (lambda r: r["comparisons"][0]["standard"].update(difference=float("nan")), "got nan as 'comparisons.s0"),
        (lambda r: r["comparisons"][1]["paper"].update(p_holm=0.0), "'comparisons.lora against base.paper.p_holm'"),
        (lambda r: r["comparisons"][0]["standard"]["gained"].pop(), "'comparisons.s0 against base.standard.gained'"),
        (lambda r: r["comparisons"].clear(), r"got \['lora', 's0'\] compared with none"),
        (lambda r: r["sampled"]["final"]["s0"]["pass_at_k"]["standard"]["8"].update(value=1.0), "'sampled.final.s0"),
        (lambda r: r["sampled"]["comparisons"].pop(), "'sampled.comparisons.lora against s0"),
    ],
)
def test_figures_that_are_not_those_of_the_answers_are_refused(damage: Any, says: str) -> None:
    record = json.loads(json.dumps(plain(parsed(sampled_record(N)))))
    joined(alone=record)
    damage(record)
    with pytest.raises(DatasetError, match=f"those of the answers, .*{says}|every variant compared .*{says}"):
        joined(alone=record)
    with pytest.raises(DatasetError, match=" in damaged"):
        joined(whole=sampled_record(N), damaged=record)


def test_a_limit_of_length_that_a_record_does_not_tell_is_a_caution() -> None:
    record = evaluation(base=HALF, s0=YES)
    before = {name: value for name, value in record.items() if name != "max_new_tokens"}
    got = joined(one=before, two=record)
    assert got.max_new_tokens is UNSET and joined(one=record, two=record).max_new_tokens == 256
    for run in got.variants.values():
        assert run.cautions is not None and "the limit of an answer's length" in run.cautions[-1]
    with pytest.raises(DatasetError, match="length, got 256 in two and 8 in three"):
        joined(one=before, two=record, three={**record, "max_new_tokens": 8})


def test_the_default_limits_are_those_of_the_shared_sandbox() -> None:
    record, other = evaluation(base=HALF), evaluation(base=HALF)
    other["sandbox"] = {"backend": "landlock", **asdict(Limits())}
    assert joined(one=record, two=other).sandbox == other["sandbox"]
