"""Reading a pickle without running it: a machine that knows the opcodes, and hardly a name.

Python's own unpickler imports what a file names and calls it. This one does neither. What a name is given becomes a
`Record`: its arguments as plain values, which do nothing. A few names, which the caller lists, are containers, numbers
or tensors: there a function of ours gets the arguments. An opcode outside `OPCODES` is refused.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

MAX_OPCODES = 1_000_000
"""A snapshot of NVIDIA's networks at 1024 pixels has some ten thousand."""
MAX_KEY = 2**60
"""Larger numbers as keys of a dictionary share their hashes, and fill it ever more slowly."""
PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Modules that protocols 0 to 2 call by their old names."""


class RefusedError(Exception):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


Maker = Callable[..., Any]
"""Makes a value of the arguments that a file gives; raises `TypeError`, `ValueError` or `RefusedError`."""


@dataclass(frozen=True, eq=False, repr=False)
class Name:
    """A name that the file gave, with what the caller makes of its arguments; None: a record."""

    name: str
    make: Maker | None = None


@dataclass(eq=False, repr=False)
class Record:
    """What a name was given: kept as it stands, with the state that may follow (opcode BUILD). It does nothing."""

    kind: str
    args: tuple[Any, ...]
    state: Any = None


def refuse_names(value: Any) -> None:
    """Refuse a name, or what it was given, where something is needed that can be read.

    Raises:
        RefusedError: it is one.
    """
    if isinstance(value, Name | Record):
        name = value.name if isinstance(value, Name) else value.kind
        raise RefusedError(f"names {name.replace(' ', '.', 1)[:80]!r}, which is not on the list of what may be read")


def shown(value: Any) -> str:
    """A value of a file in few letters: whatever it refers to is not followed."""
    if isinstance(value, str):
        return repr(value[:40])
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < MAX_KEY):
        return repr(value)
    return "a huge number" if isinstance(value, int) else f"a {type(value).__name__}"


def read_pickle(stream: BinaryIO, names: Mapping[str, Maker], persistent: Maker | None = None) -> Any:
    """The first pickle in `stream`, which then stands behind it.

    Args:
        stream: the pickle, and whatever follows.
        names: what is made of the arguments of some names, `"collections OrderedDict"`, instead of a record.
        persistent: what is made of a persistent id (opcode BINPERSID); None refuses them.

    Raises:
        RefusedError: another opcode, too much to do, or a damaged pickle.
    """
    machine = PickleMachine(names, persistent)
    try:
        with warnings.catch_warnings(action="error"):  # of text with escapes that are none
            for opcode, argument, _ in pickletools.genops(stream):
                machine.spend(1)
                machine.step(opcode.name, argument)
        return machine.stack.pop()
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, Warning) as error:
        raise RefusedError(f"damaged, or not a pickle ({first_line(error)})") from error


def first_line(error: BaseException) -> str:
    """The beginning of a message, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


