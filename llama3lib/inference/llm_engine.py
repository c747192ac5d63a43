"""The engine: requests in, texts out, all of them at the same time.

    with LLMEngine(model, tokenizer) as engine:
        print(engine.generate("One sunny day", SamplingParams(max_tokens=50)).text)
        for output in engine.generate(["One sunny day", "Omar had"]):
            print(output.text)

A request goes this way: `add_request` → `Scheduler` (who is next) → `BlockManager` (where does its
cache lie) → `ModelRunner` (through the model) → a token → and again, until it ends.
"""

from collections import deque
from functools import cached_property
from itertools import count
from typing import Any, Literal

import torch

from llama3lib.inference.block_manager import BlockManager
from llama3lib.inference.generation import as_ids, check_prompt
from llama3lib.inference.model_runner import ModelRunner
from llama3lib.inference.offline import Offline, Prompt
from llama3lib.inference.outputs import Request, RequestOutput
from llama3lib.inference.pipeline import PipelineRunner
from llama3lib.inference.prompt_states import LogprobReader, StateReader
from llama3lib.inference.ranks import EngineRanks, RankRunner
from llama3lib.inference.sampling import SamplingParams, TokenLogprob, token_logprobs
from llama3lib.inference.scheduler import ScheduledSequence, Scheduler, SchedulerOutput
from llama3lib.inference.sequence import Sequence
from llama3lib.inference.structured import Constraint, ConstraintError, StructuredOutputs
from llama3lib.inference.text import TextStream
from llama3lib.model import Transformer
from llama3lib.tokenizer import Tokenizer
from llama3lib.utils.require import require, whole
from llama3lib.utils.seed import make_generator


