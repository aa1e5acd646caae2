"""Elements compared."""

from xml.etree.ElementTree import Element


def same(one: Element, other: Element) -> bool:
    """Whether two elements say the same, all that is in them included."""
    return (
        (one.tag, one.attrib, one.text or "", one.tail or "")
        == (other.tag, other.attrib, other.text or "", other.tail or "")
        and len(one) == len(other)
        and all(map(same, one, other))
    )
