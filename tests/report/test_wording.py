import io
import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from s0.adapter.card import card
from s0.bench.record import comparisons
from s0.record import Answer, Comparison, Difference, effect_of, parsed, plain
from s0.report.page import write_report
from s0.report.terminal import show_record
from s0.report.wording import (
    finding,
    headline,
    number,
    p_words,
    percent,
    points,
    reservation,
    shortened,
    visible,
)
from s0_cli.show import show
from tests.report.records import UNSEEN, sampled_record, verdicts

ANY_TEXT = st.text(st.characters(codec=None, categories=None))


@given(ANY_TEXT)
def test_visible_text_shows_everything_and_can_be_written(text):
    shown = visible(text)
    shown.encode("utf-8")
    assert all(unicodedata.category(char)[0] not in "C" or char in "\n\t" for char in shown)
    assert visible(shown) == shown
    assert (shown == text) == all(unicodedata.category(char) not in HIDDEN or char in "\n\t" for char in text)


HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def test_what_cannot_be_seen_is_named():
    shown = visible(UNSEEN)
    for point in ("0000", "001B", "202E", "2066", "200B", "FEFF", "D800", "DFFF", "2028", "0085", "E0041"):
        assert f"⟨U+{point}⟩" in shown
    assert visible("a\tb\n  é 数 ß") == "a\tb\n  é 数 ß"


@given(ANY_TEXT, st.integers(2, 30))
def test_shortened_text_is_one_line_and_hides_nothing(text, limit):
    line = shortened(text, limit)
    assert len(line) <= limit and "\n" not in line and visible(line) == line


def test_a_separator_that_python_takes_for_space_is_shown_too():
    assert shortened("a\x1cb\u2028c", 40) == "a⟨U+001C⟩b⟨U+2028⟩c"


def test_figures():
    assert [percent(0.625), percent(0.0), percent(1.0)] == ["62.5%", "0.0%", "100.0%"]
    assert [points(0.312), points(-0.02), points(0.0), points(-0.0001)] == ["+31.2", "−2.0", "0.0", "0.0"]
    assert [p_words(p) for p in (1e-9, 0.034, 0.05, 0.0999, 1.0)] == [
        "< 0.001",
        "= 0.034",
        "= 0.05",
        "= 0.10",
        "= 1.00",
    ]
    assert [number(8192), number(0.07), number(1.0), number(-0.5), number(math.nan)] == [
        "8,192",
        "0.07",
        "1",
        "−0.5",
        "nan",
    ]


def compared(standard, paper=None):
    """A comparison from (low, high, p, p by Holm) of each scoring."""

    def difference(low, high, p_value, p_holm):
        return Difference(100, 0.0, low, high, p_value, (), (), p_holm)

    first = difference(*standard)
    return Comparison("base", "s0", first, difference(*(paper or (-0.1, 0.1, 1.0, 1.0))), effect_of(first))


@pytest.mark.parametrize(
    ("standard", "expected"),
    [
        ((0.1, 0.3, 0.001, 0.003), "helped"),
        ((-0.3, -0.1, 0.001, 0.003), "hurt"),
        ((-0.1, 0.1, 0.5, 0.5), "no clear difference"),
        ((0.0, 0.1, 0.04, 0.04), "no clear difference"),
        ((0.01, 0.3, 0.03, 0.09), "no clear difference"),
        ((-0.3, -0.01, 0.03, 0.09), "no clear difference"),
        ((0.1, 0.3, math.nan, math.nan), "no clear difference"),
    ],
)
def test_only_what_interval_and_holm_agree_on_is_clear(standard, expected):
    assert compared(standard).effect == expected


def test_an_interval_away_from_zero_is_not_passed_over():
    assert "among this many comparisons" in reservation(compared((0.01, 0.3, 0.03, 0.09)))
    assert "exact test does not agree" in reservation(compared((-0.5, -0.02, 0.07, 0.07)))
    assert reservation(compared((0.1, 0.3, 0.001, 0.001))) == reservation(compared((-0.1, 0.3, 0.5, 0.5))) == ""


def test_a_gain_or_loss_in_format_alone_is_called_one():
    gain, loss = (0.2, 0.4, 0.001, 0.001), (-0.4, -0.2, 0.001, 0.001)
    nothing, better, worse = (-0.1, 0.1, 1.0, 1.0), (0.1, 0.3, 0.001, 0.001), (-0.3, -0.1, 0.001, 0.001)
    assert "gain in format, not in skill" in reservation(compared(nothing, gain))
    assert "gain in format, not in skill" in reservation(compared(worse, gain))
    assert "loss in format, not in skill" in reservation(compared(nothing, loss))
    assert reservation(compared(better, gain)) == reservation(compared(worse, loss)) == ""


