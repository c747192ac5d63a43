"""The engine in one thread of its own; the web server sends requests in and gets tokens out.

Nothing is shared: orders go in through an inbox, and what each step brings goes out through
`call_soon_threadsafe`, so neither side waits for the other and no lock is held around the model.
A reader who is slow finds several deltas at once; nobody else notices.
"""

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

from torch import Tensor

from llama3lib.inference import LLMEngine, RequestOutput, SamplingParams, TokenLogprob
from llama3lib.inference.ranks import RankLostError
from llama3lib.serve.metrics import Metrics
from llama3lib.utils.logging import get_logger

_log = get_logger(__name__)
_REST_SECONDS = 1.0


class EngineError(Exception):
    """The engine could not serve a request.

    refused: it did not take it at all. too_complex: what the text had to keep to could not be
    followed to the end.
    """

    def __init__(self, *, refused: bool = False, too_complex: bool = False) -> None:
        super().__init__("refused" if refused else "failed")
        self.refused, self.too_complex = refused, too_complex


@dataclass(frozen=True)
class TokenDelta:
    """What one step of the engine brought for one text of a request."""

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob]
    finish_reason: str | None
    prompt_logprobs: list[TokenLogprob | None] | None = None
    """What the model thought of the prompt; with the first one of a text."""
    states: Tensor | None = None
    """Hidden states of the prompt, if they were asked for."""


class Job:
    """A request of `size` texts, as the web server sees it; used only in its event loop."""

    def __init__(self, size: int) -> None:
        self.num_prompt_tokens = self.num_cached_tokens = 0
        self._unfinished, self._error = size, None
        self._deltas: list[TokenDelta] = []
        self._news = asyncio.Event()

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self._unfinished == 0 or self._error is not None

    async def batches(self) -> AsyncIterator[list[TokenDelta]]:
        """Each time all that has come since the last; ends with the last text.

        Raises EngineError.
        """
        while self._unfinished or self._deltas:
            await self._news.wait()
            self._news.clear()
            if self._error is not None:
                raise self._error
            deltas, self._deltas = self._deltas, []
            yield deltas

    def add(self, delta: TokenDelta) -> None:
        """One more."""
        self._deltas.append(delta)
        self._unfinished -= delta.finish_reason is not None
        self._news.set()

    def fail(self, error: EngineError) -> None:
        """Nothing more will come."""
        self._error = error
        self._news.set()


@dataclass
class _Route:
    """Where the outputs of one request of the engine go; used only in the engine's thread."""

    job: Job
    first_index: int
    open_samples: set[int]
    began: float = field(default_factory=time.monotonic)
    last_token: float | None = None


