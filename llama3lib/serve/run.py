"""Serving until told to stop: the engine's sizes, the socket, and an end that loses no answer."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import torch
import uvicorn
from fastapi import FastAPI

from llama3lib.inference import LLMEngine
from llama3lib.inference.ranks import EngineRanks
from llama3lib.inference.shares import Share, split_layers
from llama3lib.model import ModelArgs, Transformer
from llama3lib.serve.app import create_app
from llama3lib.serve.settings import Limits, Settings
from llama3lib.tokenizer import Tokenizer

Load = Callable[[], tuple[Transformer, Tokenizer]]
_CLOSING_SECONDS = 5
_MOST_GRACE = 25.0  # torchrun gives its ranks 30 seconds to end
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    load: Load,
    settings: Settings,
    limits: Limits,
    *,
    model_name: str,
    chat: bool,
    ready: Callable[[str], None],
    ranks: EngineRanks | None = None,
) -> None:
    """Listen, load, answer until told to stop.

    load: called when everything else is known to be right. chat: whether dialogs are answered.
    ready: told in one line where the server is, once connections are taken. ranks: who computes,
    if it is several processes: this is rank 0, and `load` gives its part of the model.

    Raises ValueError for settings that are not allowed, RankLostError when another rank is lost.
    """
    key = _api_key(settings)
    if not settings.grace >= 0:
        raise ValueError(f"grace={settings.grace!r} is not allowed: 0 or more")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    grace = settings.grace if ranks is None else min(settings.grace, _MOST_GRACE)
    with _listen(settings.host, settings.port) as sock, _engine(load, settings, ranks) as engine:
        app = create_app(engine, model_name=model_name, api_key=key, chat=chat, limits=limits)
        blocks = engine.blocks
        size = f"cache of {blocks.num_blocks:,} blocks of {blocks.block_size} tokens"
        line = f"serving {model_name} at {_address(sock)}/v1 ({size})"
        run_server(app, sock, grace=grace, ready=lambda: ready(line))


def run_server(
    app: FastAPI,
    sock: socket.socket,
    *,
    grace: float = 30.0,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Answer on a listening socket until SIGTERM or Ctrl-C; a second signal does not wait.

    grace: seconds for the requests that are open then; after them the rest is ended.
    ready: called once when connections are taken.

    Raises RankLostError when the engine has lost one of its ranks.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_CLOSING_SECONDS,
    )
    server, engine = _Server(config, app, grace, ready), app.state.service.engine
    engine.on_lost = lambda: setattr(server, "should_exit", True)
    server.run(sockets=[sock])
    if engine.lost is not None:
        raise engine.lost


class _Server(uvicorn.Server):
    """Goes on listening while it drains, so that newcomers are told, and exits with code 0."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, grace: float, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service, self._grace, self._ready = app.state.service, grace, ready
        self._draining: asyncio.Task[None] | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._events = asyncio.get_running_loop()
        await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # not the signal of before: uvicorn would raise it again in the end
        self._events.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
        else:
            self._service.engine.abort_all()
            self.should_exit = True

    async def _drain(self) -> None:
        try:
            await self._service.drain(self._grace)
        finally:
            self.should_exit = True


def num_blocks_for(
    args: ModelArgs,
    *,
    block_size: int,
    max_num_seqs: int,
    bytes_per_number: int,
    room: float | None,
    share: Share | None = None,
) -> int:
    """Blocks of the cache: for all texts at full length, or as many as `room` bytes hold.

    A block holds keys and values of `block_size` tokens in all layers; with a share, in those of
    the rank that has most, and `args` count the heads of one rank. At least one block.
    """
    layers = max(len(part) for part in split_layers(args, share.pp)) if share else args.n_layers
    wanted = max_num_seqs * -(-args.max_seq_len // block_size)
    if room is None:
        return wanted
    per_token = 2 * layers * args.n_kv_heads * args.head_dim * bytes_per_number
    return max(1, min(wanted, int(room // (per_token * block_size))))


def _engine(load: Load, settings: Settings, ranks: EngineRanks | None) -> LLMEngine:
    if not 0 < settings.memory_share < 1:
        raise ValueError(f"memory_share={settings.memory_share!r} is not allowed: above 0, below 1")
    for name in ("max_num_seqs", "block_size"):  # before anything is divided or read
        if getattr(settings, name) < 1:
            raise ValueError(f"{name}={getattr(settings, name)!r} is not allowed: 1 or more")
    model, tokenizer = load()
    blocks = settings.num_blocks
    if blocks is None:
        blocks = num_blocks_for(
            model.args,
            block_size=settings.block_size,
            max_num_seqs=settings.max_num_seqs,
            bytes_per_number=model.norm.weight.element_size(),
            room=_room(model.norm.weight.device, settings.memory_share),
            share=None if ranks is None else ranks.share,
        )
    if ranks is not None:
        ranks.join(model)
    return LLMEngine(
        model,
        tokenizer,
        num_blocks=blocks,
        block_size=settings.block_size,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        num_micro_batches=settings.micro_batches or settings.pp,
        ranks=ranks,
    )


def _room(device: torch.device, share: float) -> float | None:
    """Bytes that the cache may take: a share of what is free on a GPU, of all memory elsewhere,
    which the ranks of a machine have together."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return share * free
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
    return share * total / int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def _api_key(settings: Settings) -> str | None:
    if settings.api_key_file is None:
        if settings.host not in _LOOPBACK and not settings.without_key:
            raise ValueError(
                f"host={settings.host!r} is not allowed without --api-key-file: others could use "
                "the server; --without-key says that this is meant"
            )
        return None
    lines = Path(settings.api_key_file).read_text(encoding="utf-8").split()
    if len(lines) != 1 or not lines[0].isascii() or not lines[0].isprintable():
        raise ValueError(
            f"api_key_file={settings.api_key_file!r} is not allowed: one line with one key, "
            "letters, digits and signs of ASCII without spaces"
        )
    return lines[0]


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise ValueError(f"port={port!r} is not allowed: 0 (any free one) to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or "it cannot be listened on"
        raise ValueError(f"host={host!r} and port={port} are not allowed: {reason}") from None


def _address(sock: socket.socket) -> str:
    host, port, *_ = sock.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
