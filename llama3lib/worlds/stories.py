"""An endless supply of small stories, written by a grammar, for models small enough for a laptop.

Every story keeps track of its little world: who is where, who holds what, how many there are.
So a model that has understood it can be told from one that only sounds right. All of it is our
own invention; no text of others is in it.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_GIRLS = ("Ada", "Mina", "Rosa", "Tess", "Ines", "Lena", "Zoe", "Nora", "Aiko", "Sana")
_BOYS = ("Ben", "Omar", "Leo", "Finn", "Ravi", "Hugo", "Max", "Ivo", "Theo", "Niko")
_ANIMALS = ("cat", "dog", "duck", "fox", "goat", "hen", "mouse", "rabbit")
_PLACES = ("garden", "kitchen", "barn", "library", "harbour", "market", "forest", "school", "mill")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COLOURS = ("red", "blue", "green", "yellow", "white", "black", "brown", "purple")
_THINGS = (
    ("apple", "apples"),
    ("pear", "pears"),
    ("shell", "shells"),
    ("button", "buttons"),
    ("stone", "stones"),
    ("nut", "nuts"),
    ("plum", "plums"),
    ("coin", "coins"),
)
_TREASURES = ("kite", "lamp", "drum", "boat", "book", "hat", "key", "map", "bell", "cup")
_WEATHER = ("sunny", "windy", "rainy", "cold", "warm", "foggy", "quiet")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Person:
    """A child of the stories, with the words that stand for it."""

    name: str
    subject: str
    object: str
    owner: str


@dataclass
class World:
    """What is true at this moment of a story."""

    rng: random.Random
    people: list[Person] = field(default_factory=list)

    def person(self) -> Person:
        """Somebody who is not in the story yet."""
        used = {person.name for person in self.people}
        girl = self.rng.random() < 0.5
        name = self.rng.choice([n for n in (_GIRLS if girl else _BOYS) if n not in used])
        person = Person(name, *(("she", "her", "her") if girl else ("he", "him", "his")))
        self.people.append(person)
        return person

    def opening(self, person: Person, place: str) -> str:
        """A first sentence that puts a person in a place."""
        return self.rng.choice(
            (
                f"One {self.rng.choice(_WEATHER)} day {person.name} went to the {place}.",
                f"On {self.rng.choice(_DAYS)} {person.name} was in the {place}.",
                f"{person.name} liked the {place} very much.",
                f"It was a {self.rng.choice(_WEATHER)} morning, "
                f"and {person.name} was in the {place}.",
            )
        )


def stories(seed: int) -> Iterator[str]:
    """Stories without end, the same for the same seed, each a paragraph of plain English."""
    rng = random.Random(seed)
    while True:
        yield rng.choice(_PLOTS)(World(rng))


def some(count: int, thing: tuple[str, str]) -> str:
    """A number of things in words: no apples, one apple, two apples."""
    return f"{_NUMBERS[count]} {thing[0] if count == 1 else thing[1]}"


def _counting(world: World) -> str:
    """Finding and giving away: the numbers add up."""
    rng, person, friend = world.rng, world.person(), world.person()
    thing, place = rng.choice(_THINGS), rng.choice(_PLACES)
    first, more = rng.randint(1, 5), rng.randint(1, 5)
    given = rng.randint(1, first + more)
    lines = [
        world.opening(person, place),
        f"{person.subject.capitalize()} found {some(first, thing)} there.",
        rng.choice(("A little later", "Then", "Near the door"))
        + f" {person.subject} found {some(more, thing)} more.",
        f"Now {person.name} had {some(first + more, thing)}.",
        f"{person.name} met {friend.name} and gave {friend.object} {some(given, thing)}.",
        f"So {person.name} had {some(first + more - given, thing)} left.",
        rng.choice((f"{friend.name} said thank you.", f'"Thank you," said {friend.name}.')),
    ]
    return " ".join(lines)


def _lost(world: World) -> str:
    """A treasure is lost and found where it was left."""
    rng, person, friend = world.rng, world.person(), world.person()
    colour, treasure = rng.choice(_COLOURS), rng.choice(_TREASURES)
    left, wrong = rng.sample(_PLACES, 2)
    lines = [
        f"{person.name} had a {colour} {treasure}.",
        f"One day {person.subject} left the {treasure} in the {left}.",
        f'"Where is my {treasure}?" asked {person.name}.',
        f"{friend.name} looked in the {wrong}, but the {treasure} was not there.",
        f"Then {friend.subject} looked in the {left}.",
        f"There was the {colour} {treasure}!",
        rng.choice(
            (
                f"{person.name} was happy and hugged {friend.name}.",
                f"{person.name} was very glad to have {person.owner} {treasure} back.",
            )
        ),
    ]
    return " ".join(lines)


def _trade(world: World) -> str:
    """Two children swap what they have."""
    rng, one, two = world.rng, world.person(), world.person()
    mine, yours = rng.sample(_TREASURES, 2)
    place = rng.choice(_PLACES)
    lines = [
        f"{one.name} had a {mine}, and {two.name} had a {yours}.",
        f"They met in the {place}.",
        f'"May I have your {yours}?" asked {one.name}.',
        f'"Yes, if I may have your {mine}," said {two.name}.',
        "So they traded.",
        f"Now {one.name} had the {yours}, and {two.name} had the {mine}.",
        rng.choice(("Both were happy.", "They played until the evening.", "It was a good trade.")),
    ]
    return " ".join(lines)


def _animal(world: World) -> str:
    """An animal follows somebody from place to place."""
    rng, person = world.rng, world.person()
    animal, colour = rng.choice(_ANIMALS), rng.choice(_COLOURS[4:7])
    first, second = rng.sample(_PLACES, 2)
    thing = rng.choice(_THINGS)
    count = rng.randint(2, 9)
    lines = [
        world.opening(person, first),
        f"A small {colour} {animal} sat there and looked at {person.object}.",
        f"{person.name} walked to the {second}, and the {animal} came too.",
        f"In the {second} {person.subject} had {some(count, thing)}.",
        f"The {animal} took one, so {person.subject} had {some(count - 1, thing)}.",
        rng.choice(
            (
                f"{person.name} laughed and gave the {animal} a name.",
                f"From that day the {animal} was {person.owner} friend.",
                f"Then the {animal} went back to the {first}.",
            )
        ),
    ]
    return " ".join(lines)


def _height(world: World) -> str:
    """Comparing: who is oldest follows from what is said."""
    rng = world.rng
    people = [world.person() for _ in range(3)]
    ages = sorted(rng.sample(range(4, 11), 3), reverse=True)
    order = list(zip(people, ages, strict=True))
    mixed = rng.sample(order, 3)
    lines = [f"{', '.join(p.name for p, _ in mixed[:2])} and {mixed[2][0].name} sat together."]
    lines += [f"{person.name} was {_NUMBERS[age]} years old." for person, age in mixed]
    lines.append(f'"Who is the oldest?" asked {mixed[0][0].name}.')
    lines.append(f"It was {order[0][0].name}.")
    lines.append(f"And the youngest was {order[2][0].name}.")
    return " ".join(lines)


def _shop(world: World) -> str:
    """Buying: price times number, and what is left of ten coins."""
    rng, person = world.rng, world.person()
    thing = rng.choice(_THINGS[:-1])
    count = rng.randint(1, 3)
    price = rng.randint(1, 3)
    paid, coin = count * price, _THINGS[-1]
    lines = [
        f"{person.name} had ten coins and went to the market.",
        f"One {thing[0]} cost {some(price, coin)}.",
        f"{person.subject.capitalize()} bought {some(count, thing)} and paid {some(paid, coin)}.",
        f"So {person.subject} had {some(10 - paid, coin)} left.",
        rng.choice(
            (
                f"{person.name} ate one {thing[0]} on the way home."
                if thing[0] in ("apple", "pear", "nut", "plum")
                else f"{person.name} put the {thing[count != 1]} in a bag.",
                f"{person.name} walked home in the {rng.choice(('sun', 'wind', 'rain'))}.",
            )
        ),
    ]
    return " ".join(lines)


_PLOTS: tuple[Callable[[World], str], ...] = (_counting, _lost, _trade, _animal, _height, _shop)
