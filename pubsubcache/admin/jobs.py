"""Admin of jobs: bulk work that staff asked for, its progress and its result."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, LogEntry
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Q, QuerySet, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from pubsubcache.admin import display
from pubsubcache.admin.base import CacheAdmin, log_changes, wake_workers
from pubsubcache.models import Account, Job, PubsubNode
from pubsubcache.services.sessions import wakers
from pubsubcache.store import history, jobs

AT_ONCE = 100  # nodes and items that a request changes at once; more are a job
LAST = 5  # ended jobs in the summary
STATE_KINDS: dict[str, str] = {
    Job.State.WAITING: "quiet",
    Job.State.RUNNING: "busy",
    Job.State.DONE: "good",
    Job.State.FAILED: "bad",
    Job.State.CANCELLED: "warn",
}
LEVELS: dict[str, int] = {Job.State.DONE: messages.SUCCESS, Job.State.FAILED: messages.ERROR}


def start(request: HttpRequest, kind: str, parameters: dict[str, Any]) -> HttpResponse | None:
    """Do bulk work for the user of a request, who gets a message: few rows at once, many as a job.

    Args:
        request: The request. The caller has checked the permission.
        kind: The kind of the job.
        parameters: Its parameters, see `store.jobs.request`.

    Returns:
        A redirect to the page of the job, or None if the work is done.
    """
    at_once = jobs.size(kind, parameters) <= AT_ONCE
    job = jobs.request(kind, parameters, request.user, owner=jobs.WEB if at_once else "")
    if at_once:
        job = jobs.do_at_once(job)
        messages.add_message(request, _level(job), " ".join(filter(None, (history.result(job), job.error))))
        wake_workers()
        return None
    LogEntry.objects.log_actions(request.user.pk, [job], ADDITION, _("Requested."))  # type: ignore[arg-type]
    wake_workers()
    if has_worker():
        messages.info(request, _("A worker does this in the background. This page shows its progress."))
    else:
        messages.warning(
            request, _("No worker is running. The job starts when one does, for example manage.py pubsub_worker.")
        )
    return HttpResponseRedirect(reverse("admin:pubsubcache_job_change", args=[job.pk]))


def _level(job: Job) -> int:
    return messages.WARNING if job.counts.get("leaving") else LEVELS.get(job.state, messages.INFO)


def has_worker() -> bool:
    """Whether a worker is running, as far as this process can tell: it knows its own, and those that hold accounts."""
    held = Account.objects.exclude(worker="").defer("password").with_time()
    return wakers.are_offered or any(account.is_held() for account in held)


def summary(user: Any) -> dict[str, Any]:
    """Return the context `jobs` of `jobs_summary.html`: the unfinished jobs and the last others. Makes one query."""
    is_ended = Case(When(state__in=Job.UNFINISHED, then=0), default=1)
    found = _shown(Job.objects.visible_to(user)).order_by(is_ended, "-pk")[: 2 * LAST]
    rows = [row_of(job) for job in found]
    return {
        "running": [row for row in rows if not row["job"].is_finished],
        "ended": [row for row in rows if row["job"].is_finished][:LAST],
    }


def _shown(rows: QuerySet[Job]) -> QuerySet[Job]:
    return rows.select_related("requested_by").defer("cursor")


def row_of(job: Job) -> dict[str, Any]:
    """Return what the pages show of a job."""
    return {"job": job, "badge": badge(job), "objects": objects_of(job), "result": history.result(job)}


def badge(job: Job) -> str:
    """Return the state of a job as a badge."""
    if job.cancel_requested and not job.is_finished:
        return display.badge("warn", _("being cancelled"))
    return display.badge(STATE_KINDS.get(job.state, "quiet"), job.get_state_display())


def objects_of(job: Job) -> str:
    """Return which objects a job is about."""
    nodes = job.parameters.get("nodes")
    if job.kind == Job.Kind.ANALYSER:
        return job.parameters["analyser"]  # type: ignore[no-any-return]
    if job.kind == Job.Kind.ACCOUNTS:
        number = len(job.parameters["accounts"])
        return ngettext("%(count)d account", "%(count)d accounts", number) % {"count": number}
    if isinstance(nodes, dict):
        conditions = ", ".join(f"{name}: {_joined(value)}" for name, value in nodes.items())
        return _("nodes with %(conditions)s") % {"conditions": conditions} if conditions else _("all nodes")
    number = len(nodes or [])
    return ngettext("%(count)d node", "%(count)d nodes", number) % {"count": number}


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def link_of(job: Job) -> str:
    """Return the URL of the only node that a job is about, or ""."""
    nodes = job.parameters.get("nodes")
    if isinstance(nodes, list) and len(nodes) == 1 and PubsubNode.objects.filter(pk=nodes[0]).exists():
        return reverse("admin:pubsubcache_pubsubnode_change", args=nodes)
    return ""


@admin.register(Job)
class JobAdmin(CacheAdmin[Job]):
    """Admin of jobs: a list, and a page with the progress. Staff see their own jobs, and may cancel them."""

    list_display = ("kind_name", "state_badge", "progress", "outcome", "requested_by", "requested", "ended")
    list_filter = ("state", "kind")
    list_select_related = ("requested_by",)
    actions = None
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        found = super().get_queryset(request).defer("cursor").visible_to(request.user)  # type: ignore[attr-defined]
        is_own = Q(requested_by=request.user.pk)
        return found if request.user.has_perm("pubsubcache.view_job") else found.filter(is_own)  # type: ignore[no-any-return]

    def get_urls(self) -> list[URLPattern]:
        cancel = self.admin_site.admin_view(self.cancel_page)
        return [path("<int:pk>/cancel/", cancel, name="pubsubcache_job_cancel"), *super().get_urls()]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Staff see the jobs that they asked for without a permission."""
        return bool(request.user.is_active and request.user.is_staff)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.has_module_perms("pubsubcache")

    def has_cancel_permission(self, request: HttpRequest, job: Job) -> bool:
        """Return whether the user may cancel a job: their own, or others with the permission."""
        return job.requested_by_id == request.user.pk or request.user.has_perm("pubsubcache.cancel_job")

    def empty_note(self, request: HttpRequest) -> str:
        if Job.objects.exists():
            return ""
        return _("There are no jobs. An action that changes many nodes or items becomes one.")

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the progress of a job."""
        job = self.get_object(request, object_id)
        if job is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[no-any-return,attr-defined]
        context = {
            **self.admin_site.each_context(request),
            **row_of(job),
            "title": job.get_kind_display().capitalize(),
            "opts": self.opts,
            "media": self.media,
            "link": link_of(job),
            "may_cancel": not (job.is_finished or job.cancel_requested) and self.has_cancel_permission(request, job),
            "has_worker": job.state != Job.State.WAITING or has_worker(),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/pubsubcache/job/page.html", context)

    def cancel_page(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Cancel a job (POST)."""
        job = self.get_object(request, str(pk))
        if job is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, str(pk))  # type: ignore[no-any-return,attr-defined]
        if not self.has_cancel_permission(request, job):
            raise PermissionDenied
        if request.method == "POST":
            jobs.cancel(job)
            log_changes(request, [job], _("Cancel requested."))
            wake_workers()
        return HttpResponseRedirect(reverse("admin:pubsubcache_job_change", args=[pk]))

    @admin.display(description=gettext_lazy("job"), ordering="kind")
    def kind_name(self, job: Job) -> str:
        """What the job does, and with which objects."""
        return display.stacked(job.get_kind_display(), display.short(objects_of(job), 80))

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def state_badge(self, job: Job) -> str:
        """State."""
        return badge(job)

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, job: Job) -> str:
        """How much is done."""
        return f"{job.percent} %"

    @admin.display(description=gettext_lazy("result"))
    def outcome(self, job: Job) -> str:
        """The result so far, and why it failed."""
        return display.stacked(history.result(job), display.short(job.error, 120)) if job.error else history.result(job)

    @admin.display(description=gettext_lazy("requested"), ordering="created")
    def requested(self, job: Job) -> str:
        """When it was requested."""
        return display.ago(job.created)

    @admin.display(description=gettext_lazy("ended"), ordering="finished")
    def ended(self, job: Job) -> str:
        """When it ended."""
        return display.ago(job.finished)
