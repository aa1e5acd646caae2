"""Bar charts as SVG that the server renders: the geometry. The template adds a table with the same numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.formats import date_format

from pubsubcache.admin.display import number

# In units of the SVG. The page stretches it.
COLUMN = 100
GAP = 16
HEIGHT = 1000
LEAST = 12  # so that one among thousands is visible
LABELS = 4


@dataclass(frozen=True, slots=True)
class Series:
    """A row of numbers, one for each hour. Its `name` is also the name of its colour in the style sheet."""

    name: str
    label: str
    values: Sequence[int]

    @property
    def total(self) -> str:
        """The sum."""
        return number(sum(self.values))


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle. The coordinates are texts, which templates do not localise."""

    name: str
    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True, slots=True)
class Column:
    """What happened in one hour: its bars, and its numbers in words."""

    x: str
    bars: list[Bar]
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar chart of several series over hours, with bars on top of one another or side by side."""

    id: str
    title: str
    times: Sequence[datetime]
    series: Sequence[Series]
    is_stacked: bool

    @property
    def has_values(self) -> bool:
        """Whether any number is not 0."""
        return any(any(series.values) for series in self.series)

    @property
    def most(self) -> int:
        """The number that the height of the chart stands for."""
        rows = zip(*(series.values for series in self.series), strict=True)
        return max((sum(row) if self.is_stacked else max(row) for row in rows), default=0)

    @property
    def top(self) -> str:
        """The label of the highest value."""
        return number(self.most)

    @property
    def view_box(self) -> str:
        """The size of the SVG."""
        return f"0 0 {COLUMN * len(self.times)} {HEIGHT}"

    @property
    def step(self) -> str:
        """The width of a column."""
        return str(COLUMN)

    @property
    def height(self) -> str:
        """The height of the chart."""
        return str(HEIGHT)

    @property
    def labels(self) -> list[str]:
        """The times at equal distances below the chart."""
        return [_time(moment) for moment in self.times[:: max(len(self.times) // LABELS, 1)]][:LABELS]

    @property
    def columns(self) -> list[Column]:
        """The columns, oldest first."""
        return [self._column(position) for position in range(len(self.times))]

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The rows of the table, newest first: a time, and the number of each series."""
        rows = [
            (_moment(moment), [number(series.values[position]) for series in self.series])
            for position, moment in enumerate(self.times)
        ]
        return rows[::-1]

    def _column(self, position: int) -> Column:
        left, bars, base = COLUMN * position, [], 0
        width = COLUMN - GAP if self.is_stacked else (COLUMN - GAP) // len(self.series)
        scale = HEIGHT - LEAST * (len(self.series) if self.is_stacked else 1)
        for place, series in enumerate(self.series):
            value = series.values[position]
            if not value:
                continue
            height = LEAST + scale * value // self.most
            x = left + GAP // 2 + (0 if self.is_stacked else place * width)
            bottom = base if self.is_stacked else 0
            bars.append(Bar(series.name, str(x), str(HEIGHT - bottom - height), str(width), str(height)))
            base += height
        words = ", ".join(f"{number(series.values[position])} {series.label}" for series in self.series)
        return Column(str(left), bars, f"{_time(self.times[position])}: {words}")


def _time(moment: datetime) -> str:
    return date_format(timezone.localtime(moment), "TIME_FORMAT")


def _moment(moment: datetime) -> str:
    return date_format(timezone.localtime(moment), "SHORT_DATETIME_FORMAT")
