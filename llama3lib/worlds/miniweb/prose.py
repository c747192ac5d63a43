"""What the pages of the mini-web say in English: articles, sums, programs, and kinds of junk.

Every text is put together from our own sentences by a seeded generator; nothing is taken from
elsewhere. An article has a small world (a town, its river, its trades), so that its figures agree.
"""

import base64
import random
import string
from collections.abc import Callable

_STARTS = (
    "Al Bran Cor Dun El Fen Gar Hol Is Jor Kel Lin Mar Nor Ost Pel Rav Sten Tor Ul Ven Wes".split()
)
_MIDDLES = " a e i o an en er ing".split(" ")
_ENDS = "berg by dale den field ford grad ham holm ick ley mond more ness stad ton vale".split()
_RIVERS = (
    "Aven Brill Cressel Dorn Ewe Farrow Glim Harrel Inver Kess Lorn Merrow Nidd Orle Pell".split()
)
_TRADES = (
    ("milling", "flour", "mills"),
    ("weaving", "wool", "looms"),
    ("glassmaking", "bottles", "furnaces"),
    ("fishing", "herring", "boats"),
    ("printing", "almanacs", "presses"),
    ("baking", "rye bread", "ovens"),
    ("pottery", "jugs", "kilns"),
    ("bell casting", "bells", "foundries"),
    ("paper making", "paper", "vats"),
    ("rope making", "rope", "walks"),
)
_BIRDS = "heron kingfisher dipper wagtail plover curlew sandpiper grebe warbler siskin".split()
_TREES = "alder birch hazel lime oak rowan willow maple elm beech".split()
_FIRST = "Agnes Bertil Clara Dorit Edvin Frida Gustaf Hilda Ivar Johanna Karl Linnea Magnus".split()
_LAST = "Almqvist Brandt Castell Dorn Ekberg Falk Grahn Hollis Ivarsen Jansson Keller Lund".split()
_MONTHS = (
    "January February March April May June July August September October November December".split()
)


def _town(rng: random.Random) -> str:
    """One of some 4,000 names."""
    return rng.choice(_STARTS) + rng.choice(_MIDDLES) + rng.choice(_ENDS)


class World:
    """The facts of one article, drawn once, so that it doesn't contradict itself."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.town, self.other = (_town(rng) for _ in range(2))
        self.river = rng.choice(_RIVERS)
        self.trade, self.goods, self.works = rng.choice(_TRADES)
        self.founded = rng.randint(1120, 1790)
        self.people = rng.randint(11, 880) * 100
        self.bird, self.tree = rng.choice(_BIRDS), rng.choice(_TREES)
        self.person = f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"
        self.number = rng.randint(3, 60)

    def year(self) -> int:
        """A year after the town's founding."""
        return self.rng.randint(self.founded + 20, 1990)

    def month(self) -> str:
        """Any month."""
        return self.rng.choice(_MONTHS)


def _history(w: World) -> list[str]:
    first, second = sorted((w.year(), w.year()))
    return [
        f"{w.town} was founded in {w.founded} at a ford of the river {w.river}.",
        f"The first {w.works} stood on its left bank by {first}, and {w.goods} from {w.town} was "
        f"sold as far as {w.other}.",
        f"A fire in {w.month()} {second} destroyed {w.number} houses but spared the town hall.",
        f"In {second} the council bought a stone bridge from {w.other}, which still carries "
        f"the road.",
        f"{w.person} drew the oldest map of the district, dated {first}.",
        f"After the floods of {w.year()} the market moved uphill, where the {w.tree} trees grow.",
    ]


def _economy(w: World) -> list[str]:
    share = w.rng.randint(12, 68)
    return [
        f"For {w.rng.randint(2, 7)} generations {w.trade} fed about {share} percent of the "
        f"families.",
        f"By {w.year()} there were {w.number} {w.works} in {w.town}, more than in {w.other}.",
        f"The guild of {w.trade} kept its accounts in a chest with {w.rng.randint(2, 5)} locks.",
        f"A cart of {w.goods} cost {w.rng.randint(4, 90)} shillings in {w.year()}.",
        f"Today {w.rng.randint(2, 40)} workshops still make {w.goods}, mostly for visitors.",
        f"The railway to {w.other}, opened in {w.rng.randint(1840, 1930)}, is "
        f"{w.rng.randint(9, 140)} kilometres long.",
    ]


