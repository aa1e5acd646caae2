"""Hides secrets from the settings and the environment in Django's error pages and error mails."""

import re
from typing import Any

from django.views.debug import SafeExceptionReporterFilter


class UrlFilter(SafeExceptionReporterFilter):
    """Additionally hides credentials in the URLs of databases and servers."""

    hidden_settings = re.compile(SafeExceptionReporterFilter.hidden_settings.pattern + "|DATABASE_URL|REDIS", re.I)
    login = re.compile(r"(?<=://)\S*@")
    query = re.compile(r"(?<=\?)\S+")

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        cleansed = super().cleanse_setting(key, value)
        if isinstance(cleansed, str) and "://" in cleansed:
            stars = self.cleansed_substitute
            return self.query.sub(stars, self.login.sub(f"{stars}@", cleansed))
        return cleansed
