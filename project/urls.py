"""URLs of the project: a page that leads to the admin, and the admin."""

from django.contrib import admin
from django.urls import path
from django.views.generic import TemplateView

admin.site.site_header = admin.site.site_title = "pubsubcache"

urlpatterns = [
    path("", TemplateView.as_view(template_name="index.html")),
    path("admin/", admin.site.urls),
]
