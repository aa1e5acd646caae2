"""Who may import whom, and what every module owes its readers."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "pubsubcache"
MAX_LINES = 500

# From the lowest; a module imports its own layer and those below. Packages stand for all their modules.
LAYERS: list[set[str]] = [
    {"exceptions", "conf", "bounds", "cleaning", "keys", "texts", "xmlparse", "xmlform", "jid", "types", "slices"},
    {"parsers"},
    {"lookups"},
    {"clock", "fields", "querysets", "models", "analysers", "signals", "service"},
    {"store"},
    {"rpc", "analysing", "listing", "live", "sync", "reconciling", "search", "cache", "database", "exchange"}
    | {"events", "event_queue", "event_fetching", "floods"},
    {"consumers", "routing", "worker", "receivers", "checks", "admin", "management", "templatetags", "plugin"},
]
# Neither above nor below: the XMPP side, which knows only the lowest layer and the protocol it speaks.
XMPP_MAY_IMPORT = LAYERS[0] | {"parsers", "service", "xmpp"}
TO_FIND_THE_CACHE = {"django", "django.apps.apps"}
MAY_IMPORT_XMPP = {"worker", "consumers", "plugin", "management"}
MAY_IMPORT_CHANNELS = {"rpc", "consumers", "routing", "worker", "receivers"}
CHANNELS_ALLOWED = {
    "store.threads": {"channels.db"},
    "management.commands.pubsub_worker": None,
    "management.commands.pubsub_serve": None,
}
MAY_READ_SETTINGS = {"conf", "fields", "models", "checks"}
LOADED_BY_DJANGO = {"apps", "pubsub_analysers", "migrations"}


def modules() -> list[Path]:
    return sorted(path for path in APP.rglob("*.py") if "migrations" not in path.parts)


def name_of(path: Path) -> str:
    """Return a module's name below the application, such as "store.nodes"."""
    return ".".join(path.relative_to(APP).with_suffix("").parts).removesuffix("__init__").rstrip(".")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a module that run, in functions too."""
    for child in ast.iter_child_nodes(node):
        if not is_for_types_only(child):
            yield child
            yield from statements(child)


@cache
def imports(path: Path) -> frozenset[str]:
    """Return the full names of all that a module imports."""
    found: set[str] = set()
    for node in statements(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def own_imports(path: Path) -> set[str]:
    """Return the parts of the application that a module imports, by their first name."""
    names = {name.removeprefix("pubsubcache.") for name in imports(path) if name.startswith("pubsubcache.")}
    return {name.split(".")[0] for name in names}


def part_of(path: Path) -> str:
    return name_of(path).split(".")[0]


def layer_of(part: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def test_the_rules_see_the_application() -> None:
    names = {name_of(path) for path in modules()}
    assert {"cache", "store.nodes", "xmpp.session", "management.commands.pubsub_get"} <= names
    assert "channels.db.database_sync_to_async" in imports(APP / "store" / "threads.py")
    parts = {part_of(path) for path in modules()} - {""} - LOADED_BY_DJANGO
    assert parts == set().union(*LAYERS) & parts | {"xmpp"}, "a new part needs its place among the layers"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    part = part_of(path)
    if part in LOADED_BY_DJANGO | {"", "xmpp"}:
        return
    above = {found for found in own_imports(path) - {"xmpp"} if layer_of(found) > layer_of(part)}
    assert not above, f"{name_of(path)} imports {above} from above"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_xmpp_is_a_side_of_its_own(path: Path) -> None:
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
def test_few_know_of_channels(path: Path) -> None:
    found = {name for name in imports(path) if name.split(".")[0] == "channels"}
    name = name_of(path)
    if part_of(path) in MAY_IMPORT_CHANNELS or not found:
        return
    allowed = CHANNELS_ALLOWED.get(name, set())
    assert allowed is None or {entry.rpartition(".")[0] for entry in found} <= allowed, f"{name} imports {found}"


@pytest.mark.parametrize("path", sorted((APP / "parsers").rglob("*.py")), ids=name_of)
def test_parsers_need_nothing_but_themselves(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"django", "channels", "slixmpp", "environ", "asgiref"}
    assert own_imports(path) <= {"parsers", "types", "exceptions", "texts", "xmlform", "jid"}


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
    if name_of(path) not in ("cleaning", "management.base"):
        assert "logging.getLogger(" not in path.read_text(), "use pubsubcache.cleaning.get_logger"


def public_definitions(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Yield the public classes and functions of a module, and the classes' public methods that say something new."""
    for node in tree(path).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_everything_public_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree(path)) or not path.read_text().strip(), "the module has no docstring"
    silent = [
        name
        for name, node in public_definitions(path)
        if not ast.get_docstring(node)  # type: ignore[arg-type]
        and not any("overload" in ast.unparse(decorator) for decorator in getattr(node, "decorator_list", ()))
    ]
    assert not silent, f"{name_of(path)}: {silent}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_no_module_grows_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_most_modules_are_short() -> None:
    lengths = sorted(len(path.read_text().splitlines()) for path in modules())
    assert lengths[len(lengths) // 2] <= 150


@pytest.mark.parametrize("path", sorted((ROOT / "project").rglob("*.py")), ids=lambda path: path.stem)
def test_the_project_opens_sessions_for_its_sample_alone(path: Path) -> None:
    if "sample" not in path.parts:
        assert not {name for name in imports(path) if name.startswith(("pubsubcache.xmpp", "slixmpp"))}
