"""A dictionary of arrays that np.save pickled, read without running anything that the file asks for.

A pickle is a program: it names functions and has them called. pickle.Unpickler, however restricted, still hands a
file's own values to C code of numpy, and believes the sizes that a file claims. Here pickletools takes the file apart,
and a small machine puts together arrays, numbers, text, lists, tuples and dictionaries; all else is refused by name.
Arrays and tensors are views of bytes that the file holds, so it can claim no more memory than it brings.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cpal.errors import UserError

MAX_BYTES = 1 << 30  # of a file
MAX_STEPS = 10_000_000  # of its program, some seconds; a dictionary of labels takes 15 an image
COPIES = 8  # bytes that may be copied for each byte of the file
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # torch's older format, in which a pickled tensor holds its numbers
STORAGES = {  # number format of each kind of torch storage; numpy has no bfloat16
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
FROM_MARK: dict[str, Callable[[list[Any]], Any]] = {
    "TUPLE": tuple,
    "LIST": list,
    "DICT": lambda items: _dict({}, items),
}


def read_pickled(path: Path, *, what: str, allow_pickle: bool = True) -> dict[Any, Any]:
    """The dictionary in a .npy file that np.save wrote, with whichever numpy; tensors come as arrays.

    Keys are text or numbers. `what` names the dictionary's content in messages. Raises UserError for a file that asks
    for more than arrays, numbers, text and dictionaries, that is damaged, too large or no dictionary, and without
    `allow_pickle` for every pickle.
    """
    try:
        with path.open("rb") as stream:
            np.lib.format.read_magic(stream)
            dtype = np.lib.format.read_array_header_1_0(stream)[2]  # np.save writes a dictionary in this version
            if dtype.hasobject and not allow_pickle:
                raise UserError(
                    f"{path}: holds a pickle, and reading a pickle can run code that its author hid in it; "
                    "if you trust where it comes from, add --allow-pickle"
                )
            if dtype.hasobject and path.stat().st_size > MAX_BYTES:
                raise pickle.UnpicklingError(f"it is larger than {MAX_BYTES >> 20} MB")
            content = _Machine(stream.read(), what).run() if dtype.hasobject else None
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError:  # of the disk, not of the content
        raise
    except Exception as error:  # hostile bytes can fail anywhere in pickletools and numpy, and nothing outlives them
        raise UserError(f"{path}: not a dictionary that np.save wrote ({str(error)[:200]})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds an array of {dtype}, not a dictionary of {what}")
    return content


class _Name:
    """A function or type that the file names."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Unfinished:
    """An array or a dtype between its REDUCE and its BUILD, which brings the content."""

    def __init__(self, finish: Callable[[Any], Any]) -> None:
        self.finish = finish
        self.value: Any = self


