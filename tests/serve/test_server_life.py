"""Clients that leave, engines that fail, and a server that is told to stop."""

import json
import signal
import socket
import sys
import threading

import openai
import pytest
import torch
from serve_tools import (
    MODEL,
    STORY,
    expected,
    served,
    served_by_command,
    tiny_engine,
)
from timing_tools import wait_until

from llama3lib.inference import SamplingParams
from llama3lib.model import get_preset
from llama3lib.serve.run import num_blocks_for
from llama3lib.serve.settings import Limits

LONG = {"model": MODEL, "prompt": STORY, "max_tokens": 400, "extra_body": {"ignore_eos": True}}
no_sigterm = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")


def idle(server):
    return server.metric("cache_blocks_used") == server.metric("open_requests") == 0


@pytest.fixture(scope="module")
def calm():
    with tiny_engine() as engine, served(engine, send_buffer=4096) as running:
        yield running


class TestLeaving:
    @pytest.fixture
    def server(self, calm):
        return calm

    def test_in_the_middle_of_a_stream(self, server):
        # eight texts, so that they are still being written when the gauge is read
        stream = server.client().completions.create(**LONG, n=8, stream=True)
        next(stream)
        wait_until(lambda: server.metric("cache_blocks_used") > 0, 10)
        stream.close()
        wait_until(lambda: idle(server), 10)
        server.engine.blocks.check([])
        wait_until(lambda: 'status="499"' in server.get("/metrics")[1])

    def test_before_the_answer_is_there(self, server):
        many = {**LONG, "prompt": [STORY] * 20}
        before = server.metric("generated_tokens_total")
        with pytest.raises(openai.APITimeoutError):
            server.client(timeout=0.5).completions.create(**many)
        wait_until(lambda: idle(server), 10)
        assert server.metric("generated_tokens_total") - before < 20 * 400

    def test_before_the_whole_request_is_there(self, server):
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
                b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
            )
            wait_until(lambda: server.metric("open_requests") == 1)
        wait_until(lambda: idle(server), 10)

    def test_afterwards_answers_are_right(self, server):
        want = expected(server.engine, STORY, max_tokens=20)
        ask = {"model": MODEL, "prompt": STORY, "max_tokens": 20, "temperature": 0}
        assert server.client().completions.create(**ask).choices[0].text == want

    def test_who_reads_slowly_holds_up_nobody(self, server):
        with self.reader(server, max_tokens=150) as sock:
            # the text is written to its end although nobody reads it, and others are served
            ask = {"model": MODEL, "prompt": "A mill. ", "max_tokens": 10}
            assert server.client().completions.create(**ask).usage.completion_tokens == 10
            wait_until(lambda: server.metric("sequences_running") == 0)
            assert server.metric("open_requests") == 1
            received = b""
            while not received.endswith(b"0\r\n\r\n"):
                received += sock.recv(65536)
        assert received.count(b"data: [DONE]") == 1 and b'"finish_reason":"length"' in received
        # what had come meanwhile was sent in few events
        assert received.count(b"data: ") < 3 * 150

    def test_who_reads_nothing_is_left(self):
        limits = Limits(write_seconds=0.5)
        with (
            tiny_engine() as engine,
            served(engine, limits=limits, send_buffer=4096) as running,
            self.reader(running, max_tokens=150),
        ):
            wait_until(lambda: running.metric("open_requests") == 1)
            wait_until(lambda: idle(running))
            wait_until(lambda: 'status="499"' in running.get("/metrics")[1])

    @staticmethod
    def reader(server, **options):
        """A connection that has asked for much and has not read yet."""
        ask = {"model": MODEL, "prompt": "x", "ignore_eos": True, "n": 3, "logprobs": 20}
        body = json.dumps(ask | {"stream": True, "temperature": 1} | options).encode()
        host, port = server.address.removeprefix("http://").split(":")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.connect((host, int(port)))
        head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
        head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        sock.sendall(head % len(body) + body)
        return sock


