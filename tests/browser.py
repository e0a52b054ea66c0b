"""Headless Chromium for tests: Debian's browser and driver, through Selenium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# A sandbox needs privileges that containers lack; the others keep the browser itself off the net.
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-default-apps",
)  # fmt: skip


@contextmanager
def chromium(width: int = 1280, height: int = 900) -> Iterator[Any]:
    """Start Chromium with its console and network log on; skip where it is not installed."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*_FLAGS, f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield started
    finally:
        started.quit()


def open_file(driver: Any, path: Path) -> None:
    """Open a file, forgetting what was logged before."""
    from selenium.webdriver.support import ui

    for log in ("browser", "performance"):
        driver.get_log(log)
    driver.get(path.as_uri())
    # Of a page that was open before, `get` may return before its new document is there.
    loaded = "return document.readyState === 'complete' && document.body.childElementCount > 0"
    ui.WebDriverWait(driver, 60).until(lambda opened: opened.execute_script(loaded))


def console(driver: Any) -> list[str]:
    """What the console said since it was last asked: errors, warnings, refusals."""
    return [entry["message"] for entry in driver.get_log("browser")]


def requests(driver: Any) -> list[str]:
    """The addresses that were asked for since this was last asked."""
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    sent = (m for m in messages if m["method"] == "Network.requestWillBeSent")
    return [message["params"]["request"]["url"] for message in sent]
