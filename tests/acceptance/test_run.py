"""Test the Python part of `make run`: it serves the admin, caches the nodes of the sample and ends cleanly."""

import os
import pwd
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest

from project.sample.process import PrivateServer
from project.sample.texts import ARTICLES, JOURNAL_LENGTH
from tests.servers.run import environment
from tests.servers.xmpp import TestProsody

TIMEOUT = 60
NODES = "SELECT service, name, sync_state, item_count FROM pubsubcache_pubsubnode"


class Site(PrivateServer):
    """A site as `make run` starts it."""

    name = "site"

    def __init__(self, folder: Path, ready: str = "The admin is at", **changes: str) -> None:
        super().__init__(folder)
        self.ready = ready
        self.changes = changes

    def command(self) -> list[str]:
        return [sys.executable, "-m", "project.run"]

    def environment(self) -> dict[str, str]:
        return environment(self.folder, PORT=str(self.port), **self.changes)

    def prepare(self) -> None:
        self.log_file.unlink(missing_ok=True)

    def is_ready(self) -> bool:
        return self.ready in self.log_tail()

    def rows(self, query: str, file: str = "db.sqlite3") -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "var" / file, timeout=30)) as database:
            return database.execute(query).fetchall()

    def await_rows(self, query: str, enough: Callable[[list[tuple[Any, ...]]], bool]) -> list[tuple[Any, ...]]:
        """Return the rows of `query` once `enough` is true of them."""
        deadline = time.monotonic() + TIMEOUT
        while not enough(rows := self.rows(query)):
            assert self.running and time.monotonic() < deadline, f"{rows}\n{self.log_tail()}"
            time.sleep(0.1)
        return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    """The site with its sample, whose data is kept for the tests that follow."""
    with Site(folder) as server:
        yield server


def log_in(site: Site) -> str:
    """Log in with the printed user and password; return the admin's first page."""
    found = re.search(r"(http://\S+)\nLog in as user (\S+), password (\S+)\.", site.log_tail())
    assert found, site.log_tail()
    url, user, password = found.groups()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies := CookieJar()))
    browser.open(url, timeout=TIMEOUT).read()
    token = next(cookie.value for cookie in cookies if cookie.name == "csrftoken")
    fields = {"username": user, "password": password, "csrfmiddlewaretoken": token, "next": "/admin/"}
    answer = browser.open(f"{url}login/", urlencode(fields).encode(), timeout=TIMEOUT)
    return str(answer.read().decode())


def is_complete(rows: list[tuple[Any, ...]]) -> bool:
    return len(rows) == 19 and all(state == "COMPLETED" for _, _, state, _ in rows)


def test_sample_is_cached_and_shown_in_the_admin(site: Site) -> None:
    assert "Log out" in log_in(site)
    assert re.search(r"Log in as user \S+, password \S+\.\n\Z", site.log_tail()), "the login is the last line"
    counts = {(service, name): count for service, name, _, count in site.await_rows(NODES, is_complete)}
    assert counts["pubsub.sample.test", "garden-journal"] >= JOURNAL_LENGTH
    assert counts["alice@sample.test", "urn:xmpp:microblog:0"] == len(ARTICLES)
    kinds = dict(site.rows("SELECT type, count(*) FROM pubsubcache_pubsubnode GROUP BY type"))
    singles = ("event", "ticket", "nickname", "profile", "mood", "tune", "geoloc", "bookmark", "space")
    assert kinds == {"blog": 10} | dict.fromkeys(singles, 1)
    assert site.rows("SELECT count(*) FROM pubsubcache_pubsubitem WHERE parse_error != '' OR parsed IS NULL") == [(0,)]


def test_second_run_keeps_everything(site: Site) -> None:
    assert "Log out" in log_in(site)
    site.await_rows(NODES, is_complete)
    stored = site.rows(
        "SELECT count(*) FROM prosodyarchive WHERE store = 'pubsub_garden-journal'", "sample/prosody.sqlite"
    )
    assert JOURNAL_LENGTH <= stored[0][0] < JOURNAL_LENGTH + 50
    assert site.rows("SELECT count(*) FROM auth_user") == [(1,)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["Starting a private Prosody", "bob@sample.test is online", "The admin is at"])
def test_signal_ends_all_processes(folder: Path, number: signal.Signals, moment: str) -> None:
    site = Site(folder, ready=moment, LOG_LEVEL="INFO")
    site.stop_signal = number
    with site:
        processes = psutil.Process(site.pid).children(recursive=True)
    assert site.exit_code == 0, site.log_tail()
    assert "Traceback" not in site.log_tail()
    assert not psutil.wait_procs(processes, timeout=60)[1]


def test_account_in_the_environment_replaces_the_sample(prosody: TestProsody, tmp_path: Path) -> None:
    prosody.start()
    given = {
        "XMPP_JID": prosody.jid("alice"),
        "XMPP_PASSWORD": prosody.users["alice"],
        "XMPP_HOST": prosody.host,
        "XMPP_PORT": str(prosody.port),
        "XMPP_CA_FILE": str(prosody.ca_file),
    }
    online = [(prosody.jid("alice"), "online")]
    with Site(tmp_path, **given) as site:
        site.await_rows("SELECT jid, status FROM pubsubcache_account", lambda rows: rows == online)
        assert not psutil.Process(site.pid).children(recursive=True)
        assert prosody.users["alice"] not in site.log_file.read_text()


def readable_by(user: str, path: Path) -> bool:
    found = pwd.getpwnam(user)
    reading = subprocess.run(
        ["cat", str(path)], user=found.pw_uid, group=found.pw_gid, extra_groups=[], stdout=subprocess.DEVNULL
    )
    return reading.returncode == 0


def test_root_runs_the_server_of_the_sample_as_another_user() -> None:
    """Without root, the current user runs all processes and can read all files."""
    folder = Path(tempfile.mkdtemp(prefix="pubsubcache-run-"))
    folder.chmod(0o755)  # other users may traverse it, like a folder below /srv
    data = folder / "var"
    try:
        for _ in range(2):  # the second run finds files of the other user
            with Site(folder) as site:
                (prosody,) = psutil.Process(site.pid).children()
                sample = data / "sample"
                if os.geteuid() != 0:
                    assert prosody.uids().real == os.geteuid()
                    continue
                assert prosody.username() == "prosody"
                assert {path.owner() for path in (sample, *sample.rglob("*"))} <= {"prosody", "root"}
                assert readable_by("prosody", sample / "prosody.sqlite")
                for path in (sample / "prosody.sqlite", sample / "passwords.json", data / "db.sqlite3"):
                    assert not readable_by("nobody", path)
                for path in (data / "db.sqlite3", data / "secret_key", data / "admin_password"):
                    assert not readable_by("prosody", path)
                site.await_rows(NODES, is_complete)
    finally:
        shutil.rmtree(folder)
