import base64
import math
import re
from collections import Counter
from itertools import pairwise

import pytest

from s0.errors import DatasetError
from s0.record import parsed
from s0.report.flips import FLIPS_SHOWN
from s0.report.page import write_report
from s0.report.wording import percent, points, visible
from tests.report.conftest import written
from tests.report.records import BREAKERS, MATHS, UNSEEN, hostile_record, sampled_record, verdicts
from tests.report.test_plots import contrast

YES, NO = [True] * 40, [False] * 40
HALF = [i % 2 == 0 for i in range(40)]
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@pytest.fixture
def told(tmp_path):
    return lambda record: written(record, tmp_path)


@pytest.mark.parametrize("name", ["demo", "sampled", "hostile"])
def test_nothing_is_loaded_and_nothing_runs(name, request):
    page = request.getfixturevalue(name)
    assert page.having("meta")[1] == {"http-equiv": "Content-Security-Policy", "content": POLICY}
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "form", "base", "svg", "video"}
    for _, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on")]
        for key in ("src", "srcset", "href", "action", "data"):
            assert (attributes.get(key) or "#").startswith(("data:", "#"))
    assert not re.search(r"url\(|@import|https?://", page.source)


def test_hostile_text_is_shown_and_changes_nothing(hostile):
    harmless = Counter(tag for tag, _ in hostile.tags)
    assert harmless["style"] == harmless["main"] == harmless["body"] == 1 and harmless["img"] == 5
    assert BREAKERS in "".join(hostile.texts) and MATHS in "".join(hostile.texts)
    assert visible(UNSEEN) in "".join(hostile.texts)
    assert visible(hostile.source) == hostile.source


def test_answers_are_shown_to_the_letter(told):
    record = verdicts(base=([True, False], [True, False]), s0=([False, True], [False, True]))
    texts = ["\n\n  leading\n\n", "\ttab & <b> &amp; \r\n", "x" * 3000, BREAKERS]
    for given, name in zip(texts, ("base", "base", "s0", "s0"), strict=True):
        next(one for one in record["answers"][name] if not one["completion"].startswith("!"))["completion"] = (
            "!" + given
        )
    codes = told(record).codes
    assert all("!" + visible(text) in codes for text in texts)


def test_a_long_answer_is_cut_and_says_so(told):
    record = verdicts(base=([True], [True]), s0=([False], [False]))
    record["answers"]["s0"][0]["completion"] = "y" * 4321
    assert "y" * 4000 + "\n… 321 more characters" in told(record).codes


def test_sections_stand_in_order_and_headings_skip_no_level(demo):
    sections = [attributes["id"] for attributes in demo.having("section")]
    assert sections == ["rates", "differences", "scale", "training", "forms", "flips", "layers", "cost", "provenance"]
    links = [attributes["href"] for attributes in demo.having("a")]
    assert links == [f"#{section}" for section in sections]
    levels = [int(tag[1]) for tag, _ in demo.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))


def test_samples_have_a_section_with_every_k_and_both_scorings(sampled):
    record = sampled_record()["sampled"]
    assert "sampled" in [attributes["id"] for attributes in sampled.having("section")]
    for values in record["final"].values():
        for scoring in ("standard", "paper"):
            for found in values["pass_at_k"][scoring].values():
                interval = f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"
                assert percent(found["value"]) in sampled.text and interval in sampled.text
    for one in record["comparisons"]:
        assert points(one["standard"]["8"]["difference"]) in sampled.text
    assert "from 8 samples of each problem at temperature 0.7, top_p 0.95, seed 0" in sampled.text


def test_the_page_can_be_read_without_seeing_it(demo):
    assert all(len(attributes["alt"] or "") > 40 for attributes in demo.having("img"))
    assert all(attributes.get("scope") in ("col", "row", "rowgroup") for attributes in demo.having("th"))
    assert demo.source.count("<table") == demo.source.count("<thead>") == 8
    assert demo.having("html")[0]["lang"] == "en"


