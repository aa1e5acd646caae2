"""Test accounts in the admin: passwords are never shown, and the state of sessions is shown correctly."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone
from django.views.debug import SafeExceptionReporterFilter

from pubsubcache.admin.accounts import AccountAdmin, AccountForm
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.store import accounts, nodes
from pubsubcache.types import NodeAddress
from tests.admin_data import account, act, item, node, online, person, superuser, url

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]
SECRET = "hunter2-never-to-be-seen"


def form(**fields: Any) -> dict[str, Any]:
    return {"jid": "alice@example.org", "tls_verify": "on", "enabled": "on", "host": "", "port": "", **fields}


def test_a_password_is_set_and_kept_encrypted() -> None:
    response = superuser().post(url("account", "add"), form(new_password=SECRET))
    assert response.status_code == 302
    assert Account.objects.get().password == SECRET
    with connection.cursor() as cursor:
        cursor.execute("SELECT password FROM pubsubcache_account")
        assert SECRET not in cursor.fetchone()[0]


def test_an_account_is_not_added_without_a_password() -> None:
    response = superuser().post(url("account", "add"), form())
    assert "new_password" in response.context["adminform"].form.errors
    assert not Account.objects.exists()


def test_blank_password_keeps_the_stored_one() -> None:
    made = account(password=SECRET)
    superuser().post(url("account", "change", made.pk), form(new_password="", enabled=""))
    made.refresh_from_db()
    assert (made.password, made.enabled) == (SECRET, False)


def test_a_new_password_replaces_the_old() -> None:
    made = account(password="old")
    superuser().post(url("account", "change", made.pk), form(new_password=SECRET))
    made.refresh_from_db()
    assert made.password == SECRET


def test_password_appears_on_no_page_and_in_no_log() -> None:
    client = superuser()
    made = account(password=SECRET)
    client.post(url("account", "change", made.pk), form(new_password=SECRET + "2", port="99999999"))  # refused
    refused = client.post(url("account", "change", made.pk), form(new_password=SECRET, port="99999999"))
    assert refused.status_code == 200
    client.post(url("account", "change", made.pk), form(new_password=SECRET + "3"))
    pages = [
        url("account", "changelist"),
        url("account", "change", made.pk),
        url("account", "history", made.pk),
        url("account", "delete", made.pk),
        reverse("admin:index"),
    ]
    for response in [refused, *(client.get(page) for page in pages)]:
        assert response.status_code == 200
        assert SECRET not in response.content.decode()
    assert LogEntry.objects.count() == 1
    assert SECRET not in str(list(LogEntry.objects.values()))


def test_the_password_is_hidden_from_error_reports() -> None:
    """Django's error reports show POST parameters, but mask this one."""
    request = RequestFactory().post("/", form(new_password=SECRET))
    AccountAdmin(Account, admin.site).changeform_view(request)
    reported = SafeExceptionReporterFilter().get_post_parameters(request)
    assert reported["jid"] == "alice@example.org"
    assert SECRET not in str(reported)


def test_undecryptable_password_is_reported_and_kept(settings: Any) -> None:
    client = superuser()
    settings.PUBSUBCACHE_ENCRYPTION_KEY = before = "the key before " * 3
    made = account(password=SECRET)
    settings.PUBSUBCACHE_ENCRYPTION_KEY = "another key " * 3
    assert "password unreadable" in client.get(url("account", "changelist")).content.decode()
    assert "be decrypted" in client.get(url("account", "change", made.pk)).content.decode()
    client.post(url("account", "change", made.pk), form(enabled=""))
    settings.PUBSUBCACHE_ENCRYPTION_KEY = before
    made.refresh_from_db()
    assert (made.password, made.enabled) == (SECRET, False)


@pytest.mark.parametrize("stored", [SECRET, ""])
@pytest.mark.parametrize(
    "change",
    [{"host": "evil.example.org"}, {"host": "xmpp.example.org", "port": "5223"}, {"tls_verify": ""}, {"host": ""}],
)
def test_changed_connection_requires_the_password_again(change: dict[str, Any], stored: str) -> None:
    """Staff who may change accounts must not learn a stored password by sending it to their own host."""
    made = account(password=stored, host="xmpp.example.org")
    client = person("view_account", "change_account")
    posted = form(**{"host": "xmpp.example.org", **change})
    response = client.post(url("account", "change", made.pk), posted)
    errors = response.context["adminform"].form.errors
    assert list(errors) == ["new_password"]
    assert errors["new_password"][0].startswith("Enter the password again to change the host")
    made.refresh_from_db()
    assert (made.host, made.port, made.tls_verify) == ("xmpp.example.org", None, True)
    assert client.post(url("account", "change", made.pk), {**posted, "new_password": "entered"}).status_code == 302
    made.refresh_from_db()
    assert made.password == "entered"


