"""Test the lists of the admin: filters, pasted URIs, titles, times, and names that try to break a page."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings
from django.utils import timezone

from pubsubcache.admin import filters, items
from pubsubcache.models import PubsubItem, PubsubNode
from pubsubcache.utils.cleaning import one_line
from tests.admin_data import account, act, item, logged_in, node, staff, superuser, url

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

HOSTILE = "gpj.\u202etxt " + "W" * 1500 + "z" + "\u0301" * 200


KEYS = ("title", "author", "author_jid", "published")


def listed(client: Client, model: str = "pubsubitem", **query: Any) -> list[str]:
    response = client.get(url(model, "changelist", **query))
    assert response.status_code == 200
    return [row.name for row in response.context["cl"].result_list]


def titles(client: Client, model: str = "pubsubitem", **query: Any) -> list[str]:
    """Return the titles of the filters of a list."""
    specs = client.get(url(model, "changelist", **query)).context["cl"].filter_specs
    return [str(spec.title) for spec in specs]


def rows(client: Client, **query: Any) -> dict[str, str]:
    """Return the text of the first cell of each item by item id, without its markup."""
    page = client.get(url("pubsubitem", "changelist", **query))
    names = [one.name for one in page.context["cl"].result_list]
    cells = re.findall(r'<td class="field-heading">(.*?)</td>', page.content.decode(), re.DOTALL)
    return dict(zip(names, cells, strict=True))


def post(of: PubsubNode, name: str, **parsed: Any) -> PubsubItem:
    return item(of, name, parsed=parsed)


# Filters


def test_items_are_filtered_by_tag_author_and_date() -> None:
    of = node(account(), type="blog")
    post(of, "old", tags=["winter"], author="Mira", author_jid="mira@garden.example", published="2026-01-31T23:59:59Z")
    post(of, "new", tags=["winter", "x"], author="Otto", published="2026-02-01T00:00:00Z")
    post(of, "bare")
    client = superuser()
    assert listed(client, tag="winter") == ["new", "old"]
    assert listed(client, tag="x", author="Otto") == ["new"]
    assert listed(client, author="mira@garden.example") == ["old"]
    assert listed(client, author="Mira") == ["old"]
    assert listed(client, published_from="2026-01-01") == ["new", "old"]
    assert listed(client, published_to="2026-01-31") == ["old"]
    assert listed(client, published_from="2026-02-01", published_to="2026-02-01", node__id__exact=of.pk) == ["new"]
    assert listed(client, tag="none") == []


@override_settings(TIME_ZONE="Europe/Paris")
def test_days_begin_at_midnight_of_the_site() -> None:
    of = node(account())
    post(of, "late", published="2026-01-31T22:59:00Z")
    post(of, "next", published="2026-01-31T23:30:00Z")
    with timezone.override("Europe/Paris"):
        assert listed(superuser(), published_from="2026-02-01") == ["next"]


@pytest.mark.parametrize(
    "query",
    [
        {"published_from": "soon"},
        {"published_to": "9999-12-31"},
        {"node__account__id__exact": "x"},
        {"node__account__id__exact": "9" * 40},
        {"tag": "\0"},
        {"author": "x" * 9000},
        {"account_jid": "\u202e"},
    ],
)
def test_senseless_filters_cause_no_error(query: dict[str, str]) -> None:
    item(node(account()))
    assert superuser().get(url("pubsubitem", "changelist", **query), follow=True).status_code == 200


def test_forms_of_filters_keep_the_other_parameters() -> None:
    of = node(account())
    post(of, "one", tags=["a&b"], author="Mira")
    page = superuser().get(url("pubsubitem", "changelist", author="Mira", node__id__exact=of.pk)).content.decode()
    form = page[page.index('class="psc-filter"') :]
    form = form[: form.index("</form>")]
    assert 'name="tag" value=""' in form
    assert '<input type="hidden" name="author" value="Mira">' in form
    assert f'<input type="hidden" name="node__id__exact" value="{of.pk}">' in form
    assert re.search(r'data-filter-title="author" open', page)
    assert re.search(r'data-filter-title="tag">', page)


def test_filters_without_a_choice_are_not_shown() -> None:
    of = node(account(), type="blog")
    item(of)
    client = superuser()
    assert "account" not in titles(client)
    assert "type" not in titles(client)
    other = node(account("bob@example.org"), type="event")
    assert {"account", "type"} <= set(titles(client))
    assert not {"account", "type"} & set(titles(client, node__id__exact=of.pk))
    assert listed(client, "pubsubnode", account__id__exact=other.account_id) == [other.name]


def test_many_accounts_are_chosen_by_a_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "MAX_CHOICES", 2)
    for number in range(4):
        item(node(account(f"user{number}@example.org"), f"n{number}"), f"i{number}")
    client = superuser()
    page = client.get(url("pubsubitem", "changelist")).content.decode()
    assert 'name="account_jid"' in page
    assert listed(client, account_jid="user2@example.org") == ["i2"]
    assert listed(client, "pubsubnode", account_jid="user2@example.org") == ["n2"]


def test_owners_choose_among_their_accounts() -> None:
    owner = staff("view_pubsubitem")
    client, mine = logged_in(owner), account("mine@example.org", owner=owner)
    theirs = account("theirs@example.org")
    item(node(mine))
    page = client.get(url("pubsubitem", "changelist", node__account__id__exact=mine.pk)).content.decode()
    assert theirs.jid not in page
    item(node(theirs, "n", service="pubsub.sample.test"), "secret")
    assert listed(client, q="xmpp:pubsub.sample.test?;node=n;item=secret") == []
    assert listed(client, q="secret") == []


# Search


def test_a_uri_finds_its_node_and_item() -> None:
    of, other = node(account(), "a/b c", service="pubsub.sample.test"), node(account("bob@example.org"), "a/b c")
    item(of, "x y")
    item(of, "z")
    item(other, "x y")
    client = superuser()
    assert listed(client, q="xmpp:pubsub.sample.test?;node=a%2Fb%20c;item=x%20y") == ["x y"]
    assert listed(client, q="xmpp:pubsub.sample.test?;node=a%2Fb%20c;item=q") == []
    assert listed(client, q="XMPP:Pubsub.Sample.test") == ["z", "x y"]
    answer = client.get(url("pubsubitem", "changelist", q="xmpp:pubsub.sample.test?;node=a%2Fb%20c"))
    assert answer["Location"] == url("pubsubitem", "changelist", node__id__exact=of.pk)
    for uri in ("xmpp:pubsub.sample.test?;node=a%2Fb%20c", " xmpp:pubsub.sample.test?;node=a%2Fb%20c;item=z "):
        assert [found.pk for found in nodes_found(client, uri)] == [of.pk]
    assert nodes_found(client, "xmpp:pubsub.sample.test?;node=else") == []
    assert len(nodes_found(client, "b")) == 2


def nodes_found(client: Client, query: str) -> list[PubsubNode]:
    return list(client.get(url("pubsubnode", "changelist", q=query)).context["cl"].result_list)


def test_a_search_without_hits_offers_others() -> None:
    item(node(account(), type="blog"), text="winterly lights")
    client = superuser()
    page = client.get(url("pubsubitem", "changelist", q="winter light", tag="x")).content.decode()
    assert "Nothing found for <bdi>winter light</bdi>" in page
    offers = [offer.replace("&amp;", "&") for offer in re.findall(r'<li><a href="(\?[^"]*)"', page)]
    for offer in ("?q=winter+light%2A&tag=x", "?q=winter+OR+light&tag=x", "?q=winter+light"):
        assert offer in offers
    assert "How to search" in page
    assert "Nothing found" not in client.get(url("pubsubitem", "changelist", q="winter*")).content.decode()
    assert "Nothing found" not in client.get(url("pubsubitem", "changelist", tag="x")).content.decode()
    page = client.get(url("pubsubitem", "changelist", q="xmpp:nowhere.example?;node=n;item=i")).content.decode()
    assert "No cached node has an item with this address" in page
    page = client.get(url("pubsubitem", "changelist", q="<script>\u202e")).content.decode()
    assert "<bdi>&lt;script&gt;\\u202e</bdi>" in page


def test_ids_are_compared_whole_if_there_are_many_items(monkeypatch: pytest.MonkeyPatch) -> None:
    item(node(account(), items=3), "harbour-pictures")
    client = superuser()
    assert listed(client, q="our-pic") == ["harbour-pictures"]
    monkeypatch.setattr(items, "MAX_SCANNED", 2)
    assert listed(client, q="our-pic") == []
    assert listed(client, q="harbour-pictures") == ["harbour-pictures"]


# What a row shows


def test_items_without_a_title_show_the_beginning_of_their_text_or_their_id() -> None:
    of = node(account())
    for name, parsed in {"null": {"title": None}, "blank": {"title": " "}, "object": {"title": {"a": 1}}}.items():
        item(of, name, parsed=parsed, text=f"Text of {name}")
    item(of, "named", parsed={"name": "Rose growers"}, text="Mira")
    item(of, "no-text", parsed=None)
    shown = rows(superuser())
    for name in ("null", "blank", "object"):
        assert f">Text of {name}</bdi></a>" in shown[name]
    assert ">Rose growers</bdi></a>" in shown["named"]
    assert ">no-text</bdi></a>" in shown["no-text"]
    assert "null<" not in shown["no-text"]


def test_a_row_shows_author_dates_and_account() -> None:
    of = node(account())
    made = post(
        of, "one", title="A pond", author="Mira", author_jid="m@garden.example", published="2026-01-31T12:00:00Z"
    )
    PubsubItem.objects.update(created=datetime(2026, 2, 1, 13, 5, tzinfo=UTC))
    page = superuser().get(url("pubsubitem", "changelist")).content.decode()
    assert f'<a href="{url("pubsubitem", "change", made.pk)}"><bdi' in page
    assert url("pubsubitem", "changelist", author="m@garden.example") in page
    assert "2026-01-31 12:00 UTC" in page
    assert "2026-02-01 13:05 UTC" in page
    assert of.account.jid in page


def test_times_have_one_format_with_the_zone() -> None:
    moment = datetime(2026, 2, 1, 13, 5, tzinfo=UTC)
    of = node(account(heartbeat=moment, session_started=moment), checked_at=moment, last_read=moment)
    made = item(of, parsed={"title": "x", "published": "2026-01-31T12:00:00Z", "updated": "x"}, created=moment)
    client = superuser()
    LogEntry.objects.log_actions(client.session["_auth_user_id"], [of], 2, "Seen.")  # type: ignore[arg-type]
    LogEntry.objects.update(action_time=moment)
    for page in (
        url("pubsubitem", "change", made.pk),
        url("pubsubnode", "change", of.pk),
        url("account", "change", of.account_id),
        url("pubsubnode", "history", of.pk),
    ):
        text = client.get(page).content.decode()
        assert "2026-02-01 13:05 UTC" in text
        assert not re.search(r"Feb\. 1|[ap]\.m\.|02/01/2026", text)
    history = client.get(url("pubsubitem", "change", made.pk)).content.decode()
    assert history.index("2026-01-31 12:00 UTC published") < history.index("2026-02-01 13:05 UTC stored in the cache")


def test_hostile_names_are_one_short_line_on_every_page() -> None:
    of = node(account(), HOSTILE, sync_state="ERROR", sync_error=one_line(HOSTILE), type="blog")
    made = item(of, HOSTILE, parsed=dict.fromkeys(KEYS, HOSTILE), publisher=HOSTILE)
    made.refresh_from_db()
    client = superuser()
    pages = [
        client.get(url("pubsubitem", "changelist")),
        client.get(url("pubsubitem", "changelist", q="gpj")),
        client.get(url("pubsubitem", "changelist", tag=HOSTILE[:1000])),
        client.get(url("pubsubitem", "changelist", node__id__exact=of.pk)),
        client.get(url("pubsubitem", "change", made.pk)),
        client.get(url("pubsubnode", "changelist")),
        client.get(url("pubsubnode", "change", of.pk)),
        client.get(url("pubsubnode", "delete", of.pk)),
        client.get(url("pubsubnode", "history", of.pk)),
        client.get(url("pubsubnode", "purge", of.pk)),
        act(client, "delete_selected", of),
        client.post(url("pubsubnode", "change", of.pk), {"policy": "never", "reconcile_interval": ""}, follow=True),
    ]
    for page in pages:
        assert page.status_code == 200
        text = re.sub(r'(value|href)="[^"]*"', "", page.content.decode())
        assert "\u202e" not in text, text[max(0, text.find("\u202e") - 120) :][:150]
        assert "\u0301" * 5 not in re.sub(r'<pre.*?</pre>|<div class="psc-sections">.*', "", text, flags=re.DOTALL)
        if page.request["PATH_INFO"] not in (url("pubsubitem", "change", made.pk), url("pubsubnode", "change", of.pk)):
            assert "W" * 1001 not in text


# Cost


@pytest.mark.parametrize(
    "query",
    [{}, {"tag": "a"}, {"author": "Mira"}, {"published_from": "2026-01-01"}, {"parse_error": "yes"}, {"q": "winter"}],
)
def test_lists_take_few_queries(query: dict[str, str], django_assert_max_num_queries: Callable[..., Any]) -> None:
    for number in range(3):
        of = node(account(f"user{number}@example.org"), f"n{number}", type=f"t{number}")
        for name in range(5):
            made = post(of, f"i{name}", tags=["a"], author="Mira", published="2026-01-01T00:00:00Z")
            PubsubItem.objects.filter(pk=made.pk).update(text="winter", parse_error="x")
    client = superuser()
    with django_assert_max_num_queries(12):
        assert len(listed(client, **query)) == 15
    with django_assert_max_num_queries(12):
        assert len(listed(client, "pubsubnode")) == 3
