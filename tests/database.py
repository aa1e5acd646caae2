"""A pytest plugin that selects the database of a run before Django reads its settings."""

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.servers.postgresql import ROLE, PostgreSQL

server_key = pytest.StashKey[PostgreSQL]()
folder_key = pytest.StashKey[Path]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--database`."""
    parser.addoption(
        "--database",
        choices=["sqlite", "postgresql"],
        default="sqlite",
        help="database of the tests: a file of SQLite (default), or a private PostgreSQL",
    )


def _forget_the_users_settings() -> None:
    """Remove the environment variables that configure the user's own site."""
    for name in list(os.environ):
        if name.startswith(("PUBSUBCACHE_", "XMPP_")) or name in ("DEBUG", "REDIS_URL", "ALLOWED_HOSTS", "HTTPS"):
            del os.environ[name]


def _postgresql(config: pytest.Config) -> PostgreSQL:
    """Start PostgreSQL for this run."""
    server = PostgreSQL()
    config.add_cleanup(server.remove)
    config.add_cleanup(server.stop)
    server.start()
    config.stash[server_key] = server
    return server


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Set the environment variables that the settings read, before the wrapped hook sets up Django."""
    options = early_config.known_args_namespace
    folder = Path(tempfile.mkdtemp(prefix="pubsubcache-tests-"))
    early_config.stash[folder_key] = folder
    early_config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    _forget_the_users_settings()
    os.environ["DATA_DIR"] = str(folder)
    os.environ["SECRET_KEY"] = "a key for tests, and for nothing else but tests"
    os.environ["DATABASE_URL"] = f"sqlite:///{folder / 'db.sqlite3'}"
    if options.database == "postgresql" and not (options.help or options.version):
        os.environ["DATABASE_URL"] = _postgresql(early_config).url(ROLE)
    return (yield)


def pytest_report_header(config: pytest.Config) -> str:
    """Report the database of the run."""
    return f"database: {config.getoption('database')}"
