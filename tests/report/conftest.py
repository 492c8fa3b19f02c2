from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from s0.record import parsed
from s0.report.page import write_report
from s0.report.plots import Plot, draw
from tests.report.records import demo_record, hostile_record, sampled_record


class Page(HTMLParser):
    """A report as a browser's parser sees it: its tags with their attributes, and its texts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.source = path, path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.codes: list[str] = []  # what stands in <code>
        self._in_code = False
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_code = tag == "code"
        if self._in_code:
            self.codes.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_code = False

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._in_code:
            self.codes[-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def having(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def written(record: dict[str, Any], folder: Path) -> Page:
    return Page(write_report(parsed(record), folder))


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return written(demo_record(), tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return written(sampled_record(), tmp_path_factory.mktemp("sampled"))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return written(hostile_record(), tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="session")
def plots() -> dict[str, Plot]:
    return draw(parsed(demo_record()))
