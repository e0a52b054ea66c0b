"""Make the README's pictures from a store of runs, in headless Chromium.

    python docs/screenshots.py --store sqlite:///mlruns/mlflow.db --experiment NAME

The best run's report and the latest comparison are shown. The run table is laid out by a view,
"Strategies", which is added to the experiment where it has none, and is in the UI from then on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from crb_dspy.errors import RunError, UserError  # noqa: E402
from crb_dspy.tracking.store import HOST  # noqa: E402
from crb_dspy.tracking.view import VIEW, view  # noqa: E402

_READY, _DRAWN = 180, 60


class Ui:
    """The MLflow UI of a store: addresses of its pages, and the API that they use."""

    def __init__(self, address: str) -> None:
        self.address = address

    @property
    def shown(self) -> str:
        """The address for browsers, which know the name of `make ui` for this machine."""
        return self.address.replace("127.0.0.1", HOST)

    def page(self, path: str, **query: str) -> str:
        """Return the address of a page, without the chapters on agents and traces."""
        return f"{self.shown}/#/{path}?{urlencode({'workflowType': 'machine_learning', **query})}"

    def ask(self, path: str, body: Mapping[str, object] | None = None, **query: str) -> Any:
        """Ask the API, by POST if there is a body; UserError if it refuses."""
        where = f"{self.address}/ajax-api/2.0/mlflow/{path}?{urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request(where, data, {"Content-Type": "application/json"})) as answer:
                return json.load(answer)
        except URLError as error:
            raise UserError(f"MLflow, {path} {query or body}: {error}") from error

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, with the view added to it where it has none."""
        found = self.ask("experiments/get-by-name", experiment_name=name)["experiment"]
        known = {tag["key"] for tag in found.get("tags", ())}
        for key, value in view().items():
            if key not in known:
                tag = {"experiment_id": found["experiment_id"], "key": key, "value": value}
                self.ask("experiments/set-experiment-tag", tag)
        return str(found["experiment_id"])

    def newest(self, experiment: str, kind: str, order: str = "start_time") -> str:
        """Return the id of the last run of a kind, or of the one with most of a metric."""
        finished = f"tags.kind = '{kind}' and attributes.status = 'FINISHED'"
        asked = {"experiment_ids": [experiment], "filter": finished, "max_results": 1}
        found = self.ask("runs/search", {**asked, "order_by": [f"{order} DESC"]}).get("runs")
        if not found:
            raise UserError(f"experiment {experiment}: no finished run of kind '{kind}'")
        return str(found[0]["info"]["run_id"])

    def artefact(self, run: str, name: str) -> bytes:
        """Return a file of a run as it is served."""
        query = urlencode({"path": name, "run_uuid": run})
        with urlopen(f"{self.address}/get-artifact?{query}") as answer:
            return bytes(answer.read())


