"""Many clients at once who come, go, and leave early: every answer is whole and one's own."""

import asyncio
import json
import random
import sys

import openai
import psutil
import pytest
import torch
from serve_tools import MODEL, Served, address_of, python
from timing_tools import wait_until

from llama3lib.checkpoint import load_model, load_tokenizer
from llama3lib.inference import SamplingParams, generate

CLIENTS = 64
WORDS = "Omar Mina mill river red kite dog garden went found a the in and with pear".split()
MEGABYTE = 2**20


def known_answers(count):
    """Prompts, and what the library writes after each; all different."""
    torch.set_num_threads(1)
    rng = random.Random(0)
    model, tokenizer = load_model(MODEL, dtype=torch.float64), load_tokenizer(MODEL)
    prompts = {
        f"{i} " + " ".join(rng.choices(WORDS, k=rng.randint(1, 30))) + ". " for i in range(count)
    }
    params = SamplingParams(max_tokens=40)
    return {p: "".join(generate(model, tokenizer, p, params)) for p in sorted(prompts)}


class Crowd:
    """Clients who ask until so many answers were whole, and what they saw."""

    def __init__(self, url, answers, seed):
        self.client = openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=500, timeout=120)
        self.answers, self.rng = answers, random.Random(seed)
        self.done = self.cancelled = 0
        self.wrong = []

    async def run(self, answers):
        await asyncio.gather(*(self.ask_until(answers) for _ in range(CLIENTS)))

    async def ask_until(self, answers):
        while self.done < answers:
            prompt = self.rng.choice(list(self.answers))
            ask = {"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": 40}
            match self.rng.random():
                case x if x < 0.4:
                    text = (await self.client.completions.create(**ask)).choices[0].text
                    self.note(prompt, text)
                case x if x < 0.7:
                    await self.stream(ask, leave_after=None)
                case x if x < 0.85:
                    await self.stream(ask, leave_after=self.rng.randint(0, 20))
                case _:
                    await self.give_up(ask)

    def note(self, prompt, text):
        self.done += 1
        if text != self.answers[prompt]:
            self.wrong.append((prompt, text))

    async def stream(self, ask, leave_after):
        text = ""
        async with await self.client.completions.create(**ask, stream=True) as chunks:
            count = 0
            async for chunk in chunks:
                text += "".join(choice.text for choice in chunk.choices)
                if count == leave_after:
                    self.cancelled += 1
                    if not self.answers[ask["prompt"]].startswith(text):
                        self.wrong.append((ask["prompt"], text))
                    return
                count += 1
        self.note(ask["prompt"], text)

    async def give_up(self, ask):
        """Leave at a random moment while the whole answer is waited for."""
        try:
            async with asyncio.timeout(self.rng.uniform(0, 0.5)):
                answer = await self.client.completions.create(**ask)
        except TimeoutError:
            self.cancelled += 1
        else:
            self.note(ask["prompt"], answer.choices[0].text)


@pytest.mark.slow
@pytest.mark.parametrize("count", [120, pytest.param(5000, marks=pytest.mark.long)])
def test_soak(count):
    answers = known_answers(30)
    assert len(set(answers.values())) > 20
    # fewer blocks and seats than the crowd needs: some wait, some are sent away and come again
    with python("tests/serve/serving_process.py", 60, 60, 5) as child:
        try:
            server = Served(address_of(child))
            memory = psutil.Process(child.pid).memory_info
            asyncio.run(Crowd(server.url, answers, seed=0).run(100))
            wait_until(lambda: server.metric("open_requests") == 0)
            before = memory().rss
            crowd = Crowd(server.url, answers, seed=1)
            asyncio.run(crowd.run(count))
            wait_until(lambda: server.metric("open_requests") == 0)
            wait_until(lambda: server.metric("cache_blocks_used") == 0)
            after = memory().rss
            figures = {
                "done": crowd.done, "cancelled": crowd.cancelled,
                "mismatches": len(crowd.wrong), "mb_before": before // MEGABYTE,
                "mb_after": after // MEGABYTE, "preemptions": server.metric("preemptions"),
                "errors": server.metric("engine_errors_total"),
            }  # fmt: skip
            print(json.dumps(figures))
            assert crowd.wrong == []
            assert crowd.done >= count and crowd.cancelled > count / 10
            assert server.metric("sequences_running") == server.metric("sequences_waiting") == 0
            assert figures["errors"] == 0 and 'status="500"' not in server.get("/metrics")[1]
            assert after < before + 40 * MEGABYTE
        finally:
            child.terminate()
            assert child.wait(30) == 0 or sys.platform == "win32"
