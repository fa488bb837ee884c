"""Reading a pickle without running it: a machine that knows few opcodes, and few names.

Python's own unpickler imports what a file names and calls it. This one does neither. An opcode outside `OPCODES` is
refused, and so is a name that the caller did not list, wherever it stands. What the caller listed is a function of
ours that gets the arguments as plain values.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

MAX_OPCODES = 1_000_000
"""A snapshot of NVIDIA's networks at 1024 pixels has some ten thousand."""


class RefusedError(Exception):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


Maker = Callable[..., Any]
"""Makes a value of the arguments that a file gives; raises `TypeError`, `ValueError` or `RefusedError`."""


@dataclass(frozen=True)
class Name:
    """A name that the file gave and the caller listed, with what the caller makes of its arguments."""

    name: str
    make: Maker


@dataclass(eq=False)
class Record:
    """What a name was given: kept as it stands, with the state that may follow (opcode BUILD). It does nothing."""

    kind: str
    args: tuple[Any, ...]
    state: Any = None


def read_pickle(stream: BinaryIO, names: Mapping[str, Maker], persistent: Maker | None = None) -> Any:
    """The first pickle in `stream`, which then stands behind it.

    Args:
        stream: the pickle, and whatever follows.
        names: what the file may name, `"collections OrderedDict"`, and what is made of its arguments instead.
        persistent: what is made of a persistent id (opcode BINPERSID); None refuses them.

    Raises:
        RefusedError: another name or opcode, too many of them, or a damaged pickle.
    """
    machine = Machine(names, persistent)
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            count += 1
            if count > MAX_OPCODES:
                raise RefusedError(f"more than {MAX_OPCODES:,} steps in it")
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise RefusedError(f"damaged, or not a pickle ({first_line(error)})") from error


def first_line(error: BaseException) -> str:
    """The beginning of a message, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


@dataclass(eq=False)
class Machine:
    """The pickle machine: a stack with marks, and a memory by number."""

    names: Mapping[str, Maker]
    persistent: Maker | None
    stack: list[Any] = field(default_factory=list)
    marks: list[list[Any]] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)

    def step(self, opcode: str, argument: Any) -> None:
        """Do one opcode."""
        if opcode in VALUES:
            self.stack.append(argument)
        elif opcode in OPCODES:
            OPCODES[opcode](self, argument)
        else:
            raise RefusedError(f"uses the pickle opcode {opcode}, which these formats do not need")

    def mark(self, _: object) -> None:
        """MARK: what follows is collected."""
        self.marks.append(self.stack)
        self.stack = []

    def take(self) -> list[Any]:
        """All since the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def name(self, argument: str) -> None:
        """GLOBAL, "module name"."""
        if argument not in self.names:
            shown = argument.replace(" ", ".", 1)[:80]
            raise RefusedError(f"names {shown!r}, which is not on the list of what may be read")
        self.stack.append(Name(argument, self.names[argument]))

    def stack_name(self, _: object) -> None:
        """STACK_GLOBAL: module and name from the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise RefusedError("names something by a value that is not text")
        self.name(f"{module} {name}")

    def call(self, _: object) -> None:
        """REDUCE and NEWOBJ: what the caller makes of a name's arguments."""
        args, function = self.stack.pop(), self.stack.pop()
        if not (isinstance(function, Name) and isinstance(args, tuple)):
            raise RefusedError("calls something that is not on the list of what may be read")
        self.stack.append(function.make(*args))

    def build(self, _: object) -> None:
        """BUILD: only a record takes a state; that of a dictionary is dropped."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif not isinstance(target, dict):
            raise RefusedError("changes something that is not on the list of what may be read")

    def collect(self, size: int | None) -> None:
        """TUPLE1 to TUPLE3, and TUPLE: all since the mark."""
        items = self.take() if size is None else [self.stack.pop() for _ in range(size)][::-1]
        self.stack.append(tuple(items))

    def extend(self, items: list[Any]) -> None:
        """APPEND, APPENDS and ADDITEMS. Sets are lists here, because their members need not be hashable."""
        target = self.stack[-1]
        if not isinstance(target, list):
            raise RefusedError("appends to something that is not a list")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        """SETITEM and SETITEMS."""
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise RefusedError("fills something that is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise RefusedError("a dictionary with keys that are neither text nor numbers")
            target[key] = value

    def identify(self, _: object) -> None:
        """BINPERSID."""
        if self.persistent is None:
            raise RefusedError("uses the pickle opcode BINPERSID, which these formats do not need")
        self.stack.append(self.persistent(self.stack.pop()))

    def remember(self, key: int) -> None:
        """BINPUT and LONG_BINPUT; MEMOIZE takes the next number."""
        self.memory[key] = self.stack[-1]


def _pair(machine: Machine) -> list[Any]:
    value, key = machine.stack.pop(), machine.stack.pop()
    return [key, value]


def _constant(make: Callable[[], Any]) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine.stack.append(make())


VALUES = (
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
"""Opcodes that put their argument on the stack."""

OPCODES: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_LIST": _constant(list),
    "EMPTY_SET": _constant(list),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_TUPLE": _constant(tuple),
    "MARK": Machine.mark,
    "GLOBAL": Machine.name,
    "STACK_GLOBAL": Machine.stack_name,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.identify,
    "TUPLE": lambda machine, _: machine.collect(None),
    "TUPLE1": lambda machine, _: machine.collect(1),
    "TUPLE2": lambda machine, _: machine.collect(2),
    "TUPLE3": lambda machine, _: machine.collect(3),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.take()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.take()),
    "SETITEM": lambda machine, _: machine.set_items(_pair(machine)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.take()),
    "BINPUT": Machine.remember,
    "LONG_BINPUT": Machine.remember,
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memory)),
    "BINGET": lambda machine, key: machine.stack.append(machine.memory[key]),
    "LONG_BINGET": lambda machine, key: machine.stack.append(machine.memory[key]),
}
