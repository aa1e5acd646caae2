"""Test that the documentation is complete and matches the code, and that its examples work."""

import argparse
import ast
import inspect
import json
import re
import tomllib
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from django.db.models import Field, Model
from django.dispatch import Signal

from pubsubcache import analysers, checks, conf, exceptions, explaining, signals
from pubsubcache.analysers import Analyser, Analysis, registry
from pubsubcache.cache import get_items
from pubsubcache.exchange import records
from pubsubcache.explaining import Explanation, Subject
from pubsubcache.management.commands import pubsub_account, pubsub_get, pubsub_nodes, pubsub_search
from pubsubcache.models import Account, AnalyserChoice, Job, PubsubItem, PubsubNode
from pubsubcache.parsers import ParseContext
from pubsubcache.search import Found, search
from pubsubcache.syncing.analysis import Finding
from pubsubcache.types import Item, ItemsPage, NodeAddress, Rsm

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = sorted(path.stem for path in (ROOT / "pubsubcache/management/commands").glob("pubsub_*.py"))


def page(name: str) -> str:
    return (ROOT / name).read_text()


def section(name: str, title: str) -> str:
    """Return the text of `page(name)` under the heading `title`, up to the next heading of its level."""
    heading = re.search(rf"^(#+) {re.escape(title)}\n", page(name), re.M)
    assert heading, f"{name} has no section {title}"
    rest = page(name)[heading.end() :]
    return re.split(rf"^#{{1,{max(2, len(heading[1]))}}} ", rest, maxsplit=1, flags=re.M)[0]


def tokens(text: str) -> set[str]:
    """Return the texts in `backquotes` and their first words, such as options without their values."""
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return {*quoted, *(words.split()[0] for words in quoted if words.strip())}


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks of code in `language`, without their indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.M | re.S)
    return ["\n".join(line.removeprefix(indent) for line in code.splitlines()) for indent, code in found]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows in a text."""
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]


# Settings


def documented_settings() -> dict[str, list[str]]:
    found = [
        row for row in rows(section("docs/settings.md", "Settings of the application")) if "`PUBSUBCACHE_" in row[0]
    ]
    return {row[0].strip("| `"): row for row in found}


def test_documented_settings_are_the_existing_ones() -> None:
    assert list(documented_settings()) == [conf.PREFIX + name for name in conf.names()]


@pytest.mark.parametrize("name", conf.names())
def test_setting_is_documented_with_its_type_and_default(name: str) -> None:
    _, kind, default, meaning = documented_settings()[conf.PREFIX + name]
    expected = getattr(conf.Defaults, name)
    assert kind == type(expected).__name__
    assert ast.literal_eval(default.strip("`")) == expected
    assert type(ast.literal_eval(default.strip("`"))) is type(expected)
    assert meaning.rstrip(" |").endswith(".")


def variables_read(source: str) -> set[str]:
    """Return the environment variables that a module reads: first arguments of calls of `env` and `os.environ`."""
    found = set()
    for call in ast.walk(ast.parse(page(source))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args:
            owner, name = ast.unparse(call.func.value), call.args[0]
            if owner in ("env", "os.environ") and isinstance(name, ast.Constant) and call.func.attr != "setdefault":
                found.add(name.value)
    return found


@pytest.mark.parametrize(
    ("source", "title"),
    [("project/settings.py", "Environment variables"), ("project/run.py", "Variables of `make run`")],
)
def test_documented_variables_are_those_that_are_read(source: str, title: str) -> None:
    documented = {row[0].strip("| `") for row in rows(section("docs/settings.md", title)) if row[0].startswith("`")}
    assert len(documented) > 5
    assert documented == variables_read(source)


def test_variables_of_the_production_example_are_read() -> None:
    table = rows(section("docs/running.md", "PostgreSQL, Redis and several workers"))
    named = {row[0].strip("| `") for row in table if row[0].startswith("`")} - {"PUBSUBCACHE_..."}
    assert named
    assert named <= variables_read("project/settings.py")


def test_every_setting_named_anywhere_exists() -> None:
    known = {conf.PREFIX + name for name in conf.names()}
    removed = {conf.PREFIX + name for name in conf.REMOVED}
    for path in PAGES:
        named = set(re.findall(r"\bPUBSUBCACHE_[A-Z_]*[A-Z]", path.read_text()))
        assert named <= (known | removed if path.name == "CHANGELOG.md" else known), path.name


def test_changelog_lists_every_removed_setting() -> None:
    listed = [row[0].strip("| `") for row in rows(section("CHANGELOG.md", "Removed settings")) if "`" in row[0]]
    assert listed == [conf.PREFIX + name for name in conf.REMOVED]


def test_every_system_check_is_documented() -> None:
    ids = set(re.findall(r'id="(pubsubcache\.\w+)"', Path(checks.__file__).read_text()))
    assert ids
    assert ids == {token for token in tokens(section("docs/settings.md", "System checks")) if "pubsubcache." in token}


# Commands


def parser_of(command: str) -> argparse.ArgumentParser:
    return load_command_class("pubsubcache", command).create_parser("manage.py", command)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Return all options of a command and its actions, except those of every Django command."""
    found = {
        option for action in parser._actions for option in action.option_strings if action.help != argparse.SUPPRESS
    }
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                found |= options_of(sub)
    return found - {
        option for action in BaseCommand().create_parser("", "")._actions for option in action.option_strings
    }