def test_changed_connection_needs_a_password_even_if_the_stored_one_is_unreadable(settings: Any) -> None:
    made = account(password=SECRET)
    settings.PUBSUBCACHE_ENCRYPTION_KEY = "another key " * 3
    response = superuser().post(url("account", "change", made.pk), form(tls_verify=""))
    assert list(response.context["adminform"].form.errors) == ["new_password"]


def test_owner_and_enabled_change_without_a_password() -> None:
    made = account(password=SECRET, host="xmpp.example.org", port=5222, tls_verify=False, ca_file="/etc/private-ca.pem")
    kept = {"host": "xmpp.example.org", "port": "5222", "tls_verify": "", "ca_file": "/etc/private-ca.pem"}
    owner = User.objects.create_user("owner")
    response = superuser().post(url("account", "change", made.pk), form(**kept, enabled="", owner=owner.pk))
    assert response.status_code == 302
    made.refresh_from_db()
    assert (made.owner, made.enabled, made.password) == (owner, False, SECRET)
    assert (made.host, made.port) == ("xmpp.example.org", 5222)
    assert (made.tls_verify, made.ca_file) == (False, "/etc/private-ca.pem")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"port": "5222"}, "port"),
        ({"host": "xmpp.example.org", "port": "0"}, "port"),
        ({"host": "xmpp.example.org", "port": "65536"}, "port"),
        ({"host": "not a host"}, "host"),
        ({"host": "xmpp.example.org:5222"}, "host"),
        ({"host": "https://xmpp.example.org"}, "host"),
        ({"host": "user@xmpp.example.org"}, "host"),
        ({"host": "[::1]"}, "host"),
        ({"host": "2130706433"}, "host"),
        ({"host": "10.0.0.256"}, "host"),
        ({"host": "-a.example.org"}, "host"),
        ({"host": "a..example.org"}, "host"),
    ],
)
def test_invalid_host_or_port_is_a_form_error(fields: dict[str, Any], wrong: str) -> None:
    response = superuser().post(url("account", "add"), form(new_password=SECRET, **fields))
    assert list(response.context["adminform"].form.errors) == [wrong]
    assert not Account.objects.exists()


@pytest.mark.parametrize(
    "host", ["xmpp.example.org", "xmpp.example.org.", "192.0.2.1", "2001:db8::1", "bücher.example"]
)
def test_host_names_and_addresses_are_accepted(host: str) -> None:
    response = superuser().post(url("account", "add"), form(new_password=SECRET, host=host, port="5222"))
    assert response.status_code == 302
    assert Account.objects.get().host == host


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("account", {"password__startswith": "gAAAA"}),
        ("account", {"password__gte": "g"}),
        ("account", {"password": ""}),
        ("account", {"password__isnull": "0"}),
        ("account", {"owner__password__startswith": "pbkdf2"}),
        ("pubsubnode", {"account__password__startswith": "gAAAA"}),
        ("pubsubnode", {"account__owner__password__gte": "p"}),
        ("pubsubitem", {"node__account__password__regex": "^g"}),
    ],
)
def test_lists_cannot_be_filtered_by_secret_fields(page: str, query: dict[str, str]) -> None:
    item(node(account()))
    assert superuser().get(url(page, "changelist", **query)).status_code == 400


def test_saving_keeps_concurrent_writes_of_a_worker() -> None:
    """Saving a form that was loaded while the account was offline must not reset the state of the session."""
    made = account()
    loaded = AccountForm(form(host="xmpp.example.org", new_password=SECRET), instance=Account.objects.get())
    assert loaded.is_valid()
    Account.objects.update(**online())
    AccountAdmin(Account, admin.site).save_model(None, loaded.save(commit=False), loaded, True)  # type: ignore[arg-type]
    made.refresh_from_db()
    assert (made.host, made.status, made.worker) == ("xmpp.example.org", "online", "host:1")


def test_jid_of_an_account_cannot_be_changed() -> None:
    made = account()
    superuser().post(url("account", "change", made.pk), form(jid="mallory@example.org"))
    made.refresh_from_db()
    assert made.jid == "alice@example.org"


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        (online(), "online"),
        (online(heartbeat=timezone.now() - timedelta(minutes=5)), "no worker"),
        (online(heartbeat=timezone.now() + timedelta(hours=2)), "no worker"),
        (online(status="auth_failed", status_detail="not-authorized"), "login refused"),
        (online(status="connecting"), "connecting"),
        ({}, "no worker"),
        ({"enabled": False}, "disabled"),
    ],
)
def test_status_of_a_dead_worker_is_not_shown_as_current(fields: dict[str, Any], shown: str) -> None:
    if fields.get("heartbeat") and shown != "no worker":
        fields = {**fields, "heartbeat": timezone.now()}
    account(**fields)
    page = superuser().get(url("account", "changelist")).content.decode()
    cell = page.split('class="field-session"')[1].split("</td>")[0]
    assert f">{shown}</span>" in cell