class EngineThread:
    """Steps an engine as long as it has work. `start` and `stop` are for the event loop's side."""

    def __init__(self, engine: LLMEngine, metrics: Metrics) -> None:
        self.engine, self.metrics = engine, metrics
        self.healthy = True
        self.lost: RankLostError | None = None
        """Why the engine can't go on, if it is spread over ranks and has lost one."""
        self.on_lost: Callable[[], None] = lambda: None
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._routes: dict[str, _Route] = {}
        self._numbers = count()
        self._stopping = False
        # only between the inbox and its last reader, so that no order is left behind
        self._lock, self._open = threading.Lock(), False

    @property
    def state(self) -> str:
        """`ok`; `failing`: the last step went wrong; `dead`: there is no thread."""
        if not self._open:
            return "dead"
        return "ok" if self.healthy else "failing"

    def start(self) -> None:
        """Begin; to be called in the event loop that will be told."""
        self._events = asyncio.get_running_loop()
        self._open, self._stopping = True, False
        self.metrics.observe_engine(self.engine)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End what is running, and wait for the thread."""
        self._order(self._end)
        await asyncio.to_thread(self._thread.join)

    def submit(
        self, prompts: Sequence[list[int]], params: SamplingParams, n: int, **more: Any
    ) -> Job:
        """Queue prompts, `n` texts each; text `i` of prompt `p` has the index `p * n + i`.

        more: `constraint` and `states` of the engine's `add_request`.
        """
        job = Job(len(prompts) * n)
        began = time.monotonic()
        if not self._order(partial(self._add, job, prompts, params, n, began, **more)):
            job.fail(EngineError())
        return job

    def abort(self, job: Job) -> None:
        """Forget a request; its blocks are free after the step that is under way."""
        if not job.done:
            self._order(partial(self._abort, job))

    def abort_all(self) -> None:
        """End all requests; each text gets the finish reason `abort`."""
        self._order(self._finish_all)

    def _order(self, order: Callable[[], None]) -> bool:
        with self._lock:
            if self._open:
                self._inbox.put(order)
            return self._open

    # from here on: the engine's thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._take_orders()
                if self.engine.has_work and not self._stopping:
                    self._step()
                self.metrics.observe_engine(self.engine)
        finally:
            with self._lock:
                self._open = False
            while not self._inbox.empty():
                self._carry_out(self._inbox.get())
            self._fail_all()
            self._empty_engine()
            self.metrics.observe_engine(self.engine)

    def _take_orders(self) -> None:
        try:
            if not self.engine.has_work:
                self._carry_out(self._inbox.get())
            elif not self.healthy:  # a broken engine is not asked again and again
                self._carry_out(self._inbox.get(timeout=_REST_SECONDS))
            while not self._stopping:
                self._carry_out(self._inbox.get_nowait())
        except queue.Empty:
            pass

    def _carry_out(self, order: Callable[[], None]) -> None:
        try:
            order()
        except Exception:
            _log.exception("an order to the engine failed; its requests are ended")
            self._recover()

    def _end(self) -> None:
        self._stopping = True

    def _add(
        self,
        job: Job,
        prompts: Sequence[list[int]],
        params: SamplingParams,
        n: int,
        began: float,
        **more: Any,
    ) -> None:
        if not self._open:
            self._tell([partial(job.fail, EngineError())])
            return
        for place, prompt in enumerate(prompts):
            name = f"api-{next(self._numbers)}"
            try:
                self.engine.add_request(prompt, params, n=n, request_id=name, **more)
            except Exception as error:
                _log.exception("the engine did not take a request")
                self._abort(job)
                self._tell([partial(job.fail, EngineError(refused=isinstance(error, ValueError)))])
                return
            self._routes[name] = _Route(job, place * n, set(range(n)), began)

    def _abort(self, job: Job) -> None:
        for name in [name for name, route in self._routes.items() if route.job is job]:
            del self._routes[name]
            self.engine.abort_request(name)

    def _step(self) -> None:
        try:
            outputs = self.engine.step()
        except RankLostError as error:
            self.lost, self._stopping = error, True
            self.on_lost()
            return
        except Exception:
            _log.exception("a step of the engine failed; its requests are ended")
            self._recover()
            return
        self.healthy = True
        now, calls = time.monotonic(), []
        for out in outputs:
            route = self._routes.get(out.request_id)
            if route is not None:
                calls += self._deliver(route, out, now)
        self._tell(calls)

    def _deliver(self, route: _Route, out: RequestOutput, now: float) -> list[Callable[[], None]]:
        job, calls = route.job, []
        if out.error is not None:
            self._abort(job)
            return [partial(job.fail, EngineError(too_complex=True))]
        if out.sample_id == 0:
            if route.last_token is None:
                self.metrics.first_token(now - route.began, out.num_prompt_tokens)
                prompt = (out.num_prompt_tokens, out.num_cached_tokens)
                calls.append(partial(_note_prompt, job, *prompt))
            else:
                self.metrics.next_token(now - route.last_token)
            route.last_token = now
        self.metrics.tokens_written(len(out.new_token_ids))
        delta = TokenDelta(
            index=route.first_index + out.sample_id,
            text=out.new_text,
            token_ids=out.new_token_ids,
            logprobs=out.new_logprobs,
            finish_reason=out.finish_reason,
            prompt_logprobs=out.prompt_logprobs if out.is_first else None,
            states=out.states,
        )
        if out.finished:
            route.open_samples.discard(out.sample_id)
            if not route.open_samples:
                del self._routes[out.request_id]
        return [*calls, partial(job.add, delta)]

    def _finish_all(self) -> None:
        calls = []
        for name, route in list(self._routes.items()):
            del self._routes[name]
            self.engine.abort_request(name)
            for sample in sorted(route.open_samples):
                delta = TokenDelta(route.first_index + sample, "", [], [], "abort")
                calls.append(partial(route.job.add, delta))
        self._tell(calls)

    def _recover(self) -> None:
        """After a failure: end all requests, empty the engine, try whether it works again."""
        self.healthy = False
        self.metrics.engine_errors.inc()
        self._fail_all()
        if not self._empty_engine():
            return
        try:
            self.engine.add_request([0], SamplingParams(max_tokens=1))
            while self.engine.has_work:
                self.engine.step()
            self.healthy = True
        except Exception:
            _log.exception("the engine does not work")
            self._empty_engine()

    def _fail_all(self) -> None:
        self._tell([partial(route.job.fail, EngineError()) for route in self._routes.values()])
        self._routes.clear()

    def _empty_engine(self) -> bool:
        """Take all blocks back, whatever state a failed step has left; False if that fails."""
        engine, scheduler = self.engine, self.engine.scheduler
        try:
            for name in list(engine.requests):
                engine.abort_request(name)
            for sequence in [*scheduler.running, *scheduler.waiting]:
                scheduler.finish(sequence, "abort")
        except Exception:
            _log.exception("the engine could not be emptied")
            return False
        return True

    def _tell(self, calls: list[Callable[[], None]]) -> None:
        if not calls:
            return
        try:
            self._events.call_soon_threadsafe(_all, calls)
        except RuntimeError:  # the event loop has ended: nobody listens any more
            _log.info("nobody is left to be told")


def _note_prompt(job: Job, num_prompt_tokens: int, num_cached_tokens: int) -> None:
    job.num_prompt_tokens += num_prompt_tokens
    job.num_cached_tokens += num_cached_tokens


def _all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()
