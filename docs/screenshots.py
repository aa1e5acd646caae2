"""Takes the pictures of the admin in the documentation, from the sample of `make run`.

`make screenshots` runs it. It starts a site of its own, waits until the sample is cached, and opens Chromium.
"""

import re
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from project.sample.process import PrivateServer
from tests.servers.chromium import chromium, loading, open_page
from tests.servers.run import environment

FOLDER = Path(__file__).parent
MAX_SIZE = 170_000  # bytes of a picture
TIMEOUT = 120.0  # seconds until the sample is cached
POLL_INTERVAL = 0.5
APP = "admin/pubsubcache/"
LOGIN = re.compile(r"(http://\S+/)admin/\nLog in as user (\S+), password (\S+)\.")
# The sample has more nodes; those that are added while the site starts are cached soon after. The charts show what has
# been counted.
CACHED = (
    "SELECT count(*) >= 15 AND min(sync_state = 'COMPLETED') AND (SELECT sum(stored) > 0 FROM pubsubcache_activity)"
    " FROM pubsubcache_pubsubnode"
)


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Attributes:
        name: The name of the file, without its extension.
        path: The path of the page.
        row: Whether to open the first row of the list on that page.
        width: The width of the window.
        height: The height of the window.
    """

    name: str
    path: str
    row: bool = False
    width: int = 1200
    height: int = 760

    @property
    def file(self) -> Path:
        """The file."""
        return FOLDER / f"{self.name}.png"


PICTURES = (
    Picture("dashboard", APP),
    Picture("nodes", f"{APP}pubsubnode/", width=1400, height=720),
    Picture("post", f"{APP}pubsubitem/?q=%22small+lights%22", row=True),
    Picture("event", f"{APP}pubsubitem/?node__type=event", row=True),
    Picture("analysers", f"{APP}analyserchoice/"),
    Picture("phone", f"{APP}pubsubitem/?q=%22small+lights%22", row=True, width=390, height=844),
)


class Site(PrivateServer):
    """The site of `make run`."""

    name = "site"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "project.run"]

    def environment(self) -> dict[str, str]:
        return environment(self.folder, PORT=str(self.port))

    def is_ready(self) -> bool:
        return LOGIN.search(self.log_tail()) is not None

    def login(self) -> tuple[str, str, str]:
        """Return the address of the site, the user and the password."""
        found = LOGIN.search(self.log_tail())
        assert found, self.log_tail()
        return found[1], found[2], found[3]

    def await_sample(self) -> None:
        """Wait until the sample is cached. Raises `TimeoutError`."""
        deadline = time.monotonic() + TIMEOUT
        with closing(sqlite3.connect(self.folder / "var" / "db.sqlite3", timeout=30)) as database:
            while not database.execute(CACHED).fetchone()[0]:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"The sample is not cached:\n{self.log_tail()}")
                time.sleep(POLL_INTERVAL)


def log_in(browser: Chrome, address: str, user: str, password: str) -> None:
    """Log in to the admin."""
    open_page(browser, f"{address}admin/")
    browser.find_element(By.NAME, "username").send_keys(user)
    browser.find_element(By.NAME, "password").send_keys(password)
    with loading(browser):
        browser.find_element(By.CSS_SELECTOR, "[type=submit]").click()


def take(browser: Chrome, address: str, picture: Picture) -> None:
    """Take a picture. Raises `ValueError` if the file is larger than `MAX_SIZE`."""
    size = {"width": picture.width, "height": picture.height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    open_page(browser, f"{address}{picture.path}")
    if picture.row:
        with loading(browser):
            browser.find_element(By.CSS_SELECTOR, "#result_list tbody .field-heading a").click()
    image = browser.get_screenshot_as_png()
    if len(image) > MAX_SIZE:
        raise ValueError(f"{picture.file.name} would have {len(image)} bytes: make its window smaller.")
    picture.file.write_bytes(image)


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as name, Site(Path(name) / "site") as site:
        site.await_sample()
        folder = Path(name) / "chromium"
        folder.mkdir()
        with chromium(folder) as browser:
            address, user, password = site.login()
            browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
            log_in(browser, address, user, password)
            for picture in PICTURES:
                take(browser, address, picture)
                print(f"{picture.file.relative_to(FOLDER.parent)}: {picture.file.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
