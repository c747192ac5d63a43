"""A server of the bundled model in float64 in a process of its own; prints its address."""

import socket
import sys

import torch
from serve_tools import MODEL, tiny_engine

from llama3lib.serve.app import create_app
from llama3lib.serve.run import run_server
from llama3lib.serve.settings import Limits

if __name__ == "__main__":
    torch.set_num_threads(1)
    blocks, seats, grace = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with (
        tiny_engine(num_blocks=blocks, max_num_seqs=24) as engine,
        socket.create_server(("127.0.0.1", 0), backlog=512) as sock,
    ):
        app = create_app(engine, model_name=MODEL, limits=Limits(max_concurrent=seats))
        line = f"serving at http://127.0.0.1:{sock.getsockname()[1]}/v1 (float64)"
        run_server(app, sock, grace=grace, ready=lambda: print(line, flush=True))
