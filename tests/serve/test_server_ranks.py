"""`llama3 serve --tp/--pp`: the answers of one process, an end in order, and clear words."""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import urllib.request

import psutil
import pytest
from timing_tools import patient, wait_until

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.cli.main import main
from llama3lib.cli.ranks import words_of
from llama3lib.cli.serve import Serve
from llama3lib.inference import SamplingParams, generate
from llama3lib.serve.settings import Limits, Settings

pytestmark = pytest.mark.distributed
PROMPTS = ["One sunny day", "Omar had", "The old", "Mia and the"]


class Server:
    """A server on ranks, started as a user does."""

    def __init__(self, *words):
        command = [sys.executable, "-m", "llama3lib.cli.main", "serve", "tiny-base", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--dtype", "float32", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.family = set()

    def ready(self):
        """Wait for the line that tells the address."""
        line = self.process.stdout.readline()
        assert line.startswith("serving tiny-base at "), self.process.communicate()
        self.family = set(psutil.Process(self.process.pid).children(recursive=True))
        self.address = line.split(" at ")[1].split()[0]
        return self

    def rank(self, number):
        for process in self.family:
            if process.environ().get("RANK") == str(number):
                return process
        raise AssertionError(f"no rank {number}")

    def complete(self, prompt, most=20):
        body = {"model": "tiny-base", "prompt": prompt, "max_tokens": most, "temperature": 0}
        request = urllib.request.Request(
            f"{self.address}/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=patient(60)) as answer:
            return json.load(answer)["choices"][0]["text"]

    def end(self):
        out, err = self.process.communicate(timeout=patient(90))
        wait_until(lambda: not any(p.is_running() for p in self.family), 20)
        return self.process.returncode, out, err


@pytest.fixture
def start():
    """Starts servers, and ends whatever is left of them."""
    started = []

    def make(*words):
        started.append(Server(*words))
        return started[-1]

    yield make
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        wait_until(lambda server=server: not any(p.is_running() for p in server.family), 60)


@pytest.mark.parametrize("words", [("--tp", "2"), ("--pp", "2", "--micro-batches", "3")])
def test_answers_are_those_of_one_process(start, words):
    model, tokenizer = load_model("tiny-base"), load_tokenizer("tiny-base")
    server = start(*words).ready()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(server.complete, PROMPTS * 2))
    params = SamplingParams(max_tokens=20)
    want = ["".join(generate(model, tokenizer, prompt, params)) for prompt in PROMPTS]
    assert found == want * 2
    server.process.send_signal(signal.SIGTERM)
    assert server.end() == (0, "", "")


def test_a_lost_rank_ends_the_server_or_starts_it_again(start):
    server = start("--pp", "2", "--restarts", "1").ready()
    server.complete("One")
    server.rank(1).kill()
    with pytest.raises(OSError):  # the connection ends without an answer
        server.complete("One", 200)
    server.ready()  # on another free port
    assert server.complete("One sunny day")
    server.rank(0).kill()
    code, _, err = server.end()
    lines = err.splitlines()
    assert code == 1, err
    assert "llama3: a rank was lost; all start again" in err and lines[-1].endswith("giving up")
    assert all(line.startswith("llama3: ") for line in lines), err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--tp", "3"), "tp=3 is not allowed: a divisor of n_heads="),
        (("--pp", "99"), "num_stages=99 is not allowed"),
        (("--tp", "0"), "tp=0"),
        (("--pp", "2", "--micro-batches", "0"), "micro_batches=0"),
        (("--pp", "2", "--timeout", "-1"), "timeout=-1"),
        (("--tp", "2", "--restarts", "-1"), "restarts=-1"),
    ],
)
def test_what_does_not_fit_starts_nobody(capsys, words, said):
    before = len(psutil.Process().children())
    assert main(["serve", "tiny-base", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err
    assert len(psutil.Process().children()) == before


def test_a_port_in_use_is_told_once(start):
    server = start("--pp", "2").ready()
    port = server.address.rsplit(":", 1)[1].split("/")[0]
    second = start("--pp", "2", "--port", port)
    code, out, err = second.end()
    assert (code, out) == (2, "") and err.count("\n") == 1, err
    assert f"port={port} are not allowed" in err


def test_the_words_of_a_command_are_its_options():
    settings = Settings(port=0, tp=2, without_key=True, grace=2.5)
    command = Serve(path="a b", dtype="float32", settings=settings, limits=Limits(max_stops=3))
    assert words_of(command, ("path",)) == [
        *("a b", "--dtype", "float32", "--port", "0", "--without-key", "--grace", "2.5"),
        *("--tp", "2", "--max-stops", "3"),
    ]
    assert os.environ.get("RANK") is None
