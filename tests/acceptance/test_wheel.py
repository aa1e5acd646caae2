"""Test the wheel, installed alone and used in a new Django project."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from project.sample.process import PrivateServer
from pubsubcache import __version__
from tests.acceptance.site import TIMEOUT, make_node, publish_many
from tests.servers.xmpp import TestProsody

ROOT = Path(__file__).resolve().parents[2]
INSTALL_TIMEOUT = 600
SETTINGS = """
INSTALLED_APPS += ["channels", "pubsubcache"]
"""
READ = """
import json, sys, django
django.setup()
from pubsubcache.cache import get_items_sync
page = get_items_sync(*sys.argv[1:], cache_only=True)
items = {item.id: item.parsed["title"] for item in page.items}
print(json.dumps({"origin": page.origin, "stale": page.stale, "items": items}))
"""
OPEN_ADMIN = """
import json, django
django.setup()
from django.apps import apps
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import NoReverseMatch, reverse
from pubsubcache.models import AnalyserChoice, Job

def names(patterns):
    for pattern in patterns:
        yield from names(pattern.url_patterns) if hasattr(pattern, "url_patterns") else [pattern.name]

def address(name):
    try:
        return reverse(f"admin:{name}")
    except NoReverseMatch:
        model = apps.get_model("pubsubcache", name.split("_")[1])
        return reverse(f"admin:{name}", args=[model.objects.order_by("pk").first().pk])

