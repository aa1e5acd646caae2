"""Comparison of XML elements."""

from xml.etree.ElementTree import Element


def same(one: Element, other: Element) -> bool:
    """Return whether two elements are equal, including their attributes, texts and children."""
    return (
        (one.tag, one.attrib, one.text or "", one.tail or "")
        == (other.tag, other.attrib, other.text or "", other.tail or "")
        and len(one) == len(other)
        and all(map(same, one, other))
    )
