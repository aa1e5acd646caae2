"""Writes the generated parts of analysers.md: the table of the built-in analysers, and their schemas.

`make docs` runs it. A part stands between two comments, `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

from pubsubcache.analysers import Analyser
from pubsubcache.analysers.builtin import builtin_analysers
from pubsubcache.parsers.schema import Schema, described, schemas_of
from tests.examples import EXAMPLES, FOLDER, Example

PAGE = Path(__file__).with_name("analysers.md")
WIDTH = 120


def generated(page: str) -> str:
    """Return the text of the page with its generated parts written anew."""
    for name, text in (("analysers", _analysers()), ("schemas", "\n\n".join(map(_schema, schemas())))):
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
        before, found, rest = page.partition(begin)
        _, found_end, after = rest.partition(end)
        assert found and found_end, f"{PAGE.name} has no part {name}"
        page = f"{before}{begin}\n{text}\n\n{end}{after}"
    return page


def schemas() -> list[Schema]:
    """Return all schemas, in the order of the analysers."""
    found: list[Schema] = []
    for analyser in builtin_analysers():
        found += [schema for schema in schemas_of(analyser.parser) if schema not in found]
    return found


def examples(schema: Schema) -> list[Example]:
    """Return the examples of a schema; those of the plainest names first."""
    parsers = {analyser.name: analyser.parser for analyser in builtin_analysers()}
    found = [one for one in EXAMPLES if described(parsers[one.analyser], one.item)[0] is schema]
    return sorted(found, key=lambda one: "." in one.name)


def _analysers() -> str:
    rows = [
        "| analyser | nodes | payloads | type | cached | why |",
        "|---|---|---|---|---|---|",
        *(_analyser(analyser) for analyser in builtin_analysers()),
    ]
    return "\n".join(rows)


def _analyser(analyser: Analyser) -> str:
    node, namespace = (f"`{value}`" if value else "any" for value in (analyser.node, analyser.namespace))
    cached = "yes" if analyser.to_sync else "no"
    return f"| `{analyser.name}` | {node} | {namespace} | `{analyser.type}` | {cached} | {analyser.why} |"


def _schema(schema: Schema) -> str:
    return "\n\n".join(_paragraphs(schema))


def _paragraphs(schema: Schema) -> Iterator[str]:
    yield f"### {schema.title}"
    names = ", ".join(f"`{one.name}`" for one in builtin_analysers() if schema in schemas_of(one.parser))
    yield _wrapped(f"{schema.about} Analyser{'s' if ', ' in names else ''}: {names}.")
    rows = [f"| `{key.name}` | {key.type} | {key.meaning} |" for key in schema.keys]
    yield "\n".join(["| key | type | meaning |", "|---|---|---|", *rows])
    yield from (_wrapped(paragraph) for paragraph in schema.notes.split("\n\n") if paragraph)
    if omissions := schema.omissions():
        paths: dict[str, list[str]] = {}
        for path, reason in omissions:
            paths.setdefault(reason, []).append(f"`{path}`")
        yield "Left out of the JSON:"
        yield "\n".join(_wrapped(f"- {', '.join(found)}: {reason}") for reason, found in paths.items())
    if found := examples(schema):
        yield "<details><summary>Example</summary>"
        yield f"```xml\n{(FOLDER / f'{found[0].name}.xml').read_text().strip()}\n```"
        yield f"```json\n{_json(found[0].parsed())}\n```"
        yield "</details>"


def _wrapped(text: str) -> str:
    indent = "  " if text.startswith("- ") else ""
    return fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _json(data: Any, indent: str = "") -> str:
    """Return JSON with as much on each line as fits."""
    line = json.dumps(data, ensure_ascii=False)
    if len(indent) + len(line) < WIDTH or not isinstance(data, dict | list):
        return line
    inner = f"{indent}  "
    if isinstance(data, dict):
        members = [f"{inner}{json.dumps(key)}: {_json(value, inner)}" for key, value in data.items()]
        return "\n".join(["{", ",\n".join(members), f"{indent}}}"])
    members = [f"{inner}{_json(value, inner)}" for value in data]
    return "\n".join(["[", ",\n".join(members), f"{indent}]"])


if __name__ == "__main__":
    PAGE.write_text(generated(PAGE.read_text()))
