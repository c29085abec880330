"""A dictionary of arrays that np.save pickled, read without running anything that the file asks for.

A pickle is a program: it names functions and calls them. Here pickle's own reader runs the program, but finds only the
functions of this module, which make arrays, dtypes and tensors from bytes of the file. Every size and state is checked
before numpy or torch gets it. No array takes more memory than the file has bytes.
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
from cpal.settings.access import check_readable, stand_in_at

MAX_BYTES = 1 << 30  # of a file
MAX_STEPS = 10_000_000  # of its program, some seconds and at most 1 GB; a dictionary of labels takes 15 an image
COPIES = 8  # bytes that may be copied for each byte of the file
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # torch's older format, in which a pickled tensor holds its numbers
KINDS = (
    "Double <f8 Float <f4 Half <f2 Long <i8 Int <i4 Short <i2 Char i1 Byte u1 Bool ?".split()
)  # no bfloat16 in numpy
STORAGES = {f"torch.{kind}Storage": np.dtype(code) for kind, code in zip(KINDS[::2], KINDS[1::2], strict=True)}
# Left out: what makes objects or sets, takes buffers or extensions from outside, and integers beyond 255 bytes.
NEEDED = frozenset(
    "PROTO FRAME STOP MARK POP GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID NONE NEWTRUE NEWFALSE "
    "PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES "
    "BINBYTES8 BYTEARRAY8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS "
    "EMPTY_DICT DICT SETITEM SETITEMS".split()
)
# The reader in Python, since the one in C allocates what a file only claims, and lets no step be replaced.
Unpickler: Any = pickle._Unpickler


def read_pickled(path: Path, *, what: str) -> dict[Any, Any]:
    """The dictionary in a .npy file that np.save wrote, with whichever numpy; tensors come as arrays.

    Keys are text or numbers. `what` names the dictionary's content in messages. Raises UserError for a file that asks
    for more than arrays, numbers, text and dictionaries, that is damaged, too large or no dictionary.
    """
    check_readable(path, missing="no such file; name an existing one")
    if why := stand_in_at(path) or _other_file(path):
        raise UserError(f"{path}: {why[0]}; {why[1]}")
    try:
        with path.open("rb") as stream:
            np.lib.format.read_magic(stream)
            dtype = np.lib.format.read_array_header_1_0(stream)[2]  # np.save writes a dictionary in this version
            if dtype.hasobject and path.stat().st_size > MAX_BYTES:
                raise pickle.UnpicklingError(f"it is larger than {MAX_BYTES >> 20} MB")
            content = _Arrays(stream.read(), what).load() if dtype.hasobject else None
    except UserError:
        raise
    except OSError:  # of the disk, not of the content
        raise
    except Exception as error:  # hostile bytes can fail anywhere in pickle and numpy, and nothing outlives them
        raise UserError(f"{path}: not a dictionary that np.save wrote ({str(error)[:200]}); export it again") from None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: holds an array of {dtype}, not a dictionary of {what}; name the file that the method wrote"
        )
    return content


def _other_file(path: Path) -> tuple[str, str] | None:
    """What a file is that is often taken for a .npy, and the cure."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start.startswith(b"PK"):
        return "an archive (.npz, torch.save)", "save the dictionary in it with np.save"
    if start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5":
        return "a plain pickle", "save the dictionary in it with np.save"
    return None


class _Unfinished:
    """An array or a dtype between its step REDUCE and its step BUILD, which has the content."""

    def __init__(self, finish: Callable[[Any], Any]) -> None:
        self.finish = finish
        self.value: Any = self


class _Memo(dict[int, Any]):
    """The memo of the program. An array or dtype that was finished later is returned finished."""

    def __getitem__(self, key: int) -> Any:
        found = super().__getitem__(key)
        return found.value if isinstance(found, _Unfinished) else found


class _Steps:
    """Table of the program's steps. Refuses steps that no array needs, and counts all steps."""

    def __init__(self, what: str, size: int) -> None:
        self.what, self.taken, self.copies_left = what, 0, COPIES * size

    def __getitem__(self, code: int) -> Any:
        self.taken += 1
        if self.taken > MAX_STEPS:
            raise pickle.UnpicklingError(f"it has more than {MAX_STEPS} steps")
        if code not in _Reader.steps:
            raise pickle.UnpicklingError(f"it has a step {code:#x}, which no dictionary of {self.what} needs")
        return _Reader.steps[code]

    def copy(self, size: int) -> None:
        """Count bytes before they are copied: a file that repeats the same bytes must not fill the memory."""
        self.copies_left -= size
        if self.copies_left < 0:
            raise pickle.UnpicklingError("it copies its content again and again")


