"""Admin of accounts: logins and the state of their sessions."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.debug import sensitive_post_parameters

from pubsubcache.admin import asking, cafiles, display, services, steering
from pubsubcache.admin.base import CacheAdmin, bare, log_changes, wake_workers
from pubsubcache.admin.filters import WorkerFilter
from pubsubcache.admin.jobs import start
from pubsubcache.admin.runs import last_runs
from pubsubcache.models import Account, Job, PubsubNode
from pubsubcache.models.account import ALL_ACCOUNTS
from pubsubcache.models.fields import Undecryptable
from pubsubcache.store.jobs import chosen

NEW_PASSWORD = "new_password"  # noqa: S105  (the name of a field)
# Fields that decide where the password is sent and who can read it in transit.
CONNECTION = ("host", "port", "tls_verify", "ca_file")

SESSION_STARTED, HEARTBEAT = (display.moment_of(Account, name) for name in ("session_started", "heartbeat"))


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]
    """Form for an account. The password can be set, but is never shown."""

    new_password = forms.CharField(
        label=gettext_lazy("Password"),
        required=False,
        strip=False,
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}, render_value=False),
    )
    port = forms.IntegerField(
        label=gettext_lazy("Port"),
        required=False,
        min_value=1,
        max_value=65535,
        help_text=gettext_lazy("Only together with a host."),
    )

    class Meta:
        model = Account
        fields = ("jid", *CONNECTION, "enabled", "owner")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (field := self.fields.get(NEW_PASSWORD)) is not None:
            stored = bool(self.instance.password)
            field.required = self.instance._state.adding
            field.help_text = _("Stored encrypted and never shown.")
            if stored:
                field.help_text = _(
                    "Leave empty to keep the stored password, which is never shown. Required to change the connection."
                )
        if (field := self.fields.get("ca_file")) is not None:
            field.help_text = cafiles.help_text()

    def clean_ca_file(self) -> str:
        """Validate the CA file if it changed; the stored one may be outside of the folder."""
        name: str = self.cleaned_data["ca_file"]
        return cafiles.usable(name) if name and "ca_file" in self.changed_data else name

    def clean(self) -> dict[str, Any] | None:
        """Require the password if the connection changes, so that nobody can send a stored one to another server."""
        cleaned = super().clean()
        changed = not self.instance._state.adding and not set(CONNECTION).isdisjoint(self.changed_data)
        if changed and not self.cleaned_data.get(NEW_PASSWORD) and NEW_PASSWORD not in self.errors:
            text = _("Enter the password again to change the host, the port, the verification of TLS or the CA file.")
            self.add_error(NEW_PASSWORD, text)
        return cleaned

    def save(self, commit: bool = True) -> Any:
        if password := self.cleaned_data.get(NEW_PASSWORD):
            self.instance.password = password
        return super().save(commit)


class ConnectionForm(AccountForm):
    """The same form for a test of the connection: it is checked, but saves nothing."""

    is_correct = False

    def is_valid(self) -> bool:
        self.is_correct = super().is_valid()
        return False

    def account(self) -> Account:
        """Return the account with the entered values, and the stored password unless another was entered."""
        account: Account = self.instance
        if password := self.cleaned_data.get(NEW_PASSWORD):
            account.password = password
        return account


@admin.register(Account)
class AccountAdmin(CacheAdmin[Account]):
    """Admin to add, change, enable and disable accounts. The state reported by workers is read-only."""

    form = AccountForm
    list_display = ("jid", "session", "enabled", "node_count", "owner", "worker_name", "last_heartbeat")
    list_filter = ("enabled", WorkerFilter, "status", "tls_verify")
    list_select_related = ("owner",)
    ordering = ("jid",)
    search_fields = ("jid", "worker")
    raw_id_fields = ("owner",)
    actions = ("enable", "disable", "delete_selected")
    readonly_fields = [
        "password_state",
        "session",
        "status_detail",
        "what_to_do",
        SESSION_STARTED,
        HEARTBEAT,
        "worker",
        "node_link",
    ]

    class Media:
        js = ("pubsubcache/accounts.js",)

    def get_urls(self) -> list[URLPattern]:
        def wrap(view: Any) -> Any:
            return transaction.non_atomic_requests(self.admin_site.admin_view(view))  # they wait for services

        return [
            path("test/", wrap(self.test_page), name="pubsubcache_account_test_new"),
            path("<int:pk>/test/", wrap(self.test_page), name="pubsubcache_account_test"),
            path("<int:pk>/browse/", wrap(self.browse_page), name="pubsubcache_account_browse"),
            path("<int:pk>/subscriptions/", wrap(self.subscriptions_page), name="pubsubcache_account_subscriptions"),
            *super().get_urls(),
        ]

    def get_form(self, request: HttpRequest, obj: Account | None = None, change: bool = False, **kwargs: Any) -> Any:
        if getattr(request, "is_test", False):
            kwargs["form"] = ConnectionForm
        return super().get_form(request, obj, change, **kwargs)

    def test_page(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        """Test the connection with the entered values (POST), and show the form with the outcome."""
        args = [] if pk is None else [pk]
        page = reverse(f"admin:pubsubcache_account_{'add' if pk is None else 'change'}", args=args)
        if request.method != "POST":
            return HttpResponseRedirect(page)
        request.is_test = True  # type: ignore[attr-defined]
        answer = self.changeform_view(request, None if pk is None else str(pk), page)
        context = getattr(answer, "context_data", None)
        if context is not None:  # the transaction of the view has ended
            form: ConnectionForm = context["adminform"].form
            context["tested"] = asking.test_login(form.account()) if form.is_correct else services.errors_of(form)
        return answer  # type: ignore[no-any-return]

    def _viewed(self, request: HttpRequest, pk: int) -> Account | None:
        account = self.get_object(request, str(pk))
        if not self.has_view_or_change_permission(request, account):
            raise PermissionDenied
        return account

    def browse_page(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show what a service lists about itself."""
        if (account := self._viewed(request, pk)) is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, str(pk))  # type: ignore[no-any-return,attr-defined]
        return services.browse_view(request, account, self.admin_site)

    def subscriptions_page(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show the subscriptions that services report beside those of the cache."""
        if (account := self._viewed(request, pk)) is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, str(pk))  # type: ignore[no-any-return,attr-defined]
        return services.subscriptions_view(request, account, self.admin_site)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        account = context.get("original")
        test, pks = ("test", [account.pk]) if account else ("test_new", [])
        context = {
            **context,
            "may_test": self._may_write(request, account),
            "test_url": reverse(f"admin:pubsubcache_account_{test}", args=pks),
            **(last_runs(request, account) if account else {}),
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> Any:
        secret = [NEW_PASSWORD] if self._may_write(request, obj) else []
        owner = ["owner"] if obj or self._may_set_owner(request) else []
        login = ["jid", *(["password_state"] if obj else []), *secret, "enabled", *owner]
        connection = (gettext_lazy("Connection"), {"fields": list(CONNECTION)})
        if obj is None:
            return [(None, {"fields": login}), connection]
        failed = ["what_to_do"] if display.session_advice(obj) else []
        live = ["session", "status_detail", *failed, SESSION_STARTED, HEARTBEAT, "worker", "node_link"]
        return [(None, {"fields": login}), (gettext_lazy("Session"), {"fields": live}), connection]

    def _may_write(self, request: HttpRequest, obj: Account | None) -> bool:
        return self.has_change_permission(request, obj) if obj else self.has_add_permission(request)

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> Any:
        """Make the JID read-only for existing accounts, because their nodes belong to it, and the owner for owners."""
        fixed = [*(["jid"] if obj else []), *([] if self._may_set_owner(request) else ["owner"])]
        return [*super().get_readonly_fields(request, obj), *fixed]

    def _may_set_owner(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(ALL_ACCOUNTS))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        return super().get_queryset(request).with_progress()  # type: ignore[attr-defined,no-any-return]

    @method_decorator(sensitive_post_parameters(NEW_PASSWORD))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(request, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        """Save only changed fields, because a worker updates others meanwhile. Accounts that owners add are theirs."""
        if not change and not self._may_set_owner(request):
            obj.owner = request.user  # type: ignore[assignment]
        changed = ["password" if name == NEW_PASSWORD else name for name in form.changed_data]
        obj.save(update_fields=changed) if change else obj.save()
        wake_workers()

    def empty_note(self, request: HttpRequest) -> str:
        if Account.objects.visible_to(request.user).exists():
            return ""
        return _("There are no accounts yet. Add one, then start the worker: manage.py pubsub_worker.")

    def nodes_of(self, objects: Iterable[Account]) -> QuerySet[PubsubNode]:
        return PubsubNode.objects.filter(account__in=[account.pk for account in objects])

    def remove(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse | None:
        return start(request, Job.Kind.ACCOUNTS, {"accounts": chosen(queryset)})

    @admin.action(permissions=["delete"], description=gettext_lazy("Delete selected accounts"))
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse | None:
        """Delete accounts with their nodes; workers end their subscriptions first."""
        return steering.delete_many(self, request, queryset)

    @admin.display(description=gettext_lazy("status"), ordering="status")
    def session(self, account: Account) -> str:
        """State of the session, with warnings and the reason of a failure."""
        shown = display.session_badge(account)
        if isinstance(account.password, Undecryptable):
            shown += display.badge("bad", _("password unreadable"), self.password_state(account))
        if not account.tls_verify:
            shown += display.badge("warn", _("TLS not verified"))
        if account.status_detail and not account.is_online():
            return display.stacked(shown, display.short(account.status_detail, 160))
        return shown

    @admin.display(description=gettext_lazy("what to do"))
    def what_to_do(self, account: Account) -> str:
        """What staff can do about a session that failed."""
        return display.session_advice(account) or display.EMPTY

    @admin.display(description=gettext_lazy("worker"), ordering="worker")
    def worker_name(self, account: Account) -> str:
        """Worker that holds the lease of the account."""
        return display.short(account.worker, 30)

    @admin.display(description=gettext_lazy("stored password"))
    def password_state(self, account: Account) -> str:
        """Whether a password is stored and can be decrypted."""
        if isinstance(account.password, Undecryptable):
            return _(
                "It cannot be decrypted, because it was encrypted with a key other than that of this site "
                "(PUBSUBCACHE_ENCRYPTION_KEY or SECRET_KEY). Enter it again."
            )
        return _("set") if account.password else _("not set")

    @admin.display(description=gettext_lazy("last heartbeat"), ordering="heartbeat")
    def last_heartbeat(self, account: Account) -> str:
        """Time of the last heartbeat of the worker."""
        return display.ago(account.heartbeat)

    @admin.display(description=gettext_lazy("nodes"), ordering="number_of_nodes")
    def node_count(self, account: Account) -> str:
        """Number of nodes, linked to their list, and how many of them wait for revalidation."""
        url = reverse("admin:pubsubcache_pubsubnode_changelist", query={"account__id__exact": account.pk})
        link = format_html('<a href="{}">{}</a>', url, display.number(getattr(account, "number_of_nodes", 0)))
        if not (waiting := getattr(account, "number_waiting", 0)):
            return link
        text = ngettext("%(number)s waits for revalidation", "%(number)s wait for revalidation", waiting)
        return display.stacked(link, text % {"number": display.number(waiting)})

    @admin.display(description=gettext_lazy("nodes"))
    def node_link(self, account: Account) -> str:
        """Number of nodes on the page of the account."""
        return self.node_count(account)

    @admin.action(permissions=["change"], description=gettext_lazy("Enable selected accounts"))
    def enable(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        """Enable accounts, so that workers open their sessions."""
        number = self._switch(request, queryset, True)
        text = ngettext("%(count)d account was enabled.", "%(count)d accounts were enabled.", number)
        self.message_user(request, text % {"count": number})

    @admin.action(permissions=["change"], description=gettext_lazy("Disable selected accounts"))
    def disable(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        """Disable accounts, so that workers end their sessions."""
        number = self._switch(request, queryset, False)
        text = ngettext("%(count)d account was disabled.", "%(count)d accounts were disabled.", number)
        self.message_user(request, text % {"count": number})

    def _switch(self, request: HttpRequest, queryset: QuerySet[Account], enabled: bool) -> int:
        changing = list(bare(queryset).filter(enabled=not enabled).only("pk", "jid"))
        number = Account.objects.filter(pk__in=[account.pk for account in changing]).update(enabled=enabled)
        log_changes(request, changing, _("Enabled.") if enabled else _("Disabled."))
        wake_workers()
        return number
