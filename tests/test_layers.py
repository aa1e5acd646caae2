"""Test which modules may import which others."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "pubsubcache"

# From the lowest: a module imports its own layer and those below. A package stands for all its modules.
LAYERS: list[set[str]] = [
    {"exceptions", "conf", "keys", "types", "utils"},
    {"parsers"},
    {"lookups"},
    {"models", "analysers", "signals"},
    {"services"},
    {"store"},
    {"syncing"},
    {"cache", "search", "exchange", "explaining", "database"},
    {"bots", "states", "live"},
    {"routing", "worker", "receivers", "checks", "admin", "management", "templatetags"},
]
# Packages whose modules import one another in one direction only, from the lowest.
STAIRS: dict[str, list[str]] = {
    "services": ["protocol", "counting", "sessions", "pager", "fetching", "layer", "remote", "consumers"],
    "syncing": [
        "analysis", "preparing", "order", "full_sync", "revalidation",
        "payloads", "notification_queue", "floods", "notifications",
    ],
}  # fmt: skip
# The XMPP side stands apart: it imports only the lowest layer and the protocol that it implements.
XMPP_MAY_IMPORT = LAYERS[0] | {"parsers", "services", "xmpp"}
TO_FIND_THE_CACHE = {"django", "django.apps.apps"}
MAY_IMPORT_XMPP = {"worker", "management", "bots"}
# Commands open sessions of their own. Of the others only the admin does, to test a login.
MAY_IMPORT_MANAGEMENT = {"admin.asking"}
MAY_IMPORT_CHANNELS = {"services", "routing", "worker", "receivers"}
CHANNELS_ALLOWED = {
    "store.threads": {"channels.db"},
    "management.commands.pubsub_worker": None,
    "management.commands.pubsub_serve": None,
}
MAY_READ_SETTINGS = {"conf", "models", "checks"}
LOADED_BY_DJANGO = {"apps", "pubsub_analysers", "migrations"}


def modules() -> list[Path]:
    return sorted(path for path in APP.rglob("*.py") if "migrations" not in path.parts)


def name_of(path: Path) -> str:
    """Return a module's name inside the app, such as "store.nodes"."""
    return ".".join(path.relative_to(APP).with_suffix("").parts).removesuffix("__init__").rstrip(".")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a module, also inside functions, except those for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if not is_for_types_only(child):
            yield child
            yield from statements(child)


@cache
def imports(path: Path) -> frozenset[str]:
    """Return the full names of everything that a module imports."""
    found: set[str] = set()
    for node in statements(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def own_imports(path: Path) -> set[str]:
    """Return the top-level parts of the app that a module imports."""
    names = {name.removeprefix("pubsubcache.") for name in imports(path) if name.startswith("pubsubcache.")}
    return {name.split(".")[0] for name in names}


def part_of(path: Path) -> str:
    return name_of(path).split(".")[0]


def layer_of(part: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def test_every_part_belongs_to_a_layer() -> None:
    names = {name_of(path) for path in modules()}
    assert {"cache", "store.nodes", "xmpp.session", "management.commands.pubsub_get"} <= names
    assert "channels.db.database_sync_to_async" in imports(APP / "store" / "threads.py")
    parts = {part_of(path) for path in modules()} - {""} - LOADED_BY_DJANGO
    assert parts == set().union(*LAYERS) & parts | {"xmpp"}, "add the new part to LAYERS"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    part = part_of(path)
    if part in LOADED_BY_DJANGO | {"", "xmpp"}:
        return
    above = {found for found in own_imports(path) - {"xmpp"} if layer_of(found) > layer_of(part)}
    assert not above, f"{name_of(path)} imports {above} from above"


@pytest.mark.parametrize("package", STAIRS)
def test_modules_of_a_package_import_one_way(package: str) -> None:
    steps = STAIRS[package]
    assert {path.stem for path in (APP / package).glob("*.py")} == {*steps, "__init__"}
    for number, step in enumerate(steps):
        found = {
            name.split(".")[2]
            for name in imports(APP / package / f"{step}.py")
            if name.startswith(f"pubsubcache.{package}.")
        }
        assert found <= set(steps[:number]), f"{package}.{step} imports from above"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_xmpp_is_isolated(path: Path) -> None:
    part = part_of(path)
    if part == "xmpp":
        foreign = own_imports(path) - XMPP_MAY_IMPORT
        assert not foreign, f"{name_of(path)} imports {foreign}"
        django = {name for name in imports(path) if name.split(".")[0] in ("django", "channels")}
        assert django <= (TO_FIND_THE_CACHE if name_of(path) == "xmpp.plugin" else set())
    else:
        assert not {name for name in imports(path) if name.split(".")[0] == "slixmpp"}
        assert "xmpp" not in own_imports(path) or part in MAY_IMPORT_XMPP, f"{name_of(path)} imports xmpp"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_commands_are_used_by_the_test_of_a_login_only(path: Path) -> None:
    if part_of(path) != "management" and name_of(path) not in MAY_IMPORT_MANAGEMENT:
        assert "management" not in own_imports(path), f"{name_of(path)} imports management"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_some_modules_import_channels(path: Path) -> None:
    found = {name for name in imports(path) if name.split(".")[0] == "channels"}
    name = name_of(path)
    if part_of(path) in MAY_IMPORT_CHANNELS or not found:
        return
    allowed = CHANNELS_ALLOWED.get(name, set())
    assert allowed is None or {entry.rpartition(".")[0] for entry in found} <= allowed, f"{name} imports {found}"


@pytest.mark.parametrize("path", sorted((APP / "parsers").rglob("*.py")), ids=name_of)
def test_parsers_import_only_basic_modules(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"django", "channels", "slixmpp", "environ", "asgiref"}
    assert own_imports(path) <= {"parsers", "types", "exceptions", "utils"}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_settings_are_read_in_one_place(path: Path) -> None:
    if part_of(path) not in MAY_READ_SETTINGS | {"management", "admin"}:
        assert "django.conf.settings" not in imports(path)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.name != "conf.py":
            named = node.value.startswith("PUBSUBCACHE_") and node.value.isidentifier()
            assert not named, f"{name_of(path)} names the setting {node.value}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_log_records_are_cleaned(path: Path) -> None:
    if name_of(path) not in ("utils.cleaning", "management.base"):
        assert "logging.getLogger(" not in path.read_text(), "use pubsubcache.utils.cleaning.get_logger"


@pytest.mark.parametrize("path", sorted((ROOT / "project").rglob("*.py")), ids=lambda path: path.stem)
def test_only_the_sample_of_the_project_opens_sessions(path: Path) -> None:
    if "sample" not in path.parts:
        assert not {name for name in imports(path) if name.startswith(("pubsubcache.xmpp", "slixmpp"))}
