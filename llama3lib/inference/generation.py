"""Text from a model, token by token, given out as it is made."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import torch

from llama3lib.inference.kv_cache import KVCache
from llama3lib.inference.logits import adjust_row, wide_copy
from llama3lib.inference.sampling import SamplingParams, sample
from llama3lib.inference.text import TextStream
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from llama3lib.utils.require import require
from llama3lib.utils.seed import make_generator


def generate_tokens(
    model: Transformer, prompt_ids: Sequence[int], params: SamplingParams | None = None
) -> Iterator[int]:
    """Ids that follow the prompt, one at a time; at most `params.max_tokens`.

    Ends before an id in `params.stop_token_ids`. The cache is freed when the iteration ends or
    is given up.
    Raises ValueError, before anything is computed, on an empty prompt, an id outside the
    vocabulary, or more tokens than the position table has rows.
    """
    params = params or SamplingParams()
    prompt_ids = list(prompt_ids)
    check_prompt(model, prompt_ids, params)
    return _tokens(model, prompt_ids, params)


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    params: SamplingParams | None = None,
) -> Iterator[str]:
    """Text that follows the prompt, in pieces of whole characters.

    A prompt that is a string gets the begin-of-text token in front and can name no special
    token; a prompt of ids is taken as it is. Ends at the tokenizer's stop tokens (unless
    `ignore_eos`), at `stop_token_ids`, and before a string of `stop`, of which no part is ever
    given out.
    Raises ValueError as `generate_tokens`, and on an empty string.
    """
    params = params or SamplingParams()
    ids = as_ids(prompt, tokenizer)
    check_prompt(model, ids, params)
    return _text(model, tokenizer, ids, params)


def as_ids(prompt: str | Iterable[int], tokenizer: Tokenizer | None) -> list[int]:
    """A prompt as ids: text gets the begin-of-text token in front, ids stay as they are.

    Raises ValueError for an empty text, for text without a tokenizer, and for anything else.
    """
    if not isinstance(prompt, str):
        ok = isinstance(prompt, Iterable) and not isinstance(prompt, bytes | Mapping)
        require(ok, "prompt", prompt, "text or ids")
        return list(prompt)
    if tokenizer is None:
        raise ValueError("prompt is not allowed to be text: there is no tokenizer")
    if not prompt:
        raise ValueError("prompt='' is not allowed: at least one character")
    return tokenizer.encode(prompt, bos=True)


def check_prompt(model: Transformer, ids: list[int], params: SamplingParams) -> None:
    """Raises ValueError for a prompt that the model cannot go on from; see `generate_tokens`."""
    if not ids:
        raise ValueError("prompt_ids=[] is not allowed: at least one token")
    vocab_size, room = model.args.vocab_size, model.args.max_seq_len
    bad = [i for i in ids if type(i) is not int or not 0 <= i < vocab_size]
    if bad:
        raise ValueError(f"prompt_ids has {bad[0]!r}: ids are 0 to {vocab_size - 1}")
    bad = [i for i in params.logit_bias if i >= vocab_size]
    if bad:
        raise ValueError(f"logit_bias has {bad[0]!r}: ids are 0 to {vocab_size - 1}")
    if len(ids) + params.max_tokens > room:
        raise ValueError(
            f"max_tokens={params.max_tokens} is not allowed after a prompt of {len(ids)}: "
            f"the position table has {room} rows, so {max(room - len(ids), 0)} at most; "
            "load_model(..., max_seq_len=...) makes it longer"
        )


@torch.inference_mode()
def _tokens(
    model: Transformer,
    prompt_ids: list[int],
    params: SamplingParams,
    end_ids: Collection[int] = (),
) -> Iterator[int]:
    device = model.norm.weight.device
    generator = make_generator(params.seed, device) if params.temperature > 0 else None
    stops, written = frozenset(params.stop_token_ids), []
    ends = stops | frozenset(end_ids)
    tokens = torch.tensor([prompt_ids], device=device)
    with KVCache(model, max_seq_len=len(prompt_ids) + params.max_tokens) as cache:
        for made in range(1, params.max_tokens + 1):
            logits = cache.step(tokens)
            if params.changes_logits:
                logits = wide_copy(logits)
                adjust_row(logits[0], params, prompt_ids, written, ends)
            token = sample(logits, params, generator)
            token_id = int(token)
            if token_id in stops:
                return
            written.append(token_id)
            yield token_id
            if made < params.max_tokens:
                tokens = token.unsqueeze(1)


def _text(
    model: Transformer, tokenizer: Tokenizer, prompt_ids: list[int], params: SamplingParams
) -> Iterator[str]:
    stream = TextStream(tokenizer, params)
    tokens = _tokens(model, prompt_ids, params, stream.end_ids)
    try:
        for token_id in tokens:
            if stream.is_end(token_id):
                break
            piece, stopped = stream.push(token_id)
            if piece:
                yield piece
            if stopped:
                return
    finally:
        tokens.close()
    if rest := stream.flush():
        yield rest
