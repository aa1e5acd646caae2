"""Test the admin in French."""

import re
from html import unescape

import pytest
from django.urls import reverse

from pubsubcache.models import SyncRun
from tests.admin_data import account, item, node, superuser, url
from tests.unit.core.test_translations import CATALOGS

pytestmark = pytest.mark.django_db

FRENCH = {"Accept-Language": "fr-CH, en;q=0.5"}
#: Texts of the app in English, without those that are names in the shown XML and JSON.
ENGLISH = {
    one.text for one, french in CATALOGS["pubsubcache"].items() if one.text.lower() not in "".join(french).lower()
} - {"item", "title"}


def test_pages_have_french_headings_and_no_english_texts() -> None:
    alice = account(enabled=True)
    blog = node(alice, sync_state="COMPLETED", items=1)
    one = item(blog, parsed={"title": "Un été"})
    run = SyncRun.objects.create(account=alice, node=blog, kind="full", reason="first", outcome="failed", error="404")
    pages = {
        "/admin/pubsubcache/": "Échecs des dernières 24 heures",
        url("account", "changelist"): "aucun worker",
        url("account", "change", alice.pk): "Tester la connexion",
        url("account", "subscriptions", alice.pk): "Abonnements",
        url("pubsubnode", "changelist"): "périmé",
        url("pubsubnode", "add"): "Ajouter un nœud",
        url("pubsubnode", "change", blog.pk): "Dernières synchronisations",
        url("pubsubitem", "changelist"): "date de publication",
        url("pubsubitem", "change", one.pk): "Tous les éléments du nœud",
        url("syncrun", "change", run.pk): "première copie",
        url("job", "changelist"): "pas de tâches.",
        reverse("admin:pubsubcache_analysers"): "Essayer les analyseurs",
        reverse("admin:pubsubcache_analysers_try"): "XML collé",
    }
    client = superuser()
    for address, expected in pages.items():
        response = client.get(address, headers=FRENCH)
        assert response.status_code == 200, address
        page = response.content.decode()
        assert expected in page, address
        markup = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)
        texts = {unescape(text).strip() for text in re.findall(r">([^<]+)<", markup)}
        assert texts & ENGLISH == set(), address
