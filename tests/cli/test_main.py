"""The command line, on a tiny random checkpoint and on the bundled one."""

import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import openai
import pytest
import torch
from timing_tools import patient

from llama3lib.checkpoint import is_chat_model, save_hf
from llama3lib.cli import main as cli
from llama3lib.inference import SamplingParams
from llama3lib.model import Transformer, get_preset
from llama3lib.serve.openai.types import ChatRequest, CompletionRequest
from llama3lib.tokenizer import Tokenizer

ROOT = Path(cli.__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "random"
    model = Transformer(get_preset("tiny"))
    model.init_weights(torch.Generator().manual_seed(0))
    save_hf(model, path, tokenizer=Tokenizer({bytes([i]): i for i in range(256)}))
    return path


def run(capsys, *argv):
    code = cli.main([str(arg) for arg in argv])
    out, err = capsys.readouterr()
    return code, out, err


def process(*argv, **options):
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # another code page, as on many Windows consoles
    env |= {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "llama3lib.cli.main", *map(str, argv)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE}
    return subprocess.Popen(command, env=env, **(pipes | options))


def row(table, label):
    (line,) = [line for line in table.splitlines() if line.startswith(label)]
    return [cell for cell in line.removeprefix(label).split() if not cell.endswith("%")]


def test_info_of_the_three_published_models(capsys):
    code, out, _ = run(capsys, "info", "8B", "70B", "405B")
    assert code == 0
    assert out.split()[:3] == ["8B", "70B", "405B"]
    assert row(out, "parameters: total") == ["8,030,261,248", "70,553,706,496", "405,853,388,800"]
    cache = row(out, "KV cache per token in bfloat16, bytes")
    assert cache == ["131,072", "327,680", "516,096"]
    assert row(out, "weights in bfloat16, GB") == ["16.1", "141.1", "811.7"]
    assert row(out, "layers") == ["32", "80", "126"]


def test_info_of_a_folder_a_bundled_name_and_a_preset(capsys, folder):
    code, out, _ = run(capsys, "info", folder, "tiny-base", "tiny")
    assert code == 0
    totals = row(out, "parameters: total")
    assert totals[0] == totals[2] == "164,160"
    assert row(out, "RoPE scaling") == ["none"] * 3


def test_info_without_names_lists_them(capsys):
    code, out, _ = run(capsys, "info")
    assert code == 0
    assert "llama3.1-405b" in out


def test_info_length_changes_flops_and_memory_only(capsys):
    _, short, _ = run(capsys, "info", "1B", "--seq-len", 128)
    _, long, _ = run(capsys, "info", "1B", "--seq-len", 4096)
    assert row(short, "parameters: total") == row(long, "parameters: total")
    assert "at 128" in short
    assert "at 4,096" in long


def test_generate_is_the_library_s_text(capsys, folder):
    code, out, _ = run(
        capsys, "generate", folder, "--prompt", "hi", "--max-tokens", 12, "--ignore-eos"
    )
    assert code == 0
    again = run(capsys, "generate", folder, "--prompt", "hi", "--max-tokens", 12, "--ignore-eos")
    assert again[1] == out
    echoed = run(
        capsys, "generate", folder, "--prompt", "hi", "--max-tokens", 12, "--ignore-eos", "--echo"
    )
    assert echoed[1] == "hi" + out


def test_generate_with_the_bundled_model_tells_a_story(capsys):
    code, out, err = run(
        capsys, "generate", "tiny-base", "--prompt", "One sunny day", "--temperature", 0.8,
        "--seed", 0, "--stop", "\n", "--stop", "Thank",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.count(".") >= 2
    assert "Thank" not in out


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_generate_in_a_chosen_format(capsys, folder, dtype):
    code, _, _ = run(
        capsys, "generate", folder, "--prompt", "a", "--max-tokens", 2, "--dtype", dtype
    )
    assert code == 0


def test_tokenize_as_table_and_as_json(capsys, folder):
    code, out, _ = run(capsys, "tokenize", folder, "aé")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["97", "'a'"],
        ["195", "b'\\xc3'"],
        ["169", "b'\\xa9'"],
        ["tokens:", "3,", "characters:", "2"],
    ]
    code, out, _ = run(capsys, "tokenize", folder, "a<|eot_id|>", "--json", "--bos", "--special")
    assert json.loads(out) == {
        "ids": [256, 97, 265],
        "pieces": ["<|begin_of_text|>", "a", "<|eot_id|>"],
    }
    _, out, _ = run(capsys, "tokenize", folder, "<|eot_id|>", "--json")
    assert len(json.loads(out)["ids"]) == 10  # text stays text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["info", "9B"], "8B, 70B, 405B"),
        (["info", "8B", "--seq-len", "0"], "seq_len=0"),
        (["generate", "no-such-folder", "--prompt", "x"], "no-such-folder"),
        (["generate", "tiny-base", "--prompt", ""], "prompt=''"),
        (["generate", "tiny-base", "--prompt", "x", "--max-tokens", "9999"], "max_tokens=9999"),
        (["generate", "tiny-base", "--prompt", "x", "--top-p", "2"], "top_p=2"),
        (["generate", "tiny-base", "--prompt", "x", "--device", "abacus"], "device='abacus'"),
        (["generate", "tiny-base", "--prompt", "x", "--device", "meta"], "device='meta'"),
        (["tokenize", "no-such-folder", "x"], "no-such-folder"),
        (["serve", "no-such-folder", "--port", "0"], "no-such-folder"),
        (["serve", "tiny-base", "--port", "70000"], "port=70000"),
        (["serve", "tiny-base", "--host", "0.0.0.0"], "without --api-key-file"),
        (["serve", "tiny-base", "--host", "203.0.113.1", "--without-key"], "203.0.113.1"),
        (["serve", "tiny-base", "--api-key-file", "no-such-file"], "no-such-file"),
        (["serve", "tiny-base", "--port", "0", "--memory-share", "1"], "memory_share=1.0"),
        (["serve", "tiny-base", "--max-concurrent", "0"], "max_concurrent=0"),
        (["serve", "tiny-base", "--port", "0", "--max-num-seqs", "0"], "max_num_seqs=0"),
        (["serve", "tiny-base", "--port", "0", "--num-blocks", "0"], "num_blocks=0"),
        (["serve", "tiny-base", "--grace", "-1"], "grace=-1"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(capsys, argv, message):
    code, _, err = run(capsys, *argv)
    assert code == 2
    assert err.startswith("llama3: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("argv", [["generate", "tiny-base"], ["nonsense"], ["info", "--bogus"]])
def test_wrong_options_leave_with_code_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_version_and_help(capsys):
    assert run(capsys, "--version")[1] == f"llama3 {cli.version()}\n"
    for argv in ([], ["--help"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(argv)
        assert stop.value.code == 0
        out = capsys.readouterr().out
        assert all(
            name in out for name in ("info", "generate", "chat", "serve", "tokenize", "doctor")
        )


def test_help_does_not_wait_for_torch():
    code = (
        "import sys; from llama3lib.cli import main as cli\n"
        "try: cli.main(['generate', '--help'])\n"
        "except SystemExit: sys.exit('torch' in sys.modules)"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_sampling_option_is_asked_for_by_its_name(capsys):
    names = {field.name for field in dataclasses.fields(SamplingParams)}
    names -= {"logprobs", "prompt_logprobs"}
    for command in ("generate", "chat"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        out = capsys.readouterr().out
        assert all(f"--{name.replace('_', '-')} " in out for name in names)
        assert "--logprobs" not in out
    for form in (CompletionRequest, ChatRequest):
        assert names <= form.model_fields.keys()


@pytest.mark.slow
def test_any_text_can_be_printed_whatever_the_console(folder):
    with process("tokenize", folder, "語🙂", "--json") as child:
        out, err = child.communicate(timeout=patient(120))
    assert child.returncode == 0, err
    assert json.loads(out.decode("utf-8"))["ids"] == list("語🙂".encode())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends broken pipes in another way")
def test_a_reader_who_leaves_is_no_error(folder):
    options = ("--prompt", "hi", "--max-tokens", 400, "--ignore-eos")
    with process("generate", folder, *options, bufsize=0) as child:
        child.stdout.read(1)
        child.stdout.close()
        err = child.stderr.read()
        child.wait(timeout=patient(120))
    assert child.returncode == 1
    assert err == b""


@pytest.mark.slow
def test_chat_over_pipes_says_that_the_model_is_a_base_model():
    with process("chat", "tiny-base", "--max-tokens", 5) as child:
        out, err = child.communicate(b"hello\n/what\n/reset\n/exit\n", timeout=patient(120))
    text = out.decode("utf-8")
    assert child.returncode == 0, err
    assert "base model" in text
    assert "commands are /reset and /exit" in text
    assert "a new conversation" in text


@pytest.mark.slow
def test_serve_with_a_key_and_quantised_weights(tmp_path, folder):
    key = tmp_path / "key"
    key.write_text("sesame-opens\n", encoding="utf-8")
    options = ("--port", 0, "--api-key-file", key, "--quantize", "int8", "--num-blocks", 40)
    with process("serve", folder, "--chat", "--name", "mine", *options) as child:
        line = child.stdout.readline().decode()
        found = re.fullmatch(r"serving mine at (http://127\.0\.0\.1:\d+/v1) \(.*\)\n", line)
        assert found and "40 blocks of 16 tokens" in line
        client = openai.OpenAI(base_url=found[1], api_key="sesame-opens", max_retries=0)
        said = [{"role": "user", "content": "hi"}]
        answer = client.chat.completions.create(model="mine", messages=said, max_tokens=3)
        assert answer.usage.prompt_tokens > 3 and answer.usage.completion_tokens <= 3
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()
        child.terminate()
        out, _ = child.communicate(timeout=patient(60))
    assert (child.returncode, out) == (0, b"") or sys.platform == "win32"


@pytest.mark.parametrize("text", ["", "two keys", "sch\u00f6n", "one\ntwo"])
def test_a_key_file_must_hold_one_key(capsys, tmp_path, text):
    (tmp_path / "key").write_text(text, encoding="utf-8")
    code, _, err = run(capsys, "serve", "tiny-base", "--api-key-file", tmp_path / "key")
    assert code == 2 and "one line with one key" in err


def test_a_port_in_use_is_told(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = run(capsys, "serve", "tiny-base", "--port", port)
    assert code == 2 and f"port={port}" in err


def test_without_the_web_packages_the_cure_is_told(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "llama3lib.serve.run", raising=False)
    monkeypatch.delattr("llama3lib.serve.run", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = run(capsys, "serve", "tiny-base")
    assert code == 2 and "pip install 'llama3lib[serve]'" in err


def test_interrupt_is_code_130(capsys, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Info, "run", interrupted)
    code, out, err = run(capsys, "info")
    assert (code, out, err.strip()) == (130, "", "")


def test_what_counts_as_a_chat_model(folder, tmp_path):
    assert not is_chat_model(folder)
    assert not is_chat_model("tiny-base")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "x"}', encoding="utf-8")
    assert is_chat_model(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("damaged", encoding="utf-8")
    assert not is_chat_model(tmp_path)
    (tmp_path / "provenance.json").write_text('{"kind": "chat"}', encoding="utf-8")
    assert is_chat_model(tmp_path)
