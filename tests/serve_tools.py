"""A server on a free port, in a thread or a process, and what its clients need."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import openai
import torch
import uvicorn
from timing_tools import patient, wait_until

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import LLMEngine, SamplingParams, generate
from llama3lib.serve.app import create_app

ROOT = Path(__file__).parents[1]
MODEL = "tiny-base"
STORY = "One sunny day Omar went to the mill. He found two pears there. "


@dataclass
class Served:
    """A server that is running."""

    address: str
    engine: LLMEngine | None = None
    service: object = None

    @property
    def url(self):
        return f"{self.address}/v1"

    def client(self, key="any", **options):
        return openai.OpenAI(
            base_url=self.url, api_key=key, **({"max_retries": 0, "timeout": patient(60)} | options)
        )

    def get(self, path):
        """Status and text."""
        return fetch(urllib.request.Request(self.address + path))

    def post(self, path, body, **headers):
        """Status and parsed answer; the body may be bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | headers
        status, text = fetch(urllib.request.Request(self.address + path, data, headers))
        return status, json.loads(text)

    def metric(self, name):
        """The value of a figure without labels."""
        (line,) = re.findall(rf"^llama3_{name} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(line)


def fetch(request):
    try:
        with urllib.request.urlopen(request, timeout=patient(60)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@contextlib.contextmanager
def served(engine, *, send_buffer=None, **options):
    """The application over an engine, on a free port, in a thread of this process."""
    app = create_app(engine, **({"model_name": MODEL} | options))
    sock = socket.create_server(("127.0.0.1", 0), backlog=512)
    if send_buffer:  # little fits in, so that a slow reader is felt
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    config = uvicorn.Config(app, http="h11", ws="none", lifespan="on", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield Served(f"http://127.0.0.1:{sock.getsockname()[1]}", engine, app.state.service)
    finally:
        server.should_exit = True
        thread.join(timeout=patient(30))
        assert not thread.is_alive()


@contextlib.contextmanager
def tiny_engine(**sizes):
    """The bundled model in float64, so that a batch of another shape cannot turn a close choice."""
    model = load_model(MODEL, dtype=torch.float64)
    with LLMEngine(model, load_tokenizer(MODEL), **({"num_blocks": 512} | sizes)) as engine:
        yield engine


def expected(engine, prompt, **settings):
    """What the library itself writes, on a model of its own."""
    model = load_model(MODEL, dtype=torch.float64)
    return "".join(generate(model, engine.tokenizer, prompt, SamplingParams(**settings)))


def python(*argv, **options):
    """A child that runs Python with the library of this checkout."""
    env = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    return subprocess.Popen([sys.executable, *map(str, argv)], env=env, **(pipes | options))


@contextlib.contextmanager
def served_by_command(*argv):
    """`llama3 serve` in a process of its own; yields the process and the server."""
    command = ("-m", "llama3lib.cli.main", "serve", MODEL, "--port", 0, *argv)
    with python(*command) as child:
        try:
            yield child, Served(address_of(child))
        finally:
            child.kill()


def address_of(child):
    """From the first line that a serving process prints."""
    line = child.stdout.readline()
    found = re.search(r" at (http://\S+)/v1 ", line)
    assert found, line + child.stderr.read()
    return found[1]
