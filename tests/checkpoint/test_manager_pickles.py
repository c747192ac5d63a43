"""Pickles that would run a program or fill the memory, in each place where DCP keeps a pickle."""

import copyreg
import functools
import io
import operator
import os
import pickle
import random
import runpy
import shutil
import struct
import subprocess
import sys
import time
import timeit
import zipfile

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex

from llama3lib.checkpoint import CheckpointError, manifest
from llama3lib.checkpoint.manager import CheckpointManager
from llama3lib.checkpoint.plain_pickle import read_plain_pickle

CANARY = "canary-that-must-not-be"
COMMAND = f"{sys.executable} -c \"open('{CANARY}', 'w')\""
PYTHON = f"open({CANARY!r}, 'w').close()"
VALUES = {"model": {"a": torch.arange(12.0).reshape(4, 3), "b": torch.arange(50.0, 62).view(4, 3)}}
VALUES["model"]["c"] = torch.tensor([2.5, 3.5], dtype=torch.bfloat16)


class Calls:
    """Calls a function with arguments when it is unpickled."""

    def __init__(self, function, *arguments):
        self.does = (function, arguments)

    def __reduce__(self):
        return self.does


class Sets:
    """An object with a state for `__setstate__` or its dictionary."""

    def __init__(self, function, arguments, state):
        self.does = (function, arguments, state)

    def __reduce__(self):
        return self.does


def dumps(function, *arguments, protocol=4):
    return pickle.dumps(Calls(function, *arguments), protocol)


def text(word):
    return b"\x8c" + bytes([len(word)]) + word.encode()


def bomb(depth, ending):
    """A tuple of itself twice, again and again: 2**depth items, in a file of 3*depth bytes."""
    return b"\x80\x04)\x94" + b"".join(
        b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94" for i in range(depth)
    ) + ending


def marshalled():
    import marshal
    import types

    code = marshal.dumps(compile(PYTHON, "x", "exec"))
    return Calls(Calls(types.FunctionType, Calls(marshal.loads, code), {"open": open}))


def runs():
    """Pickles that do run a program when Python reads them."""
    command, line = repr(COMMAND).encode(), PYTHON.encode()
    code = f"__import__('os').system({COMMAND!r})"
    inner = dumps(os.system, COMMAND)
    posix = os.system.__module__
    return {
        "os.system, text": f"cos\nsystem\n(S{COMMAND!r}\ntR.".encode(),
        "os.system": inner,
        "os.system, protocol 2": dumps(os.system, COMMAND, protocol=2),
        "os.system, protocol 5": dumps(os.system, COMMAND, protocol=5),
        "os.popen": dumps(os.popen, COMMAND),
        "eval": dumps(eval, code),
        "exec": dumps(exec, PYTHON),
        "getattr": dumps(eval, "getattr(__import__('os'), 'system')") [:-1]
        + b"\x94\x8c\xff".replace(b"\xff", bytes([len(COMMAND)])) + COMMAND.encode() + b"\x85R.",
        "getattr of a module": pickle.dumps(Calls(Calls(getattr, Calls(__import__, "os"), "system"), COMMAND)),
        "attrgetter": pickle.dumps(Calls(Calls(Calls(operator.attrgetter, "system"), Calls(__import__, "os")), COMMAND)),
        "methodcaller": pickle.dumps(Calls(Calls(operator.methodcaller, "system", COMMAND), Calls(__import__, "os"))),
        "partial": pickle.dumps(Calls(functools.partial(os.system, COMMAND))),
        "importlib": b"cimportlib\nimport_module\n(S'os'\ntRp0\n0cbuiltins\ngetattr\n(g0\nS'system'\ntR(S" + command + b"\ntR.",
        "subprocess": dumps(subprocess.getoutput, COMMAND),
        "Popen": dumps(subprocess.check_output, [sys.executable, "-c", PYTHON]),
        "timeit": dumps(timeit.timeit, PYTHON, "pass", timeit.default_timer, 1),
        "runpy": dumps(runpy._run_code, Calls(compile, PYTHON, "x", "exec"), {}),
        "marshal": pickle.dumps(marshalled()),
        "a pickle in a pickle": dumps(pickle.loads, inner),
        "torch.load": dumps(torch.storage._load_from_bytes, saved(Calls(os.system, COMMAND))),
        "INST": b"(S" + command + f"\ni{posix}\nsystem\n.".encode(),
        "OBJ": f"(c{posix}\nsystem\n".encode() + b"S" + command + b"\no.",
        "from the memo": f"c{posix}\nsystem\np7\n0g7\n(S".encode() + command + b"\ntR.",
        "MEMOIZE and BINGET": b"\x80\x04" + text(posix) + text("system") + b"\x93\x940h\x00" + text(COMMAND) + b"\x85R.",
        "an extension code": b"\x80\x04\x82\xc8" + text(COMMAND) + b"\x85R.",
        "BUILD with __setstate__": pickle.dumps(Sets(functools.partial, (len,), (os.system, (COMMAND,), {}, None)))[:-1] + b")R.",
        "in a list": pickle.dumps([1, {"a": (Calls(os.system, COMMAND),)}]),
        "as a key": pickle.dumps({Calls(os.system, COMMAND): 1}),
        "before a sound table": inner[:-1] + b"0N.",
        "in a table": pickle.dumps(Metadata({}, planner_data=Calls(os.system, COMMAND))),
        "as a version": pickle.dumps(Metadata({}, version=Calls(exec, PYTHON))),
    }


def saved(value, **options):
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()