def test_accounts_are_disabled_and_enabled() -> None:
    client = superuser()
    one, other = account(), account("bob@example.org", enabled=False)
    page = act(client, "disable", one, other, model="account")  # type: ignore[arg-type]
    assert "1 account was disabled." in page.content.decode()
    assert not Account.objects.filter(enabled=True).exists()
    page = act(client, "enable", one, other, model="account")  # type: ignore[arg-type]
    assert "2 accounts were enabled." in page.content.decode()
    assert Account.objects.filter(enabled=True).count() == 2
    assert LogEntry.objects.filter(object_id=str(one.pk)).count() == 2


def test_view_permission_allows_no_changes() -> None:
    client = person("view_account")
    made = account(password=SECRET)
    page = client.get(url("account", "change", made.pk)).content.decode()
    assert "new_password" not in page
    assert SECRET not in page
    assert client.post(url("account", "change", made.pk), form(new_password="x")).status_code == 403
    assert client.get(url("account", "add")).status_code == 403
    act(client, "disable", made, model="account")  # type: ignore[arg-type]
    made.refresh_from_db()
    assert (made.enabled, made.password) == (True, SECRET)


def test_deleting_an_account_lists_its_items_and_needs_permission_to_delete_nodes() -> None:
    made = account()
    node(made, items=3)
    page = superuser().get(url("account", "delete", made.pk)).content.decode()
    assert "Items: 3" in " ".join(page.split())
    assert (
        person("view_account", "delete_account").post(url("account", "delete", made.pk), {"post": "yes"}).status_code
        == 403
    )
    assert Account.objects.exists()
    client = person("view_account", "delete_account", "delete_pubsubnode")
    assert client.post(url("account", "delete", made.pk), {"post": "yes"}).status_code == 302
    assert not Account.objects.exists()
    assert not PubsubNode.objects.exists()
    assert not PubsubItem.objects.exists()


def test_deleting_an_account_ends_its_subscriptions_first() -> None:
    client = superuser()
    made = account()
    node(made, items=3, subscribed=True)
    page = client.post(url("account", "delete", made.pk), {"post": "yes"}, follow=True).content.decode()
    assert "ended its subscriptions" in page
    assert "being removed" in page
    assert not PubsubNode.objects.exists()
    assert made.pending_unsubscriptions.count() == 1
    assert nodes.load_account(made.jid) is None
    with pytest.raises(Account.DoesNotExist):
        nodes.get_or_create_node(made.jid, NodeAddress("s", "n"))
    assert [held.pk for held in accounts.claim_accounts("w")] == [made.pk]
    made.pending_unsubscriptions.all().delete()
    assert accounts.claim_accounts("w") == []
    assert not Account.objects.exists()


@pytest.mark.parametrize("hopeless", [{"enabled": False}, {"status": "auth_failed"}, {"leaving": True}])
def test_account_that_cannot_unsubscribe_is_deleted_at_once(hopeless: dict[str, Any]) -> None:
    made = account(**hopeless)
    node(made, items=3, subscribed=True)
    act(superuser(), "delete_selected", made, model="account", post="yes")  # type: ignore[arg-type]
    assert not Account.objects.exists()


def test_nodes_waiting_for_revalidation_are_counted() -> None:
    made = account(fencing_token=2)
    node(made, "waits", sync_state="COMPLETED", checked_at=timezone.now(), checked_token=1)
    node(made, "was compared", sync_state="COMPLETED", checked_at=timezone.now(), checked_token=2)
    node(made, "is asked", sync_state="NO_SYNC", checked_at=None)
    assert "1 waits for revalidation" in superuser().get(url("account", "changelist")).content.decode()


def test_deleting_an_account_does_not_load_its_items(django_assert_max_num_queries: Callable[..., Any]) -> None:
    client = superuser()
    made = account()
    of = node(made)
    for number in range(60):
        item(of, f"i{number}")
    with django_assert_max_num_queries(12) as queries:
        client.get(url("account", "delete", made.pk))
    assert not any('"pubsubcache_pubsubitem"."data"' in query["sql"] for query in queries.captured_queries)


def test_the_list_makes_no_query_per_account(django_assert_max_num_queries: Callable[..., Any]) -> None:
    client = superuser()
    for number in range(30):
        node(account(f"user{number}@example.org"))
    with django_assert_max_num_queries(9):
        assert client.get(url("account", "changelist")).status_code == 200


def test_empty_list_explains_what_to_do() -> None:
    assert "There are no accounts yet" in superuser().get(url("account", "changelist")).content.decode()
