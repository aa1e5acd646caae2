"""A pytest plugin that selects the tests of a run.

| run | tests |
| --- | --- |
| `pytest` | every test, on SQLite |
| `pytest --database=postgresql` | the tests marked `both_databases` or `postgresql_only`, with one XMPP server |
| with `--long` | also the tests marked `long` and every case of `how_many`; on PostgreSQL every test, marked or not |

A test needs no mark unless its outcome may depend on the database: hand-written SQL, search, locks, transactions,
migrations, or threads and processes that share rows. Mark the module of such tests with
`pytestmark = pytest.mark.both_databases`, or a single test with `@pytest.mark.both_databases`.

A test with a fixture for each XMPP server runs with all of them only if its outcome may depend on the server: what the
server answers, delivers or refuses. Otherwise mark it `one_server`. On PostgreSQL every such test runs with Prosody
only, since what depends on the server has been tested on SQLite. The mark `every_server` lifts both.
"""

from collections.abc import Generator

import pytest

MARKERS = {
    "both_databases": "runs on PostgreSQL as well as on SQLite, for its outcome may depend on the database",
    "one_server": "runs with Prosody only, and with --long with every XMPP server",
    "every_server": "runs with every XMPP server, on PostgreSQL too or although its module has the mark one_server",
    "sqlite_only": "runs only on SQLite, though its module has the mark both_databases",
    "postgresql_only": "runs only on PostgreSQL, as it needs a database server with its own clock",
    "long": "takes long: `make test-long` runs it, `make test` runs a smaller version of it",
}
ON_POSTGRESQL = {"both_databases", "postgresql_only"}
SERVER_FIXTURES = {"xmpp_server", "server_without_resumption"}
_run = {"long": False}


def how_many(usual: int, long: int) -> int:
    """Return the number of cases of a random or repeated test: `usual`, or `long` with `--long`."""
    return long if _run["long"] else usual


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--long`."""
    parser.addoption("--long", action="store_true", help="run every test, with all of its cases")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Read the option before test modules call `how_many`."""
    _run["long"] = early_config.known_args_namespace.long
    return (yield)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks."""
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that are not for this run."""
    on_postgresql, long = config.getoption("database") == "postgresql", config.getoption("long")
    taken: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        (taken if _is_taken(_marks(item), on_postgresql, long, _server(item)) else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = taken


def _marks(item: pytest.Item) -> set[str]:
    return {mark.name for mark in item.iter_markers()}


def _server(item: pytest.Item) -> str:
    """Return the name of the XMPP server that a fixture selects for a test, or ""."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return next((value for name, value in parameters.items() if name in SERVER_FIXTURES), "")


def _is_taken(marks: set[str], on_postgresql: bool, long: bool, server: str) -> bool:
    if on_postgresql and "sqlite_only" in marks:
        return False
    if long:
        return on_postgresql or "postgresql_only" not in marks
    one_server = "every_server" not in marks and (on_postgresql or "one_server" in marks)
    if "long" in marks or (one_server and server == "ejabberd"):
        return False
    return not marks.isdisjoint(ON_POSTGRESQL) if on_postgresql else "postgresql_only" not in marks
