"""Safe reader of pickles of numbers, text and NumPy arrays.

It calls nothing that a pickle names. A call of one of the few functions that arrays need becomes a
`Call`, which `array_of` and `integers_of` turn into values; any other function is refused.
"""

import pickletools
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from refsnn.ops import Array


class Call(NamedTuple):
    """A call that a pickle contains, and the state that it gives the result."""

    function: str
    arguments: Any
    state: Any = None


#: functions that pickles may name; NumPy 1's modules numpy.core… are written as NumPy 2's
CALLABLE = (
    "numpy._core.multiarray _reconstruct",
    "numpy._core.multiarray scalar",
    "numpy._core.numeric _frombuffer",
    "numpy ndarray",
    "numpy dtype",
    "_codecs encode",
    "__builtin__ bytes",  # how protocols 0 to 2 write bytes
)
VALUES = {
    "STRING",
    "BINSTRING",
    "SHORT_BINSTRING",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "BYTEARRAY8",
    "INT",
    "BININT",
    "BININT1",
    "BININT2",
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
GET = {"GET", "BINGET", "LONG_BINGET"}
TAKES = {  # number of values taken from the stack; None: all above the last mark
    "EMPTY_LIST": 0,
    "LIST": None,
    "APPEND": 1,
    "APPENDS": None,
    "EMPTY_DICT": 0,
    "DICT": None,
    "SETITEM": 2,
    "SETITEMS": None,
    "EMPTY_TUPLE": 0,
    "TUPLE1": 1,
    "TUPLE2": 2,
    "TUPLE3": 3,
    "TUPLE": None,
    "GLOBAL": 0,
    "STACK_GLOBAL": 2,
    "REDUCE": 2,
    "BUILD": 1,
}
#: fewer bytes per opcode are refused, since lists could fill the memory. An image of 3,072 bytes
#: takes up to 45 opcodes if protocol 0 writes its name and two labels as NumPy scalars
BYTES_PER_OPCODE = 60
LONGEST_KEY = 100
INTEGERS = tuple(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))


def play(content: bytes) -> Any:
    """Read a pickle of strings, bytes, integers, lists, tuples, dictionaries and `Call`s.

    A damaged pickle may raise any exception.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about invalid escapes in strings
        return value_of(content)


def value_of(content: bytes) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    most = 1000 + len(content) // BYTES_PER_OPCODE
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        name = opcode.name
        if count == most:
            raise ValueError(f"want at most {most} opcodes")
        if name in VALUES:
            stack.append(argument)
        elif name in PUT:
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in GET:
            stack.append(memo[argument])
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in TAKES:
            taken = TAKES[name]
            start = marks.pop() if taken is None else len(stack) - taken
            if start < 0:
                raise ValueError(f"{name} finds no value")
            values = stack[start:]
            del stack[start:]
            combine(name, argument, values, stack)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"{name} {argument!r} is not allowed")
    return stack.pop()


def combine(name: str, argument: Any, values: list[Any], stack: list[Any]) -> None:
    match name:
        case "EMPTY_LIST" | "LIST":
            stack.append(values)
        case "APPEND" | "APPENDS":
            stack[-1].extend(values)
        case "EMPTY_DICT" | "DICT":
            stack.append(dictionary(values))
        case "SETITEM" | "SETITEMS":
            stack[-1].update(dictionary(values))
        case "GLOBAL" | "STACK_GLOBAL":
            named = argument or " ".join(values)
            function = named.replace("numpy.core.", "numpy._core.", 1)
            if function not in CALLABLE:
                raise ValueError(f"{named!r} is not allowed")
            stack.append(function)
        case "REDUCE":
            stack.append(Call(*values))
        case "BUILD":
            stack.append(stack.pop()._replace(state=values[0]))
        case _:
            stack.append(tuple(values))


def dictionary(values: list[Any]) -> dict[str, Any]:
    keys = [key_of(key) for key in values[::2]]
    return dict(zip(keys, values[1::2], strict=True))


def key_of(value: Any) -> str:
    """Return a key, text or bytes, as text; refuses long keys.

    A pickle may use the same text as key again and again, so a long one would take much time.
    """
    text = value.arguments[0] if isinstance(value, Call) else value
    if len(text) > LONGEST_KEY:
        raise ValueError(f"got a key of {len(text)} characters, want at most {LONGEST_KEY}")
    return value if isinstance(value, str) else bytes_of(value).decode()


def bytes_of(value: Any) -> bytes | bytearray:
    """Return a value as bytes, which protocols 0 to 2 write as text."""
    match value:
        case bytes() | bytearray():
            return value
        case str() as text:  # written by Python 2
            return text.encode("latin-1")
        case Call("_codecs encode", (str() as text, "latin1" | "latin-1"), None):
            return text.encode("latin-1")
        case Call("__builtin__ bytes", (), None):
            return b""
    raise ValueError(f"got {type(value).__name__}, want bytes")


def dtype_of(name: str, value: Any, codes: Sequence[str]) -> np.dtype[Any]:
    """Return a dtype, whose code, such as "u1", must be in `codes`, with its byte order."""
    match value:
        case Call("numpy dtype", (str() as code, *_), state):
            if code not in codes:
                want = codes[0] if len(codes) == 1 else "integers"
                raise ValueError(f"{name}: got dtype {code!r}, want {want}")
            return np.dtype(code).newbyteorder("=" if state is None else state[1])
    raise ValueError(f"{name}: got no dtype")


def array_of(name: str, value: Any, codes: Sequence[str]) -> Array:
    """Return the array that a `Call` of NumPy's functions stands for, of a dtype in `codes`.

    It shares memory with the pickle's bytes. ValueError, which names `name`, for other values.
    """
    match value:
        case Call(
            "numpy._core.multiarray _reconstruct",
            ("numpy ndarray", *_),
            (_, shape, dtype, fortran, raw),
        ):
            order = "F" if fortran else "C"
        case Call("numpy._core.numeric _frombuffer", (raw, dtype, shape, str() as order), None):
            if order not in ("C", "F"):
                raise ValueError(f"{name}: got the order {order!r}, want C or F")
        case _:
            raise ValueError(f"{name}: got {type(value).__name__}, want an array")
    dtype = dtype_of(name, dtype, codes)
    return np.frombuffer(bytes_of(raw), dtype).reshape(shape, order="F" if order == "F" else "C")


def integers_of(name: str, value: Any) -> Array:
    """Return an array of integers, given as an array or as a list of integers or NumPy scalars."""
    if isinstance(value, Call):
        return array_of(name, value, INTEGERS)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name}: got {type(value).__name__}, want integers")
    return np.array([integer_of(name, entry) for entry in value], np.int64)


def integer_of(name: str, value: Any) -> int:
    match value:
        case Call("numpy._core.multiarray scalar", (dtype, raw), None):
            dtype, raw = dtype_of(name, dtype, INTEGERS), bytes_of(raw)
            if len(raw) != dtype.itemsize:
                raise ValueError(f"{name}: got {len(raw)} bytes, want {dtype.itemsize}")
            return int(np.frombuffer(raw, dtype)[0])
    if type(value) is not int:
        raise ValueError(f"{name}: want a list of integers")
    return value
