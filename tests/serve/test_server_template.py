"""A ChatML model that transformers wrote: what is served, generated and chatted is its own text."""

import pytest
import torch
from foreign_tools import write_folder
from serve_tools import served
from transformers import LlamaConfig, LlamaForCausalLM

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.cli.chat import ChatSession
from llama3lib.cli.main import main
from llama3lib.inference import LLMEngine, SamplingParams
from llama3lib.tokenizer import ChatTemplate

CHATML = """{% for m in messages %}
{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' }}
{% endfor %}
{% if messages[0].role == 'assistant' %}{{ raise_exception('a user begins') }}{% endif %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
DIALOGS = [
    [{"role": "user", "content": f"hello there {i}"}]
    + [{"role": "assistant", "content": "the user"}, {"role": "user", "content": "é\n"}] * (i % 2)
    for i in range(6)
]
LENGTH = 24


@pytest.fixture(scope="module")
def chatml(tmp_path_factory):
    """Folder, and what transformers answers in text to each dialog."""
    folder = tmp_path_factory.mktemp("chatml")
    words = write_folder(folder, template=CHATML)
    sizes = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, vocab_size=320)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3)
    ends = dict(
        bos_token_id=words.bos_token_id, eos_token_id=[words.eos_token_id, *range(100, 108)]
    )
    torch.manual_seed(3)
    model = LlamaForCausalLM(LlamaConfig(**sizes, **heads, **ends, pad_token_id=0)).eval()
    model.save_pretrained(folder)
    return folder, [answer(model, words, dialog) for dialog in DIALOGS]


def answer(model, words, dialog):
    options = {"return_tensors": "pt", "return_dict": True, "add_generation_prompt": True}
    ids = words.apply_chat_template(dialog, **options)["input_ids"]
    made = model.generate(ids, max_new_tokens=LENGTH, do_sample=False)[0, ids.shape[1] :].tolist()
    ended = made[-1] in model.generation_config.eos_token_id
    return words.decode(made[:-1] if ended else made), "stop" if ended else "length"


def test_answers_are_those_of_transformers(chatml):
    folder, wanted = chatml
    assert {reason for _, reason in wanted} == {"stop", "length"}
    with (
        LLMEngine(load_model(folder), load_tokenizer(folder)) as engine,
        served(engine, model_name="m") as running,
    ):
        ask = running.client().chat.completions.create
        for dialog, want in zip(DIALOGS, wanted, strict=True):
            made = ask(model="m", messages=dialog, max_tokens=LENGTH, temperature=0).choices[0]
            assert (made.message.content, made.finish_reason) == want
        path, options = "/v1/chat/completions", {"model": "m", "max_tokens": 1}
        tool = {"type": "function", "function": {"name": "f"}}
        for messages, more, words in [
            (DIALOGS[1][1:2], {}, "a user begins"),  # the template refuses it
            (DIALOGS[0], {"tools": [tool]}, "does not tell them"),
        ]:
            status, body = running.post(path, {"messages": messages, **options, **more})
            assert status == 400 and words in body["error"]["message"]


def test_the_terminal_answers_so_too(chatml, capsys):
    folder, wanted = chatml
    params, shown = SamplingParams(max_tokens=LENGTH), []
    model, words = load_model(folder), load_tokenizer(folder)
    session = ChatSession(model, words, params, show=shown.append)
    assert isinstance(session.format, ChatTemplate)
    session.answer(DIALOGS[0][0]["content"])
    assert "".join(shown) == wanted[0][0] + "\n"
    assert main(["generate", str(folder), "--prompt", "hello", "--max-tokens", "3"]) == 0
    assert capsys.readouterr().err == ""