class _Reader(Unpickler):
    """Reads one pickle of the stream, up to its end. Finds only the functions in `names`."""

    def __init__(self, stream: BinaryIO, steps: _Steps, names: Mapping[str, Any]) -> None:
        super().__init__(stream, encoding="latin1")
        self.dispatch, self.names, self.memo = steps, names, _Memo()

    def find_class(self, module: str, name: str) -> Any:
        module = re.sub(r"^numpy\.core\b", "numpy._core", module)  # as numpy 1 wrote it
        full = f"{module.replace('__builtin__', 'builtins')}.{name}"  # as Python 2 and the formats of its time do
        if full not in self.names:
            raise pickle.UnpicklingError(f"it asks for {full}, which no dictionary of {self.dispatch.what} needs")
        return self.names[full]

    def persistent_load(self, description: Any) -> Any:
        return description  # of a storage

    def load_build(self) -> None:
        state, made = self.stack.pop(), _checked(self.stack.pop(), _Unfinished)
        made.value = made.finish(state)
        self.stack.append(made.value)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.stack.append(_dict({}, items))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _dict(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _dict(self.stack[-1], items)

    steps = {ord(op.code): Unpickler.dispatch[ord(op.code)] for op in pickletools.opcodes if op.name in NEEDED} | {
        pickle.BUILD[0]: load_build,
        pickle.DICT[0]: load_dict,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.BYTEARRAY8[0]: Unpickler.load_binbytes8,  # reads before it allocates; and arrays need not be writable
    }


class _Arrays(_Reader):
    """Reads the pickle of a dictionary of arrays and tensors."""

    def __init__(self, data: bytes, what: str) -> None:
        names: dict[str, Any] = {
            "numpy.ndarray": None,  # is passed on, but never called
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
        super().__init__(io.BytesIO(data), _Steps(what, len(data)), names)

    def _encode(self, text: str, encoding: str) -> bytes:
        """Bytes, as the oldest formats write them."""
        if _checked(encoding, str) != "latin1":
            raise pickle.UnpicklingError(
                f"it asks for the encoding {encoding}, which no dictionary of {self.dispatch.what} needs"
            )
        self.dispatch.copy(len(text))
        return text.encode("latin1")

    def _array(self, state: tuple[Any, ...]) -> Any:
        """The content of an array. An array of objects is accepted only as np.save's wrapper of a dictionary."""
        _, shape, dtype, fortran, raw = state
        if _checked(dtype, np.dtype) == np.dtype(object) and shape == ():
            return _checked(raw, list)[0]
        return self._numbers(raw, dtype, shape, "F" if fortran else "C")

    def _numbers(self, raw: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
        if isinstance(raw, str):  # bytes of Python 2
            raw = self._encode(raw, "latin1")
        if not isinstance(raw, bytes) or not isinstance(dtype, np.dtype) or dtype.hasobject:
            raise pickle.UnpicklingError("an array holds no numbers")
        return np.frombuffer(raw, dtype).reshape(_sizes(shape), order="F" if order == "F" else "C")

    def _storage(self, blob: bytes) -> np.ndarray:
        """The numbers of a tensor: five pickles (magic number, version, machine, description, names), count, data."""
        self.dispatch.copy(len(_checked(blob, bytes)))
        stream = io.BytesIO(blob)
        magic, *_, description, _ = (_Reader(stream, self.dispatch, STORAGES).load() for _ in range(5))
        if magic != TORCH_MAGIC:
            raise pickle.UnpicklingError("a tensor has another format than torch's")
        dtype = _checked(description[1], np.dtype)
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
    """Add keys and values in turn. Keys are text or numbers, since the hash of deeply nested keys can crash."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        if isinstance(key, int) and key.bit_length() > 1024:  # Python refuses to print what is much longer
            raise pickle.UnpicklingError("a key is a huge number")
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
