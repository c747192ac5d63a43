"""What a server may be told, and its defaults. Without web packages: a command line shows them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much strangers may ask for. Raises ValueError for a limit below its least."""

    max_concurrent: int = 64
    """Requests for text that are open at the same time; more get 429."""
    max_body_bytes: int = 4 * 1024 * 1024
    """Larger bodies get 413."""
    max_tokens: int | None = None
    """Most tokens of an answer; None: as many as the context has room for."""
    max_texts: int = 64
    """Prompts times `n` of one request."""
    max_inputs: int = 2048
    """Texts of one request for embeddings."""
    max_logprobs: int = 20
    """Alternatives named with each token."""
    max_stops: int = 16
    """Stop strings of one request, each of at most `max_stop_length` characters."""
    max_stop_length: int = 256
    read_seconds: float = 30.0
    """A body that takes longer to come gets 408."""
    write_seconds: float = 60.0
    """A reader who takes nothing for so long is left."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name == "max_tokens" and value is None:
                continue
            if not value > 0:
                raise ValueError(f"{name}={value!r} is not allowed: above 0")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where to listen, who may come in, and how large the engine is; `run.serve` checks it."""

    host: str = "127.0.0.1"
    """Address to listen on; any but this machine's own needs --api-key-file."""
    port: int = 8000
    """Port to listen on; 0 takes a free one and prints it."""
    api_key_file: str | None = None
    """A file with the key that clients must send."""
    without_key: bool = False
    """Let everybody in although other machines can reach the server."""
    max_num_seqs: int = 32
    """Texts that are written at the same time; more wait."""
    max_num_batched_tokens: int = 512
    """Tokens of one pass through the model; longer prompts are read in pieces."""
    num_blocks: int | None = None
    """Blocks of the cache; enough for --max-num-seqs texts at full length if memory allows."""
    block_size: int = 16
    """Tokens of a block."""
    memory_share: float = 0.4
    """Most that the cache takes: of the free memory of a GPU, of all memory elsewhere."""
    grace: float = 30.0
    """Seconds that open requests have after SIGTERM; with several ranks 25 at most."""
    tp: int = 1
    """Ranks that share each matrix (tensor parallel), each a process of its own."""
    pp: int = 1
    """Ranks, or groups of them, that share the layers (pipeline parallel)."""
    micro_batches: int | None = None
    """Steps under way at the same time, each of a part of the texts; as many as --pp."""
    timeout: float = 300.0
    """Seconds that a rank may take for its part of a step."""