class LLMEngine(Offline):
    """Writes many texts at once.

    num_blocks, block_size: the cache. max_num_seqs, max_num_batched_tokens: see `Scheduler`; a
    step never has more tokens than the model's position table has rows.
    num_stages: threads that share the layers, see `PipelineRunner`. ranks: processes that share
    the model, of which each has its part; see `EngineRanks`. num_micro_batches: steps under way at
    the same time, each of a part of the texts; as many as stages keep all of them at work.
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
        ranks: EngineRanks | None = None,
    ) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.blocks = BlockManager(num_blocks, block_size, prefix_sharing)
        most = min(max_num_batched_tokens, model.args.max_seq_len)
        self.scheduler = Scheduler(
            self.blocks,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=most,
            num_micro_batches=num_micro_batches,
        )
        cache = {"num_blocks": num_blocks, "block_size": block_size}
        flight = cache | {"num_micro_batches": num_micro_batches}
        if ranks is not None:
            self.runner = RankRunner(model, ranks, **flight)
        elif (num_stages, num_micro_batches) == (1, 1):
            self.runner = ModelRunner(model, **cache)
        else:
            self.runner = PipelineRunner(model, num_stages=num_stages, **flight)
        self._under_way: deque[SchedulerOutput] = deque()
        self.requests: dict[str, Request] = {}
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

    @cached_property
    def structured(self) -> StructuredOutputs:
        """Makes the constraints that texts shall keep to, such as a JSON schema."""
        if self.tokenizer is None:
            raise ValueError("a constraint is not allowed: the engine has no tokenizer")
        return StructuredOutputs(self.tokenizer, self.model.args.vocab_size)

    def add_request(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        n: int = 1,
        request_id: str | None = None,
        constraint: Constraint | None = None,
        states: Literal["mean", "all"] | None = None,
    ) -> str:
        """Queue a prompt; `n` texts shall follow it. Returns the request's id.

        constraint: what the texts keep to, made by `structured`. states: what the outputs tell of
        the prompt's hidden states after the last norm, their mean [D] or all [T, D].

        Raises ValueError for a prompt or settings that cannot be served, for an id in use, and
        after `close`.
        """
        self.check_open()
        params = params or SamplingParams()
        if request_id is None:
            request_id = next(
                name for i in self._ids if (name := f"request-{i}") not in self.requests
            )
        require(request_id not in self.requests, "request_id", request_id, "it is in use")
        require(states in (None, "mean", "all"), "states", states, "mean, all or None")
        if params.stop and self.tokenizer is None:
            raise ValueError("stop is not allowed: the engine has no tokenizer")
        ids = as_ids(prompt, self.tokenizer)
        check_prompt(self.model, ids, params)
        sequence = Sequence(ids, params, num_samples=n, request_id=request_id)
        whole("n", n, 1)
        sequence.generator = self._dice(params, 0)
        text = TextStream(self.tokenizer, params)
        sequence.end_ids = text.end_ids
        if constraint is not None:
            sequence.constraint = constraint.copy()
            sequence.end_ids = sequence.end_ids | constraint.end_ids
        request = Request(request_id, [sequence], {0: text})
        if params.prompt_logprobs is not None:
            top = params.prompt_logprobs
            request.logprob_reader = LogprobReader(ids, self.model.output, top)
        if states is not None:
            request.state_reader = StateReader(len(ids), mean=states == "mean")
        readers = (request.logprob_reader, request.state_reader)
        sequence.readers = [reader for reader in readers if reader is not None]
        self.scheduler.add(sequence)
        self.requests[request_id] = request
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

        With several micro-batches, the pass that was begun first; others are begun before, so that
        as many as possible are under way.

        After an error inside it the texts are whole, and the next step goes on with them.
        """
        try:
            while len(self._under_way) < self.runner.num_micro_batches and self._begin():
                pass
            return self._finish() if self._under_way else []
        except BaseException:
            self._under_way.clear()
            self.runner.forget()
            self.scheduler.restart()
            raise

    def _begin(self) -> bool:
        """Whether there was something for another pass to begin with."""
        plan = self.scheduler.schedule()
        if plan.scheduled:
            self.runner.submit(plan.scheduled, plan.copies)
            self._under_way.append(plan)
            for item in plan.scheduled:
                item.sequence.in_flight = True
        return bool(plan.scheduled)

    def _finish(self) -> list[RequestOutput]:
        plan, logits = self._under_way.popleft(), self.runner.collect()
        # who was aborted meanwhile is left out
        places = [i for i, item in enumerate(plan.scheduled) if not item.sequence.is_finished]
        here = [plan.scheduled[i] for i in places]
        rows = [i for i, item in zip(places, here, strict=True) if item.is_last_piece]
        writing = [plan.scheduled[i] for i in rows]
        for item in here:
            item.sequence.in_flight = False
            self.blocks.note_computed(item.sequence, item.num_tokens)
        writing, rows = self._fork(writing, rows)
        for item in writing:
            item.sequence.readers = []
        only_read = [item.sequence for item in writing if not item.sequence.params.max_tokens]
        if only_read:
            keep = [i for i, item in enumerate(writing) if item.sequence.params.max_tokens]
            writing, rows = [writing[i] for i in keep], [rows[i] for i in keep]
        tokens = self.runner.draw(logits[rows], writing)
        counts = [item.sequence.params.logprobs for item in writing]
        logprobs = token_logprobs(logits[rows], tokens, counts)
        drawn = zip(writing, tokens, logprobs, strict=True)
        outputs = [self._append(item.sequence, token, logprob) for item, token, logprob in drawn]
        return outputs + [self._output(sequence, reason="length") for sequence in only_read]

    def check_open(self) -> None:
        """Raise ValueError after `close`."""
        if self._closed:
            raise ValueError("the engine is closed: make another one")

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
        stream = self.requests[sequence.request_id].texts[sequence.sample_id]
        if token in sequence.end_ids:
            return self._output(sequence, reason="stop")
        bound = sequence.constraint
        try:
            if bound is not None:
                bound.advance(token)
        except ConstraintError as error:
            return self._output(sequence, reason="error", error=str(error))
        sequence.token_ids.append(token)
        new, stopped = stream.push(token)
        reason = None
        if stopped or (bound is not None and bound.must_end):
            reason = "stop"
        elif sequence.num_output_tokens >= sequence.params.max_tokens:
            reason = "length"
        logprobs = [] if logprob is None else [logprob]
        return self._output(sequence, new, reason, new_token_ids=[token], new_logprobs=logprobs)

    def _output(
        self, sequence: Sequence, new: str = "", reason: str | None = None, **more: Any
    ) -> RequestOutput:
        """What is told of a text now; `reason`: it ends here, with all that was held back."""
        request = self.requests[sequence.request_id]
        stream = request.texts[sequence.sample_id]
        if reason is not None:
            new += stream.flush()
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
            **request.seen,
            **more,
        )