@contextmanager
def served(store: str, venv: Path = ROOT / ".venv") -> Iterator[Ui]:
    """Serve a store as `make ui` does, on a free port of loopback, until the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["make", "--directory", str(ROOT), "--old-file", "venv", "ui"]
    settings = [f"VENV={venv}", f"STORE={store}", f"PORT={port}"]
    with TemporaryFile("w+") as log:
        server = subprocess.Popen(
            [*command, *settings], stdout=log, stderr=log, start_new_session=True
        )
        try:
            ui = Ui(f"http://127.0.0.1:{port}")
            _until_ready(server, ui, log)
            yield ui
        finally:
            if server.poll() is None:
                # Its own session: make and what make started.
                os.killpg(server.pid, signal.SIGTERM)
                server.wait(60)


def _until_ready(server: subprocess.Popen[bytes], ui: Ui, log: IO[str]) -> None:
    until = time.monotonic() + _READY
    while server.poll() is None and time.monotonic() < until:
        try:
            with urlopen(f"{ui.address}/health", timeout=_READY):
                return
        except OSError:
            time.sleep(0.1)
    log.seek(0)
    raise RunError(f"the MLflow UI did not start: {log.read()[-2000:]}")


def drawn(driver: Any, ready: Callable[[Any], Any]) -> Any:
    """Wait until a condition holds on the page, and return what it gave."""
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    passing = [NoSuchElementException, StaleElementReferenceException]
    return WebDriverWait(driver, _DRAWN, ignored_exceptions=passing).until(ready)


def elements(selector: str, least: int = 1) -> Callable[[Any], list[Any]]:
    """Return the condition that so many elements are there."""

    def found(driver: Any) -> list[Any]:
        hits: list[Any] = driver.find_elements("css selector", selector)
        return hits if len(hits) >= least else []

    return found


def take(ui: Ui, name: str, folder: Path) -> None:
    """Write the pictures of an experiment as PNG files into a folder."""
    from tests.browser import chromium

    experiment = ui.experiment(name)
    best = ui.newest(experiment, "compile", "metrics.`test/score`")
    comparison = ui.newest(experiment, "comparison")
    runs, view_ = f"experiments/{experiment}/runs", {"viewStateShareKey": VIEW}
    with chromium(1440, 900) as driver, TemporaryDirectory() as kept:
        _open(driver, ui.page(runs, **view_), ".ag-cell[col-id='metrics.`test/score`']")
        _click(driver, "[aria-label='Hide banner']")
        _shoot(driver, folder / "runs.png")
        _open(driver, ui.page(runs, compareRunsMode="CHART", **view_), ".scatterlayer .point")
        _click(driver, "[aria-label='Hide banner']")
        _shoot(driver, folder / "charts.png")
        _open(driver, ui.page(f"{runs}/{comparison}"), "table")
        _click(driver, "[aria-label='Expand description']")
        _shoot(driver, folder / "comparison.png")
        report = Path(kept) / "report.html"
        report.write_bytes(ui.artefact(best, "report.html"))
        _open(driver, report.as_uri(), ".case mark")
        _shoot(driver, folder / "report.png")
        for section, picture in (("candidates", "candidates.png"), ("reports", "quotes.png")):
            driver.execute_script(f"document.getElementById('{section}').scrollIntoView()")
            _shoot(driver, folder / picture)
    (folder / "differences.png").write_bytes(ui.artefact(comparison, "differences.png"))


def _open(driver: Any, page: str, selector: str) -> None:
    # Only what follows the # changes from page to page, which would not load it anew.
    driver.get("about:blank")
    driver.get(page)
    drawn(driver, elements(selector))


def _click(driver: Any, selector: str) -> None:
    """Click what is there, without the mouse, which would leave its mark."""
    for button in driver.find_elements("css selector", selector):
        driver.execute_script("arguments[0].click()", button)


def _shoot(driver: Any, path: Path) -> None:
    """Write what the window shows, in 256 colours, which is a third of the bytes."""
    from PIL import Image

    # Charts show their tools where there is no mouse that could point at them.
    driver.execute_script(
        "document.head.insertAdjacentHTML('beforeend', '<style>.modebar{display:none}</style>')"
    )
    # Fonts and fading banners have no element to wait for.
    time.sleep(1)
    image = Image.open(BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def main(argv: list[str]) -> int:
    """Read the arguments, serve the store, and take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--store", default="sqlite:///mlruns/mlflow.db")
    parser.add_argument("--experiment", required=True, help="its name in MLflow")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/images")
    arguments = parser.parse_args(argv)
    missing = [name for name in ("chromium", "chromedriver", "make") if not shutil.which(name)]
    if missing:
        raise UserError(f"{', '.join(missing)}: not installed, and needed for pictures")
    with served(arguments.store) as ui:
        take(ui, arguments.experiment, arguments.out)
    return 0


if __name__ == "__main__":
    from crb_dspy.command import run

    run(main)
