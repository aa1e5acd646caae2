"""Test that following docs/tutorial.md in an empty folder leads to a live page."""

import ast
import json
import os
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from project.sample.process import PrivateServer
from tests.servers.chromium import loading, open_page
from tests.servers.xmpp import TestProsody

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/tutorial.md").read_text()
TIMEOUT = 60
WRITING = re.compile(r"(?P<verb>[Cc]reate|[Rr]eplace|[Aa]dd to the end of) `(?P<path>[\w/.]+\.(?:py|html))`")
STEP = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
SECTIONS = (
    "Install",
    "Start a project",
    "Publish something",
    "Write an analyser",
    "Show the page",
    "Watch it live",
    "Look inside",
    "Where to go from here",
)


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)\n", PAGE, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


class HostSite(PrivateServer):
    """The command of the tutorial that serves the site."""

    name = "mysite"

    def __init__(self, folder: Path, environment: dict[str, str], words: list[str]) -> None:
        super().__init__(folder)
        self._environment = environment
        self._words = words

    def command(self) -> list[str]:
        assert self._words[:3] == ["python", "manage.py", "pubsub_serve"]
        return [sys.executable, *self._words[1:-1], f"{self.host}:{self.port}"]

    def environment(self) -> dict[str, str]:
        return self._environment


@dataclass
class Reader:
    """A reader who follows the tutorial with an account of `prosody`."""

    folder: Path
    prosody: TestProsody
    password: str = field(default_factory=lambda: secrets.token_urlsafe(8))

    def __post_init__(self) -> None:
        self.prosody.register("tutor", self.password)
        self.jid = self.prosody.jid("tutor")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DJANGO_", "DATABASE_", "SECRET_KEY", "DATA_DIR"))
        }
        self.environment = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "XMPP_JID": self.jid,
            "XMPP_PASSWORD": self.password,
            "XMPP_HOST": self.prosody.host,
            "XMPP_PORT": str(self.prosody.port),
            "XMPP_CA_FILE": str(self.prosody.ca_file),
        }

    def follow(self, title: str) -> dict[str, str]:
        """Write the files and run the commands of a section; return the output of each command.

        The command that serves the site is not run.
        """
        printed = {}
        text, end = sections()[title], 0
        for step in STEP.finditer(text):
            before, end = text[end : step.start()], step.end()
            if step["language"] == "console":
                commands = [line.removeprefix("$ ") for line in step["code"].splitlines() if line.startswith("$ ")]
                printed |= {command: self.run(command) for command in commands if "pubsub_serve" not in command}
            elif written := list(WRITING.finditer(before)):
                self.write(written[-1]["verb"], written[-1]["path"], step["code"])
        return printed

    def write(self, verb: str, path: str, code: str) -> None:
        file = self.folder / path
        code = code.replace("alice@example.org", self.jid)
        if verb.lower() == "create":
            assert not file.exists(), path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
        else:
            assert file.exists(), path
            file.write_text(code if verb.lower() == "replace" else file.read_text() + code)

    def run(self, command: str) -> str:
        if command.startswith("export "):
            return ""
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
            return ""
        words = shlex.split(command.replace("alice@example.org", self.jid))
        if "pubsub_account add" in command:
            words += ["--host", self.prosody.host, "--port", str(self.prosody.port)]
            words += ["--ca-file", str(self.prosody.ca_file)]
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path, prosody: TestProsody) -> Iterator[Reader]:
    prosody.start()
    yield Reader(tmp_path, prosody)
    prosody.start()


def shows(browser: Chrome, *words: str) -> None:
    """Wait, without reloading, until the page shows `words`."""

    def page_text(driver: Chrome) -> str:
        return str(driver.execute_script("return document.querySelector('main').innerText"))

    WebDriverWait(browser, TIMEOUT, poll_frequency=0.1).until(
        lambda driver: all(word in page_text(driver) for word in words), f"The page does not show {words}."
    )


def test_tutorial_leads_to_a_page_that_updates_itself(reader: Reader, browser: Chrome) -> None:
    assert tuple(sections()) == SECTIONS
    made = reader.follow("Start a project")
    # `make test` has already done the section "Install"; the package is this checkout.
    assert "no issues" in made["python manage.py check"]
    tested = made["python manage.py pubsub_account test alice@example.org"]
    assert tested.strip() == f"OK: {reader.jid} can log in."

    published = reader.follow("Publish something")
    assert "First snow" in published["python manage.py pubsub_get -n urn:xmpp:microblog:0"]

    analysed = reader.follow("Write an analyser")
    analysers = analysed["python manage.py pubsub_analysers"]
    assert 0 < analysers.index("books") < analysers.index("microblog")
    (book,) = json.loads(analysed["python manage.py pubsub_get -n urn:example:books -O json"])["items"]
    shown = re.search(r'`"parsed": (\{.*?\})`', PAGE)
    assert shown
    assert book["parsed"] == json.loads(shown[1])

    reader.follow("Show the page")
    serve = next(line for line in sections()["Watch it live"].splitlines() if "pubsub_serve" in line)
    with HostSite(reader.folder, reader.environment, shlex.split(serve.removeprefix("$ "))) as site:
        with loading(browser):
            open_page(browser, f"http://{site.host}:{site.port}/")
        shows(browser, "First snow", "It snowed all night.", "Middlemarch by George Eliot")
        browser.execute_script("window.loadedOnce = true")

        reader.follow("Watch it live")
        shows(browser, "Second snow", "It snowed again.", "The Waves by Virginia Woolf", "First snow")

        reader.prosody.stop()
        shows(browser, "cannot be reached", "Second snow", "The Waves by Virginia Woolf")
        reader.prosody.start()
        shows_no_notice = "return !document.querySelector('main').innerText.includes('cannot be reached')"
        WebDriverWait(browser, TIMEOUT).until(lambda driver: driver.execute_script(shows_no_notice))
        assert browser.execute_script("return window.loadedOnce")

    (query,) = [step["code"] for step in STEP.finditer(sections()["Look inside"]) if step["language"] == "python"]
    found = [ast.unparse(line) for line in ast.parse(query).body if isinstance(line, ast.Expr)]
    script = "from pubsubcache.models import PubsubItem\n" + "\n".join(f"print({line}.count())" for line in found)
    assert reader.run(f"python manage.py shell -v 0 -c {shlex.quote(script)}").split() == ["2", "1"]
