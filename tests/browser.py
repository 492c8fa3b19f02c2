"""A real headless Chromium, driven over chromedriver's HTTP interface."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
_DIRECT = build_opener(ProxyHandler({}))


class Browser:
    """One page in one window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, page: Path | str, width: int = 1200, height: int = 900) -> None:
        """A file, or an address on this machine."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.cdp("Emulation.setDeviceMetricsOverride", **metrics)
        # This answers once the new document is there. chromedriver's own command is meant to wait for the load too,
        # but on a busy machine it comes back before that: the page itself has to say that it is complete.
        self.cdp("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        loaded = "document.readyState === 'complete' ? done() : addEventListener('load', () => done())"
        self.run(f"new Promise(done => {{ {loaded} }})")
        self._laid_out()

    def media(self, kind: str = "screen", scheme: str = "light") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.cdp("Emulation.setEmulatedMedia", media=kind, features=features)
        self._laid_out()

    def run(self, expression: str) -> Any:
        """What a JavaScript expression, or the promise it gives, comes to."""
        answer = self.cdp("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def _laid_out(self) -> None:
        """Wait for two frames: on a busy machine the page may not have been laid out yet."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))")

    def screenshot(self) -> bytes:
        size = self.cdp("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        return base64.b64decode(self.cdp("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self.cdp("Page.printToPDF", preferCSSPageSize=True)["data"])

    def console(self) -> list[dict[str, Any]]:
        """Messages of the console since the last call: errors, warnings, violations of the page's policy."""
        return list(_call(f"{self._session}/se/log", type="browser"))

    def requested(self) -> list[str]:
        """The URLs asked for since the last call."""
        entries = (
            json.loads(entry["message"])["message"] for entry in _call(f"{self._session}/se/log", type="performance")
        )
        return [
            entry["params"]["request"]["url"] for entry in entries if entry["method"] == "Network.requestWillBeSent"
        ]

    def cdp(self, command: str, **parameters: Any) -> dict[str, Any]:
        return dict(_call(f"{self._session}/goog/cdp/execute", cmd=command, params=parameters) or {})


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a profile of its own; chromedriver ends it."""
    driver = subprocess.Popen(
        [str(CHROMEDRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert driver.stdout is not None
        port = next(found[1] for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        flags = (
            "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars "
            "--disable-background-networking --disable-component-update --disable-sync"
        )
        alone = (
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        )  # its start page may not phone home
        options = {"binary": CHROMIUM, "args": [*flags.split(), *alone]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        url = f"http://127.0.0.1:{port}/session"
        session = f"{url}/{_call(url, capabilities={'alwaysMatch': wanted})['sessionId']}"
        try:
            page = Browser(session)
            page.cdp("Page.navigate", url="about:blank")
            yield page
        finally:
            _DIRECT.open(Request(session, method="DELETE"), timeout=30).close()
    finally:
        driver.terminate()
        driver.wait(timeout=30)


def _call(address: str, **body: Any) -> Any:
    request = Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with _DIRECT.open(request, timeout=120) as reply:
        return json.load(reply)["value"]