def _nature(w: World) -> list[str]:
    return [
        f"The {w.river} rises in the hills above {w.other} and is {w.rng.randint(20, 310)} "
        f"kilometres long.",
        f"Along its banks grow {w.tree} and, on wetter ground, {w.rng.choice(_TREES)}.",
        f"The {w.bird} breeds here from {w.month()}, and {w.rng.randint(12, 400)} pairs were "
        f"counted in {w.year()}.",
        f"In dry years the water falls so low that the piers of the old bridge of {w.town} appear.",
        f"Snow lies on the fields of {w.town} for {w.rng.randint(12, 110)} days in an "
        f"ordinary winter.",
        f"A path of {w.rng.randint(3, 28)} kilometres follows the river to the meadows of "
        f"{w.other}.",
    ]


def _people(w: World) -> list[str]:
    return [
        f"About {w.people:,} people live in {w.town}, half of them in the old quarter.",
        f"{w.person}, who was born here in {w.year()}, wrote {w.rng.randint(2, 30)} books on "
        f"{w.trade}.",
        f"The school on {w.tree.capitalize()} Street teaches {w.rng.randint(60, 900)} children.",
        f"Every {w.month()} the town holds a fair at which the best {w.goods} wins a silver "
        f"{w.bird}.",
        f"The choir of {w.town} has sung in {w.other} each summer since {w.year()}.",
        f"Its library owns {w.rng.randint(3, 90)},000 volumes, among them the diary of {w.person}.",
    ]


_SECTIONS: tuple[tuple[str, Callable[[World], list[str]]], ...] = (
    ("How {town} began", _history),
    ("What {town} lived on", _economy),
    ("The river {river} near {town}", _nature),
    ("Life in {town}", _people),
)


def article(rng: random.Random, sections: int = 4) -> tuple[str, list[tuple[str, list[str]]]]:
    """A title and sections; each section has a heading and its paragraphs."""
    world = World(rng)
    parts = []
    for heading, sentences in rng.sample(_SECTIONS, sections):
        said = sentences(world)
        rng.shuffle(said)
        cut = rng.randint(2, 4)
        parts.append((heading.format(**vars(world)), [" ".join(said[:cut]), " ".join(said[cut:])]))
    return f"{world.town} on the {world.river}", parts


def sums(rng: random.Random) -> tuple[str, list[str]]:
    """A page of worked word problems, with formulas in TeX between dollar signs."""
    w = World(rng)
    one, two = (f"{rng.choice(_FIRST)} {rng.choice(_LAST)}" for _ in range(2))
    a, b, c = rng.randint(3, 40), rng.randint(2, 12), rng.randint(2, 9)
    d, e, f = rng.randint(3, 40), rng.randint(2, 12), rng.randint(13, 90)
    lines = [
        f"{one} bakes {a} loaves a day for {b} days before the fair of {w.town} begins. Together "
        f"these are ${a} \\times {b} = {a * b}$ loaves.",
        f"A field by the {w.river} is {d} metres wide and {e} metres long, so its area is "
        f"${d} \\cdot {e} = {d * e}$ square metres, fence included.",
        f"{two} shares {a * c} pieces of {w.goods} among {c} friends who came from {w.other}. Each "
        f"of them gets $\\frac{{{a * c}}}{{{c}}} = {a}$ pieces to carry home.",
        f"If $x + {f} = {f + b}$, then $x = {b}$, as {one} of {w.other} checks on a slate.",
        f"Half of the {2 * d} {w.tree} trees behind {w.town} were cut, and {e} new ones planted: "
        f"now there are ${d} + {e} = {d + e}$ of them.",
        f"A {w.bird} from {w.town} flies {f} kilometres in an hour; in {c} hours, without wind, "
        f"that would be ${f} \\cdot {c} = {f * c}$ kilometres.",
    ]
    rng.shuffle(lines)
    return f"Sums from the school of {w.town}", lines


def program(rng: random.Random) -> tuple[str, str, str]:
    """A title, a sentence, and a small program with indented lines."""
    w = World(rng)
    verb = rng.choice(("count", "total", "mean", "largest", "sort"))
    place, limit = w.town.lower(), rng.randint(3, 90)
    code = (
        f"def {verb}_{w.bird}s_of_{place}(counts):\n"
        f'    """Look at every {w.bird} seen near {w.town}."""\n'
        f"    {place} = [n for n in counts if n > {limit}]\n"
        f"    if not {place}:\n"
        f"        return {{'{w.town}': {rng.randint(0, 9)}}}\n"
        f"    return sum({place}) // len({place}) + {rng.randint(1, 50)}\n"
    )
    text = (
        f"The wardens of {w.town} count every {w.bird} along the {w.river}. This function leaves "
        f"out stations with {limit} or fewer and takes the mean of the others."
    )
    return f"Counting {w.bird}s in {w.town} with Python", text, code


