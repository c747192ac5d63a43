"""Dialogs as a folder's own Jinja `chat_template` writes them: ChatML, Zephyr, Mistral, and so on.

The text is that of transformers' `apply_chat_template`, and so are its ids, but for one thing:
what looks like a control token in a message, a call or a function stays the letters it is.
transformers reads `<|im_end|>` in a user's message as the end of the message.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama3lib.tokenizer import special
from llama3lib.tokenizer.chat_format import ChatFormat, EncodedDialog, Message
from llama3lib.tokenizer.llama3_template import LLAMA3_TEMPLATE
from llama3lib.tokenizer.tokenizer import Tokenizer
from llama3lib.tokenizer.tool_calls import parse_tool_calls
from llama3lib.utils.sandbox import Refused, Sandbox

_MEMORY = 1 << 30
# no text has these code points: one breaks the names of control tokens, two stand around what
# the assistant says
_GUARD, *_MARKS = "\ufdd0", "\ufdd1", "\ufdd2"
_ESCAPED_GUARD = json.dumps(_GUARD).strip('"')


def chat_format_of(tokenizer: Tokenizer) -> "ChatFormat | ChatTemplate":
    """How dialogs of a vocabulary are written: as its folder says, or as the release does.

    Our own template says what the release does, so that no Jinja is needed for it.

    Raises ValueError if it has neither a template nor Llama 3's control tokens, or a broken one.
    """
    templates = tokenizer.rules.chat_templates
    if not templates or templates == {"default": LLAMA3_TEMPLATE}:
        return ChatFormat(tokenizer)
    return ChatTemplate(tokenizer)


class ChatTemplate:
    """Encodes dialogs with a tokenizer and its template, and decodes what the model answers.

    templates: by name; those of the tokenizer's folder if left out. "tool_use" is taken where
    functions are offered, else "default".
    seconds: of processor time that one dialog may take. sandbox: a process to share with others.

    A template is a program of strangers. It runs in a process of its own that is limited in time,
    memory and length of text, and cannot reach Python's insides.
    Raises ValueError for a template that is none, ModuleNotFoundError without jinja2.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        templates: Mapping[str, str] | None = None,
        *,
        seconds: float = 5.0,
        sandbox: Sandbox | None = None,
    ) -> None:
        self.tokenizer, self.seconds = tokenizer, seconds
        self.templates = dict(tokenizer.rules.chat_templates if templates is None else templates)
        if "default" not in self.templates:
            raise ValueError(
                f"chat_template has {sorted(self.templates)} and no 'default': one is needed"
            )
        self._sandbox = sandbox or Sandbox(_MEMORY)
        from llama3lib.tokenizer.template_render import look  # needs jinja2

        self._facts = {name: self._run(look, text) for name, text in self.templates.items()}
        control = tokenizer.special_tokens.keys() - tokenizer.text_tokens
        names = "|".join(map(re.escape, sorted(control)))
        self._names = re.compile(f"(?=(?:{names}))(.)", re.DOTALL) if names else None

    def encode_dialog(
        self,
        messages: Iterable[Message],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> EncodedDialog:
        """The whole dialog; what stands first is the template's affair.

        tools: functions that the model may call, as OpenAI's interface lists them.
        add_generation_prompt: end where the assistant begins to speak. Such a dialog is a prompt:
        its loss mask is False everywhere. Else it is True on what the template marks by
        `{% generation %}`, or, without marks, on what each message of the assistant adds.
        Raises ValueError if the template refuses the dialog, does not know `tools`, or fails, and
        if it cannot be told what the assistant adds.
        """
        messages = list(messages)
        name = "tool_use" if tools and "tool_use" in self.templates else "default"
        if tools and not self._facts[name]["tools"]:
            raise ValueError("tools are not allowed: this model's chat_template does not tell them")
        if add_generation_prompt or self._facts[name]["generation"]:
            (text,) = self._render(name, [(messages, add_generation_prompt)], tools)
            text, spans = _unmarked(text)
        else:
            text, spans = self._text_and_spans(name, messages, tools)
        return self._encode(text, [] if add_generation_prompt else spans)

    def decode_assistant(self, ids: Sequence[int]) -> Message:
        """Read what the model wrote: text, or calls of functions in any format that is known."""
        ids, tokenizer = list(ids), self.tokenizer
        stop = None
        if ids and ids[-1] in tokenizer.stop_ids:
            waits = ids.pop() == tokenizer.special_tokens.get(special.END_OF_MESSAGE)
            stop = "end_of_message" if waits else "end_of_turn"
        tag = tokenizer.special_tokens.get(special.PYTHON_TAG)
        tagged = bool(ids) and ids[0] == tag
        text = tokenizer.decode(ids[1:] if tagged else ids)
        calls = parse_tool_calls(text, tagged=tagged)
        content = "" if calls else text
        return Message(role="assistant", content=content, tool_calls=calls, stop_reason=stop)

    def _text_and_spans(
        self, name: str, messages: list[Message], tools: Sequence[Mapping[str, Any]]
    ) -> tuple[str, list[tuple[int, int]]]:
        """The dialog, and what each message of the assistant adds to the one before it."""
        places = [i for i, message in enumerate(messages) if message.role == "assistant"]
        jobs = [(messages, False)]
        for i in places:
            jobs += [(messages[:i], True), (messages[: i + 1], False)]
        text, *others = self._render(name, jobs, tools)
        for before, after in zip(others[::2], others[1::2], strict=True):
            if not (text.startswith(after) and after.startswith(before)):
                raise ValueError(
                    "chat_template does not tell what the assistant says: it has no "
                    "{% generation %}, and a message changes what stands before it"
                )
        return text, [(len(a), len(b)) for a, b in zip(others[::2], others[1::2], strict=True)]

    def _render(
        self,
        name: str,
        jobs: Sequence[tuple[list[Message], bool]],
        tools: Sequence[Mapping[str, Any]],
    ) -> list[str]:
        from llama3lib.tokenizer.template_render import render

        names = dict(self.tokenizer.rules.names)
        dialogs = [
            {
                **names,
                "messages": self._guarded([_as_dict(message) for message in messages]),
                "tools": self._guarded(list(tools)) or None,
                "documents": None,
                "add_generation_prompt": prompt,
            }
            for messages, prompt in jobs
        ]
        template = self.templates[name]
        task = {"template": template, "marks": _MARKS, "dialogs": dialogs}
        texts = self._run(render, json.dumps(task))
        if "ensure_ascii" in template:  # then `tojson` may write a sign as six letters
            texts = [text.replace(_ESCAPED_GUARD, _GUARD) for text in texts]
        return texts

    def _run(self, function: Any, text: str) -> Any:
        try:
            return self._sandbox.call(function, text, self.seconds)
        except Refused as refused:
            told = refused.detail if refused.reason == "refused" else ""
            raise ValueError(told or f"chat_template is not usable: {refused}") from None

    def _guarded(self, value: Any) -> Any:
        """The same with every name of a control token broken, and without our own signs."""
        if isinstance(value, str):
            for sign in (_GUARD, *_MARKS):
                value = value.replace(sign, "\ufffd")
            return value if self._names is None else self._names.sub(rf"\1{_GUARD}", value)
        if isinstance(value, Mapping):
            return {self._guarded(key): self._guarded(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._guarded(one) for one in value]
        return value

    def _encode(self, text: str, spans: Sequence[tuple[int, int]]) -> EncodedDialog:
        learned = bytearray(len(text))
        for start, end in spans:
            learned[start:end] = b"\x01" * (end - start)
        ids, mask, at = [], [], 0
        for i, part in enumerate(self.tokenizer.split(text)):
            at = text.index(part, at)  # blanks may have been swallowed in between
            flags, at = learned[at : at + len(part)], at + len(part)
            if i % 2:
                ids.append(self.tokenizer.special_tokens[part])
                mask.append(bool(flags[0]))
                continue
            kept = [(c, on) for c, on in zip(part, flags, strict=True) if c != _GUARD]
            new = self.tokenizer.encode_text("".join(c for c, _ in kept))
            ids += new
            mask += self._mask(new, kept) if any(flags) else [False] * len(new)
        return EncodedDialog(ids, mask)

    def _mask(self, ids: Sequence[int], letters: Sequence[tuple[str, int]]) -> list[bool]:
        """For each id whether its first byte belongs to a letter that is learned."""
        flags = [bool(on) for letter, on in letters for _ in letter.encode("utf-8")]
        sizes = [len(self.tokenizer.token_bytes(i)) for i in ids]
        return [flags[at] for at in itertools.accumulate(sizes[:-1], initial=0)]


def _as_dict(message: Message) -> dict[str, Any]:
    """A message as transformers' templates expect it."""
    content = message.content
    if message.context is not None:
        content = f"{content}\n\n{message.context}"
    role = "tool" if message.role == "ipython" else message.role
    made: dict[str, Any] = {"role": role, "content": content}
    if message.tool_call_id is not None:
        made["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        made["tool_calls"] = [
            {"type": "function", "function": {"name": c.name, "arguments": dict(c.arguments)}}
            | ({} if c.id is None else {"id": c.id})
            for c in message.tool_calls
        ]
    return made


def _unmarked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """A text without the marks, and what stood between them."""
    pieces = re.split(f"([{''.join(_MARKS)}])", text)
    kept, spans, size, begin = [], [], 0, 0
    for piece in pieces:
        if piece == _MARKS[0]:
            begin = size
        elif piece == _MARKS[1]:
            spans.append((begin, size))
        else:
            kept.append(piece)
            size += len(piece)
    return "".join(kept), spans
