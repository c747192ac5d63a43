"""Several processes that write one checkpoint together; a single one is the case of one rank."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import DefaultSavePlanner, HuggingFaceStorageWriter
from torch.distributed.tensor import DTensor

from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.checkpoint.manifest import describe_file
from llama3lib.checkpoint.shards import INDEX, SUFFIX, encode_index
from llama3lib.checkpoint.staging import META

T = TypeVar("T")
_FILE_BYTES = 2**27  # safetensors puts a file together in memory, twice over


class Ranks:
    """The processes of torch.distributed, or this one alone if that is not set up.

    Made on all ranks at the same time. It has a process group of its own (gloo, on the CPU), so
    that a background thread can talk while training does.
    """

    def __init__(self, *, alone: bool = False) -> None:
        """alone: this process by itself, whatever others do."""
        together = not alone and dist.is_available() and dist.is_initialized()
        self.size = dist.get_world_size() if together else 1
        self.rank = dist.get_rank() if together else 0
        self._group = dist.new_group(backend="gloo") if self.size > 1 else None

    def gather(self, value: Any) -> list:
        """The values of all ranks, on every rank."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def agree(self, work: Callable[[], T]) -> T:
        """Do the work on every rank; if it fails on one, every rank raises that CheckpointError.

        Returns this rank's result. Without this a rank that fails leaves the others waiting.
        """
        result, failed = None, None
        try:
            result = work()
        except Exception as error:
            failed = error
        for failure in self.gather(_tellable(failed)):
            if failure is not None:
                raise failure from (None if failure is failed else failed)
        return result

    def first(self, work: Callable[[], T]) -> T:
        """What rank 0 finds, on every rank; if it fails, every rank raises what it raised.

        For what only one of them may do or decide. The result must be one that can be pickled.
        """
        if self.size == 1:
            return work()
        told: list = [None, None]
        if self.rank == 0:
            try:
                told[0] = work()
            except Exception as error:
                told[1] = _sendable(error)
        dist.broadcast_object_list(told, src=0, group=self._group)
        if told[1] is not None:
            raise told[1]
        return told[0]

    def any(self, flag: bool) -> bool:
        """Whether it is so on some rank."""
        if self.size == 1:
            return flag
        told = torch.tensor(int(flag))
        dist.all_reduce(told, dist.ReduceOp.MAX, group=self._group)
        return bool(told)


def write_files(
    ranks: Ranks, folder: Path, tensors: Mapping[str, Tensor], meta: str
) -> dict[str, dict]:
    """Write the tensors of all ranks through DCP, and the text of rank 0 as `meta.json`.

    tensors: by flat name, on the CPU. Those that every rank has are written by one of them, of
    sharded ones each rank writes its part. These are the steps of `dcp.save`, which takes no
    other way through a folder that is not yet published.
    Returns size and SHA-256 of every file. Raises CheckpointError on every rank.
    """
    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    writer = HuggingFaceStorageWriter(str(folder), _files_of(tensors), save_distributed=True)
    first = ranks.rank == 0

    def plan() -> Any:
        planner.set_up_planner(dict(tensors), writer.storage_meta(), first)
        writer.set_up_storage_writer(first)
        return writer.prepare_local_plan(planner.create_local_plan())

    def write() -> None:
        shared, _ = planner.create_global_plan(plans)
        mine = planner.finish_plan(writer.prepare_global_plan(shared)[ranks.rank])
        writer.write_data(mine, planner).wait()

    def finish() -> dict[str, dict]:
        mine = _describe(folder, f"shard-{ranks.rank + 1:05}-*{SUFFIX}")
        if first:
            index = encode_index(planner.metadata)
            (folder / INDEX).write_text(index, encoding="utf-8", newline="\n")
            (folder / META).write_text(meta, encoding="utf-8", newline="\n")
            mine |= _describe(folder, INDEX) | _describe(folder, META)
        return mine

    plans = ranks.gather(ranks.agree(plan))
    ranks.agree(write)
    parts = ranks.gather(ranks.agree(finish))
    return {name: entry for part in parts for name, entry in part.items()}


def _files_of(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The number of the file, from 1, of each tensor of this rank: none much above the limit."""
    found, file, size = {}, 1, 0
    for name, tensor in tensors.items():
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if size and size + local.nbytes > _FILE_BYTES:
            file, size = file + 1, 0
        found[name], size = file, size + local.nbytes
    return found


def _describe(folder: Path, pattern: str) -> dict[str, dict]:
    """What the manifest says of files; each rank looks at its own, which takes the time."""
    return {file.name: describe_file(file) for file in sorted(folder.glob(pattern))}


def _sendable(error: Exception) -> Exception:
    """One that the other ranks make again: of the same class if that takes what it was made of."""
    try:
        made = type(error)(*error.args)
    except Exception:  # a class with its own idea of arguments
        made = None
    if made is None or str(made) != str(error):
        return RuntimeError(f"{type(error).__name__}: {error}")
    return made


def _tellable(error: Exception | None) -> CheckpointError | None:
    """An error that can be sent to other ranks."""
    if error is None or isinstance(error, CheckpointError):
        return error
    cause: BaseException | None = error
    while cause is not None:  # torch answers a full disk with "unexpected pos", on top of this
        if isinstance(cause, OSError):
            return CheckpointError(str(cause))
        cause = cause.__cause__ or cause.__context__
    return CheckpointError(f"{type(error).__name__}: {error}"[:1000])
