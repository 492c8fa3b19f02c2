"""The page in a real browser against a real server: what it shows, to whom, and that it asks nobody else."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import s0
from s0.serve.access import access_for
from s0.tasks import load
from s0.tasks.sandbox import backends, shared
from tests.browser import CHROMEDRIVER, CHROMIUM, Browser, browser
from tests.serve.serving import Server, serving
from tests.serve.states import save

pytestmark = pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="needs chromium and chromedriver")

GOLDEN = Path(__file__).parents[1] / "golden" / "state"
KEY = "a-key-of-the-tests-1"
HOSTILE = "<img src=x onerror=\"document.title='got in'\"><script>document.title='got in'</script>"
PROBLEM = "pocket/final/8"  # which the base fails and the golden state solves, after the same two lines
ANSWERS = {
    "base": "    total = 0\n    for v in items:\n        total += v\n    return total",
    "golden": "    total = 0\n    for v in items:\n        if v < 7:\n            total += v\n    return total",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden state, and one that calls itself HTML wherever it can."""
    made = tmp_path_factory.mktemp("states")
    shutil.copytree(GOLDEN, made / "golden")
    hostile = save(made / "deeper" / "hostile", 7, s0.load_model("pocket:gdn")[0])
    config = json.loads((hostile / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = HOSTILE
    config["training"] = {"versions": {HOSTILE: HOSTILE}, "combined": HOSTILE}
    (hostile / "adapter_config.json").write_text(json.dumps(config))
    (made / "deeper" / "damaged").mkdir()
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    access = access_for("127.0.0.1", None, allow_everybody=False)
    with serving(
        *s0.load_model("pocket:gdn"), access, folders=[folder], tasks=[load("pocket-code"), load("pocket-math")]
    ) as running:
        running.add("golden", folder / "golden")
        yield running


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as window:
        yield window


class Page:
    """The page as somebody uses it; elements by their ids."""

    def __init__(self, window: Browser, server: Server, width: int = 1200) -> None:
        self.window, self.server = window, server
        window.media()
        window.open(f"{server.url}/", width)

    def js(self, expression: str) -> Any:
        return self.window.run(expression)

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true."""
        deadline = time.monotonic() + 20
        # A page that is still being loaded lacks what is asked for: that is no error, but not yet.
        while not self.js(f"(() => {{ try {{ return Boolean({condition}) }} catch {{ return false }} }})()"):
            assert time.monotonic() < deadline, (condition, self.window.console(), self.js("document.body.innerText"))
            time.sleep(0.01)

    def text(self, id: str) -> str:
        return str(self.js(f"document.getElementById('{id}').innerText"))

    def click(self, selector: str) -> None:
        self.js(f"document.querySelector({selector!r}).click()")

    def set(self, id: str, value: str, event: str = "change") -> None:
        element = f"document.getElementById('{id}')"
        self.js(f"({element}.value = {value!r}, {element}.dispatchEvent(new Event('{event}')))")

    def ready(self) -> None:
        self.wait("document.getElementById('everything')?.hidden === false && document.querySelector('#states li')")

    def choose(self, id: str) -> None:
        self.set("task", "pocket-code")
        self.wait("document.getElementById('prompt').value")
        self.set("problem", id)
        self.wait(f"document.getElementById('prompt').value.includes({'items' if id == PROBLEM else 'def'!r})")

    def ask(self) -> list[str]:
        """Ask, wait for all answers, and give the texts of the columns."""
        self.click("#go")
        self.wait("document.getElementById('status').textContent === 'All have ended.'")
        return list(self.js("[...document.querySelectorAll('article')].map(article => article.innerText)"))

    def press(self, key: str, text: str = "") -> None:
        code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}.get(key, 0)
        keys = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        typed = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        self.window.cdp("Input.dispatchKeyEvent", **typed, **keys)
        self.window.cdp("Input.dispatchKeyEvent", type="keyUp", **keys)

    def tab_to(self, selector: str) -> None:
        for _ in range(40):
            self.press("Tab")
            if self.js(f"document.activeElement.matches({selector!r})"):
                return
        raise AssertionError(f"{selector} is out of reach of the keyboard")


@pytest.fixture
def page(opened: Browser, server: Server) -> Page:
    opened.requested(), opened.console()  # what another test left
    shown = Page(opened, server)
    shown.ready()
    return shown


RECORD_EVERY_CHANGE = """
window.seen = [];
new MutationObserver(() => window.seen.push([...document.querySelectorAll('pre')].map(pre => pre.textContent.length)))
  .observe(document.getElementById('answers'), {childList: true, subtree: true, characterData: true})
"""


def test_base_and_state_stream_side_by_side_and_are_judged(page):
    page.choose(PROBLEM)
    page.click("#states input[value=golden]")
    page.js(f"(() => {{{RECORD_EVERY_CHANGE}}})()")
    columns = page.ask()
    texts = page.js("[...document.querySelectorAll('pre')].map(pre => pre.textContent)")
    assert texts == [*ANSWERS.values()]
    lengths = [seen for seen in page.js("window.seen") if len(seen) == 2]
    ends = [len(text) for text in texts]
    for i in range(2):
        growing = [seen[i] for seen in lengths]
        assert growing == sorted(growing) and len(set(growing)) >= 10
    assert any(0 < seen[0] < ends[0] and 0 < seen[1] < ends[1] for seen in lengths)
    for column, name, said in zip(columns, ANSWERS, ("✗ fails: wrong answer", "✓ passes"), strict=True):
        shown = column.replace("\u00a0", " ")
        assert shown.startswith(name) and shown.rstrip().endswith(said)
        assert "first token after " in shown and " tokens/s · " in shown and " tokens\n" in shown
    assert page.js("[...document.querySelectorAll('article mark')].map(mark => mark.textContent)") == ["if"]
    assert "first differs at line 3, character 9" in columns[1]
    details = page.js("document.getElementById('details').textContent")
    assert "golden, ✓ passes, first differs at line 3" in details
    assert page.js("document.querySelectorAll('pre[aria-busy=true]').length") == 0
    requested = page.window.requested()
    assert requested and all(url.startswith((page.server.url, "data:")) for url in requested)
    assert page.window.console() == []


def test_what_is_known_of_a_state_follows_what_was_asked_and_keeps_what_is_open(page, folder):
    shutil.copytree(folder / "deeper" / "hostile", folder / "unread")
    try:
        page.js("location.reload()")
        page.ready()
        line = "document.querySelector('#states input[value=unread]').closest('li').innerText"
        page.js(
            "document.querySelector('#states input[value=golden]').closest('li').querySelector('details').open = true"
        )
        page.click("#states input[value=unread]")
        assert "not read yet" in page.js(line)
        page.set("prompt", "def add_two(n):", "input")
        page.ask()
        page.wait(f"{line}.includes('in memory')")
        assert page.js("document.querySelector('#states input[value=unread]').checked")
        assert page.js("document.querySelectorAll('details[open]').length") == 1
    finally:
        shutil.rmtree(folder / "unread")
        page.server.service.runner.call(lambda: page.server.states.remove("unread")).result()


def test_a_prompt_of_one_s_own_is_not_judged_and_a_changed_problem_neither(page):
    page.set("prompt", "def add_two(n):", "input")
    assert all("passes" not in column and "fails" not in column for column in page.ask())
    page.choose(PROBLEM)
    assert "judged" in page.text("problem-note")
    page.set("prompt", "def add_three(n):", "input")
    assert "no longer" in page.text("problem-note")
    assert all("passes" not in column and "fails" not in column for column in page.ask())


def test_an_answer_that_ends_early_is_marked_at_its_end(page):
    cases = [("ab", "abc", True), ("abc", "ab", True), ("a😀", "a😁", True), ("ab", "abc", False), ("ab", "ab", True)]
    differences = page.js(
        f"import('./page/page.js').then(module => {json.dumps(cases)}.map(([text, other, isWhole]) =>"
        " module.firstDifference({text, isWhole}, {text: other, isWhole: true})))"
    )
    assert differences == [2, 2, 1, None, None]


def test_without_a_sandbox_there_is_no_verdict_and_it_is_said(page, monkeypatch):
    monkeypatch.setattr(backends, "BACKENDS", ())
    shared.cache_clear()
    page.choose(PROBLEM)
    (column,) = page.ask()
    shared.cache_clear()
    assert "no verdict: expected a machine where" in column and "fails" not in column
    page.window.console()  # the browser's own line about a response of 503


def test_states_come_and_go_and_say_what_they_are_as_text(page):
    assert "33 KB · 8,192 numbers in 2 layers · scale α = 0.5 · in memory" in page.text("states")
    for name in ("hostile", "damaged"):
        page.set("load-name", name)
        page.set("load-path", f"deeper/{name}")
        page.click("[form=load][type=submit]")
        said = "is loaded" if name == "hostile" else "damaged"
        page.wait(f"document.body.innerText.includes({said!r})")
    page.wait("!document.getElementById('trouble').hidden")
    assert page.js("document.getElementById('trouble').textContent").startswith("the state 'damaged': expected")
    page.js("document.querySelectorAll('#states details').forEach(each => { each.open = true; })")
    assert page.text("states").count(HOSTILE) == 4
    assert page.js("document.querySelectorAll('#states img, #states script').length") == 0
    assert page.js("document.title") == "base · s0 playground"
    assert page.js("document.documentElement.scrollWidth") <= 1200
    page.click("[aria-label='Unload hostile']")
    page.wait("document.querySelectorAll('#states > li').length === 1")
    assert page.js("document.activeElement.id") == "states-title"
    assert page.text("status") == "hostile is unloaded."
    assert page.server.states.names == ["golden"]


def test_a_model_s_text_is_text(page):
    page.js(
        "import('./page/page.js').then(m => { const a = new m.Answer('<b>x</b>', null); a.text = '<b>y</b>';"
        " document.getElementById('answers').replaceChildren(a.element); a.show(); })"
    )
    assert page.js("document.querySelector('article').textContent").startswith("<b>x</b>")
    assert page.js("document.querySelectorAll('article b').length") == 0


def test_what_runs_can_be_stopped(page):
    page.choose(PROBLEM)
    page.js("(document.getElementById('go').click(), document.getElementById('stop').click())")
    page.wait("document.getElementById('status').textContent === 'All have ended.'")
    assert page.js("document.querySelector('article').innerText").split("\n")[-1] == "stopped"
    page.server.all_given_back()
    assert "fails" in page.ask()[0]


def test_a_state_that_went_meanwhile_says_so_and_the_others_answer(page, tmp_path):
    source, _ = s0.load_model("pocket:gdn")
    page.server.add("brief", save(tmp_path / "brief", 11, source))
    page.js("location.reload()")
    page.wait("document.querySelectorAll('#states input').length === 2")
    page.click("#states input[value=brief]")
    page.server.service.runner.call(lambda: page.server.states.remove("brief")).result()
    page.set("prompt", "def add_two(n):", "input")
    answered, gone = page.ask()
    assert "tokens/s" in answered and "expected `model` to be the base model" in gone
    assert page.js("document.querySelectorAll('pre[aria-busy=true]').length") == 0


def test_it_can_be_used_by_keyboard_alone(page):
    assert not page.js("document.getElementById('problem').checkVisibility()")
    page.tab_to("#task")
    page.press("ArrowDown")
    page.wait("document.getElementById('prompt').value")
    page.tab_to("#problem")
    page.tab_to("#states input")
    page.press(" ", " ")
    assert page.js("document.querySelector('#states input').checked")
    page.tab_to("#go")
    page.press("Enter", "\r")
    page.wait("document.getElementById('status').textContent === 'All have ended.'")
    assert page.js("document.querySelectorAll('article').length") == 2
    assert page.js("document.activeElement.id") == "go"
    page.tab_to("pre")


def test_a_screen_reader_finds_a_name_for_every_control(page):
    nodes = page.window.cdp("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "textbox", "combobox", "checkbox", "spinbutton", "searchbox", "list", "form"}
    controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in roles - {"list", "form"}]
    assert len(controls) >= 9 and all(node["name"]["value"].strip() for node in controls)
    assert {"status", "main", "heading"} <= {node["role"]["value"] for node in nodes if not node["ignored"]}
    assert page.js("document.documentElement.lang") == "en"


def test_at_most_three_states_are_picked(page, tmp_path):
    source, _ = s0.load_model("pocket:gdn")
    for i in range(3):
        page.server.add(f"more-{i}", save(tmp_path / f"more-{i}", i, source))
    try:
        page.js("location.reload()")
        page.ready()
        page.wait("document.querySelectorAll('#states input').length === 4")
        for _ in range(3):
            page.click("#states input:not(:checked)")
        assert page.js("[...document.querySelectorAll('#states input')].map(box => box.disabled)") == [False] * 3 + [
            True
        ]
        page.click("#states input:checked")
        assert page.js("document.querySelectorAll('#states input:disabled').length") == 0
    finally:
        for i in range(3):
            page.server.service.runner.call(lambda i=i: page.server.states.remove(f"more-{i}")).result()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_follows_the_colour_scheme(opened, server, scheme):
    page = Page(opened, server, 375)
    page.ready()
    opened.media("screen", scheme)
    page.choose(PROBLEM)
    page.click("#states input")
    page.ask()
    page.js("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.js("document.documentElement.scrollWidth") <= 375
    paper = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
    assert page.js("getComputedStyle(document.body).backgroundColor") == paper
    lowest = page.js(
        "Math.min(...[...document.querySelectorAll('#ask button:not(.quiet)')].map(b => b.offsetHeight || 99))"
    )
    assert lowest >= 38


def test_a_server_with_keys_is_asked_with_the_key_and_shows_nothing_before(opened, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    opened.requested(), opened.console()
    access = access_for("0.0.0.0", keys, allow_everybody=False)
    with serving(*s0.load_model("pocket:gdn"), access) as server:
        page = Page(opened, server)
        page.wait("!document.getElementById('key-form').hidden")
        assert page.js("document.activeElement.id") == "key" and opened.console() == []
        assert not any("/v1/" in url or "playground" in url for url in opened.requested())
        for key, shown in (("wrong" * 4, "key-form"), (KEY, "everything")):
            page.set("key", key)
            page.js("document.getElementById('key-form').requestSubmit()")
            page.wait(f"!document.getElementById('{shown}').hidden && document.getElementById('key').value === ''")
            page.wait(
                f"document.getElementById('trouble').textContent.includes('this key') === {str(key != KEY).lower()}"
            )
        assert page.js("document.getElementById('trouble').hidden") and page.text("base") == "base"
        assert page.js("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        page.js("location.reload()")
        page.ready()
        page.set("prompt", "def add_two(n):", "input")
        assert len(page.ask()) == 1
        page.click("#forget")
        page.wait("!document.getElementById('key-form').hidden && document.readyState === 'complete'")
        assert page.js("sessionStorage.length") == 0
