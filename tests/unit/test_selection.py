"""Test which tests each run selects, and that tests have the marks they need."""

import ast
from pathlib import Path

import pytest

from tests.selection import _is_taken

TESTS = Path(__file__).resolve().parents[1]
MODULES = sorted(path for path in TESTS.rglob("test_*.py"))
SERVERS = {"prosody", "ejabberd", "xmpp_server", "server_without_resumption", "redis_server", "on_redis", "browser"}


@pytest.mark.parametrize(
    ("marks", "runs"),
    [
        (set(), {"sqlite", "sqlite long", "postgresql long"}),
        ({"both_databases"}, {"sqlite", "postgresql", "sqlite long", "postgresql long"}),
        ({"postgresql_only"}, {"postgresql", "postgresql long"}),
        ({"both_databases", "sqlite_only"}, {"sqlite", "sqlite long"}),
        ({"long"}, {"sqlite long", "postgresql long"}),
        ({"both_databases", "long"}, {"sqlite long", "postgresql long"}),
    ],
)
def test_runs_that_select_a_test(marks: set[str], runs: set[str]) -> None:
    every = {"sqlite": (False, False), "postgresql": (True, False), "sqlite long": (False, True)}
    every["postgresql long"] = (True, True)
    assert {
        run for run, (on_postgresql, long) in every.items() if _is_taken(marks, on_postgresql, long, server="")
    } == runs


@pytest.mark.parametrize(
    ("server", "marks", "long", "taken"),
    [
        ("prosody", {"both_databases"}, False, True),
        ("ejabberd", {"both_databases"}, False, False),
        ("ejabberd", {"both_databases"}, True, True),
        ("ejabberd", {"both_databases", "every_server"}, False, True),
    ],
)
def test_one_server_is_enough_on_postgresql(server: str, marks: set[str], long: bool, taken: bool) -> None:
    assert _is_taken(marks, on_postgresql=True, long=long, server=server) is taken
    assert _is_taken(marks, on_postgresql=False, long=long, server=server)


@pytest.mark.parametrize("on_postgresql", [False, True])
def test_tests_that_do_not_depend_on_the_server_run_with_one(on_postgresql: bool) -> None:
    marks = {"both_databases", "one_server"}
    assert _is_taken(marks, on_postgresql, long=False, server="prosody")
    assert not _is_taken(marks, on_postgresql, long=False, server="ejabberd")
    assert _is_taken(marks, on_postgresql, long=True, server="ejabberd")
    assert _is_taken({*marks, "every_server"}, on_postgresql, long=False, server="ejabberd")


def test_modules_that_check_the_vendor_run_on_both_databases() -> None:
    unmarked = [
        path.name
        for path in MODULES
        if "connection.vendor" in (text := path.read_text()) and "mark.both_databases" not in text
    ]
    assert unmarked == []


@pytest.mark.parametrize("folder", ["unit", "integration"])
def test_fast_tests_need_no_server(folder: str) -> None:
    needing = [
        (path.name, node.name)
        for path in (TESTS / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not SERVERS.isdisjoint(argument.arg for argument in node.args.args)
    ]
    assert needing == []