class TestFailures:
    """Failures are planted in `step`; everything else is the real engine."""

    @pytest.fixture
    def server(self):
        with tiny_engine() as engine, served(engine) as running:
            yield running

    @staticmethod
    def break_step(monkeypatch, engine, broken):
        real = engine.step

        def step():
            if broken():
                raise RuntimeError("secret of the inside")
            return real()

        monkeypatch.setattr(engine, "step", step)

    def test_one_failed_step_is_told_and_survived(self, server, monkeypatch):
        turns = iter([True])
        self.break_step(monkeypatch, server.engine, lambda: next(turns, False))
        status, answer = server.post("/v1/completions", {"model": MODEL, "prompt": "x"})
        assert status == 500 and answer["error"]["code"] == "engine_error"
        assert "secret" not in str(answer)
        wait_until(lambda: server.get("/health")[0] == 200)
        assert server.metric("engine_errors_total") == 1
        wait_until(lambda: idle(server))
        TestLeaving().test_afterwards_answers_are_right(server)

    def test_in_a_stream_it_is_an_error_event(self, server, monkeypatch):
        broken = threading.Event()
        self.break_step(monkeypatch, server.engine, broken.is_set)
        with pytest.raises(openai.APIError, match="engine failed") as error:
            for _ in server.client().completions.create(**LONG, stream=True):
                broken.set()
        assert "secret" not in str(error.value.body)
        wait_until(lambda: server.get("/health") == (503, '{"status":"failing"}'))
        assert server.post("/v1/completions", {"model": MODEL, "prompt": "x"})[0] == 500
        broken.clear()
        TestLeaving().test_afterwards_answers_are_right(server)
        assert server.get("/health")[0] == 200

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_thread_that_ends_is_told(self, server, monkeypatch):
        def end():
            raise SystemExit

        monkeypatch.setattr(server.engine, "step", end)
        assert server.post("/v1/completions", {"model": MODEL, "prompt": "x"})[0] == 500
        wait_until(lambda: server.get("/health") == (503, '{"status":"dead"}'))
        assert server.post("/v1/completions", {"model": MODEL, "prompt": "x"})[0] == 500
        assert server.metric("cache_blocks_used") == 0

    def test_a_route_that_fails(self, server, monkeypatch):
        def fail(form):
            raise RuntimeError("secret of the inside")

        monkeypatch.setattr(server.service.reader, "completion", fail)
        status, answer = server.post("/v1/completions", {"model": MODEL, "prompt": "x"})
        assert status == 500 and "secret" not in str(answer)
        assert server.metric("open_requests") == 0


@no_sigterm
class TestSigterm:
    """`llama3 serve` in a process of its own."""

    def begin(self, server, count, **ask):
        """Streams that run in the background; returns a function that waits for them."""
        results, client = [], server.client()
        begun = threading.Barrier(count + 1)

        def run(number):
            stream = client.completions.create(**LONG | ask, stream=True, temperature=0)
            first = next(stream).choices[0]
            begun.wait(60)
            choices = [first, *(c for chunk in stream for c in chunk.choices)]
            reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
            results.append((reasons, "".join(choice.text for choice in choices)))

        threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
        for thread in threads:
            thread.start()
        begun.wait(60)

        def finish():
            for thread in threads:
                thread.join(60)
            return results

        return finish

    def test_open_streams_finish_and_new_ones_are_refused(self):
        with served_by_command() as (child, server):
            finish = self.begin(server, 6, max_tokens=200)
            child.send_signal(signal.SIGTERM)
            wait_until(lambda: server.get("/health") == (503, '{"status":"stopping"}'))
            with pytest.raises(openai.InternalServerError) as error:
                server.client().completions.create(**LONG)
            assert error.value.status_code == 503 and error.value.code == "service_unavailable"
            assert error.value.response.headers["Retry-After"] == "1"
            results = finish()
            assert child.wait(30) == 0
            assert child.stderr.read() == ""
        assert [reasons for reasons, _ in results] == [["length"]] * 6
        assert len({text for _, text in results}) == 1  # greedy, the same prompt

    def test_after_the_grace_the_rest_is_ended(self):
        with served_by_command("--grace", 0.1) as (child, server):
            statuses = []

            def ask():
                try:
                    server.client().completions.create(**LONG | {"prompt": [STORY] * 16})
                except openai.APIStatusError as error:
                    statuses.append(error.status_code)

            whole = threading.Thread(target=ask)
            whole.start()
            finish = self.begin(server, 2, prompt=[STORY] * 5)
            child.send_signal(signal.SIGTERM)
            results = finish()
            whole.join(60)
            assert child.wait(30) == 0
        assert [reasons for reasons, _ in results] == [["abort"] * 5] * 2
        assert statuses == [503]  # half an answer is none

    def test_a_second_signal_does_not_wait(self):
        with served_by_command("--grace", 300) as (child, server):
            finish = self.begin(server, 2, prompt=[STORY] * 16)
            child.send_signal(signal.SIGTERM)
            wait_until(lambda: server.get("/health")[0] == 503)
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0
        assert {reason for reasons, _ in finish() for reason in reasons} == {"abort"}

    def test_ctrl_c_stops_an_idle_server_at_once(self):
        with served_by_command() as (child, _):
            child.send_signal(signal.SIGINT)
            assert child.wait(30) == 0


def test_blocks_of_the_cache_by_memory():
    args = get_preset("8B")
    ask = {"block_size": 16, "max_num_seqs": 4, "bytes_per_number": 2}
    whole = num_blocks_for(args, **ask, room=None)
    assert whole == 4 * args.max_seq_len // 16
    # 131,072 bytes a token in bfloat16
    assert num_blocks_for(args, **ask, room=131_072 * 16 * 10.5) == 10
    assert num_blocks_for(args, **ask, room=5) == 1


@torch.inference_mode()
def test_the_engine_is_its_owner_s_again_afterwards():
    with tiny_engine() as engine:
        for _ in range(2):
            with served(engine) as running:
                ask = {"model": MODEL, "prompt": STORY, "max_tokens": 5}
                assert running.client().completions.create(**ask).usage.completion_tokens == 5
        assert engine.generate([STORY], SamplingParams(max_tokens=5))[0].finish_reason == "length"