def test_documented_commands_are_the_existing_ones() -> None:
    assert re.findall(r"^## (pubsub_\w+)$", page("docs/commands.md"), re.M) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_options_are_the_existing_ones(command: str) -> None:
    parser = parser_of(command)
    text = section("docs/commands.md", command)
    named = {token for token in tokens(text) if re.fullmatch(r"--?[A-Za-z][\w-]*", token)}
    assert named == options_of(parser)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_choices_of_options_are_documented(command: str) -> None:
    text = tokens(section("docs/commands.md", command))
    for action in parser_of(command)._actions:
        if action.option_strings and action.choices and "--verbosity" not in action.option_strings:
            assert {str(choice) for choice in action.choices} <= text, action.option_strings


def test_the_actions_of_accounts_are_documented() -> None:
    actions = next(a for a in parser_of("pubsub_account")._actions if isinstance(a, argparse._SubParsersAction))
    text = section("docs/commands.md", "pubsub_account")
    documented = {row[0].strip("| `").split()[0] for row in rows(text) if row[0].startswith("`")}
    assert documented == set(actions.choices)


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_shown_in_the_shape_that_commands_print(command: str) -> None:
    shown = [json.loads(code) for code in blocks(section("docs/commands.md", command), "json")]
    printed: dict[str, Any] = {
        "pubsub_account": lambda: [pubsub_account.as_data(Account(jid="alice@example.org"))],
        "pubsub_nodes": lambda: [pubsub_nodes.as_data(PubsubNode(account=Account(), service="s", name="n"))],
        "pubsub_get": lambda: pubsub_get.as_data(
            NodeAddress("s", "n"), ItemsPage(items=[Item(id="i", xml="<item/>")], rsm=Rsm(count=1))
        ),
        "pubsub_search": lambda: {"total": 1, "items": [pubsub_search.as_data(a_found_item())]},
    }
    if command == "pubsub_analysers":
        printed[command] = lambda: shown[0]
        assert keys(shown[1]) == keys(an_explanation())
    if command in printed:
        assert keys(shown[0]) == keys(printed[command]())


def an_explanation() -> dict[str, Any]:
    found = Explanation(finding=Finding(None), left_out=[("path", "reason")])
    row = PubsubNode(service="s", name="n")
    return explaining.as_data(Subject(address=row.address, item=None, row=row, origin="cache"), found)


def a_found_item() -> Found:
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    names = dict.fromkeys(("account", "service", "node", "id", "xml"), "")
    return Found(**names, created=moment, updated=moment, parsed={}, snippet=None)


def keys(data: Any) -> Any:
    """Return all keys in JSON data, except those in the results of parsers."""
    if isinstance(data, dict):
        return {key: None if key == "parsed" else keys(value) for key, value in data.items()}
    return [keys(value) for value in data] if isinstance(data, list) else None


