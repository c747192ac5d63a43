"""Answers of /v1/completions."""

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
        drawn = [one for _, one in delta.logprobs]
        return wire.CompletionLogprobs(
            tokens=[self._name(one.token_id) for one in drawn],
            token_logprobs=[finite(one.logprob) for one in drawn],
            top_logprobs=[
                {self._name(i): finite(p) for i, p in (*one.top, (one.token_id, one.logprob))}
                for one in drawn
            ],
            text_offset=[begin for begin, _ in delta.logprobs],
        )
