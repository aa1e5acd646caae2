"""The address that live pages of the admin listen to: see `pubsubcache.live` and `static/pubsubcache/live.js`."""

from django.contrib.admin import AdminSite
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseForbidden,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from pubsubcache import live
from pubsubcache.exceptions import InvalidRequest


@require_GET
@never_cache
def live_view(request: HttpRequest, site: AdminSite) -> HttpResponseBase:
    """Return the version of the topics that a page watches, as a stream of events or once.

    With the parameter `poll`, the answer is JSON. Without it, the answer is a stream under ASGI, and has no content
    under WSGI, so that browsers poll.

    The status is 403 if the user is not staff any more, or may not see one of the topics.
    """
    # Neither a redirect to the login page, which the browser would take for an answer, nor a traceback in the log.
    if not site.has_permission(request):
        return HttpResponseForbidden()
    try:
        topics = live.parse(request.GET.getlist("topic"))
    except InvalidRequest as error:
        return HttpResponseBadRequest(str(error), content_type="text/plain")
    if not all(live.may_watch(request.user, topic) for topic in topics):
        return HttpResponseForbidden()
    viewer = live.Viewer.of(request.user)
    watched = [live.Watched(topic, viewer) for topic in topics]
    if "poll" in request.GET:
        return JsonResponse({"version": live.combined(live.read_versions(watched), watched)})
    if not isinstance(request, ASGIRequest):
        return HttpResponse(status=204)
    # Proxies such as nginx must not wait for the end of the answer.
    headers = {"X-Accel-Buffering": "no"}
    return StreamingHttpResponse(live.stream(watched), content_type="text/event-stream", headers=headers)
