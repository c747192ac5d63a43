"""Jinja templates of dialogs, rendered as transformers does. Runs in a `Sandbox`, for strangers
wrote them: the language is closed in, and the process it runs in is small and can be killed.
"""

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MOST_CHARACTERS = 4_000_000
"""Of what one dialog becomes; a context of a million tokens is about as long."""


def look(text: str) -> dict[str, bool]:
    """Whether a template reads `tools`, and whether it marks what the assistant says.

    Raises ValueError naming the line of a mistake.
    """
    tree = _answering(lambda: _environment().parse(text))
    return {
        "tools": "tools" in jinja2.meta.find_undeclared_variables(tree),
        "generation": any(
            node.name == _Generation.MARK for node in tree.find_all(jinja2.nodes.ExtensionAttribute)
        ),
    }


def render(task: str) -> list[str]:
    """The texts of a JSON object: `template`, `marks` around what the assistant says, and
    `dialogs`, the variables of each text.

    Raises ValueError if the template refuses a dialog, fails, or writes too much.
    """
    given = json.loads(task)
    return [_answering(_render_one, given, variables) for variables in given["dialogs"]]


def _render_one(given: dict[str, Any], variables: dict[str, Any]) -> str:
    template = _compiled(given["template"])
    pieces, size = [], 0
    marks = {"generation_marks": given["marks"]}
    for piece in template.generate(variables | marks):
        size += len(piece)
        if size > _MOST_CHARACTERS:
            raise ValueError(f"chat_template writes over {_MOST_CHARACTERS:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def _answering(work: Callable[..., Any], *args: Any) -> Any:
    try:
        return work(*args)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"chat_template, line {error.lineno}: {error.message}") from None
    except jinja2.TemplateError as error:
        raise ValueError(f"chat_template: {error.message}") from None
    except (MemoryError, ValueError):
        raise
    except Exception as error:  # whatever a stranger's template may come to
        raise ValueError(f"chat_template fails: {type(error).__name__}: {error}") from None


@lru_cache(8)
def _compiled(text: str) -> jinja2.Template:
    return _environment().from_string(text)


@lru_cache(1)
def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = _to_json
    made.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "namespace": _Namespace,
    }
    return made


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`: what the assistant says, put between two marks."""

    tags = {"generation"}
    MARK = "_marked"

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        marks = jinja2.nodes.Name("generation_marks", "load")
        call = self.call_method(self.MARK, [marks])
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _marked(self, marks: list[str], caller: Callable[[], str]) -> str:
        return marks[0] + caller() + marks[1]


class _Namespace(jinja2.utils.Namespace):
    """Without names that lead into Python's insides."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"namespace has no place for {name!r}")
        super().__setitem__(name, value)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes letters that mean something in HTML
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)