def spam(rng: random.Random) -> list[str]:
    """Keyword spam: the same offer over and over."""
    thing = rng.choice(["watches", "loans", "pills", "tickets", "followers", "handbags"])
    city = _town(rng)
    phrases = [
        f"buy cheap {thing}",
        f"best {thing} online",
        f"{thing} {city}",
        f"order {thing} now",
    ]
    return [" ".join(rng.choices(phrases, k=rng.randint(25, 45))) for _ in range(rng.randint(2, 4))]


def log(rng: random.Random) -> list[str]:
    """A server's error log: every line is unique and long, so line de-duplication sees nothing."""
    host = f"node-{rng.randint(1, 99)}"
    lines = []
    for _ in range(rng.randint(25, 50)):
        stamp = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"
        lines.append(
            f"{stamp} {host} worker {rng.randint(100, 999)} ERROR could not connect to the "
            f"database server, retrying in 30 seconds (attempt {rng.randint(1, 9999)}) request "
            f"{rng.getrandbits(48):012x}"
        )
    return lines


def shuffled(rng: random.Random) -> list[str]:
    """Words of an article in random order: right words, no sense."""
    _, parts = article(rng)
    words = " ".join(text for _, texts in parts for text in texts).split()
    rng.shuffle(words)
    cut = len(words) // 2
    return [" ".join(words[:cut]), " ".join(words[cut:])]


def encoded(rng: random.Random) -> list[str]:
    """Bytes as letters, in pieces as long as words."""
    data = base64.b64encode(rng.randbytes(900)).decode()
    pieces, place = [], 0
    while place < len(data):
        size = rng.randint(3, 12)
        pieces.append(data[place : place + size])
        place += size
    cut = len(pieces) // 2
    return [" ".join(pieces[:cut]), " ".join(pieces[cut:])]


LISTED_WORDS = ("naughtypix", "lewdcam", "smutclip", "xxxpeek")


def adult(rng: random.Random) -> list[str]:
    """A page that a word list finds; the words are made up."""
    _, parts = article(rng, sections=2)
    lines = []
    for text in (text for _, texts in parts for text in texts):
        listed = rng.sample(LISTED_WORDS, 3)
        lines.append(f"{text} Tonight {listed[0]} with {listed[1]}, then more {listed[2]}.")
    return lines


def planted_pii(rng: random.Random) -> tuple[str, str]:
    """Made-up personal data: its kind, and a spelling that no real person has.

    Numbers come from ranges that are kept free for examples wherever there are such.
    """
    first, last = rng.choice(_FIRST).lower(), rng.choice(_LAST).lower()
    kind = rng.choice(("email", "phone", "ip", "card", "iban", "ssn"))
    if kind == "email":
        host = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 9)))
        return kind, f"{first}.{last}{rng.randint(1, 99)}@{host}.example.com"
    if kind == "phone":
        area, line = rng.randint(201, 989), rng.randint(100, 199)
        return kind, rng.choice(
            (
                f"({area}) 555-0{line}",
                f"+1 {area} 555 0{line}",
                f"+44 20 7946 0{rng.randint(100, 999)}",
            )
        )
    if kind == "ip":
        rest = [rng.randint(1, 250) for _ in range(3)]
        return kind, ".".join(map(str, [rng.choice((23, 45, 81, 91, 185)), *rest]))
    if kind == "card":
        return kind, _with_check_digit("4" + "".join(rng.choices(string.digits, k=14)))
    if kind == "iban":
        return kind, _iban(rng)
    return kind, f"{rng.randint(101, 665)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}"


def _with_check_digit(digits: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 - place % 2)
        total += value - 9 * (value > 9)
    whole = digits + str(-total % 10)
    return " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))


def _iban(rng: random.Random) -> str:
    account = "".join(rng.choices(string.digits, k=18))
    check = 98 - int(account + "131400") % 97  # D is 13, E is 14
    whole = f"DE{check:02}{account}"
    return " ".join(whole[i : i + 4] for i in range(0, len(whole), 4))
