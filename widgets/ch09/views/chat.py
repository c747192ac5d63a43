"""Talk to a real engine from the notebook: text in, tokens out while they are made.

One thread of the panel's own steps the engine, so cells go on running meanwhile. It sends the text
so far some thirty times a second at most. Text of people and models is only ever text, never HTML.
"""

import threading
import time
from html import escape
from pathlib import Path

import traitlets

from llama3lib.inference import LLMEngine, RequestOutput, SamplingParams
from llama3lib.tokenizer import ChatFormat, Message
from llama3lib.utils.require import whole
from widgets.core.widget import CourseWidget, css, esm

_PAUSE = 0.03  # seconds between two messages to the browser
_PATIENCE = 10  # seconds to wait for the step that goes on when the panel is closed
_ENDS = {"stop": "", "length": ", cut at the limit", "abort": ", stopped"}


class ChatPanel(CourseWidget):
    """A text box, and what the model makes of it.

    engine: one with a tokenizer. While the panel writes, leave the engine alone: two threads may
    not step it at once (`wait` returns when it has done).
    chat: False for a base model, which goes on with the text; True for one trained on dialogs: the
    turns so far go along in the released chat format, the oldest are forgotten when there is no
    room for an answer.
    max_tokens: of one answer at most. system: instructions in front of the dialog, in a chat only.

    Raises ValueError for an engine without a tokenizer or numbers that are not allowed.
    """

    _esm = esm("chat", folder=Path(__file__).parent)
    _css = css("chat", folder=Path(__file__).parent)
    temperature = traitlets.Float(0.8).tag(sync=True)
    chat = traitlets.Bool(False).tag(sync=True)
    turns = traitlets.List().tag(sync=True)
    """What was said: prompt, answer, note; the last may still be going on."""
    writing = traitlets.Bool(False).tag(sync=True)

    _thread: threading.Thread | None = None

    def __init__(
        self,
        engine: LLMEngine,
        chat: bool = False,
        *,
        max_tokens: int = 100,
        temperature: float = 0.8,
        top_p: float = 1.0,
        seed: int | None = None,
        system: str | None = None,
    ) -> None:
        if engine.tokenizer is None:
            raise ValueError("engine is not allowed: it has no tokenizer")
        if system and not chat:
            raise ValueError(f"system={system!r} is not allowed: chat=True is needed")
        whole("max_tokens", max_tokens, 1)
        self._settings = {"max_tokens": max_tokens, "top_p": top_p, "seed": seed}
        SamplingParams(temperature=temperature, **self._settings)  # checks them all
        self.engine = engine
        self._format = ChatFormat(engine.tokenizer)
        self._system = [Message(role="system", content=system)] if system else []
        self._forgotten = 0  # turns that no longer go along
        self._halt = threading.Event()
        super().__init__(chat=chat)
        self.temperature = temperature
        self.on_msg(self._from_browser)

    @traitlets.validate("temperature")
    def _warm(self, proposal: dict) -> float:
        if not 0 <= proposal["value"] <= 2:
            raise traitlets.TraitError(
                f"temperature={proposal['value']!r} is not allowed: 0 to 2 in this panel"
            )
        return proposal["value"]

    def submit(self, text: str) -> None:
        """Begin to write; returns at once.

        Raises ValueError for text that is empty or leaves no room for an answer, and while the
        panel or somebody else uses the engine.
        """
        if self.writing:
            raise ValueError("still writing: wait, or stop it first")
        if self.engine.has_work:
            raise ValueError("the engine is busy with somebody else's text")
        if not isinstance(text, str) or not text.strip():
            raise ValueError("text='' is not allowed: at least one letter")
        ids = self._prompt(text)
        room = self._room() - len(ids)
        if room < 1:
            raise ValueError(f"too long: {len(ids)} tokens leave no room in {self._room()}")
        settings = self._settings | {"max_tokens": min(self._settings["max_tokens"], room)}
        params = SamplingParams(temperature=self.temperature, **settings)
        request_id = self.engine.add_request(ids, params)
        self._halt.clear()
        self.turns = [*self.turns, {"prompt": text, "answer": "", "note": ""}]
        self.writing = True
        self._thread = threading.Thread(target=self._write, args=[request_id], daemon=True)
        self._thread.start()

    def ask(self, text: str) -> str:
        """`submit`, wait for the end, and return the answer."""
        self.submit(text)
        self.wait()
        return self.turns[-1]["answer"]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is written; False if the seconds were not enough."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self.writing

    def stop(self) -> None:
        """End the answer after the token that is being made; what is there stays."""
        self._halt.set()

    def close(self) -> None:
        """Stop, give the blocks back, and take the panel away. The engine stays open."""
        if self._thread is not None:
            self.stop()
            self.wait(_PATIENCE)
        super().close()

    def summary(self) -> str:
        if not self.turns:
            return "ChatPanel: nothing is written yet; run this cell to use it"
        return f"ChatPanel: {len(self.turns)} written; the last with {self.turns[-1]['note']}"

    def static_html(self) -> str:
        """What was said, for pages without a kernel."""
        parts = [f"<p>{escape(self.summary())}</p>"]
        style = 'style="white-space: pre-wrap"'
        for turn in self.turns:
            prompt, answer = escape(turn["prompt"]), escape(turn["answer"])
            if self.chat:
                parts.append(f"<p {style}><strong>you:</strong> {prompt}</p>")
                parts.append(f"<p {style}><strong>model:</strong> {answer}</p>")
            else:
                parts.append(f"<p {style}>{prompt}<u>{answer}</u></p>")
            parts.append(f"<p><small>{escape(turn['note'])}</small></p>")
        return f"<div>{''.join(parts)}</div>"

    def _room(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        blocks = self.engine.blocks
        return min(self.engine.model.args.max_seq_len, blocks.num_blocks * blocks.block_size)

    def _prompt(self, text: str) -> list[int]:
        if not self.chat:
            return self.engine.tokenizer.encode(text, bos=True)
        while True:
            said = list(self._system)
            for turn in self.turns[self._forgotten :]:
                said.append(Message(role="user", content=turn["prompt"]))
                said.append(Message(role="assistant", content=turn["answer"]))
            said.append(Message(role="user", content=text))
            ids = self._format.encode_dialog(said, add_generation_prompt=True).ids
            fits = len(ids) + self._settings["max_tokens"] <= self._room()
            if fits or self._forgotten == len(self.turns):
                return ids
            self._forgotten += 1

    def _write(self, request_id: str) -> None:
        """The thread: step the engine until the text ends or somebody stops it."""
        clock = _Clock()
        answer, reason, trouble, sent = "", "abort", "", 0.0
        try:
            while not self._halt.is_set():
                out = self._step(request_id)
                if out is None:
                    continue  # a piece of a long prompt was read
                answer = out.text
                clock.count(len(out.token_ids))
                if out.finished:
                    reason = out.finish_reason
                    break
                if time.monotonic() - sent >= _PAUSE:
                    sent = time.monotonic()
                    self.send({"kind": "text", "text": answer, "note": clock.words()})
        except Exception as error:  # whatever a model may raise: the reader has to see it
            trouble = f"; failed: {error}"
        finally:
            self.engine.abort_request(request_id)  # nothing happens if it has ended
            note = clock.words() + (trouble or _ENDS.get(reason, f", {reason}"))
            said = {"prompt": self.turns[-1]["prompt"], "answer": answer, "note": note}
            self.turns = [*self.turns[:-1], said]
            self.writing = False

    def _step(self, request_id: str) -> RequestOutput | None:
        outputs = self.engine.step()
        return next((out for out in outputs if out.request_id == request_id), None)

    def _from_browser(self, widget: object, content: object, buffers: object) -> None:
        kind = content.get("kind") if isinstance(content, dict) else None
        if kind == "stop":
            self.stop()
        elif kind == "send":
            try:
                self.submit(content.get("text"))
            except ValueError as error:
                self.send({"kind": "refused", "why": str(error)})


class _Clock:
    """How many tokens, and how fast from the first on (reading the prompt is not counted)."""

    def __init__(self) -> None:
        self.tokens = 0
        self.first = self.last = 0.0

    def count(self, tokens: int) -> None:
        """So many tokens are there now."""
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.tokens = tokens

    def words(self) -> str:
        """As in "42 tokens, 310 tokens/s"."""
        plural = "" if self.tokens == 1 else "s"
        told = f"{self.tokens} token{plural}"
        if self.tokens < 2 or self.last <= self.first:
            return told
        return f"{told}, {(self.tokens - 1) / (self.last - self.first):,.0f} tokens/s"
