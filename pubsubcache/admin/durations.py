"""A form field for durations with units, such as "10 min" or "1 d 4 h"."""

import re
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

# The unit that is shown, the other spellings, and the seconds.
UNITS: list[tuple[str, tuple[str, ...], int]] = [
    ("d", ("day", "days", "j", "jour", "jours"), 86_400),
    ("h", ("hour", "hours", "heure", "heures"), 3600),
    ("min", ("m", "mins", "minute", "minutes"), 60),
    ("s", ("sec", "secs", "second", "seconds", "seconde", "secondes"), 1),
]
#: Units that are shown by another name in other languages.
LABELS = {"d": pgettext_lazy("unit of time", "d")}
SECONDS = {name: seconds for unit, others, seconds in UNITS for name in (unit, *others)}
LONGEST = timedelta(days=3650)  # SQLite cannot store those of over 292 000 years
_PART = re.compile(r"(\d{1,9}(?:[.,]\d{1,6})?)\s*([a-z]+)[\s,]*", re.ASCII)


def in_words(duration: timedelta) -> str:
    """Return a duration with units, from days to seconds, such as "1 d 4 h"."""
    rest = duration.total_seconds()
    parts = []
    for unit, _others, seconds in UNITS:
        number, rest = (rest, 0) if unit == "s" else divmod(rest, seconds)
        if number:
            parts.append(f"{number:.6f}".rstrip("0").rstrip(".") + f" {LABELS.get(unit, unit)}")
    return " ".join(parts) or "0 s"


class UnitDurationField(forms.DurationField):
    """Accepts durations with units, and the notation of Django's field: 00:10:00, or a number of seconds."""

    widget = AdminTextInputWidget
    default_validators = [MaxValueValidator(LONGEST)]
    default_error_messages = {"invalid": _("Enter a duration such as 10 min, 2 h or 1 d 4 h.")}

    def prepare_value(self, value: Any) -> Any:
        """Return a duration with units; what the user entered as it is."""
        return in_words(value) if isinstance(value, timedelta) else value

    def to_python(self, value: Any) -> timedelta | None:
        """Return the duration. Raises `ValidationError`."""
        text = str(value).strip().lower()
        if isinstance(value, timedelta) or not (parts := _PART.findall(text)) or _PART.sub("", text):
            return super().to_python(value)
        if not all(unit in SECONDS for _number, unit in parts):
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        try:
            return timedelta(seconds=sum(float(number.replace(",", ".")) * SECONDS[unit] for number, unit in parts))
        except OverflowError as error:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from error