AnalyserChoice.objects.create(analyser="mood", to_sync=True)
Job.objects.create(kind=Job.Kind.FORGET, parameters={"nodes": []})
client = Client(SERVER_NAME="localhost")
client.force_login(get_user_model().objects.create_superuser("root"))
ours = [name for name in names(admin.site.get_urls()) if name and name.startswith("pubsubcache_")]
pages = {name: address(name) for name in ours}
pages |= {"index": reverse("admin:index"), "app_list": reverse("admin:app_list", args=["pubsubcache"])}
print(json.dumps({name: client.get(url).status_code for name, url in pages.items()}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=INSTALL_TIMEOUT)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


def own_environment() -> dict[str, str]:
    """Return the environment without variables that refer to this repository, its site or its virtual environment."""
    ours = ("DJANGO_", "PYTHON", "PUBSUBCACHE_", "VIRTUAL_ENV", "DATA_DIR", "DATABASE_URL", "SECRET_KEY")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@dataclass
class Host:
    """A project in `folder` that uses the virtual environment `environment`."""

    environment: Path
    folder: Path

    def run(self, *arguments: str, timeout: float = 120, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the virtual environment in the project."""
        program, *rest = arguments
        return subprocess.run(
            [str(self.environment / "bin" / program), *rest],
            cwd=self.folder,
            env={**own_environment(), **changes},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def succeed(self, *arguments: str, **options: Any) -> str:
        """Run a program that succeeds; return its output."""
        ended = self.run(*arguments, **options)
        assert ended.returncode == 0, f"{arguments}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    def manage(self, *arguments: str, **changes: str) -> str:
        """Run a management command; return its output."""
        return self.succeed("python", "manage.py", *arguments, **changes)

    def refused(self, *arguments: str, **changes: str) -> str:
        """Run a command that fails; return its error message, the one line after the warnings of system checks."""
        ended = self.run("python", "manage.py", *arguments, **changes)
        assert (ended.returncode, ended.stdout) == (1, ""), ended.stderr
        *warnings, sentence = ended.stderr.splitlines()
        assert "Traceback" not in "".join(warnings)
        return sentence

    def script(self, code: str, *arguments: str) -> Any:
        """Run Python code in the project; return the JSON that it printed."""
        printed = self.succeed("python", "-c", code, *arguments, DJANGO_SETTINGS_MODULE="host.settings")
        return json.loads(printed)


class Worker(PrivateServer):
    """`pubsub_worker` of a host project."""

    name = "worker"

    def __init__(self, folder: Path, host: Host) -> None:
        super().__init__(folder)
        self.host = host

    def command(self) -> list[str]:
        return [str(self.host.environment / "bin" / "python"), str(self.host.folder / "manage.py"), "pubsub_worker"]

    def environment(self) -> dict[str, str]:
        return own_environment()

    def is_ready(self) -> bool:
        (account,) = json.loads(self.host.manage("pubsub_account", "list", "-O", "json"))
        return bool(account["status"] == "online")


def constraints() -> str:
    """Return the locked versions as constraints, so that a new release of a dependency breaks no test."""
    return "\n".join(re.findall(r"^[\w-]+==[^ \n]+", (ROOT / "requirements.txt").read_text(), re.M))


def run(*command: str) -> None:
    """Run a command that succeeds, without the environment variables of this repository."""
    ended = subprocess.run(command, env=own_environment(), capture_output=True, text=True, timeout=INSTALL_TIMEOUT)
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"


@pytest.fixture
def host(wheel: Path, tmp_path: Path) -> Host:
    """A new project whose virtual environment has only the wheel and its dependencies."""
    host = Host(tmp_path / "environment", tmp_path / "host")
    host.folder.mkdir()
    (tmp_path / "constraints.txt").write_text(constraints())
    run(sys.executable, "-m", "venv", "--without-pip", str(host.environment))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(host.environment))
    run(*pip, "install", "--quiet", "--no-compile", "-c", str(tmp_path / "constraints.txt"), str(wheel))
    run(*pip, "check")
    host.succeed("django-admin", "startproject", "host", ".")
    with (host.folder / "host" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    return host


def test_wheel_contains_only_the_application(wheel: Path) -> None:
    with closing(zipfile.ZipFile(wheel)) as archive:
        names = set(archive.namelist())
        metadata = message_from_bytes(
            archive.read(next(name for name in names if name.endswith(".dist-info/METADATA")))
        )
    folder = f"pubsubcache-{__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"pubsubcache", folder}
    assert {
        "pubsubcache/py.typed",
        "pubsubcache/locale/fr/LC_MESSAGES/django.mo",
        "pubsubcache/migrations/_frozen/full_text.py",
        "pubsubcache/static/pubsubcache/admin.css",
        "pubsubcache/templates/admin/pubsubcache/analysers.html",
        f"{folder}/licenses/LICENSE",
    } <= names
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("Provides-Extra") == ["postgres", "redis", "server"]
    required = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert not [line for line in required if "==" in line], "a library must not pin its dependencies"


async def test_cache_works_in_a_new_project(
    host: Host, prosody: TestProsody, client: Callable[..., Any], tmp_path: Path
) -> None:
    bob = await client(prosody, "bob")
    address = await make_node(bob, prosody)
    await publish_many(bob, address, 3)
    await asyncio.to_thread(check_refusals, host)
    await asyncio.to_thread(set_up, host, prosody)
    arguments = (prosody.jid("alice"), address.service, address.name)
    await asyncio.to_thread(host.manage, "pubsub_sync", "-s", address.service, "-n", address.name)
    page = await asyncio.to_thread(host.script, READ, *arguments)
    assert page == {"origin": "cache", "stale": False, "items": {f"item-{n}": f"Title {n}" for n in range(3)}}
    with Worker(tmp_path / "worker", host) as worker:
        await publish_many(bob, address, 1, first=3)
        deadline = time.monotonic() + TIMEOUT
        while "item-3" not in page["items"]:
            assert time.monotonic() < deadline, worker.log_tail()
            page = await asyncio.to_thread(host.script, READ, *arguments)
        assert page["origin"] == "cache"
    await asyncio.to_thread(check_admin, host)
    assert "pubsubcache[server]" in await asyncio.to_thread(host.refused, "pubsub_serve", "--bind", "127.0.0.1:0")


def check_refusals(host: Host) -> None:
    """Assert that no command creates a table before `migrate`."""
    for arguments in (("pubsub_nodes",), ("pubsub_account", "add", "alice@example.org", "--password-env", "P")):
        sentence = host.refused(*arguments, P="secret")
        assert "pubsubcache.0001_initial" in sentence
        assert "run manage.py migrate" in sentence.lower()
    assert not (host.folder / "db.sqlite3").exists()


def set_up(host: Host, prosody: TestProsody) -> None:
    """Set up the project as documented."""
    host.manage("migrate")
    host.manage("check")
    assert "No changes detected" in host.manage("makemigrations", "--check", "--dry-run")
    jid, password = prosody.jid("alice"), prosody.users["alice"]
    where = ("--host", prosody.host, "--port", str(prosody.port), "--ca-file", str(prosody.ca_file))
    host.manage("pubsub_account", "add", jid, "--password-env", "P", *where, P=password)
    assert json.loads(host.manage("pubsub_account", "test", jid, "-O", "json"))["ok"]


def check_admin(host: Host) -> None:
    """Assert that every admin page opens, except those that nobody may use."""
    statuses = host.script(OPEN_ADMIN)
    assert {"index", "app_list", "pubsubcache_analysers", "pubsubcache_pubsubitem_change"} <= set(statuses)
    forbidden = {name for name, status in statuses.items() if status == 403}
    assert forbidden == {
        f"pubsubcache_{model}_{page}" for model in ("pubsubitem", "syncrun", "job") for page in ("add", "delete")
    }
    others = {name: status for name, status in statuses.items() if status not in (200, 403)}
    assert others == {
        "pubsubcache_account_test": 302,  # those that redirect only accept POST
        "pubsubcache_account_test_new": 302,
        "pubsubcache_job_cancel": 302,
        "pubsubcache_pubsubnode_sync": 302,
        "pubsubcache_live": 400,  # no topic
        "pubsubcache_pubsubitem_calendar": 404,  # the item is no event
    }
