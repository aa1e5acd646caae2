"""Test that every text of the app and of the project is in French, without the tools of gettext."""

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from django.utils.translation import override
from django.utils.translation.template import templatize

from pubsubcache.admin.durations import UnitDurationField, in_words

ROOT = Path(__file__).resolve().parents[3]
#: The folders of the sources of each folder of translations.
SOURCES = {"pubsubcache": ["pubsubcache"], "project": ["project", "templates"]}
# How many of its first arguments a function translates, and whether the first of them is a context.
FUNCTIONS = {
    "_": (1, False),
    "gettext": (1, False),
    "gettext_lazy": (1, False),
    "ngettext": (2, False),
    "pgettext": (2, True),
    "pgettext_lazy": (2, True),
}
STRING = r"""u?("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
CALL = re.compile(rf"\b(\w+)\({STRING}(?:, {STRING})?")


class Message(NamedTuple):
    """A text to translate."""

    context: str
    text: str
    plural: str


Catalog = dict[Message, list[str]]


def message(function: str, texts: list[str]) -> Message:
    count, has_context = FUNCTIONS[function]
    context, *texts = texts[:count] if has_context else ["", *texts[:count]]
    return Message(context, texts[0], "".join(texts[1:]))


def in_python(source: str) -> Iterator[Message]:
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in FUNCTIONS:
            assert isinstance(call.args[0], ast.Constant), f"line {call.lineno} translates no literal"
            yield message(call.func.id, [one.value for one in call.args if isinstance(one, ast.Constant)])


def in_template(source: str) -> Iterator[Message]:
    for name, *texts in CALL.findall(templatize(source)):
        assert name in FUNCTIONS, name
        yield message(name, [ast.literal_eval(text) for text in texts if text])


def in_sources(folder: str) -> set[Message]:
    paths = [path for name in SOURCES[folder] for path in sorted((ROOT / name).rglob("*"))]
    found: set[Message] = set()
    for path in paths:
        if path.suffix == ".py":
            found |= set(in_python(path.read_text()))
        elif path.suffix == ".html":
            found |= set(in_template(path.read_text()))
    return found


def catalog(folder: str) -> Catalog:
    """Return the messages of a file of translations with their French texts, without the header."""
    text = (ROOT / folder / "locale/fr/LC_MESSAGES/django.po").read_text()
    assert not re.search(r"^#(,.*\bfuzzy|~)", text, re.M), "the file has uncertain or obsolete texts"
    found: Catalog = {}
    for paragraph in text.split("\n\n")[1:]:
        lines = [line for line in paragraph.splitlines() if not line.startswith("#")]
        fields = re.findall(r'^(\w+(?:\[\d\])?) ((?:"[^\n]*"\n?)+)', "\n".join(lines), re.M)
        values = {name: "".join(map(ast.literal_eval, strings.splitlines())) for name, strings in fields}
        key = Message(values.pop("msgctxt", ""), values.pop("msgid"), values.pop("msgid_plural", ""))
        found[key] = list(values.values())
    return found


CATALOGS = {folder: catalog(folder) for folder in SOURCES}


@pytest.mark.parametrize("folder", SOURCES)
def test_the_texts_of_the_code_are_those_of_the_translation(folder: str) -> None:
    found = in_sources(folder)
    assert found >= {Message("", "Home", "")}
    translated = set(CATALOGS[folder])
    assert found - translated == set(), "make translations, then translate"
    assert translated - found == set(), "make translations"


def test_every_text_is_translated_with_its_placeholders_and_markup() -> None:
    pairs = [
        pair
        for translations in CATALOGS.values()
        for one, french in translations.items()
        for pair in zip([one.text, one.plural] if one.plural else [one.text], french, strict=True)
    ]
    for text, french in pairs:
        assert french.strip(), text
        marks = r"%\(\w+\)[a-z]|%[a-z]\b|\{\}|</?\w+/?>"
        assert sorted(re.findall(marks, french)) == sorted(re.findall(marks, text)), text
        assert text[-1] not in ".?:…" or french[-1] == text[-1], text
        assert not re.search(r"'| [:;!?»]|« ", french), f"typography: {french}"


@pytest.mark.parametrize("folder", SOURCES)
def test_the_compiled_file_is_that_of_the_translation(folder: str) -> None:
    with (ROOT / folder / "locale/fr/LC_MESSAGES/django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    wanted = {"": ""}
    for (context, text, plural), french in CATALOGS[folder].items():
        key = f"{context}\4{text}" if context else text
        wanted |= {(key, number): one for number, one in enumerate(french)} if plural else {key: french[0]}
    found = compiled._catalog  # type: ignore[attr-defined]
    assert {**found, "": ""} == wanted, "make translations"


def test_durations_have_the_units_of_the_language() -> None:
    field = UnitDurationField()
    with override("fr"):
        shown = in_words(field.clean("1 jour 4 heures"))
        assert shown == "1 j 4 h"
        assert field.clean(shown) == field.clean("28 h")
