"""Where to compute and in which number format, with the reason in the log."""

import torch

from llama3lib.utils.logging import get_logger
from llama3lib.utils.require import require

_log = get_logger(__name__)
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
_KINDS = ("cpu", "cuda", "mps")
_ALLOWED = 'use "auto", "cpu", "cuda", "cuda:0" (or another number), "mps"'


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes a CUDA GPU, else Apple's, else the CPU.

    Raises ValueError if the name is unknown or this machine has no such device.
    """
    if name == "auto":
        return _best_device()
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = None
    require(device is not None and device.type in _KINDS, "device", name, _ALLOWED)
    _must_exist(name, device)
    _log.info("device %s: asked for", device)
    return device


def pick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware computes in it, else float32.

    float16 is never chosen: its range is too small for the activations of a large model.
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= (8, 0):
            _log.info("bfloat16: %s computes in it", device)
            return torch.bfloat16
        _log.warning("float32: %s is too old for bfloat16; expect half the batch", device)
    else:
        _log.info("float32: bfloat16 would save memory on %s but no time", device)
    return torch.float32


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A number format of weights, given as such or by its name, as in "bfloat16".

    Raises ValueError for any other.
    """
    found = _DTYPES.get(dtype, dtype) if isinstance(dtype, str) else dtype
    require(found in _DTYPES.values(), "dtype", dtype, f"one of {', '.join(_DTYPES)}")
    return found


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        device, why = torch.device("cuda"), "a CUDA GPU is there"
    elif torch.backends.mps.is_available():
        device, why = torch.device("mps"), "an Apple GPU is there"
    else:
        device, why = torch.device("cpu"), "no GPU is there that torch can use"
    _log.info("device %s: %s", device, why)
    return device


def _must_exist(name: str, device: torch.device) -> None:
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        there = (device.index or 0) < count
        what = f"torch sees {count} CUDA GPUs here"
    else:
        there = device.type == "cpu" or torch.backends.mps.is_available()
        what = "torch sees no Apple GPU here"
    require(there, "device", name, f'{what}; use "auto" or "cpu"')