def test_the_colours_of_the_page_meet_aa(demo):
    themes = re.findall(r":root \{([^}]*--paper[^}]*)\}", demo.source)
    assert len(themes) == 2
    for theme in themes:
        colour = dict(re.findall(r"--(\w+): (#\w{6})", theme))
        for text in ("text", "soft", "gain", "loss"):
            assert min(contrast(colour[text], colour[ground]) for ground in ("paper", "wash")) >= 4.5
        assert contrast(colour["text"], colour["bar"]) >= 4.5


def test_figures_stand_in_words_and_tables(demo):
    for words in (
        "s0 helped: 42.5% → 83.3%, +40.8 points (95% interval +34.5 to +47.3; p < 0.001 by Holm); 100 problems gained, 2 lost.",  # noqa: E501
        "lora is worse than s0",
        "s0: 0.65, chosen by the loss on the select examples, 0.0901 there against 0.31 without the state.",
        "variants.lora.settings.target_modules",
        '["q_proj", "v_proj"]',
        "a0" * 32,
        "2.13.0+cpu",
        "49,152",
    ):
        assert words in demo.text


def test_problems_whose_verdict_changed_are_shown_losses_first(demo):
    flips = [attributes for attributes in demo.having("details") if attributes.get("class") == "flip"]
    assert len(flips) == FLIPS_SHOWN
    assert demo.text.index("▼ Lost: 2") < demo.text.index("▲ Gained: 100")
    assert "40 of 472 are shown" in demo.text and "and 92 more" in demo.text
    first = demo.text[demo.text.index("▼ Lost: 2") :]
    assert first.index("✓ passes") < first.index("✗ fails")  # the loss itself: base passes, s0 fails


def test_room_left_by_a_small_group_goes_to_the_others(told):
    lost, gained, other = [True] * 3 + [False] * 57, [False] * 3 + [True] * 50 + [False] * 7, [False] * 53 + [True] * 7
    page = told(verdicts(base=(lost, [False] * 60), s0=(gained, other)))
    assert "▼ Lost: 3" in page.text and "▲ Gained: 50" in page.text and "and 14 more" in page.text
    assert "▲ Gained under the paper’s scoring only: 7" in page.text and "and 6 more" in page.text
    assert page.source.count('class="flip"') == 40 and "40 of 60 are shown" in page.text


def test_where_there_is_no_room_nobody_speaks_of_more(told, monkeypatch):
    monkeypatch.setattr("s0.report.flips.FLIPS_SHOWN", 1)
    page = told(verdicts(base=(HALF, NO), s0=([not passed for passed in HALF], NO)))
    assert "▼ Lost: 20" in page.text and "and 19 more" in page.text
    assert "▲ Gained: 20 none of them is shown" in page.text and "and 20 more" not in page.text


def test_a_gain_in_format_alone_is_named_and_shown(told):
    page = told(verdicts(base=(HALF, NO), s0=(HALF, YES)))
    assert "what s0 gained under the paper’s scoring is format" in page.text
    assert "▼ Lost: 0" in page.text and "▲ Gained: 0" in page.text
    assert "▲ Gained under the paper’s scoring only: 40" in page.text and page.source.count('class="flip"') == 40


def test_a_record_of_one_variant_has_rates_and_no_comparison(told, tmp_path):
    page = told(verdicts(base=(HALF, NO)))
    assert "base solved 50.0% of 40 problems" in page.text
    assert [attributes["id"] for attributes in page.having("section")] == ["rates", "forms", "cost", "provenance"]
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["passrates.png"]


