"""The report in a real browser: what it loads and says on the console; on a phone, in the dark, in print."""

import pytest

from tests.breadth import mostly_slow
from tests.browser import CHROMEDRIVER, CHROMIUM, browser

pytestmark = pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver")


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.mark.parametrize("name", mostly_slow(["demo", "sampled", "hostile"], ["demo"]))
def test_it_fits_a_phone_loads_nothing_and_says_nothing(name, window, request):
    page = request.getfixturevalue(name)
    window.requested(), window.console()  # what another page left
    window.media()
    for width in (360, 1200):
        window.open(page.path, width)
        assert window.run("document.documentElement.scrollWidth") <= width
        assert window.run("[...document.images].every(image => image.complete && image.naturalWidth > 100)")
    assert window.console() == []
    assert {url for url in window.requested() if not url.startswith("data:")} == {page.path.resolve().as_uri()}


def test_it_follows_the_colour_scheme(window, demo):
    background = "getComputedStyle(document.body).backgroundColor"
    shown = "document.images[0].currentSrc"
    for scheme, colour, attribute in (
        ("light", "rgb(255, 255, 255)", "img.src"),
        ("dark", "rgb(20, 23, 26)", "source.srcset"),
    ):
        window.media("screen", scheme)
        window.open(demo.path)
        assert window.run(background) == colour
        name, key = attribute.split(".")
        assert window.run(f"{shown} === document.querySelector('{name}').{key}")


def test_print_is_light_and_open(window, demo):
    closed = "[...document.querySelectorAll('details:not([open]) pre, details:not([open]) td')]"
    hidden = f"{closed}.filter(one => !one.checkVisibility({{contentVisibilityAuto: true}})).length"
    window.media("screen", "dark")
    window.open(demo.path)
    assert window.run(hidden) == window.run(f"{closed}.length") > 40
    window.media("print", "dark")
    assert window.run(hidden) == 0
    assert window.run("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert window.run("document.images[0].currentSrc === document.images[0].src")
    assert window.pdf().startswith(b"%PDF")