def test_the_keys_of_explanations_are_documented() -> None:
    table = section("docs/commands.md", "pubsub_analysers").partition("| key | meaning |")[2]
    documented = [key for row in rows(table) for key in re.findall(r"`(\w+)`", row[0])]
    assert documented == list(an_explanation())


def test_every_exit_code_is_documented() -> None:
    errors = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = {str(getattr(kind, "exit_code", 1)) for kind in errors}
    documented = {
        code for row in rows(section("docs/commands.md", "Exit codes")) for code in re.findall(r"\d+", row[0])
    }
    assert documented == {"0", "130", "143", "141"} | codes
    assert codes <= set(re.findall(r"\d+", section("docs/troubleshooting.md", "Exit codes")))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_named_anywhere_exist(path: Path) -> None:
    plugin = {"pubsub_cache"}  # of slixmpp
    assert set(re.findall(r"\bpubsub_[a-z]+\b", path.read_text())) <= {*COMMANDS, *plugin}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_command_lines_in_examples_are_valid(path: Path) -> None:
    text = "\n".join(blocks(path.read_text(), "console"))
    for command, arguments in re.findall(r"manage\.py (pubsub_\w+)([^\n#]*)", text):
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', arguments)]
        assert parser_of(command).parse_args(words), command


def test_documented_records_of_exports_are_the_existing_ones() -> None:
    documented = {
        row[0].strip("| `"): tokens(row[1]) for row in rows(section("docs/exports.md", "Records")) if "`" in row[0]
    }
    assert documented == {kind: set(fields) for kind, fields in records.FIELDS.items()}


def test_the_arguments_of_search_are_documented() -> None:
    table = rows(page("docs/search.md").partition("\n## ")[0])
    documented = {name for row in table for name in tokens(row[0])} - {"argument"}
    assert documented == set(inspect.signature(search).parameters)


# Analysers, signals, models, the admin