class _Machine:
    """Runs the pickled program of `data`; `names` are what it may call, None for a name that is only passed on."""

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.what = data, what
        self.steps, self.copied = 0, 0
        self.names: dict[str, Callable[..., Any] | None] = {
            "numpy.ndarray": None,
            "numpy.dtype": _dtype,
            "numpy._core.multiarray._reconstruct": lambda *_: _Unfinished(self._array),
            "numpy._core.multiarray.scalar": lambda dtype, raw: self._numbers(raw, dtype, (), "C")[()],
            "numpy._core.numeric._frombuffer": self._numbers,
            "_codecs.encode": self._encode,
            "builtins.bytes": lambda: b"",
            "collections.OrderedDict": lambda: {},
            "torch._utils._rebuild_tensor_v2": _tensor,
            "torch.storage._load_from_bytes": self._storage,
        }

    def run(self) -> Any:
        return self._run(io.BytesIO(self.data), self.names)

    def _run(self, stream: BinaryIO, names: Mapping[str, Callable[..., Any] | None]) -> Any:
        """What one pickle on the stream makes; the stream then stands behind it."""
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def pop_mark() -> list[Any]:
            start = marks.pop()
            items = stack[start:]
            del stack[start:]
            return items

        arg: Any
        items: Any
        for opcode, arg, _ in pickletools.genops(stream):
            self.steps += 1
            if self.steps > MAX_STEPS:
                raise pickle.UnpicklingError(f"it has more than {MAX_STEPS} steps")
            match opcode.name:
                case name if name in LITERALS:
                    stack.append(arg)
                case name if name in CONSTANTS:
                    stack.append(CONSTANTS[name]())
                case "PROTO" | "FRAME" | "BINPERSID":  # the latter leaves the description of a storage as it is
                    pass
                case "STOP":
                    return stack.pop()
                case "MARK":
                    marks.append(len(stack))
                case "POP":
                    stack.pop()
                case name if name in FROM_MARK:
                    stack.append(FROM_MARK[name](pop_mark()))
                case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                    items = tuple(stack.pop() for _ in range(int(name[-1])))
                    stack.append(items[::-1])
                case "APPEND" | "APPENDS" as name:
                    items = [stack.pop()] if name == "APPEND" else pop_mark()
                    _checked(stack[-1], list).extend(items)
                case "SETITEM" | "SETITEMS" as name:
                    items = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else pop_mark()
                    _dict(stack[-1], items)
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    memo[arg] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    found = memo[arg]
                    stack.append(found.value if isinstance(found, _Unfinished) else found)
                case "GLOBAL":
                    stack.append(self._named(arg.replace(" ", "."), names))
                case "STACK_GLOBAL":
                    name, module = _checked(stack.pop(), str), _checked(stack.pop(), str)
                    stack.append(self._named(f"{module}.{name}", names))
                case "REDUCE":
                    arguments = _checked(stack.pop(), tuple)
                    called = names[_checked(stack.pop(), _Name).name]
                    if called is None:
                        raise pickle.UnpicklingError("it calls what is no function")
                    stack.append(called(*arguments))
                case "BUILD":
                    state = stack.pop()
                    made = _checked(stack.pop(), _Unfinished)
                    made.value = made.finish(state)
                    stack.append(made.value)
                case name:
                    raise pickle.UnpicklingError(f"it uses {name}, which no dictionary of {self.what} needs")
        raise pickle.UnpicklingError("it has no end")

    def _named(self, name: str, names: Mapping[str, Any]) -> _Name:
        name = re.sub(r"^numpy\.core\.", "numpy._core.", name)  # as numpy 1 wrote it
        name = re.sub(r"^__builtin__\.", "builtins.", name)  # as Python 2 and the formats of its time do
        if name not in names:
            raise pickle.UnpicklingError(f"it asks for {name}, which no dictionary of {self.what} needs")
        return _Name(name)

    def _copy(self, size: int) -> None:
        """Count bytes about to be copied: a few that name the same bytes again and again must not fill the memory."""
        self.copied += size
        if self.copied > COPIES * len(self.data):
            raise pickle.UnpicklingError("it copies its content again and again")

    def _encode(self, text: str, encoding: str) -> bytes:
        """How the oldest formats write bytes."""
        if _checked(encoding, str) != "latin1":
            raise pickle.UnpicklingError(
                f"it asks for the encoding {encoding}, which no dictionary of {self.what} needs"
            )
        self._copy(len(text))
        return text.encode("latin1")

    def _array(self, state: tuple[Any, ...]) -> Any:
        """The content of an array; an array of objects may only be what np.save wraps a dictionary in."""
        _, shape, dtype, fortran, raw = state
        if dtype == np.dtype(object) and shape == ():
            return _checked(raw, list)[0]
        return self._numbers(raw, dtype, shape, "F" if fortran else "C")

    def _numbers(self, raw: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
        if isinstance(raw, str):  # bytes of Python 2
            raw = self._encode(raw, "latin1")
        if not isinstance(raw, bytes | bytearray) or not isinstance(dtype, np.dtype) or dtype.hasobject:
            raise pickle.UnpicklingError("an array holds no numbers")
        return np.frombuffer(raw, dtype).reshape(_sizes(shape), order="F" if order == "F" else "C")

    def _storage(self, blob: bytes) -> np.ndarray:
        """The numbers of a tensor: five pickles (magic number, version, machine, description, names), count, data."""
        stream = io.BytesIO(_checked(blob, bytes))
        magic, *_, description, _ = (self._run(stream, dict.fromkeys(STORAGES)) for _ in range(5))
        if magic != TORCH_MAGIC:
            raise pickle.UnpicklingError("a tensor has another format than torch's")
        dtype = np.dtype(STORAGES[_checked(description[1], _Name).name])
        count = int.from_bytes(stream.read(8), "little")
        if len(blob) - stream.tell() != count * dtype.itemsize:
            raise pickle.UnpicklingError(f"a tensor of {count} numbers has {len(blob) - stream.tell()} bytes")
        return np.frombuffer(blob, dtype, offset=stream.tell())


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """The part of a storage that a tensor shows. It may permute its numbers but not repeat them."""
    size, stride, (offset,) = _sizes(size), _sizes(stride), _sizes((offset,))
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = len(_checked(storage, np.ndarray))
    if math.prod(size) > count or (math.prod(size) and last >= count):
        raise pickle.UnpicklingError(f"a tensor of size {size} shows more than the {count} numbers that it has")
    if not math.prod(size):
        return np.zeros(size, storage.dtype)
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


def _dtype(code: Any, *_: Any) -> _Unfinished:
    if not re.fullmatch(r"[biuf][1248]|[US]\d{1,4}|O8?", _checked(code, str)):
        raise pickle.UnpicklingError(f"it asks for arrays of {code}")
    dtype = np.dtype(code)
    return _Unfinished(lambda state: dtype.newbyteorder(">") if state[1] == ">" else dtype.newbyteorder("<"))


def _dict(content: Any, items: list[Any]) -> dict[Any, Any]:
    """Add keys and values in turn; only text and numbers are keys, since hashing what is nested deep can crash."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        _checked(content, dict)[_checked(key, str | int | np.generic)] = value
    return _checked(content, dict)


def _sizes(numbers: Any) -> tuple[int, ...]:
    if not all(type(n) is int and n >= 0 for n in _checked(numbers, tuple)):
        raise pickle.UnpicklingError("a size is no natural number")
    return tuple(numbers)


def _checked(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise pickle.UnpicklingError(f"it holds {type(value).__name__} where something else belongs")
    return value
