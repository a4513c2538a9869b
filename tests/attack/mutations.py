"""Damage done to the content of files: to any bytes, and to JSON, JSON lines and TOML by their
structure. `containers` does it to formats that hold others."""

import contextlib
import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

Random = random.Random

#: whole numbers on which readers trip
EXTREMES = [0, -1, 1, 2**8, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**62, 2**63, -(2**63), 2**64]
#: values, as they stand in a text
TOKENS = [
    *map(str, EXTREMES),
    "0.5",
    "-0.0",
    "1e308",
    "-1e308",
    "1e999",
    "1e-320",
    "NaN",
    "-Infinity",
    "9" * 30,
    "9" * 400,
    "9" * 6000,
    "true",
    "false",
    "null",
    "[]",
    "{}",
    '""',
    '"\\u0000"',
    '"\\ud800"',
    '"a\\nb"',
    '"../../x"',
    '"/etc/passwd"',
    '"' + "x" * 3000 + '"',
    "[[[[]]]]",
    "[" * 1000 + "]" * 1000,
    '{"a":' * 1000 + "1" + "}" * 1000,
    "[" * 10**5,
    "[1, null]",
    "[" + "0," * 20_000 + "0]",
    '{"a": 1}',
    '"1"',
]
TOML_TOKENS = [
    *(t for t in TOKENS if "{" not in t),
    "nan",
    "-inf",
    "1979-05-27T07:32:00Z",
    "{a = 1}",
    "{a={a=" * 800,
    '"""x\ny"""',
    "0x" + "f" * 9000,
    "'x'",
]
DOUBLE = "\x01again "  # before a key that is to come twice
HELD = re.compile(r'"\\u0001token (\d{1,3})"')


def scrambled(content: bytes, rng: Random) -> bytes:
    """One to four changes at any place, at the beginning in half of them."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(max(1, min(len(data), rng.choice((16, 160, 1 << 40)))))
        rng.choice(CHANGES)(data, at, rng)
    return bytes(data)


def flip(data: bytearray, at: int, rng: Random) -> None:
    if data:
        data[at] ^= 1 << rng.randrange(8)


def cut(data: bytearray, at: int, rng: Random) -> None:
    del data[at : at + rng.choice((1, 2, 7, 64, 1 << 40))]


def repeat(data: bytearray, at: int, rng: Random) -> None:
    piece = data[at : at + rng.choice((1, 8, 64, 512))]
    data[at:at] = piece * rng.choice((1, 1, 2, 100))


def insert(data: bytearray, at: int, rng: Random) -> None:
    data[at:at] = rng.choice((b"\0" * 8, b"\xff", b"\n", rng.randbytes(rng.randrange(1, 40))))


def swap(data: bytearray, at: int, rng: Random) -> None:
    size, other = rng.choice((1, 4, 16, 64)), rng.randrange(len(data) + 1)
    first, second = data[at : at + size], data[other : other + size]
    data[at : at + size], data[other : other + size] = second, first


def number(data: bytearray, at: int, rng: Random) -> None:
    """An extreme whole number, or one that lies near the old one, where one may have been."""
    size = rng.choice((1, 2, 4, 4, 8))
    at -= at % size
    order = rng.choice(("little", "big"))
    old = int.from_bytes(data[at : at + size], order)
    new = rng.choice((*EXTREMES, old + 1, old - 1, 2 * old)) % (1 << 8 * size)
    data[at : at + size] = new.to_bytes(size, order)


def real(data: bytearray, at: int, rng: Random) -> None:
    kind, size = rng.choice((("f", 4), ("d", 8)))
    value = rng.choice((float("nan"), float("inf"), -float("inf"), -1.0, 3e38, 1e-40))
    at -= at % size
    data[at : at + size] = struct.pack(f"{rng.choice('<>')}{kind}", value)


def digits(data: bytearray, at: int, rng: Random) -> None:
    """Another number in place of the next one that is written out."""
    found = re.compile(rb"-?[0-9][0-9.e+-]*").search(data, at)
    if found:
        data[found.start() : found.end()] = rng.choice(TOKENS).encode()


CHANGES: list[Callable[[bytearray, int, Random], None]] = [
    flip,
    flip,
    cut,
    cut,
    repeat,
    insert,
    swap,
    number,
    number,
    number,
    real,
    digits,
]


def mutated_json(content: bytes, rng: Random) -> bytes:
    """Change text that is JSON; most of what results is JSON too."""
    root = [json.loads(content)]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        change_tree(root, rng)
    text = json.dumps(root[0]).replace(json.dumps(DOUBLE)[1:-1], "")
    return HELD.sub(lambda found: TOKENS[int(found[1]) % len(TOKENS)], text).encode()


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key or index in it at which a value stands, from outside inwards."""
    found: list[tuple[Any, Any]] = []
    level = [value]
    while level:
        here = [
            (outer, key)
            for outer in level
            if isinstance(outer, dict | list)
            for key in (outer if isinstance(outer, dict) else range(len(outer)))
        ]
        found += here
        level = [outer[key] for outer, key in here]
    return found


