"""Random JSON schemas whose texts are short, of every kind that can be kept to."""

import random

WORDS = ("red", "kite", "Omar", "größe", "a b", 'x"y', "日本", "mill_7", "tab\t")
FORMATS = ("date", "time", "date-time", "uuid", "ipv4")
PATTERNS = (r"^[a-z]{2,5}$", r"^(yes|no|maybe)$", r"^\\d{3}-\\d{2}$", r"^[A-Z][a-z]{0,4}!?$")


def random_schema(dice: random.Random, depth: int = 2) -> dict:
    """A schema; up to `depth` objects, arrays or choices stand in one another."""
    kinds = [_text, _whole, _number, _enum, _const, _plain]
    if depth:
        kinds += [_object, _object, _array, _tuple, _choice, _choice_of_kinds, _all_of]
    return dice.choice(kinds)(dice, depth)


def random_document(dice: random.Random) -> dict:
    """A schema as clients send it: an object, sometimes with definitions that it refers to."""
    schema = _object(dice, 2)
    if dice.random() < 0.3:
        schema["$defs"] = {"leaf": random_schema(dice, 1)}
        schema["properties"]["leaf"] = {"$ref": "#/$defs/leaf"}
        schema["required"] = [*schema["required"], "leaf"]
    return schema


def _text(dice, _):
    kind = dice.randrange(3)
    if kind == 0:
        least = dice.randrange(4)
        return {"type": "string", "minLength": least, "maxLength": least + dice.randrange(8)}
    if kind == 1:
        return {"type": "string", "pattern": dice.choice(PATTERNS)}
    return {"type": "string", "format": dice.choice(FORMATS)}


def _whole(dice, _):
    low = dice.randrange(-500, 500)
    high = low + dice.randrange(1, 2000)
    edge = dice.choice(["minimum", "exclusiveMinimum"])
    schema = {"type": "integer", edge: low, "maximum": high}
    if edge == "minimum" and dice.random() < 0.3:
        schema |= {"minimum": 0, "maximum": 60, "multipleOf": dice.choice([2, 3, 5])}
    return schema


def _number(dice, _):
    low = dice.randrange(-50, 50)
    return {"type": "number", "minimum": low, "multipleOf": 0.25, "maximum": low + 10}


def _enum(dice, _):
    return {"enum": dice.sample([*WORDS, 1, 2.5, None, True, [1, "a"], {"k": 0}], 4)}


def _const(dice, _):
    return {"const": dice.choice([*WORDS, 7, False, None, {"a": [1, {"b": 2}]}])}


def _plain(dice, _):
    return {"type": dice.choice(["boolean", "null", ["boolean", "null"]])}


def _object(dice, depth):
    names = dice.sample(WORDS, dice.randrange(1, 5))
    required = [name for name in names if dice.random() < 0.7]
    schema = {
        "type": "object",
        "properties": {name: random_schema(dice, max(depth - 1, 0)) for name in names},
        "required": required,
        "additionalProperties": False,
    }
    if dice.random() < 0.15:
        schema["description"], schema["title"] = "What it is.", "Thing"
    return schema


def _array(dice, depth):
    least = dice.randrange(3)
    inner = random_schema(dice, depth - 1)
    return {"type": "array", "items": inner, "minItems": least, "maxItems": least + 2}


def _tuple(dice, depth):
    inner = [random_schema(dice, depth - 1) for _ in range(2)]
    return {"type": "array", "prefixItems": inner, "items": False, "minItems": 2}


def _choice(dice, depth):
    return {"anyOf": [random_schema(dice, depth - 1) for _ in range(dice.randrange(1, 4))]}


def _choice_of_kinds(dice, depth):
    """One of: no value can be of two of them."""
    kinds = [{"type": "null"}, {"type": "boolean"}, _whole(dice, 0), _array(dice, depth)]
    return {"oneOf": dice.sample(kinds, 2)}


def _all_of(dice, _):
    low = dice.randrange(-99, 50)
    return {"allOf": [{"type": "integer", "minimum": low, "maximum": 99}, {"maximum": 50}]}
