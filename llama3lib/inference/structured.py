"""Texts that keep to a JSON schema, a regular expression or a grammar, whatever the model wants.

    with LLMEngine(model, tokenizer) as engine:
        kite = engine.structured.json({"type": "object", "properties": {"red": {"type": "null"}}})
        print(engine.generate("A kite: ", SamplingParams(max_tokens=50), constraint=kite).text)

Before each token the grammar says which ones may come next, and the others are scored minus
infinity. Grammars are compiled by llguidance, which the extra `serve` brings. JSON is written on
one line, `{"a": 1, "b": [2, 3]}`, so that no model loses itself in white space.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from llama3lib.tokenizer import Tokenizer
from llama3lib.utils.require import require

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

_MAX_CACHED = 128
_MAX_SIZE = 1 << 18
"""Most characters of a schema or grammar: compiling takes longer than its length."""
# nothing that is not understood is passed over
_JSON = {"whitespace_flexible": False, "lenient": False, "coerce_one_of": False}
_JSON |= {"item_separator": ", ", "key_separator": ": "}
_INSTALL = "structured outputs need the package llguidance: pip install 'llama3lib[serve]'"


class ConstraintError(Exception):
    """A text cannot go on: its grammar has become too large to be followed."""


class Constraint:
    """Where a text stands in a grammar."""

    def __init__(self, matcher: "LLMatcher", num_words: int, end_ids: frozenset[int]) -> None:
        self._matcher, self._num_words = matcher, num_words
        self.end_ids = end_ids
        """Tokens that say that the text is whole; they may come wherever it is."""

    def copy(self) -> "Constraint":
        """For another text that goes on from here."""
        return Constraint(self._matcher.deep_copy(), self._num_words, self.end_ids)

    def mask(self) -> Int[Tensor, "words"]:
        """The tokens that may come next: a bit each, in 32-bit words, lowest first."""
        words = torch.zeros(self._num_words, dtype=torch.int32)
        self._matcher.unsafe_compute_mask_ptr(words.data_ptr(), words.numel() * 4)
        # whatever comes after an error is refused by `advance`, for this text alone
        return words.fill_(-1) if self._matcher.is_error() else words

    def advance(self, token: int) -> None:
        """A token was written. Raises ConstraintError if the grammar cannot be followed further."""
        if not self._matcher.consume_token(token) or self._matcher.is_error():
            raise ConstraintError("the grammar is too complex to be followed at this place")

    @property
    def may_end(self) -> bool:
        """Whether the text so far is whole."""
        return self._matcher.is_accepting()

    @property
    def must_end(self) -> bool:
        """Whether it is whole and nothing may follow."""
        return self._matcher.is_stopped() and not self._matcher.is_error()


class StructuredOutputs:
    """Compiles what texts of a tokenizer shall keep to; the last ones are kept.

    vocab_size: scores that the model gives, which may be more than the tokenizer has ids.

    All methods may be called by several threads. They raise ValueError, naming the part, for what
    cannot be followed exactly or is too large, and ModuleNotFoundError without llguidance.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        self._lock = threading.Lock()
        self._made: OrderedDict[str, Constraint] = OrderedDict()
        self._tokens: LLTokenizer | None = None

    def json(self, schema: dict[str, Any] | bool | str) -> Constraint:
        """JSON that a schema describes; without a schema ({} or True) any JSON."""
        return self._compiled("json", lambda lg: lg.grammar_from_json_schema(schema_text(schema)))

    def regex(self, pattern: str) -> Constraint:
        """Texts that match a regular expression (Rust's, without look-around) from end to end."""
        _is_text("regex", pattern)
        return self._compiled("regex", lambda lg: lg.grammar_from_regex(pattern))

    def choice(self, texts: Sequence[str]) -> Constraint:
        """One of these texts."""
        ok = not isinstance(texts, str) and len(texts) > 0
        require(ok and all(isinstance(t, str) and t for t in texts), "choice", texts, "some texts")
        lark = "start: " + " | ".join(json.dumps(text) for text in texts)
        return self._compiled("choice", lambda lg: lg.grammar_from_lark(lark))

    def grammar(self, lark: str) -> Constraint:
        """Texts of a grammar in llguidance's variant of Lark."""
        _is_text("grammar", lark)
        return self._compiled("grammar", lambda lg: lg.grammar_from_lark(lark))

    def _compiled(self, field: str, write: Callable[[type["LLMatcher"]], str]) -> Constraint:
        try:
            from llguidance import LLMatcher, LLParserLimits
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(_INSTALL, name=error.name) from None
        grammar = write(LLMatcher)
        if len(grammar) > _MAX_SIZE:
            raise ValueError(f"{field} is not allowed: {len(grammar)} characters, {_MAX_SIZE} most")
        with self._lock:
            made = self._made.get(grammar)
            if made is not None:
                self._made.move_to_end(grammar)
                return made
            tokens = self._tokens = self._tokens or _tokens(self.tokenizer, self.vocab_size)
        limits = LLParserLimits(verbose_errors=False)
        matcher = LLMatcher(tokens, grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise ValueError(f"{field} is not allowed: {_first_line(matcher.get_error())}")
        first = matcher.deep_copy()
        first.compute_bitmask()
        if first.is_error():  # it refers to nothing but itself, for instance
            raise ValueError(f"{field} is not allowed: no text fits it")
        made = Constraint(matcher, -(-tokens.vocab_size // 32), frozenset(tokens.eos_tokens))
        with self._lock:
            self._made[grammar] = made
            while len(self._made) > _MAX_CACHED:
                self._made.popitem(last=False)
        return made


def schema_text(schema: dict[str, Any] | bool | str) -> str:
    """A schema as it stands in a grammar, after `%json`: JSON, with how JSON shall be written.

    Raises ValueError for what is no schema.
    """
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except (ValueError, RecursionError):
            raise ValueError("json is not allowed: the schema is no JSON") from None
    if schema is True:
        schema = {}
    require(isinstance(schema, dict), "json", schema, "a JSON schema, which is an object")
    try:
        return json.dumps(schema | {"x-guidance": _JSON}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"json is not allowed: the schema is no JSON ({error})") from None


def _is_text(field: str, value: object) -> None:
    require(isinstance(value, str) and value, field, value, "a text that is not empty")


def _first_line(message: str) -> str:
    return " ".join(message.split())[:300]


def _tokens(tokenizer: Tokenizer, vocab_size: int) -> "LLTokenizer":
    """The vocabulary as llguidance reads it: ids without a token may never come."""
    from llguidance import LLTokenizer, TokenizerWrapper

    ends = sorted(i for i in tokenizer.stop_ids if i < vocab_size)
    size = vocab_size if ends else vocab_size + 1  # an end that the model cannot say
    return LLTokenizer(
        TokenizerWrapper(_Vocabulary(tokenizer, size)),
        n_vocab=size,
        eos_token=ends or [vocab_size],
        slices=LLTokenizer.json_slices(),
    )


class _Vocabulary:
    """What llguidance asks a tokenizer for."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, size: int) -> None:
        self.tokens = [_bytes(tokenizer, i) for i in range(size)]
        self.special_token_ids = [i for i in range(size) if tokenizer.is_special(i)]
        self.eos_token_id = min(tokenizer.stop_ids, default=size - 1)
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> list[int]:
        return self._tokenizer.encode(text)


def _bytes(tokenizer: Tokenizer, token: int) -> bytes:
    try:
        return tokenizer.token_bytes(token)
    except ValueError:
        return b""
