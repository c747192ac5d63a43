"""What the tests of the launcher start: ranks that add their numbers; one may misbehave."""

import os
import signal
import sys
import time

import torch
import torch.distributed as dist


def main(how: str) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    total = torch.tensor([rank])
    dist.all_reduce(total)
    print(f"rank {rank}: {total.item()}, {torch.get_num_threads()} threads", flush=True)
    if rank == 1 and how == "raises":
        raise ValueError("rank 1 has had enough")
    if rank == 1 and how == "hangs":
        time.sleep(1000)
    if rank == 1 and how == "dies once" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