@dataclass(eq=False)
class PickleMachine:
    """The pickle machine: a stack with marks, and a memory by number."""

    names: Mapping[str, Maker]
    persistent: Maker | None
    stack: list[Any] = field(default_factory=list)
    marks: list[list[Any]] = field(default_factory=list)
    memory: dict[int, Any] = field(default_factory=dict)
    texts: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    steps: int = 0

    def spend(self, steps: int) -> None:
        """Count what is done.

        Raises:
            RefusedError: it is too much.
        """
        self.steps += steps
        if self.steps > MAX_OPCODES:
            raise RefusedError(f"more than {MAX_OPCODES:,} steps in it")

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

    def pop(self, _: object) -> None:
        """POP: the last value, or where there is none, the mark."""
        if self.stack:
            self.stack.pop()
        else:
            self.take()

    def pop_mark(self, _: object) -> None:
        """POP_MARK: all since the last mark."""
        self.take()

    def name(self, argument: str) -> None:
        """GLOBAL, "module name"."""
        module, _, name = argument.partition(" ")
        known = f"{PYTHON2.get(module, module)} {name}"
        self.stack.append(Name(known, self.names.get(known)))

    def stack_name(self, _: object) -> None:
        """STACK_GLOBAL: module and name from the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise RefusedError("names something by a value that is not text")
        self.name(f"{module} {name}")

    def call(self, _: object) -> None:
        """REDUCE and NEWOBJ."""
        args, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self.given(function, args))

    def call_with_names(self, _: object) -> None:
        """NEWOBJ_EX: arguments by name are left out of the record."""
        _, args, function = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.stack.append(self.given(function, args))

    def call_marked(self, argument: str | None) -> None:
        """INST, whose argument is the name, and OBJ, where the name stands behind the mark."""
        items = self.take()
        function = items.pop(0) if argument is None else Name(argument)
        self.stack.append(self.given(function, tuple(items)))

    def given(self, function: Any, args: Any) -> Any:
        """What the caller makes of a name's arguments, or a record of them. Nothing of the file's is called."""
        if not (isinstance(function, Name | Record) and isinstance(args, tuple)):
            raise RefusedError("calls something that is no name")
        self.spend(len(args))  # the file may give the same long arguments many times
        self.spend(sum(len(part) for part in args if isinstance(part, list)))
        if isinstance(function, Record):
            return Record(function.kind, args)
        if function.name == "_codecs encode" and len(args) == 2 and args[1] == "latin1":
            return self.encoded(args[0])
        return Record(function.name, args) if function.make is None else function.make(*args)

    def encoded(self, text: str) -> bytes:
        """Bytes as protocols 0 to 2 write them. The same text is encoded once, however often it is referred to."""
        if id(text) not in self.texts:
            self.texts[id(text)] = (text, text.encode("latin1"))
        return self.texts[id(text)][1]

    def build(self, _: object) -> None:
        """BUILD: only a record takes a state; that of a dictionary is dropped."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif not isinstance(target, dict | Name):
            raise RefusedError("changes something that is no record")

    def collect(self, size: int | None) -> None:
        """TUPLE1 to TUPLE3, and TUPLE and FROZENSET: all since the mark."""
        items = self.take() if size is None else [self.stack.pop() for _ in range(size)][::-1]
        self.stack.append(tuple(items))

    def fill(self, empty: Any, how: Callable[[list[Any]], None]) -> None:
        """LIST and DICT: a new one of all since the mark."""
        items = self.take()
        self.stack.append(empty)
        how(items)

    def extend(self, items: list[Any]) -> None:
        """APPEND, APPENDS and ADDITEMS. Sets are lists here, because their members need not be hashable."""
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Record):
            raise RefusedError("appends to something that is not a list")

    def set_items(self, items: list[Any]) -> None:
        """SETITEM and SETITEMS. Entries whose keys are neither text nor numbers are left out: nobody asks for them."""
        target = self.stack[-1]
        if not isinstance(target, dict | Record) or len(items) % 2:
            raise RefusedError("fills something that is not a dictionary")
        if isinstance(target, dict):
            target.update((key, value) for key, value in zip(items[::2], items[1::2], strict=True) if is_key(key))

    def identify(self, _: object) -> None:
        """BINPERSID."""
        if self.persistent is None:
            raise RefusedError("uses the pickle opcode BINPERSID, which these formats do not need")
        identity = self.stack.pop()
        self.spend(len(identity))
        self.stack.append(self.persistent(identity))

    def remember(self, key: int) -> None:
        """PUT, BINPUT and LONG_BINPUT; MEMOIZE takes the next number."""
        self.memory[key] = self.stack[-1]

    def recall(self, key: int) -> None:
        """GET, BINGET and LONG_BINGET."""
        self.stack.append(self.memory[key])


def is_key(key: Any) -> bool:
    """Whether a dictionary here has such keys."""
    return isinstance(key, str) or (isinstance(key, int) and abs(key) < MAX_KEY)


def _pair(machine: PickleMachine) -> list[Any]:
    value, key = machine.stack.pop(), machine.stack.pop()
    return [key, value]


def _constant(make: Callable[[], Any]) -> Callable[[PickleMachine, Any], None]:
    return lambda machine, _: machine.stack.append(make())


VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
"""Opcodes that put their argument on the stack."""

OPCODES: dict[str, Callable[[PickleMachine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_LIST": _constant(list),
    "EMPTY_SET": _constant(list),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_TUPLE": _constant(tuple),
    "MARK": PickleMachine.mark,
    "POP": PickleMachine.pop,
    "POP_MARK": PickleMachine.pop_mark,
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "GLOBAL": PickleMachine.name,
    "STACK_GLOBAL": PickleMachine.stack_name,
    "REDUCE": PickleMachine.call,
    "NEWOBJ": PickleMachine.call,
    "NEWOBJ_EX": PickleMachine.call_with_names,
    "INST": PickleMachine.call_marked,
    "OBJ": PickleMachine.call_marked,
    "BUILD": PickleMachine.build,
    "BINPERSID": PickleMachine.identify,
    "LIST": lambda machine, _: machine.fill([], machine.extend),
    "DICT": lambda machine, _: machine.fill({}, machine.set_items),
    "TUPLE": lambda machine, _: machine.collect(None),
    "FROZENSET": lambda machine, _: machine.collect(None),
    "TUPLE1": lambda machine, _: machine.collect(1),
    "TUPLE2": lambda machine, _: machine.collect(2),
    "TUPLE3": lambda machine, _: machine.collect(3),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.take()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.take()),
    "SETITEM": lambda machine, _: machine.set_items(_pair(machine)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.take()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), PickleMachine.remember),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memory)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), PickleMachine.recall),
}
