"""ComfyUI's page in a headless Chromium."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

READY = "return !!(window.app && window.app.graph && window.app.canvas && document.querySelector('canvas'))"
ASK = "const done = arguments[0]; app.graphToPrompt().then(p => done(p.output), e => done(String(e)))"  # the prompt
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
DRIVER = shutil.which("chromedriver") or ""


@contextmanager
def opened(url: str, profile: Path) -> Iterator[Any]:
    """Selenium's driver with the page at ``url``, ready; ``profile`` is an empty folder."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.add_argument("--window-size=2300,1500")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(120)
    try:
        driver.get(url)
        wait_for(lambda: driver.execute_script(READY), 120, "ComfyUI's page did not load")
        time.sleep(2)  # the page restores its last workflow when it is ready
        yield driver
    finally:
        driver.quit()


def load(page: Any, workflow: dict[str, Any], nodes_2: bool = False) -> None:
    """Put the workflow into the page, in classic nodes or in Nodes 2.0."""
    page.execute_script(f"app.ui.settings.setSettingValue('Comfy.VueNodes.Enabled', {json.dumps(nodes_2)})")
    put = "const done = arguments[1]; app.loadGraphData(arguments[0]).then(() => done(''), e => done(String(e)))"
    assert page.execute_async_script(put, workflow) == ""
    time.sleep(1)


def wait_for(condition: Any, seconds: float, complaint: str) -> None:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, complaint
        time.sleep(0.5)
