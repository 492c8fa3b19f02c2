import math
import struct
import warnings
from xml.etree import ElementTree

import matplotlib
import pytest

from s0.record import parsed
from s0.report.plot_style import DARK, LIGHT
from s0.report.plots import draw
from tests.report.records import demo_record, hostile_record, sampled_record, verdicts

YES, NO = [True] * 5, [False] * 5


def test_every_plot_is_a_small_png_and_two_drawings(plots):
    assert list(plots) == ["passrates", "differences", "scale", "loss", "norms"]
    for plot in plots.values():
        assert plot.png.startswith(b"\x89PNG") and len(plot.png) < 150_000
        width, height = struct.unpack(">II", plot.png[16:24])
        assert width / height == pytest.approx(plot.width / plot.height, rel=0.01)
        assert LIGHT.text in plot.light.decode() and LIGHT.text not in plot.dark.decode()
        assert DARK.text in plot.dark.decode()
        assert b"image href" not in plot.light and b"url(http" not in plot.light


def test_only_what_the_record_holds_is_drawn():
    assert list(draw(parsed(verdicts(base=(YES, NO))))) == ["passrates"]
    assert list(draw(parsed(verdicts(base=(YES, NO), s0=(NO, NO))))) == ["passrates", "differences"]
    record = sampled_record()
    drawn = draw(parsed(record))
    assert list(drawn) == ["passrates", "differences", "sampled", "scale", "loss", "norms"]
    last = record["sampled"]["final"]["lora"]["pass_at_k"]["standard"]["8"]["value"]
    assert f"lora: pass@1 51.2%, pass@8 {100 * last:.1f}%" in drawn["sampled"].alt


def test_the_words_of_a_plot_have_its_figures(plots):
    assert "base, standard: 42.5% (36.4% to 48.8%)" in plots["passrates"].alt
    assert "s0 against base, standard: +40.8 points (+34.5 to +47.3), Holm’s p < 0.001" in plots["differences"].alt
    assert "s0: chosen 0.65" in plots["scale"].alt
    assert "s0, training examples: 0.62" in plots["loss"].alt and "lora, select examples" in plots["loss"].alt
    assert "over 6 layers" in plots["norms"].alt


def test_plots_are_the_same_whatever_the_users_settings(plots, monkeypatch):
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "none"}):
        again = draw(parsed(demo_record()))
    assert again == plots
    assert dict(matplotlib.rcParams) == before


def test_hostile_names_are_drawn_as_they_are(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("mathematics in a name")

    monkeypatch.setattr("matplotlib.mathtext.MathTextParser.parse", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that the font lacks would warn
        drawn = draw(parsed(hostile_record()))
    assert len(drawn) == 5
    for plot in drawn.values():
        for svg in (plot.light, plot.dark):
            tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}
            assert not tags & {"script", "image", "foreignObject", "a"}


def test_measurements_that_are_not_finite_are_left_out():
    record = demo_record(n=6)
    facts = record["variants"]["s0"]
    facts["training"]["losses"][3:6] = [None, math.inf, math.nan]
    facts["training"]["select_losses"] = None
    facts["layers"][0]["norm"] = math.inf
    facts["scale"]["curve"][2]["value"] = math.nan
    record["variants"]["lora"]["training"]["losses"] = [1.0, 0.5, 0.01]
    assert len(draw(parsed(record))) == 5


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ink", [LIGHT, DARK])
def test_colours_stand_out_from_the_paper(ink):
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert min(contrast(ink.text, ink.paper), contrast(ink.soft, ink.paper)) >= 4.5
    assert min(contrast(colour, ink.paper) for colour in (ink.base, *ink.series)) >= 3
    assert len({ink.base, *ink.series}) == 8
