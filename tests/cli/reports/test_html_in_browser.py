"""The HTML page in a real browser: its charts are drawn, nothing is complained of, and nothing leaves the page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from result_examples import result_of, run_of

import lbal
from lbal.analyzers.barrier.thinned import MOST_BUCKETS
from lbal.cli.reports.html import HtmlReport

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
ELSEWHERE = "http://127.0.0.1:9/"
"""Nothing listens there, and nothing needs to: that it is asked for is what is found."""
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"
)


class Visit:
    """What a browser made of a page."""

    def __init__(self, path: Path, *options: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "requests.json"
            command = [
                *[str(BROWSER), *QUIET, f"--user-data-dir={folder}/profile", f"--log-net-log={log}"],
                *["--enable-logging=stderr", "--virtual-time-budget=30000", *options, "--dump-dom", path.as_uri()],
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, encoding="utf-8")
            self.dom = done.stdout
            self.complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
            self.requests = requests_of_pages(log.read_text(encoding="utf-8"))


def requests_of_pages(log: str) -> list[str]:
    """Addresses on the network that pages asked for; the browser's own requests have no origin."""
    try:
        record = json.loads(log)
    except json.JSONDecodeError:  # the browser did not get to close it
        record = json.loads(log.rstrip().rstrip(",") + "]}")
    asked = (event.get("params", {}) for event in record["events"])
    return sorted(
        {
            params["url"]
            for params in asked
            if params.get("url", "").startswith(("http", "ws"))
            and params.get("initiator", "not an origin") != "not an origin"
        }
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report with spaces ☃.html"
    runs = [run_of(name, count=3_000, ranks=16, seed=seed) for seed, name in enumerate(("jsq", "lpt", "<b>x</b>"))]
    path.write_text(HtmlReport().render(result_of(runs, "<img src=x onerror=console.error(1)>")), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_all_charts_are_drawn_without_a_complaint_or_a_request(page, width, scheme):
    visit = Visit(page, f"--window-size={width},2000", f"--blink-settings=preferredColorScheme={scheme}")
    told = re.search(r'data-charts="(\d+) of (\d+)"', visit.dom)
    assert told is not None
    assert told[1] == told[2]
    assert visit.dom.count("<canvas") == 3
    assert visit.dom.count('<svg xmlns="http://www.w3.org/2000/svg"') == int(told[2]) - 3
    assert visit.dom.count("<path") > 3 * MOST_BUCKETS
    assert visit.complaints == []
    assert visit.requests == []


def test_the_charts_of_an_analysis_are_drawn_and_its_lines_reach_the_last_step(tmp_path):
    trace = tmp_path / "t.jsonl"
    loads = [[8, 2], [0, 0], [5, 5]]
    steps = [{"step": number, "num_running": each, "kv_tokens": each} for number, each in enumerate(loads)]
    trace.write_text("".join(json.dumps(line) + "\n" for line in [{"lbal_trace": 1}, *steps]))
    page = tmp_path / "p.html"
    lbal.analyze(lbal.read_trace(trace)).write(page)
    visit = Visit(page, "--window-size=1280,2000")
    told = re.search(r'data-charts="(\d+) of (\d+)"', visit.dom)
    assert told is not None
    assert told[1] == told[2]
    place = visit.dom.partition('id="apart-0"')[2].partition("</svg>")[0]
    assert "running requests" in place
    assert visit.complaints == []


def with_script(page: Path, script: str) -> str:
    """The page with a script at its end."""
    text, end, rest = page.read_text(encoding="utf-8").rpartition("</body>")
    return text + script + end + rest


ZOOMING = """<script>(async () => {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const labels = (id) => [...document.querySelectorAll(`#${id} svg text`)].map((text) => text.textContent).join(" ");
  while (!document.documentElement.dataset.charts) await pause(50);
  const before = labels("idle-1"), svg = document.querySelector("#idle-0 svg"), box = svg.getBoundingClientRect();
  const place = {clientX: box.left + box.width / 2, clientY: box.top + box.height / 3, bubbles: true, cancelable: true};
  const moved = [];
  for (const shiftKey of [false, true]) {
    const under = document.elementFromPoint(place.clientX, place.clientY);
    under.dispatchEvent(new PointerEvent("pointermove", place));
    under.dispatchEvent(new WheelEvent("wheel", {...place, deltaY: -400, shiftKey}));
    await pause(500);
    moved.push(labels("idle-0") !== before && labels("idle-1") !== before && labels("idle-0") === labels("idle-1"));
  }
  document.documentElement.dataset.moved = moved.join(" ");
})();</script>"""


def test_shift_and_wheel_zoom_all_charts_over_steps_and_the_wheel_alone_scrolls_the_page(page, tmp_path):
    path = tmp_path / "zooms.html"
    path.write_text(with_script(page, ZOOMING), encoding="utf-8")
    visit = Visit(path, "--window-size=1280,9000")
    assert 'data-moved="false true"' in visit.dom
    assert visit.complaints == []


def test_a_page_that_asks_elsewhere_is_found_out(tmp_path):
    path = tmp_path / "asks.html"
    path.write_text(f'<!doctype html><img src="{ELSEWHERE}"><script>console.error("complaint")</script>')
    visit = Visit(path)
    assert visit.requests == [ELSEWHERE]
    assert any("complaint" in line for line in visit.complaints)


def test_a_script_on_the_page_could_not_ask_elsewhere(page, tmp_path):
    path = tmp_path / "asks.html"
    asking = f'<script>new Image().src = "{ELSEWHERE}"; fetch("{ELSEWHERE}").catch(() => 0)</script>'
    path.write_text(with_script(page, asking), encoding="utf-8")
    visit = Visit(path)
    assert visit.requests == []
    assert any("Content Security Policy" in line for line in visit.complaints)
