"""Writes the generated parts of analysers.md: the table of the built-in analysers, and their schemas.

`make docs` runs it. A part stands between two comments: `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

from pubsubcache.analysers import Analyser
from pubsubcache.analysers.builtin import builtin_analysers
from pubsubcache.parsers.schema import Schema, described, schemas_of
from tests.examples import EXAMPLES, FOLDER, Example

PAGE = Path(__file__).with_name("analysers.md")


def generated(page: str) -> str:
    """Return the text of the page with its generated parts written anew."""
    for name, text in (("analysers", _analysers()), ("schemas", "\n".join(map(_schema, schemas())))):
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
        before, found, rest = page.partition(begin)
        _, found_end, after = rest.partition(end)
        assert found and found_end, f"{PAGE.name} has no part {name}"
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def schemas() -> list[Schema]:
    """Return all schemas, in the order of the analysers."""
    found: list[Schema] = []
    for analyser in builtin_analysers():
        found += [schema for schema in schemas_of(analyser.parser) if schema not in found]
    return found


def _analysers() -> str:
    rows = [
        "| analyser | nodes | payloads | type | cached | why |",
        "|---|---|---|---|---|---|",
        *(_analyser(analyser) for analyser in builtin_analysers()),
    ]
    return "\n".join(rows) + "\n"


def _analyser(analyser: Analyser) -> str:
    node, namespace = (f"`{value}`" if value else "any" for value in (analyser.node, analyser.namespace))
    cached = "yes" if analyser.to_sync else "no"
    return f"| `{analyser.name}` | {node} | {namespace} | `{analyser.type}` | {cached} | {analyser.why} |"


def _schema(schema: Schema) -> str:
    return "\n\n".join(_paragraphs(schema)) + "\n"


def _paragraphs(schema: Schema) -> Iterator[str]:
    yield f"### {schema.title}"
    yield schema.about
    rows = [f"| `{key.name}` | {key.type} | {key.meaning} |" for key in schema.keys]
    yield "\n".join(["| key | type | meaning |", "|---|---|---|", *rows])
    if schema.notes:
        yield schema.notes
    if omissions := schema.omissions():
        paths: dict[str, list[str]] = {}
        for path, reason in omissions:
            paths.setdefault(reason, []).append(f"`{path}`")
        yield "Left out of the JSON:"
        yield "\n".join(f"- {', '.join(found)}: {reason}" for reason, found in paths.items())
    if example := _example(schema):
        xml, json = ((FOLDER / f"{example.name}.{kind}").read_text().strip() for kind in ("xml", "json"))
        yield "<details><summary>Example</summary>"
        yield f"```xml\n{xml}\n```"
        yield f"```json\n{json}\n```"
        yield "</details>"


def _example(schema: Schema) -> Example | None:
    parsers = {analyser.name: analyser.parser for analyser in builtin_analysers()}
    return next((one for one in EXAMPLES if described(parsers[one.analyser], one.item)[0] is schema), None)


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text()))