YES, NO = [True] * 40, [False] * 40
HALF = [i % 2 == 0 for i in range(40)]


@pytest.mark.parametrize(
    ("passed", "expected"),
    [
        ({"base": (HALF, NO)}, "base solved 50.0% of 40 problems"),
        ({"base": (HALF, NO), "s0": (YES, NO)}, "s0 helped"),
        ({"base": (HALF, NO), "s0": (NO, NO)}, "s0 hurt"),
        ({"base": (HALF, NO), "s0": (HALF, NO)}, "s0 made no clear difference"),
        (
            {"base": (HALF, NO), "s0": (YES, YES), "lora": (NO, NO), "p": (YES, NO)},
            "s0 and p helped; lora hurt",
        ),
        (
            {"base": (HALF, NO), "s0": (HALF, YES)},
            "s0 made no clear difference; what s0 gained under the paper’s scoring is format",
        ),
        ({"base": (HALF, NO), **dict.fromkeys("abcd", (YES, NO))}, "4 variants helped"),
    ],
)
def test_headline_says_what_was_found(passed, expected):
    assert headline(parsed(verdicts(**passed))) == expected


def test_findings_between_tuned_variants_name_both():
    record = parsed(verdicts(base=(HALF, NO), s0=(YES, NO), lora=(NO, NO), other=(YES, NO)))
    said = [finding(comparison, record.bases) for comparison in record.comparisons]
    assert said == [
        "s0 helped",
        "lora hurt",
        "other helped",
        "lora is worse than s0",
        "no clear difference between other and s0",
    ]


@pytest.mark.parametrize(
    ("gained", "lost", "others", "expected"),
    [
        (5, 0, 0, "no clear difference"),  # Tango's interval lies above 0, and the exact test does not agree
        (6, 0, 0, "helped"),
        (6, 0, 1, "no clear difference"),  # not among three comparisons
        (0, 6, 0, "hurt"),
        (9, 0, 1, "helped"),
    ],
)
def test_terminal_report_and_card_say_the_same_of_one_record(gained, lost, others, expected, tmp_path, capsys):
    n = 240
    base = [False] * gained + [True] * (n - gained)
    tuned = [True] * (n - lost) + [False] * lost
    record = verdicts(base=(base, base), s0=(tuned, tuned), **{f"other{i}": (base, base) for i in range(others)})
    record["comparisons"] = [
        plain(comparison)
        for comparison in comparisons(
            {name: [Answer(**one) for one in answers] for name, answers in record["answers"].items()}
        )
    ]
    assert record["comparisons"][0]["effect"] == expected
    said = f"s0 made {expected}" if expected == "no clear difference" else f"s0 {expected}"
    record["task"] |= {"scorings": {}, "left_out": []}
    show({**record, "out": None, "report": None})
    terminal = " ".join(capsys.readouterr().err.split())
    assert f"Under the standard scoring {said}." in terminal
    page = " ".join(write_report(parsed(record), tmp_path).read_text(encoding="utf-8").split())
    assert f"<b><bdi>{said}</bdi></b>" in page
    assert f"s0: {expected}" in card({}, parsed(record))
    gains = record["comparisons"][0]["standard"]
    figures = [f"{100 * gains[name]:+.1f}" for name in ("difference", "low", "high")]
    p_value = "< 0.001" if gains["p_holm"] < 0.001 else f"= {gains['p_holm']:.2g}"
    assert "| s0 | {} ({} to {}; p {}) |".format(*figures, p_value) in card({}, parsed(record))
    if expected == "no clear difference":
        assert "helped" not in terminal.partition("Under the standard scoring")[2].partition("Under")[0]
    without = {**record, "comparisons": [{**one} for one in record["comparisons"]]}
    for one in without["comparisons"]:
        del one["effect"]  # as records were before they told it
    assert parsed(without).comparisons == parsed(record).comparisons


UNJUDGED = {"p3": "the test uses 'group' of a re.Match"}


