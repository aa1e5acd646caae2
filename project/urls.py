"""URLs of the project: a page that leads to the admin, the admin, and error pages."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import path
from django.views.generic import RedirectView, TemplateView

admin.site.site_header = admin.site.site_title = "pubsubcache"

handler400 = "project.errors.bad_request"
handler403 = "project.errors.denied"
handler404 = "project.errors.not_found"
handler500 = "project.errors.server_error"

urlpatterns = [
    path("", TemplateView.as_view(template_name="index.html")),
    # For browsers that do not look at the link of the page, and for answers that are no pages.
    path("favicon.ico", RedirectView.as_view(url=static("project/favicon.svg"))),
    path("admin/", admin.site.urls),
]