def test_many_comparisons_leave_the_unclear_ones_to_their_section(told):
    page = told(verdicts(base=(HALF, NO), a=(YES, NO), b=(YES, NO), c=(NO, NO)))
    assert "1 other comparison without a clear difference" in page.text
    assert "c is worse than a" in page.text and "no clear difference between b and a" not in page.text


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: r["model"].update(name="pocket:gdn"), "no evidence for its effect on other models"),
        (lambda r: r.update(split="select"), "problems of the select split"),
        (lambda r: r.update(of_problems=500), f"Only {len(HALF)} of 500 problems of the split were asked"),
        (lambda r: r["variants"]["s0"].update(training={"losses": [1.0]}), "Every method was trained once"),
        (lambda r: r["variants"]["s0"].update(training={"losses": [1.0, None]}), "training of s0 broke down"),
        (lambda r: r["variants"]["s0"].update(training={"losses": [math.inf]}), "training of s0 broke down"),
        (
            lambda r: r["variants"]["s0"].update(training={"interrupted": True}),
            "training of s0 did not come to its end",
        ),
        (lambda r: r["variants"]["s0"].update(content="wrong"), "what it gains is a gain in format"),
        (lambda r: r["final"]["base"].update(truncated=0.2), "20.0% of base’s answers hit the limit"),
        (lambda r: r["variants"]["s0"].update(cautions=["the scale is an end"]), "s0: the scale is an end."),
    ],
)
def test_what_must_be_known_is_said_first(spoil, said, told, monkeypatch):
    monkeypatch.setattr("s0.report.page.draw", lambda record: Missing())
    record = verdicts(base=(HALF, NO), s0=(YES, NO))
    record["model"]["name"] = "org/model"
    assert said not in told(record).text and "Read with care" not in told(record).text
    spoil(record)
    page = told(record)
    assert said in page.text[page.text.index("Read with care") : page.text.index("Share of problems")]


class Missing(dict):
    """No plots, for tests of words alone."""

    def items(self):
        plot = type("Plot", (), {})()
        plot.light = plot.dark = plot.png = b""
        plot.alt, plot.width, plot.height = "x", 1, 1
        return {"passrates": plot, "differences": plot}.items()


def test_the_plots_lie_beside_the_page_and_in_it(demo, plots):
    files = {path.stem: path for path in (demo.path.parent / "plots").iterdir()}
    assert set(files) == set(plots)
    for (name, plot), image, source in zip(plots.items(), demo.having("img"), demo.having("source"), strict=True):
        assert files[name].read_bytes() == plot.png
        assert base64.b64decode(image["src"].partition("base64,")[2]) == plot.light
        assert base64.b64decode(source["srcset"].partition("base64,")[2]) == plot.dark


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r.pop("final"),
        lambda r: r.update(kind="train"),
        lambda r: r.update(final={}),
        lambda r: r["final"]["base"]["pass_at_1"]["standard"].update(value="<script>"),
        lambda r: r["comparisons"][0]["standard"]["gained"].append("no such problem"),
        lambda r: r["answers"]["s0"][0].update(completion=7),
        lambda r: r["answers"].pop("base"),
        lambda r: r["comparisons"][0].update(second="nobody"),
    ],
)
def test_a_damaged_record_is_refused_and_nothing_written(damage, tmp_path):
    record = verdicts(base=([True, False], [True, False]), s0=([False, True], [False, True]))
    damage(record)
    with pytest.raises(DatasetError, match=r"expected a record as .* make it again"):
        write_report(parsed(record), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_hostile_record_is_hostile():
    text = repr(hostile_record())
    assert text.count("<script>") > 50 and "\\x00" in text and "\\ud800" in text


def test_what_is_not_there_is_not_explained(told, demo):
    assert "kept" not in demo.text[demo.text.index("Loss of the completions") :].partition(".")[0]
    record = verdicts(base=(HALF, NO), s0=(YES, NO))
    record["variants"]["s0"]["training"] = {"losses": [1.0, 0.5, 0.7], "best_step": 2}
    page = told(record)
    assert "kept 2" in page.text and "kept is the step whose values were taken" in page.text