def change_tree(root: list[Any], rng: Random) -> None:
    """One change at one place, high up in half of the cases."""
    found = places(root)
    if not found:
        root.append(0)
        return
    few = rng.choice((len(found), min(len(found), 12)))
    outer, key = found[rng.randrange(few)]
    inner = outer[key]
    match rng.randrange(10):
        case 0 if outer is not root:
            del outer[key]
        case 1 if isinstance(outer, dict):
            outer[rng.choice(("", "x", key + "x", key.upper(), "../x"))] = outer.pop(key)
        case 2 if isinstance(outer, dict):
            outer[DOUBLE + key] = f"\x01token {rng.randrange(len(TOKENS))}"
        case 2 if outer is not root:
            outer.insert(key, inner)
        case 3:
            outer[key] = rng.choice(([inner], {"a": inner}, [inner, inner], str(inner)))
        case 4:
            other, there = found[rng.randrange(len(found))]
            if json.dumps(inner) != json.dumps(other[there]):
                outer[key] = json.loads(json.dumps(other[there]))
        case 5 if isinstance(inner, str) and inner[:2] == '{"':  # JSON within a text
            with contextlib.suppress(ValueError):
                outer[key] = mutated_json(inner.encode(), rng).decode()
        case 5 if isinstance(inner, int | float) and not isinstance(inner, bool):
            outer[key] = rng.choice((inner + 1, -inner, inner * 1000, inner + 0.5))
        case 5 if isinstance(inner, str):
            outer[key] = scrambled(inner.encode(), rng).decode(errors="replace")
        case 5 if isinstance(inner, list | dict):
            outer[key] = type(inner)()
        case _:
            outer[key] = f"\x01token {rng.randrange(len(TOKENS))}"


def mutated_lines(content: bytes, rng: Random) -> bytes:
    """Change JSON lines: one line, their order, or where they end."""
    lines = content.splitlines()
    at = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            lines[at] = rng.choice((b"", b"{}", b"[]", b"null", b"7", b"\xff", lines[at][:20]))
        case 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        case 2:
            lines.reverse()
        case _:
            lines[at] = mutated_json(lines[at], rng)
    return b"\n".join(lines) + rng.choice((b"\n", b"\n", b"", b"\n{"))


def mutated_toml(content: bytes, rng: Random) -> bytes:
    """Other values, keys and tables."""
    lines = content.decode().splitlines()
    at = rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            lines.insert(rng.randrange(len(lines)), lines[at])
        case 1:
            del lines[at]
        case 2:
            lines[at] = rng.choice(("[a]", "[[cases]]", "[cases.x]", "a." * 1000 + "a = 1", "="))
        case _:
            key = rng.choice((lines[at].partition("=")[0] or "x", '""', "a.b", '"a\\nb"'))
            lines[at] = f"{key} = {rng.choice(TOML_TOKENS)}"
    return "\n".join(lines).encode() + b"\n"
