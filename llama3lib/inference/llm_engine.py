"""The engine: requests in, texts out, all of them at the same time.

    with LLMEngine(model, tokenizer) as engine:
        for output in engine.generate(["One sunny day", "Omar had"], SamplingParams(max_tokens=50)):
            print(output.text)

A request goes this way: `add_request` → `Scheduler` (who is next) → `BlockManager` (where does its
cache lie) → `ModelRunner` (through the model) → a token → and again, until it ends.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

import torch

from llama3lib.inference.block_manager import BlockManager
from llama3lib.inference.model_runner import ModelRunner
from llama3lib.inference.pipeline import PipelineRunner
from llama3lib.inference.sampling import SamplingParams, TokenLogprob, token_logprobs
from llama3lib.inference.scheduler import ScheduledSequence, Scheduler, SchedulerOutput
from llama3lib.inference.sequence import Sequence
from llama3lib.inference.text import TextStream
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from llama3lib.utils.require import require, whole
from llama3lib.utils.seed import make_generator


@dataclass(frozen=True)
class RequestOutput:
    """What a step brought for one sample of a request."""

    request_id: str
    sample_id: int
    token_ids: list[int]
    """All tokens after the prompt so far, without one that ended the text."""
    text: str
    """All text so far that is sure to stay."""
    new_text: str
    finished: bool
    finish_reason: str | None
    num_prompt_tokens: int
    num_cached_tokens: int = 0
    new_token_ids: list[int] = field(default_factory=list)
    """The tokens of this step; none if the one drawn only said that the text has ended."""
    new_logprobs: list[TokenLogprob] = field(default_factory=list)
    """What the model thought of them, if `SamplingParams.logprobs` asks for it."""


@dataclass
class _Request:
    """One request: its samples and their texts."""

    request_id: str
    sequences: list[Sequence] = field(default_factory=list)
    texts: dict[int, TextStream] = field(default_factory=dict)


class LLMEngine:
    """Writes many texts at once.

    num_blocks, block_size: the cache. max_num_seqs, max_num_batched_tokens: see `Scheduler`; a
    step never has more tokens than the model's position table has rows.
    num_stages, num_micro_batches: more than 1 decode in a pipeline, see `PipelineRunner`.
    tokenizer: None to work with ids only; then prompts are ids and `text` stays empty.

    Raises ValueError for sizes that are not allowed.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer | None = None,
        *,
        num_blocks: int = 256,
        block_size: int = 16,
        max_num_seqs: int = 64,
        max_num_batched_tokens: int = 512,
        prefix_sharing: bool = True,
        num_stages: int = 1,
        num_micro_batches: int = 1,
    ) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.blocks = BlockManager(num_blocks, block_size, prefix_sharing)
        most = min(max_num_batched_tokens, model.args.max_seq_len)
        self.scheduler = Scheduler(
            self.blocks, max_num_seqs=max_num_seqs, max_num_batched_tokens=most
        )
        cache = {"num_blocks": num_blocks, "block_size": block_size}
        if (num_stages, num_micro_batches) == (1, 1):
            self.runner = ModelRunner(model, **cache)
        else:
            pipeline = {"num_stages": num_stages, "num_micro_batches": num_micro_batches}
            self.runner = PipelineRunner(model, **cache, **pipeline)
        self.requests: dict[str, _Request] = {}
        self._ids = count()
        self._closed = False

    def __enter__(self) -> "LLMEngine":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End all requests and give the model back; a second time does nothing."""
        self._closed = True
        for request_id in list(self.requests):
            self.abort_request(request_id)
        self.runner.close()

    def add_request(
        self,
        prompt: str | Iterable[int],
        params: SamplingParams | None = None,
        *,
        n: int = 1,
        request_id: str | None = None,
    ) -> str:
        """Queue a prompt; `n` texts shall follow it. Returns the request's id.

        Raises ValueError for a prompt or settings that cannot be served, for an id in use, and
        after `close`.
        """
        if self._closed:
            raise ValueError("the engine is closed: make another one")
        params = params or SamplingParams()
        if request_id is None:
            request_id = next(
                name for i in self._ids if (name := f"request-{i}") not in self.requests
            )
        require(request_id not in self.requests, "request_id", request_id, "it is in use")
        ids = self._prompt_ids(prompt, params)
        sequence = Sequence(ids, params, num_samples=n, request_id=request_id)
        whole("n", n, 1)
        sequence.generator = self._dice(params, 0)
        self.scheduler.add(sequence)
        texts = {0: TextStream(self.tokenizer, params)}
        self.requests[request_id] = _Request(request_id, [sequence], texts)
        return request_id

    def abort_request(self, request_id: str) -> bool:
        """End a request at once; False if there is none of that id."""
        request = self.requests.pop(request_id, None)
        if request is None:
            return False
        for sequence in request.sequences:
            if not sequence.is_finished:
                self.scheduler.finish(sequence, "abort")
        return True

    @property
    def has_work(self) -> bool:
        """Whether any request is not finished."""
        return self.scheduler.has_work

    def step(self) -> list[RequestOutput]:
        """One pass through the model; what it brought, for each sample that got a token.

        After an error inside it the texts are whole, and the next step goes on with them.
        """
        plan = self.scheduler.schedule()
        try:
            return self._go(plan) if plan.scheduled else []
        except BaseException:
            self.scheduler.restart()
            raise

    def _go(self, plan: SchedulerOutput) -> list[RequestOutput]:
        logits = self.runner.run(plan.scheduled, plan.copies)
        rows = [i for i, item in enumerate(plan.scheduled) if item.is_last_piece]
        writing = [plan.scheduled[i] for i in rows]
        for item in plan.scheduled:
            self.blocks.note_computed(item.sequence, item.num_tokens)
        writing, rows = self._fork(writing, rows)
        tokens = self.runner.draw(logits[rows], writing)
        counts = [item.sequence.params.logprobs for item in writing]
        logprobs = token_logprobs(logits[rows], tokens, counts)
        drawn = zip(writing, tokens, logprobs, strict=True)
        return [self._append(item.sequence, token, logprob) for item, token, logprob in drawn]

    def generate(
        self, prompts: Iterable[str | Iterable[int]], params: SamplingParams | None = None
    ) -> list[RequestOutput]:
        """The finished texts of several prompts, in their order; after an error none goes on."""
        wanted: list[str] = []
        done: dict[str, RequestOutput] = {}
        try:
            for prompt in prompts:
                wanted.append(self.add_request(prompt, params))
            while any(request_id not in done for request_id in wanted):
                done |= {out.request_id: out for out in self.step() if out.finished}
        finally:
            for request_id in wanted:
                self.abort_request(request_id)
        return [done[request_id] for request_id in wanted]

    def _prompt_ids(self, prompt: str | Iterable[int], params: SamplingParams) -> list[int]:
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise ValueError("prompt is not allowed to be text: the engine has no tokenizer")
            if not prompt:
                raise ValueError("prompt='' is not allowed: at least one character")
            prompt = self.tokenizer.encode(prompt, bos=True)
        ids, args = list(prompt), self.model.args
        bad = [i for i in ids if type(i) is not int or not 0 <= i < args.vocab_size]
        if bad:
            raise ValueError(f"prompt has {bad[0]!r}: ids are 0 to {args.vocab_size - 1}")
        if len(ids) + params.max_tokens > args.max_seq_len:
            raise ValueError(
                f"max_tokens={params.max_tokens} is not allowed after a prompt of {len(ids)}: "
                f"at most {max(args.max_seq_len - len(ids), 0)}"
            )
        if params.stop and self.tokenizer is None:
            raise ValueError("stop is not allowed: the engine has no tokenizer")
        return ids

    def _dice(self, params: SamplingParams, sample_id: int) -> torch.Generator | None:
        if params.temperature == 0:
            return None
        seed = None if params.seed is None else params.seed + sample_id
        return make_generator(seed, self.runner.device)

    def _fork(
        self, writing: list[ScheduledSequence], rows: list[int]
    ) -> tuple[list[ScheduledSequence], list[int]]:
        """Prompts that have been read and want several texts get their other samples now."""
        items, places = [], []
        for item, row in zip(writing, rows, strict=True):
            parent = item.sequence
            items.append(item)
            places.append(row)
            for sample_id in range(1, parent.num_samples):
                child = parent.fork(sample_id, self._dice(parent.params, sample_id))
                self.scheduler.fork(parent, child)
                request = self.requests[parent.request_id]
                request.sequences.append(child)
                request.texts[sample_id] = TextStream(self.tokenizer, parent.params)
                items.append(ScheduledSequence(child, 0))
                places.append(row)
            parent.num_samples = 1
        return items, places

    def _append(
        self, sequence: Sequence, token: int, logprob: TokenLogprob | None
    ) -> RequestOutput:
        request = self.requests[sequence.request_id]
        stream = request.texts[sequence.sample_id]
        params = sequence.params
        ends = token in params.stop_token_ids or stream.is_end(token)
        new, reason = "", None
        if ends:
            new, reason = stream.flush(), "stop"
        else:
            sequence.token_ids.append(token)
            new, stopped = stream.push(token)
            if stopped:
                reason = "stop"
            elif sequence.num_output_tokens >= params.max_tokens:
                new, reason = new + stream.flush(), "length"
        if reason is not None:
            self.scheduler.finish(sequence, reason)
            if all(one.is_finished for one in request.sequences):
                del self.requests[sequence.request_id]
        return RequestOutput(
            request_id=sequence.request_id,
            sample_id=sequence.sample_id,
            token_ids=sequence.output_ids,
            text=stream.text,
            new_text=new,
            finished=reason is not None,
            finish_reason=reason,
            num_prompt_tokens=sequence.num_prompt_tokens,
            num_cached_tokens=sequence.num_cached_tokens,
            new_token_ids=[] if ends else [token],
            new_logprobs=[] if ends or logprob is None else [logprob],
        )
