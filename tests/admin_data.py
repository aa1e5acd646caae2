"""Users and rows for the tests of the admin."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from pubsubcache.models import Account, PubsubItem, PubsubNode

PASSWORD = "correct horse battery staple"
SCRIPT = "<script>document.title = 'run'</script>"
XML = (
    '<item xmlns="http://jabber.org/protocol/pubsub" id="one"><entry xmlns="http://www.w3.org/2005/Atom">'
    "<title>Un été</title></entry></item>"
)


def person(*permissions: str) -> Client:
    """Return a client logged in as a member of staff with these permissions, on the accounts of all owners."""
    return logged_in(staff(*permissions, "all_accounts"))


def staff(*permissions: str) -> User:
    """Return a member of staff with these permissions of the app."""
    user = User.objects.create_user(f"staff{User.objects.count()}", password=PASSWORD, is_staff=True)
    found = Permission.objects.filter(content_type__app_label="pubsubcache", codename__in=permissions)
    assert found.count() == len(set(permissions))
    user.user_permissions.set(found)
    return user


def superuser() -> Client:
    """Return a client logged in as a superuser."""
    return logged_in(User.objects.create_superuser("root", password=PASSWORD))


def logged_in(user: User) -> Client:
    """Return a client logged in as `user`."""
    client = Client()
    client.force_login(user)
    return client


def account(jid: str = "alice@example.org", **fields: Any) -> Account:
    """Create an account."""
    return Account.objects.create(jid=jid, **{"password": PASSWORD, **fields})


def online(**fields: Any) -> dict[str, Any]:
    """Return the fields of an account whose session a worker has open."""
    now = timezone.now()
    live = {"worker": "host:1", "heartbeat": now, "session_started": now - timedelta(hours=1)}
    return {"status": Account.Status.ONLINE, **live, **fields}


def node(owner: Account, name: str = "urn:xmpp:microblog:0", items: int = 0, **fields: Any) -> PubsubNode:
    """Create a node with this number of items."""
    made = PubsubNode.objects.create(
        account=owner, name=name, item_count=items, **{"service": "pubsub.example.org", **fields}
    )
    for number in range(items):
        item(made, f"item-{number}", position=number)
    return made


def item(of: PubsubNode, name: str = "one", **fields: Any) -> PubsubItem:
    """Create an item."""
    return PubsubItem.objects.create(node=of, name=name, **{"data": XML, **fields})


def url(model: str, page: str, *args: Any, **query: Any) -> str:
    """Return the URL of a page of the admin."""
    return reverse(f"admin:pubsubcache_{model}_{page}", args=args, query=query or None)


def act(client: Client, action: str, *nodes: PubsubNode, model: str = "pubsubnode", **data: Any) -> Any:
    """Post an action on nodes as the form of the list does, and follow the redirect."""
    form = {"action": action, "_selected_action": [one.pk for one in nodes], **data}
    return client.post(url(model, "changelist"), form, follow=True)
