"""Test in a real browser that hostile items are harmless on the pages that show them."""

from itertools import cycle
from typing import Any

import pytest
from django.contrib.auth.models import User
from selenium.webdriver import Chrome

from tests.admin_data import PASSWORD, account, item, node
from tests.browser.test_admin import Visitor
from tests.examples import EXAMPLES

pytestmark = pytest.mark.django_db(transaction=True)

MARKUP = (
    "<script>alert(1)</script>",
    "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(1)</script></svg>",
    "<img src='https://pics.invalid/one.png' onerror='alert(1)' style='position: fixed; width: 9999px'/>",
    "<iframe src='https://pages.invalid/'></iframe><a href='javascript:alert(1)'>press</a>",
    "<a href='data:text/html,&lt;script>alert(1)&lt;/script>'>press</a><form action='https://pages.invalid/'/>",
)
STRINGS = (
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "https://pics.invalid/two.png",
    "gpj.\u202etxt\u2066",
    "N" * 1500,
    *MARKUP,
)
WORD = "W" * 200_000
NAMES = ("microblog", "calendar-events", "vcard4", "forms", "bookmarks", "tickets", "avatar-data", "links", "tune")
HARMFUL = (
    "script, svg, iframe, object, embed, form, [style], [onload], [onerror], [href^='javascript:'], [href^='data:']"
)


def poisoned(value: Any, strings: Any) -> Any:
    """Return a value with all its strings replaced."""
    match value:
        case str():
            return next(strings)
        case list():
            return [poisoned(one, strings) for one in value]
        case dict():
            return {key: poisoned(one, strings) for key, one in value.items()}
    return value


def test_hostile_items_are_harmless_on_their_pages(browser: Chrome, live_server: Any) -> None:
    """A dialog would make the browser refuse the next command."""
    User.objects.create_superuser("admin", password=PASSWORD)
    visitor = Visitor(browser, live_server.url)
    owner = account()
    strings = cycle(STRINGS)
    posts = []
    for name in NAMES:
        one = next(one for one in EXAMPLES if one.name == name)
        parsed = poisoned(one.parsed(), strings)
        if name == "microblog":
            parsed = {**parsed, "title": WORD, "content": WORD, "content_xhtml": f"<div>{''.join(MARKUP)}{WORD}</div>"}
        of = node(owner, one.node, analyser=one.analyser, type=str(one.parsed().get("type", "")))
        posts.append(item(of, f"{name}-{'n' * 1500}", parsed=parsed, data=one.text, text="pond"))
    visitor.log_in("admin")
    root = "/admin/pubsubcache/"
    pages = [root, f"{root}pubsubitem/", f"{root}pubsubitem/?q=pond", f"{root}pubsubnode/"]
    for page in [*pages, *(f"{root}pubsubitem/{post.pk}/change/" for post in posts)]:
        visitor.open(page)
        rendered = "return [...document.querySelectorAll('.psc-item, #result_list, #psc-newest')]"
        harmful = f"{rendered}.flatMap(box => [...box.querySelectorAll(arguments[0])]).map(one => one.outerHTML)"
        assert browser.execute_script(harmful, HARMFUL) == [], page
        assert visitor.overflows() == [], page
        assert visitor.hosts() == {visitor.address}, page
        assert visitor.problems() == [], page
