"""Data forms (XEP-0004) for the configuration and metadata of nodes."""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement

DATA = "jabber:x:data"

Fields = Mapping[str, str | bool | int | Sequence[str]]


def submission(form_type: str, fields: Fields) -> Element:
    """Build a form of type "submit" with a hidden field FORM_TYPE."""
    form = Element(f"{{{DATA}}}x", {"type": "submit"})
    for name, value in {"FORM_TYPE": form_type, **fields}.items():
        field = SubElement(form, f"{{{DATA}}}field", {"var": name})
        if name == "FORM_TYPE":
            field.set("type", "hidden")
        for text in _texts(value):
            SubElement(field, f"{{{DATA}}}value").text = text
    return form


def _texts(value: str | bool | int | Sequence[str]) -> Sequence[str]:
    if isinstance(value, bool):
        return [str(int(value))]
    if isinstance(value, str | int):
        return [str(value)]
    return value


def form_values(parent: Element) -> dict[str, tuple[str, ...]]:
    """Return the values of the form in `parent` by field name; empty if there is no form."""
    fields = parent.findall(f"{{{DATA}}}x/{{{DATA}}}field")
    return {
        field.get("var", ""): tuple(value.text or "" for value in field.findall(f"{{{DATA}}}value"))
        for field in fields
        if field.get("var")
    }
