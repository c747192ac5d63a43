"""`llama3 chat`: a conversation in the terminal, in the model's own chat format."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tyro.conf import OmitArgPrefixes, UseAppendAction

from llama3lib import checkpoint, inference
from llama3lib.cli.options import ModelOptions, Sampling
from llama3lib.inference import SamplingParams
from llama3lib.tokenizer import Message, Tokenizer, chat_format_of

if TYPE_CHECKING:
    from llama3lib.model import Transformer


@dataclass(frozen=True, kw_only=True)
class Chat(ModelOptions):
    """Talk with a model. /reset begins anew, /exit leaves; Ctrl-C cuts an answer short."""

    sampling: OmitArgPrefixes[UseAppendAction[Sampling]] = field(
        default_factory=lambda: Sampling(temperature=0.7)
    )
    system: str | None = None
    """What the model is told before the conversation."""

    def run(self) -> int:
        """Do it; returns the exit code."""
        params = self.sampling.checked()  # before a large model is read
        model, tokenizer = self.load()
        if not checkpoint.is_chat_model(self.path):
            print(
                f"note: nothing in {self.path} says that it was trained to chat. "
                "A base model continues text; do not expect answers."
            )
        print("/reset begins anew, /exit leaves, Ctrl-C cuts an answer short.")
        ChatSession(model, tokenizer, params, system=self.system).loop()
        return 0


class ChatSession:
    """The turns so far, and the model that takes the next one."""

    def __init__(
        self,
        model: "Transformer",
        tokenizer: Tokenizer,
        params: SamplingParams,
        *,
        system: str | None = None,
        show: Callable[[str], None] = lambda text: print(text, end="", flush=True),
        ask: Callable[[str], str] = input,
    ) -> None:
        self.model, self.tokenizer, self.params = model, tokenizer, params
        self.format = chat_format_of(tokenizer)
        self.system = [Message(role="system", content=system)] if system else []
        self.turns: list[Message] = []
        self._show, self._ask = show, ask

    def loop(self) -> None:
        """Read, answer, repeat, until /exit, end of input, or Ctrl-C at the question."""
        while True:
            try:
                text = self._ask("you> ").strip()
            except (EOFError, KeyboardInterrupt):
                self._show("\n")
                return
            if text == "/exit":
                return
            if text == "/reset":
                self.turns.clear()
                self._show("(a new conversation)\n")
            elif text.startswith("/"):
                self._show("commands are /reset and /exit\n")
            elif text:
                self.answer(text)

    def answer(self, text: str) -> None:
        """One turn of each side. Ctrl-C keeps what was said until then."""
        self.turns.append(Message(role="user", content=text))
        try:
            ids = self._fitting_prompt()
        except ValueError as error:
            self.turns.pop()
            self._show(f"({error})\n")
            return
        said: list[str] = []
        try:
            answer = inference.generate(self.model, self.tokenizer, ids, self.params)
            with closing(answer) as pieces:
                for piece in pieces:
                    said.append(piece)
                    self._show(piece)
        except KeyboardInterrupt:
            self._show(" (cut short)")
        self._show("\n")
        self.turns.append(Message(role="assistant", content="".join(said)))

    def _fitting_prompt(self) -> list[int]:
        """Ids of the dialog; the oldest turns are forgotten when there is no room for the answer.

        Raises ValueError if even the last question alone is too long.
        """
        room = self.model.args.max_seq_len - self.params.max_tokens
        while True:
            dialog = self.format.encode_dialog(
                [*self.system, *self.turns], add_generation_prompt=True
            )
            if len(dialog.ids) <= room:
                return dialog.ids
            if len(self.turns) == 1:
                raise ValueError(
                    f"too long: {len(dialog.ids)} tokens and an answer of {self.params.max_tokens} "
                    f"do not fit into {self.model.args.max_seq_len}"
                )
            del self.turns[:2]
            self._show("(the oldest turn is forgotten: no room)\n")
