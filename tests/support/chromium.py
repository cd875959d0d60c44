"""A headless Chromium, told what to do through its DevTools protocol, and whether a report is whole in it."""

import contextlib
import itertools
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium")
# The page is our own: a sandbox, which containers often forbid, would guard nothing. Sound goes nowhere, but it plays.
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"),
    *("--mute-audio", "--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0"),
)
PATIENCE_S = 60
DRAWN = """[...document.querySelectorAll(".chart")].every(chart => chart.querySelector("svg"))"""
# Whatever stands for data: points, bars, cells, bands.
_MARKS = ".scatterlayer path, .barlayer path, .heatmaplayer image, .sankey-link"
_CHARTS = f"""[...document.querySelectorAll(".chart")].map(chart => {{
  const {{ width, height }} = chart.querySelector("svg").getBoundingClientRect();
  return {{ id: chart.id, width, height, marks: chart.querySelectorAll("{_MARKS}").length }};
}})"""
_SECTIONS = """[...document.querySelectorAll("nav a")].map(link => {
  return { id: link.hash.slice(1), height: document.querySelector(link.hash)?.offsetHeight ?? 0 };
})"""


class Tab:
    """A page of the browser: methods and events of https://chromedevtools.github.io/devtools-protocol/."""

    def __init__(self, socket: ClientConnection):
        self.events: list[dict] = []
        self._socket, self._numbers, self._session = socket, itertools.count(1), {}
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict:
        """The result of a method; events that come before it are kept."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params, **self._session}))
        answer = self._receive(lambda message: message.get("id") == number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(self, page: Path) -> None:
        """Forgets the events so far, and loads the page: its scripts have run when this returns."""
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive(lambda message: message.get("method") == "Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The JSON value of an expression, or of the promise that it is."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Returns once the expression is true, asked at each frame that the browser draws."""
        self.run(
            f"new Promise(done => {{ const ask = () => ({condition}) ? done() : requestAnimationFrame(ask); ask(); }})"
        )

    def press(self, key: str) -> None:
        """Presses and releases a key such as "Tab"."""
        code = {"Tab": 9, "ArrowRight": 39}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def _receive(self, condition) -> dict:
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if "method" in message:
                self.events.append(message)
            if condition(message):
                return message


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Tab]:
    """An empty tab of a browser that keeps its files in the folder, and ends with the block."""
    command = [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as browser:
        try:
            matches = (re.search(r"ws://\S+", line) for line in browser.stderr)
            address = next(filter(None, matches), None)
            assert address, "Chromium ended before it could be told anything"
            # Else the pipe would be full one day, and the browser would wait.
            threading.Thread(target=browser.stderr.read, daemon=True).start()
            with connect(address.group(), max_size=None, proxy=None) as socket:
                yield Tab(socket)
        finally:
            browser.terminate()


def assert_whole(tab: Tab) -> None:
    """Holds that the report in the tab is drawn, each section and chart, with nothing to complain of, and that nothing
    but the page itself was asked for since it was opened."""
    tab.until(DRAWN)
    listed, drawn = sections(tab), charts(tab)
    assert listed, "no contents"
    assert drawn, "no charts"
    small = [section for section in listed if section["height"] < 80]
    assert not small, f"sections that are hardly there: {small}"
    bare = [chart for chart in drawn if chart["width"] < 150 or chart["height"] < 100 or not chart["marks"]]
    assert not bare, f"charts that show nothing: {bare}"
    assert complaints(tab) == [], complaints(tab)
    assert requests(tab) == {tab.run("location.href")}, requests(tab)


def sections(tab: Tab) -> list[dict]:
    """`id` and `height` in pixels of each section that the page's contents name, 0 of one that is not there."""
    return tab.run(_SECTIONS)


def charts(tab: Tab) -> list[dict]:
    """`id`, `width` and `height` in pixels of each chart, and how many `marks` stand for data in it."""
    return tab.run(_CHARTS)


def complaints(tab: Tab) -> list[dict]:
    """Exceptions, and what the console shows as an error or a warning."""
    return [
        event["params"]
        for event in tab.events
        if event["method"] in ("Runtime.exceptionThrown", "Page.javascriptDialogOpening")
        or event["method"] == "Log.entryAdded"
        or (event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning", "assert"))
    ]


def requests(tab: Tab) -> set[str]:
    """What was asked for, but for what the page itself holds."""
    sent = [event["params"]["request"]["url"] for event in tab.events if event["method"] == "Network.requestWillBeSent"]
    return {url for url in sent if not url.startswith("data:")}
