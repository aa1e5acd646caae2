"""Headless Chromium, driven by Debian's chromedriver; nothing is downloaded."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

from project.sample.process import find_program

EMPTY_PAGE = "data:,"
PAGE_TIMEOUT = 60
PAGE_TEXT = 2000  # characters of the page in error messages
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
    # chromedriver's own wait sometimes ends before the page is parsed. `loading` waits instead.
    # Without chromedriver's, a test that forgets `loading` fails every time.
    options.page_load_strategy = "none"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return options


@contextmanager
def chromium(folder: Path) -> Iterator[Chrome]:
    """Run a browser with an empty profile in `folder`; stop it and all its processes after the block."""
    service = Service(
        executable_path=find_program("chromedriver", "chromium-driver"),
        log_output=str(folder / "chromedriver.log"),
        env={**os.environ, "SE_OFFLINE": "true", "SE_AVOID_STATS": "true", "HOME": str(folder)},
        popen_kw={"start_new_session": True},
    )
    browser = Chrome(options=_options(folder), service=service)
    try:
        _leave_start_page(browser)
        yield browser
    finally:
        browser.quit()


def _leave_start_page(browser: Chrome) -> None:
    """Replace the page that Chromium starts with, which may still be loading, so that `loading` can mark the page."""
    browser.get(EMPTY_PAGE)
    WebDriverWait(browser, PAGE_TIMEOUT).until(lambda _: browser.execute_script("return location.href") == EMPTY_PAGE)


@contextmanager
def loading(browser: Chrome) -> Iterator[None]:
    """Wait until the page that the block opens has loaded.

    Raises:
        AssertionError: No other page has loaded within `PAGE_TIMEOUT` seconds.
    """
    browser.execute_script("window.isOldPage = true")
    yield
    loaded = "return !window.isOldPage && document.readyState === 'complete'"
    try:
        WebDriverWait(browser, PAGE_TIMEOUT, poll_frequency=0.05).until(lambda _: browser.execute_script(loaded))
    except TimeoutException as error:
        raise AssertionError(f"No other page has loaded. {describe_page(browser)}") from error


def open_page(browser: Chrome, url: str) -> None:
    """Open `url` in `browser` and wait until it has loaded."""
    with loading(browser):
        browser.get(url)


def describe_page(browser: Chrome) -> str:
    """Return the address, title and text of the page in `browser`, for error messages."""
    text = browser.execute_script("return document.body ? document.body.innerText : ''")
    return f"The page is {browser.current_url} ({browser.title}):\n{text[:PAGE_TEXT]}"


def forget_visits(browser: Chrome) -> None:
    """Reset `browser` to an empty page without cookies or storage."""
    open_page(browser, "about:blank")
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
    browser.get_log("browser")  # type: ignore[no-untyped-call]
