"""A pickle read as data: text, numbers, lists, dictionaries, and names that stay names.

Python's own unpickler imports what a file names and calls it, so a file can run any program. Here
nothing is imported and nothing is called: where a file says "call this", the result is a `Call`
that only holds what was to be called with what. Opcodes and names that are not known are refused.
"""

import pickletools
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Name:
    """Something that a pickle would have imported, such as "torch.float32"."""

    path: str


@dataclass(eq=False)  # compared and hashed as itself: a hash of contents could take forever
class Call:
    """What a pickle would have called, its arguments, and the state it would have set."""

    name: Name
    arguments: tuple
    state: Any = None


def read_plain_pickle(raw: bytes, names: Collection[str]) -> object:
    """The value in a pickle of protocol 4 or 5 that holds plain data and the given names only.

    names: full ones, such as "torch.Size". Raises ValueError saying what else there is. Memory
    and time are bounded by the length of the pickle.
    """
    machine, end = _Machine(names), -1
    try:
        for opcode, argument, position in pickletools.genops(raw):
            if opcode.name == "STOP":
                end = position + 1
                break
            machine.step(opcode.name, argument)
    except Exception as error:  # an odd file ends in an index, a type or a value that is wrong
        raise ValueError(f"not a pickle of plain data: {error}"[:200]) from None
    if end != len(raw) or len(machine.stack) != 1 or machine.marks:
        raise ValueError("not a pickle of plain data: it does not end where it should")
    return machine.stack[0]


class _Machine:
    """The stack that pickle's opcodes work on."""

    def __init__(self, names: Collection[str]) -> None:
        self.stack: list = []
        self.marks: list[int] = []
        self.memo: list = []
        self._names = names

    def step(self, opcode: str, argument: Any) -> None:
        """Do what one opcode says."""
        if opcode in _LITERALS:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _TUPLES:
            self._tuple(_TUPLES[opcode])
        elif opcode in _OTHERS:
            _OTHERS[opcode](self)
        elif opcode in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif opcode not in ("PROTO", "FRAME"):
            raise ValueError(f"opcode {opcode} is not allowed")

    def _tuple(self, length: int) -> None:
        self.stack.append(tuple(self.stack.pop() for _ in range(length))[::-1])

    def _since_mark(self) -> list:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise ValueError("a name must be text")
        if f"{module}.{name}" not in self._names:
            raise ValueError(f"the name {module[:60]!r}.{name[:60]!r} is not allowed")
        self.stack.append(Name(f"{module}.{name}"))

    def _call(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if type(arguments) is not tuple or type(name) is not Name:
            raise ValueError("only names may be called")
        self.stack.append(Call(name, arguments))

    def _build(self) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if type(made) is not Call or made.state is not None:
            raise ValueError("only a new object has a state")
        made.state = state

    def _append(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("only a list is appended to")
        self.stack[-1].extend(items)

    def _set(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise ValueError("only a dictionary has keys, each with a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, Call) or key in target:
                raise ValueError("keys must be text or objects, each once")
            target[key] = value

    def _pair(self) -> list:
        value, key = self.stack.pop(), self.stack.pop()
        return [key, value]


_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINUNICODE", "BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_OTHERS: dict[str, Callable[[_Machine], None]] = {
    "MARK": lambda m: m.marks.append(len(m.stack)),
    "EMPTY_LIST": lambda m: m.stack.append([]),
    "EMPTY_DICT": lambda m: m.stack.append({}),
    "TUPLE": lambda m: m.stack.append(tuple(m._since_mark())),
    "MEMOIZE": lambda m: m.memo.append(m.stack[-1]),
    "STACK_GLOBAL": _Machine._name,
    "REDUCE": _Machine._call,
    "NEWOBJ": _Machine._call,
    "BUILD": _Machine._build,
    "APPEND": lambda m: m._append([m.stack.pop()]),
    "APPENDS": lambda m: m._append(m._since_mark()),
    "SETITEM": lambda m: m._set(m._pair()),
    "SETITEMS": lambda m: m._set(m._since_mark()),
}