@pytest.mark.parametrize("name", analysers.__all__)
def test_every_export_of_analysers_is_documented(name: str) -> None:
    assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`|## {name}\n", page("docs/analysers.md"))


@pytest.mark.parametrize(
    ("kind", "title"), [(Analyser, "Registration"), (Analysis, "Analysis"), (ParseContext, "ParseContext")]
)
def test_every_field_of_an_analyser_is_documented(kind: type, title: str) -> None:
    documented = {name for row in rows(section("docs/analysers.md", title)) for name in tokens(row[0])}
    assert documented - {"Analyser"} == {field.name for field in fields(kind)}


def test_documented_signals_are_the_existing_ones() -> None:
    sent = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    documented = {name for row in rows(page("docs/signals.md")) for name in tokens(row[0])}
    assert documented == sent


@pytest.mark.parametrize("model", [Account, PubsubNode, AnalyserChoice, PubsubItem, Job])
def test_documented_fields_are_the_existing_ones(model: type[Model]) -> None:
    documented = [
        name for row in rows(section("docs/models.md", model.__name__)) for name in re.findall(r"`(\w+)`", row[0])
    ]
    assert sorted(documented) == sorted(
        f.name for f in model._meta.get_fields() if isinstance(f, Field) and f.name != "id"
    )


def test_every_custom_permission_is_documented() -> None:
    ours = {f"pubsubcache.{name}" for model in (Account, PubsubNode, Job) for name, _ in model._meta.permissions}
    assert ours
    assert ours <= tokens(page("docs/admin.md"))
    known = {
        f"pubsubcache.{verb}_{model._meta.model_name}"
        for verb in ("add", "change", "delete", "view")
        for model in (Account, PubsubNode, AnalyserChoice, PubsubItem, Job)
    }
    assert {token for token in tokens(page("docs/admin.md")) if token.startswith("pubsubcache.")} <= ours | known


# Examples


EXAMPLES = [
    (path.name, number, code) for path in PAGES for number, code in enumerate(blocks(path.read_text(), "python"))
]


@pytest.mark.parametrize(("name", "number", "code"), EXAMPLES, ids=[f"{name}-{number}" for name, number, _ in EXAMPLES])
def test_examples_compile(name: str, number: int, code: str) -> None:
    compile(code, f"{name}, block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize(("name", "number", "code"), EXAMPLES, ids=[f"{name}-{number}" for name, number, _ in EXAMPLES])
def test_names_imported_by_examples_exist(name: str, number: int, code: str) -> None:
    tree = compile(code, name, "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            if node.module == "blog":  # created in the tutorial, which has its own test
                continue
            module = __import__(node.module or "", fromlist=["_"])
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_example_analyser_parses_its_item_as_shown() -> None:
    text = section("docs/analysers.md", "Write an analyser")
    (code,), (xml,), (shown,) = blocks(text, "python"), blocks(text, "xml"), blocks(text, "json")
    with registry.temporarily(replace=True):
        names: dict[str, Any] = {}
        exec(code, names)
        analyser = registry.get("recipes")
    assert analyser is not None
    assert analyser.parser is not None
    context = ParseContext(service="alice@example.org", node="urn:example:recipe:0")
    assert analyser.parser(fromstring(xml), context) == json.loads(shown)
    assert analyser.match_cb is not None
    for node, to_sync, subtype in [("/drafts", False, ""), ("/dessert", True, "dessert"), ("", True, "")]:
        analysis = Analysis(service="s", node=names["RECIPE"] + node, name="recipes", type="recipe", to_sync=True)
        analyser.match_cb(analysis)
        assert (analysis.to_sync, analysis.subtype) == (to_sync, subtype)


def test_the_analysers_of_the_reference_can_be_registered() -> None:
    (code,) = blocks(section("docs/analysers.md", "Registration"), "python")
    with registry.temporarily(replace=True):
        exec(code, {})
        assert [analyser.name for analyser in registry.all()] == ["news", "tickets", "weather"]
        assert all(analyser.parser for analyser in registry.all() if analyser.name != "tickets")


# Pages


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub and similar sites create from the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", path.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_have_targets(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked), target


def test_every_page_is_reachable_from_the_readme() -> None:
    found, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in PAGES and path not in found:
            found.add(path)
            waiting += [(path.parent / name).resolve() for name in re.findall(r"\]\(([\w./]+)", path.read_text())]
    assert found == set(PAGES)


def test_every_dependency_has_a_reason() -> None:
    project = tomllib.loads(page("pyproject.toml"))
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    groups += project["dependency-groups"].values()
    required = {re.split(r"[\[<>=]", line)[0] for group in groups for line in group} | {"psycopg-pool"}
    documented = [name for row in rows(section("CHANGELOG.md", "Why each dependency")) for name in tokens(row[0])]
    assert sorted(documented) == sorted(required)


def test_documented_extras_are_the_existing_ones() -> None:
    extras = set(tomllib.loads(page("pyproject.toml"))["project"]["optional-dependencies"])
    assert extras == {
        name for row in rows(section("docs/install.md", "Install the package")) for name in tokens(row[0])
    } - {"extra"}


def test_named_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", page("Makefile"), re.M))
    for path in PAGES:
        assert set(re.findall(r"(?:`|\$ |\.\.\. )make ([a-z-]+)", path.read_text())) <= targets, path.name


def test_index_links_every_page_once() -> None:
    linked = re.findall(r"^- \[[^]]+\]\(([^)#]+)", page("docs/index.md"), re.M)
    pages = sorted({path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"})
    assert sorted(set(linked) - {"../CONTRIBUTING.md", "../CHANGELOG.md"}) == pages


def test_readme_fits_two_screens() -> None:
    assert len(page("README.md").splitlines()) <= 100


def test_arguments_and_answers_of_get_items_are_documented() -> None:
    documented = [row[0].strip("| `") for row in rows(section("docs/reading.md", "Arguments")) if "`" in row[0]]
    assert documented == list(inspect.signature(get_items).parameters)
    answer = {name for row in rows(section("docs/reading.md", "The answer")) for name in re.findall(r"`(\w+)`", row[0])}
    assert answer == {field.name for field in fields(ItemsPage)}
