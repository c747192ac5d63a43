"""A conversation in the terminal, with the released chat format."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from llama3lib.checkpoint import bundled_path
from llama3lib.inference import SamplingParams, generate
from llama3lib.model import Transformer
from llama3lib.tokenizer import ChatFormat, Message, Tokenizer


def is_chat_model(path: str | Path) -> bool:
    """True if a checkpoint says that it was trained on dialogs.

    Weights do not show it. A chat template (Hugging Face) says so, or `"kind": "chat"` in our own
    `provenance.json`; Meta's layout has no place for it.
    """
    folder = Path(path) if Path(path).is_dir() else bundled_path(str(path))
    if (folder / "chat_template.jinja").is_file():
        return True
    template = _read(folder / "tokenizer_config.json").get("chat_template")
    return bool(template) or _read(folder / "provenance.json").get("kind") == "chat"


class ChatSession:
    """The turns so far, and the model that takes the next one."""

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        params: SamplingParams,
        *,
        system: str | None = None,
        show: Callable[[str], None] = lambda text: print(text, end="", flush=True),
        ask: Callable[[str], str] = input,
    ) -> None:
        self.model, self.tokenizer, self.params = model, tokenizer, params
        self.format = ChatFormat(tokenizer)
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
            with closing(generate(self.model, self.tokenizer, ids, self.params)) as pieces:
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


def _read(path: Path) -> dict:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