def test_terminal_and_report_name_what_is_in_no_score_and_what_was_not_judged(tmp_path, capsys):
    record = verdicts(base=([True] * 40, [True] * 40), s0=([True] * 40, [True] * 40))
    record["task"] |= {"scorings": {}, "left_out": [f"row {n}: no test" for n in range(10)]}
    record["final"]["s0"]["not_judged"] = UNJUDGED
    show({**record, "out": None, "report": None})
    terminal = " ".join(capsys.readouterr().err.split())
    page = " ".join(write_report(parsed(record), tmp_path).read_text(encoding="utf-8").split())
    rows = "; ".join(f"row {n}: no test" for n in range(8))
    assert f"note: left out of every score, 10 rows: {rows}; and 2 more" in terminal
    assert f"Left out of every score, 10 rows: {rows}; and 2 more." in page
    said = "not judged, and counted as failed, answers to 1 problem: p3 (the test uses 'group' of a re.Match)"
    assert f"note: s0: {said}" in terminal
    assert f"s0: {said}." in page.replace("&#39;", "'")
    assert "base: not judged" not in terminal + page
    figures = card({}, parsed(record))
    assert "Left out of every score, as no answer to them can be judged: row 0, row 1," in figures
    assert "s0: answers to p3 could not be judged and count as failed." in figures and "base: answers" not in figures


def test_terminal_report_and_card_tell_that_not_all_problems_were_asked(tmp_path, capsys):
    record = verdicts(base=([True] * 40, [True] * 40), s0=([True] * 40, [True] * 40))
    record["task"] |= {"scorings": {}, "left_out": []}
    for of_problems, is_part in ((None, False), (164, True)):
        record |= {"of_problems": of_problems} if of_problems else {}
        show({**record, "out": None, "report": None})
        terminal = " ".join(capsys.readouterr().err.split())
        page = " ".join(write_report(parsed(record), tmp_path).read_text(encoding="utf-8").split())
        assert "pass@1 in %, 40 problems" in terminal and terminal.count("of 164") == is_part  # told once
        assert ("note: only 40 of 164 problems of the split were asked" in terminal) == is_part
        assert ("40 of 164 problems of the final split" in page) == is_part
        assert ("split final, 40 of its 164 problems;" in card({}, parsed(record))) == is_part


def test_terminal_and_report_tell_where_nothing_can_be_gained(tmp_path, capsys):
    for solved, is_easy in ((YES, True), (HALF, False)):
        record = verdicts(base=(solved[:6], NO[:6]), s0=(YES[:6], NO[:6]))
        record["task"] |= {"scorings": {}, "left_out": []}
        show({**record, "out": None, "report": None})
        terminal = " ".join(capsys.readouterr().err.split())
        page = " ".join(write_report(parsed(record), tmp_path).read_text(encoding="utf-8").split())
        assert ("note: the untouched model solves all 6 problems, so nothing can be gained" in terminal) == is_easy
        assert ("The untouched model solves all 6 problems" in page) == is_easy
        assert ("6 problems show only a large difference" in terminal) != is_easy


def test_terminal_and_report_name_what_was_not_judged_of_samples(tmp_path, capsys):
    record = sampled_record()
    record["task"] |= {"scorings": {}, "left_out": []}
    record["sampled"]["final"]["lora"]["not_judged"] = UNJUDGED
    show({**record, "out": None, "report": None})
    terminal = " ".join(capsys.readouterr().err.split())
    page = " ".join(write_report(parsed(record), tmp_path).read_text(encoding="utf-8").split())
    said = "lora, samples: not judged, and counted as failed, answers to 1 problem: p3"
    assert f"note: {said}" in terminal and said in page


def test_a_terminal_shows_names_to_the_letter(capsys):
    record = verdicts(base=([True] * 6, [True] * 6), **{"run[v2]": ([True] * 6, [True] * 6)})
    record["model"]["name"] = "x[/y]"
    show({**record, "out": None, "report": None})
    told = capsys.readouterr().err
    assert "x[/y]" in told and "run[v2]" in told


@pytest.mark.parametrize("width", [40, 50, 80])
def test_a_narrow_terminal_breaks_lines_and_cuts_nothing_off(width, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("s0.report.terminal.CONSOLE", Console(file=stream, width=width, highlight=False, markup=False))
    record = parsed(sampled_record())
    show_record(record)
    shown = stream.getvalue()
    assert "…" not in shown
    words = {*shown.split()}
    for comparison in record.comparisons:
        for _, compared in comparison.items():
            assert {f"{100 * compared.difference:+.1f}", f"{100 * compared.high:+.1f}]"} <= words
    assert {"scoring", "difference", "standard"} <= words
