"""Chromium without a window, driven by Debian's chromedriver; nothing is downloaded."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from project.sample.process import find_program

PAGE_TIMEOUT = 60
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--window-size=1280,1000",
)


def _options(folder: Path) -> ChromeOptions:
    options = ChromeOptions()
    options.binary_location = find_program("chromium", "chromium")
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return options


@contextmanager
def chromium(folder: Path) -> Iterator[Chrome]:
    """Give a browser with an empty profile in `folder`, and end it with everything it started."""
    service = Service(
        executable_path=find_program("chromedriver", "chromium-driver"),
        log_output=str(folder / "chromedriver.log"),
        env={**os.environ, "SE_OFFLINE": "true", "SE_AVOID_STATS": "true", "HOME": str(folder)},
        popen_kw={"start_new_session": True},
    )
    browser = Chrome(options=_options(folder), service=service)
    try:
        browser.set_page_load_timeout(PAGE_TIMEOUT)
        yield browser
    finally:
        browser.quit()


def forget_visits(browser: Chrome) -> None:
    """Bring `browser` back to how it was: an empty page, no cookie, no storage."""
    browser.get("about:blank")
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
    browser.get_log("browser")
