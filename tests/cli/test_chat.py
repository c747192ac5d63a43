"""A conversation in the terminal."""

import pytest
import torch

from llama3lib.cli.chat import ChatSession
from llama3lib.inference import SamplingParams
from llama3lib.model import Transformer, get_preset
from llama3lib.tokenizer import Message, Tokenizer


class TestChatSession:
    """Turns, forgetting, and Ctrl-C, without a terminal."""

    @pytest.fixture
    def session(self):
        model = Transformer(get_preset("tiny"))
        model.init_weights(torch.Generator().manual_seed(0))
        tokenizer = Tokenizer({bytes([i]): i for i in range(256)})
        self.shown = []
        params = SamplingParams(max_tokens=6, ignore_eos=True)
        return ChatSession(
            model.eval(), tokenizer, params, system="Be kind.", show=self.shown.append
        )

    def test_turns_alternate_and_are_remembered(self, session):
        session.answer("one")
        session.answer("two")
        assert [turn.role for turn in session.turns] == ["user", "assistant"] * 2
        assert session.turns[1].content
        assert session.turns[1].content in "".join(self.shown)

    def test_reset_forgets_and_exit_leaves(self, session):
        lines = iter(["hi", "/reset", "", "hello", "/exit", "never asked"])
        session._ask = lambda _: next(lines)
        session.loop()
        assert [turn.content for turn in session.turns if turn.role == "user"] == ["hello"]
        assert next(lines) == "never asked"

    @pytest.mark.parametrize("how", [EOFError, KeyboardInterrupt])
    def test_end_of_input_and_interrupt_at_the_question_leave(self, session, how):
        def ask(_):
            raise how

        session._ask = ask
        session.loop()

    def test_interrupt_keeps_what_was_said_and_the_model_goes_on(self, session):
        def show(text):
            self.shown.append(text)
            if len(self.shown) == 2:
                raise KeyboardInterrupt

        session._show = show
        session.answer("one")
        assert "(cut short)" in "".join(self.shown)
        assert session.turns[-1] == Message(role="assistant", content="".join(self.shown[:2]))
        session.answer("two")
        assert len(session.turns) == 4

    def test_the_oldest_turns_go_when_there_is_no_room(self, session):
        for text in ("a" * 250, "b" * 10, "c" * 120):
            session.answer(text)
        asked = [turn.content[0] for turn in session.turns if turn.role == "user"]
        assert asked == ["b", "c"]
        assert session.turns[0].role == "user"  # never an answer without its question
        assert "forgotten" in "".join(self.shown)

    def test_a_question_that_never_fits_is_refused_and_not_kept(self, session):
        session.answer("x" * 600)
        assert session.turns == []
        assert "too long" in "".join(self.shown)
