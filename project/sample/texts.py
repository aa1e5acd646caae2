"""Texts of the sample: blogs with comments, and the journal, events and tickets of a garden."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

JOURNAL_START = datetime(2025, 1, 6, 7, 30, tzinfo=UTC)
JOURNAL_LENGTH = 300


@dataclass(frozen=True)
class Post:
    """A blog post; `id` is the item id."""

    id: str
    published: datetime
    title: str
    paragraphs: tuple[str, ...]
    tags: tuple[str, ...] = ()
    comments: tuple[tuple[str, str], ...] = ()


def _post(
    day: str, post_id: str, title: str, tags: str, *paragraphs: str, comments: tuple[tuple[str, str], ...] = ()
) -> Post:
    published = datetime.fromisoformat(f"{day}T18:00:00+00:00")
    return Post(post_id, published, title, paragraphs, tuple(tags.split()), comments)


ARTICLES = (
    _post(
        "2025-02-03",
        "a-shed-with-a-view",
        "A shed with a view",
        "garden building",
        "The old shed leaned so far east that the door closed by itself. On Saturday we took it down to its four"
        " posts, found two of them sound, and built the rest around those.",
        "The window came from a tram that was scrapped in the eighties. It slides down into the wall on a leather"
        " strap, and it is the only part that anybody asks about.",
        comments=(
            ("bob", "Does the strap still have the number of the tram stamped on it?"),
            ("carol", "I want that window. Name your price in courgettes."),
        ),
    ),
    _post(
        "2025-02-19",
        "what-a-node-remembers",
        "What a node remembers",
        "xmpp pubsub",
        "I keep explaining publish-subscribe with a notice board. You pin a note, everybody who cares hears the pin"
        " go in, and whoever comes later can still read what hangs there.",
        "The part people miss is the last one. A message is gone once it was said; a node remembers. How much it"
        " remembers is a setting, and a surprising number of boards keep a single note.",
        comments=(("bob", "So the answer to “where is my old post” is max_items. It always is."),),
    ),
    _post(
        "2025-03-08",
        "bread-for-the-impatient",
        "Bread for the impatient",
        "kitchen",
        "Flour, water, salt, a spoon of last week's dough. Fold it whenever you pass by, bake it when you can't stand"
        " waiting any more. That is the whole recipe, and the crust forgives all the rest.",
    ),
    _post(
        "2025-03-30",
        "the-hour-that-went-missing",
        "The hour that went missing",
        "time software",
        "Tonight the clocks jump. Every year some calendar of mine shows an event at half past two, in an hour that"
        " does not exist, and insists that I was there.",
        "Store moments in UTC, show them where people live, and never do arithmetic on what a wall clock says.",
        comments=(("carol", "My oven disagrees with you and is an hour late until October."),),
    ),
    _post(
        "2025-04-12",
        "frogs-at-last",
        "Frogs, at last",
        "garden pond",
        "Three years after we dug the pond they arrived, all in one rainy night, and they have been holding meetings"
        " ever since. Minutes are not published.",
    ),
    _post(
        "2025-05-02",
        "notes-from-a-slow-train",
        "Notes from a slow train",
        "travel",
        "The regional line stops at every halt between here and the coast, twenty-two of them, and at some the driver"
        " gets out to water the flower boxes.",
        "It takes four hours. The fast train takes ninety minutes, and I could not tell you one thing about it.",
        comments=(
            ("bob", "The box at the seventh halt is mine, in spirit. I gave them the geraniums."),
            ("bob", "Correction: the eighth. The seventh has plastic flowers and a bad conscience."),
        ),
    ),
    _post(
        "2025-05-27",
        "reading-without-a-network",
        "Reading without a network",
        "xmpp cache",
        "On that slow train there is no signal behind the hills. What I had read before was still there, and marked as"
        " of this morning; what I had not was politely absent. That is all I ask of a cache: to know what it knows.",
    ),
    _post(
        "2025-06-15",
        "a-map-of-the-hedges",
        "A map of the hedges",
        "garden map",
        "The parish has eleven kilometres of hedge. Carol and I walked them with a notebook: hawthorn, hazel, field"
        " maple, one lonely medlar behind the fire station.",
        comments=(("carol", "The medlar is the property of whoever is there first in November. I am just saying."),),
    ),
    _post(
        "2025-07-09",
        "how-to-lose-an-argument",
        "How to lose an argument with a bicycle",
        "workshop",
        "A chain that jumps is worn. A chain that jumps after you have replaced it means that the sprockets are worn,"
        " too. A chain that jumps after that means you have bought the wrong chain.",
    ),
    _post(
        "2025-08-21",
        "the-night-of-the-meteors",
        "The night of the meteors",
        "sky",
        "Forty-one in two hours, counted on a beer mat. The brightest went from the church to the silo and left a"
        " trail that one could have hung washing on.",
        comments=(("bob", "Forty-two. You were looking for the blanket."),),
    ),
    _post(
        "2025-10-04",
        "apples-in-order",
        "Apples, in order of size",
        "garden kitchen",
        "The press at the village hall takes them by the hundredweight and asks no questions about worms. We brought"
        " three sacks and came home with ninety litres, a headache, and plans for more trees.",
    ),
    _post(
        "2025-11-30",
        "small-lights",
        "Small lights",
        "winter",
        "The street lamps go off at midnight now, to save money, and it turns out that there is a sky up there."
        " We go for a walk at half past twelve and greet everybody by voice.",
        comments=(("carol", "I knew you by your boots."), ("bob", "I knew you by your complaints about the boots.")),
    ),
)

STATUS_POSTS = (
    _post("2025-06-01", "bridge-1", "The footbridge over the mill stream is open again.", "bridges"),
    _post("2025-07-14", "bridge-2", "Counted the bolts twice. One left over, both times.", "bridges workshop"),
    _post("2025-09-03", "bridge-3", "A heron has claimed the handrail. We yield.", "bridges birds"),
)


@dataclass(frozen=True)
class Event:
    """A calendar event; `id` is the item id and `hours` the duration."""

    id: str
    title: str
    start: datetime
    hours: int
    place: str
    description: str
    tags: tuple[str, ...]


EVENTS = (
    Event(
        "seed-swap",
        "Seed swap",
        datetime(2026, 2, 14, 9, tzinfo=UTC),
        4,
        "The shed",
        "Bring what you saved, in envelopes with names on them. Last year's mystery squash is forgiven.",
        ("seeds", "swap"),
    ),
    Event(
        "pruning-day",
        "Pruning the old apples",
        datetime(2026, 3, 7, 8, 30, tzinfo=UTC),
        6,
        "The orchard",
        "Ladders are there, saws are not. Soup at noon.",
        ("orchard", "pruning"),
    ),
    Event(
        "summer-table",
        "The long table",
        datetime(2026, 7, 18, 16, tzinfo=UTC),
        5,
        "Between the beds",
        "Everybody cooks something from their own bed, and carries their own chair.",
        ("kitchen", "summer"),
    ),
)


@dataclass(frozen=True)
class Ticket:
    """A ticket for a repair; `id` is the item id."""

    id: str
    title: str
    body: str
    status: str
    priority: str
    labels: tuple[str, ...]
    author: str
    created: datetime


TICKETS = (
    Ticket(
        "ticket-1",
        "The tap at bed 7 drips",
        "A cup an hour. There is a watering can under it.",
        "queued",
        "minor",
        ("water",),
        "bob",
        datetime(2026, 1, 9, 10, tzinfo=UTC),
    ),
    Ticket(
        "ticket-2",
        "The gate does not close",
        "Since the storm it swings, and the deer have noticed.",
        "started",
        "major",
        ("gate", "storm"),
        "alice",
        datetime(2026, 1, 21, 7, 15, tzinfo=UTC),
    ),
    Ticket(
        "ticket-3",
        "Who has the key to the tool shed?",
        "It hung behind the door until Sunday.",
        "closed",
        "normal",
        ("shed", "keys"),
        "carol",
        datetime(2026, 2, 2, 18, 40, tzinfo=UTC),
    ),
)

_WEATHER = (
    "Frost until nine, then a pale sun.",
    "Drizzle all day, the kind that gets under the collar.",
    "Clear and still; one could hear the trains.",
    "A warm wind out of the south.",
    "Thunder in the afternoon, and not one drop of rain.",
    "Fog, and out of the fog the sound of somebody raking.",
    "Hot. Everybody worked in the shade of the walnut.",
)
_CROPS = ("beans", "leeks", "beetroot", "kale", "potatoes", "onions", "parsnips", "pumpkins", "chard", "carrots")
_JOBS = (
    ("sown", "The {crop} went into bed {bed}, in two rows and a crooked third."),
    ("thinned", "Thinned the {crop} in bed {bed}; the thinnings went to the hens."),
    ("watered", "Bed {bed} was dry a hand deep, so the {crop} got four cans each side."),
    ("harvested", "{weight} kg of {crop} from bed {bed}, weighed on the post office scales."),
    ("covered", "Fleece over the {crop} in bed {bed}, weighed down with the last of the bricks."),
    ("weeded", "Two hours of bindweed between the {crop} in bed {bed}. It will be back."),
)
_REMARKS = (
    "The robin supervised.",
    "Whoever borrowed the good spade: it misses its hook.",
    "The water butt is down to a third.",
    "Seeds for next year are drying in the shed, please don't move the trays.",
    "Visitors from the school came by, eleven questions, nine of them about worms.",
    "Next in turn for the compost: whoever reads this first.",
)


def journal_entry(number: int, published: datetime | None = None) -> Post:
    """Generate a journal entry.

    Args:
        number: Number of the entry, from 1. The same number always yields the same text.
        published: Date of the entry; by default, entries are on consecutive days.
    """
    choice = random.Random(number)  # noqa: S311 (reproducible, not a secret)
    crop, bed, (done, sentence) = choice.choice(_CROPS), choice.randint(1, 14), choice.choice(_JOBS)
    work = sentence.format(crop=crop, bed=bed, weight=choice.randint(2, 40) / 2)
    return Post(
        id=f"entry-{number:04}",
        published=published or JOURNAL_START + timedelta(days=number - 1),
        title=f"Day {number}: {crop} {done}",
        paragraphs=(choice.choice(_WEATHER), work[0].upper() + work[1:], choice.choice(_REMARKS)),
        tags=(crop, f"bed-{bed}"),
    )
