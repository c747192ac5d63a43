"""Checkpoints of a training run: written while training goes on, whole or not at all.

Every checkpoint is a folder `step-00001200` with the tensors in safetensors files, as
torch.distributed.checkpoint (DCP) lays them out, `meta.json`, and a manifest with the SHA-256 of
each file. With several ranks every method but `steps` is called by all of them together.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llama3lib.checkpoint import manifest, staging
from llama3lib.checkpoint.errors import CheckpointError
from llama3lib.checkpoint.manifest import DamagedError, step_folder
from llama3lib.checkpoint.ranks import Ranks, write_files
from llama3lib.checkpoint.shards import (
    INDEX,
    OLD_INDEX,
    Stored,
    empty_tensors,
    read_index,
    read_tensors,
)
from llama3lib.utils.files import atomic_folder
from llama3lib.utils.logging import get_logger
from llama3lib.utils.require import require

Probe = Callable[[str], None]
_log = get_logger(__name__)


@dataclass(frozen=True)
class Restored:
    """What `restore` found.

    step, meta: of the checkpoint that was loaded.
    skipped: newer ones that are damaged, newest first, each with what is wrong.
    """

    step: int
    meta: dict
    skipped: list[tuple[int, str]]


class CheckpointManager:
    """Saves, finds and restores the checkpoints in a folder."""

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        keep_last: int = 3,
        asynchronous: bool = True,
        probe: Probe | None = None,
        alone: bool = False,
    ) -> None:
        """Look at a folder, which need not exist yet; what a killed run left behind is removed.

        keep_last: how many checkpoints stay, besides those saved with keep=True.
        asynchronous: `save` returns once it has a copy, and a thread writes that.
        probe: called with "before_save", "staged", "written", "manifest", "published" and
            "pruned" as a save gets there; the last four in the thread.
        alone: one process of several looks at what is there, and the others do not.
        Raises ValueError if keep_last is below 1 or folder is a file.
        """
        require(type(keep_last) is int and keep_last >= 1, "keep_last", keep_last, "1 or more")
        self.folder = Path(folder)
        ok = not self.folder.exists() or self.folder.is_dir()
        require(ok, "folder", str(folder), "it is a file")
        self._keep_last = keep_last
        self._asynchronous = asynchronous
        self._probe = probe or (lambda name: None)
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None
        self._ranks = Ranks(alone=alone)
        self._ranks.agree(lambda: self._ranks.rank or manifest.remove_left_overs(self.folder))

    def save(
        self,
        step: int,
        tensors: Mapping[str, Any],
        meta: Mapping[str, Any],
        *,
        keep: bool = False,
    ) -> None:
        """Write a checkpoint of nested dictionaries of tensors and of values that JSON has.

        The tensors may be changed in place as soon as this returns. Waits first if another save
        is running. A checkpoint of the same step is replaced. In `meta` numbers come back bit by
        bit (NaN and infinities too), tuples as lists; with several ranks that of rank 0 counts.
        Peak memory: a copy of the tensors, on the CPU, and twice the largest file (128 MiB or one
        tensor).
        keep: never prune this one.
        Raises ValueError on a bad step or on values that cannot be stored, and CheckpointError if
        it, or the save before, could not be written; older checkpoints are then as they were.
        """
        self.wait()
        require(type(step) is int and 0 <= step < 10**18, "step", step, "a whole number, 0 or more")
        flat, text = staging.flatten(tensors), staging.encode_meta(meta)
        self._probe("before_save")
        staged = staging.stage(flat)
        self._probe("staged")
        work = (step, staged, text, bool(keep))
        if not self._asynchronous:
            self._write(*work)
            return
        self._thread = threading.Thread(target=self._write_behind, args=work, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written. Raises what went wrong in the background, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def steps(self) -> list[int]:
        """Steps that have been published, ascending: folders with a sound manifest.

        Their other files are looked at when they are restored.
        """
        return [step for step, _ in self._manifests()]

    def read_meta(self, step: int | None = None) -> dict | None:
        """`meta` of a step, or of the newest whose `meta.json` is sound; None if there is none.

        The tensors are not looked at, so `restore` may have to take an older checkpoint.
        Raises CheckpointError if the step asked for, or every one there is, is damaged.
        """
        self.wait()

        def read(path: Path) -> dict:
            return self._first(
                lambda: staging.read_meta(path, manifest.read_manifest(path)["files"])
            )

        _, meta, _ = self._newest(step, read)
        return meta

    def restore(self, tensors: Mapping[str, Any], step: int | None = None) -> Restored | None:
        """Fill tensors in place from a step, or from the newest checkpoint that is sound.

        Every file is compared with its checksum and everything is read before the first tensor is
        changed, so that an error leaves them as they were. Peak memory: one copy of the tensors.
        Returns None if there is no checkpoint. Raises CheckpointError if all there are, or the
        one asked for, are damaged; also if names, shapes or dtypes are not those of the tensors:
        then the model was changed, and an older checkpoint would be no help.
        """
        self.wait()
        flat = staging.flatten(tensors)
        staging.check_writable(flat)

        def load(path: Path) -> tuple[dict, dict[str, Tensor]]:
            meta, index = self._open(path)
            staging.check_same(path, self._shapes(flat), index)
            return meta, self._read(path, index, staging.stage(flat))

        found, result, skipped = self._newest(step, load)
        if found is None:
            return None
        meta, fresh = result
        with torch.no_grad():
            for name, tensor in flat.items():
                tensor.copy_(fresh[name])
        return Restored(found, meta, skipped)

    def load_tensors(self, step: int, prefix: str) -> dict[str, Tensor]:
        """All tensors of a step below a name such as "model", newly made, on the CPU.

        Their names are what follows the prefix and a dot. Raises CheckpointError if the step is
        missing or damaged, ValueError if there is nothing below the prefix.
        """
        self.wait()

        def load(path: Path) -> dict[str, Tensor]:
            _, index = self._open(path)
            inside = {n: s for n, s in index.items() if n.startswith(f"{prefix}.")}
            if not inside:
                groups = ", ".join(sorted({name.split(".")[0] for name in index}))
                raise ValueError(f"prefix={prefix!r} is not allowed: {path} has {groups}")
            return self._read(path, index, self._ranks.agree(lambda: empty_tensors(inside)))

        _, tensors, _ = self._newest(step, load)
        return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items()}

    def _write_behind(self, step: int, *rest: Any) -> None:
        try:
            self._write(step, *rest)
        except BaseException as error:  # told by the next call; the log has it if there is none
            self._failed = error
            _log.error("%s", error)

    def _write(self, step: int, staged: dict[str, Tensor], meta: str, keep: bool) -> None:
        try:
            self._publish(step, staged, meta, keep)
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self.folder}: {error}; "
                "older checkpoints are as they were"
            ) from error
        self._probe("published")
        if self._ranks.rank == 0:
            self._prune(step)
        self._probe("pruned")

    def _publish(self, step: int, staged: dict[str, Tensor], meta: str, keep: bool) -> None:
        """All ranks write into one temporary folder, which rank 0 then seals and renames."""
        ranks, path = self._ranks, step_folder(self.folder, step)
        first = ranks.rank == 0
        with contextlib.ExitStack() as stack:

            def begin() -> Path | None:
                if not first:
                    return None
                stack.enter_context(manifest.writing(self.folder))
                return stack.enter_context(atomic_folder(path, overwrite=True))

            temporary = self._first(begin)
            files = write_files(ranks, temporary, staged, meta)
            self._probe("written")
            ranks.agree(lambda: first and manifest.write_manifest(temporary, step, keep, files))
            self._probe("manifest")
            ranks.agree(stack.close)

    def _prune(self, written: int) -> None:
        """Delete all but the newest, those to be kept, and the one just written.

        That is not the newest where an older step was restored and training went on from there.
        """
        loose = [step for step, told in self._manifests() if not told["keep"]]
        for step in loose[: -self._keep_last]:
            try:
                if step != written:
                    manifest.remove_step(step_folder(self.folder, step))
            except OSError as error:
                _log.warning("%s: step %d could not be removed: %s", self.folder, step, error)

    def _manifests(self) -> list[tuple[int, dict]]:
        found = []
        for step, path in manifest.step_folders(self.folder).items():
            with contextlib.suppress(DamagedError):
                found.append((step, manifest.read_manifest(path)))
        return found

    def _newest(
        self, step: int | None, load: Callable[[Path], Any]
    ) -> tuple[int | None, Any, list[tuple[int, str]]]:
        """What `load` gives for a step or for the newest that is sound, and who were skipped."""
        there = self._first(lambda: list(manifest.step_folders(self.folder)))
        if step is not None:
            if step not in there:
                has = ", ".join(map(str, there)) or "none"
                raise CheckpointError(f"{self.folder} has no checkpoint of step {step}: {has}")
            return step, load(step_folder(self.folder, step)), []
        skipped: list[tuple[int, str]] = []
        for newest in reversed(there):
            try:
                return newest, load(step_folder(self.folder, newest)), skipped
            except DamagedError as error:
                _log.warning("skipped: %s", error)
                skipped.append((newest, str(error)))
        if skipped:
            told = "; ".join(text for _, text in skipped[:3])
            raise CheckpointError(f"every checkpoint in {self.folder} is damaged: {told}")
        return None, None, []

    def _open(self, path: Path) -> tuple[dict, dict[str, Stored]]:
        """Check every file, shared out among the ranks; then `meta`, and the tensors there are."""

        def check() -> dict[str, dict]:
            files = manifest.read_manifest(path)["files"]
            if OLD_INDEX in files:
                raise CheckpointError(
                    f"{path} was written by llama3lib 0.1.0 or before, with a table of contents "
                    "that is a pickle: finish the run with that version"
                )
            for name in {INDEX, staging.META} - files.keys():
                raise DamagedError(f"{path} is damaged: its manifest has no {name}")
            manifest.check_files(path, files, sorted(files)[self._ranks.rank :: self._ranks.size])
            return files

        def look() -> tuple[dict, dict[str, Stored]]:
            return staging.read_meta(path, files), read_index(path, list(files))

        files = self._ranks.agree(check)
        return self._ranks.agree(look)

    def _first(self, work: Callable[[], Any]) -> Any:
        """The result of rank 0, for those questions that all ranks must answer alike."""
        return self._ranks.gather(self._ranks.agree(work))[0]

    def _shapes(self, flat: Mapping[str, Tensor]) -> dict[str, tuple]:
        """Shape and dtype of the tensors of all ranks: a pipeline stage has only its own."""
        mine = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in flat.items()}
        return {name: kind for part in self._ranks.gather(mine) for name, kind in part.items()}

    def _read(
        self, path: Path, index: Mapping[str, Stored], into: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        self._ranks.agree(lambda: read_tensors(path, index, into))
        return into
