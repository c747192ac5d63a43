"""Answers of /v1/completions."""

from llama3lib.inference import TokenLogprob
from llama3lib.serve.openai import types as wire
from llama3lib.serve.openai.answer import AnswerWriter, TextDelta, finite


class CompletionWriter(AnswerWriter):
    """Answers of /v1/completions."""

    prefix, whole_object, event_object = "cmpl", "text_completion", "text_completion"

    def choice(self, delta: TextDelta) -> wire.CompletionChoice:
        return wire.CompletionChoice(
            index=delta.index,
            text=delta.text,
            logprobs=self._logprobs(delta) if self._wants_logprobs else None,
            finish_reason=delta.finish_reason,
        )

    def choices(self, delta: TextDelta) -> list[wire.CompletionChoice]:
        return [self.choice(delta)] if delta.text or delta.logprobs or delta.finish_reason else []

    def _logprobs(self, delta: TextDelta) -> wire.CompletionLogprobs:
        told = delta.logprobs
        return wire.CompletionLogprobs(
            tokens=[self._name(one.token_id) for one in told],
            token_logprobs=[one.logprob and finite(one.logprob.logprob) for one in told],
            top_logprobs=[one.logprob and self._likeliest(one.logprob) for one in told],
            text_offset=[one.begin for one in told],
        )

    def _likeliest(self, one: TokenLogprob) -> dict[str, float]:
        """By name, the drawn token among them."""
        return {self._name(i): finite(p) for i, p in (*one.top, (one.token_id, one.logprob))}
