"""The address that live pages of the admin listen to: see `pubsubcache.live` and `static/pubsubcache/live.js`."""

from django.contrib.admin import AdminSite
from django.core.exceptions import BadRequest, PermissionDenied
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
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

    Raises:
        PermissionDenied: The user is not staff, or may not see one of the topics.
        BadRequest: A topic is unknown.
    """
    # No redirect to the login page: the browser would take it for an answer.
    if not site.has_permission(request):
        raise PermissionDenied
    try:
        topics = live.parse(request.GET.getlist("topic"))
    except InvalidRequest as error:
        raise BadRequest(str(error)) from error
    if not all(live.may_watch(request.user, topic) for topic in topics):
        raise PermissionDenied
    viewer = live.Viewer.of(request.user)
    watched = [live.Watched(topic, viewer) for topic in topics]
    if "poll" in request.GET:
        return JsonResponse({"version": live.combined(live.read_versions(watched), watched)})
    if not isinstance(request, ASGIRequest):
        return HttpResponse(status=204)
    # Proxies such as nginx must not wait for the end of the answer.
    headers = {"X-Accel-Buffering": "no"}
    return StreamingHttpResponse(live.stream(watched), content_type="text/event-stream", headers=headers)
