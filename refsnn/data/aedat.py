"""Reader of AEDAT 2.0 and 3.1, the files in which jAER and cAER record event cameras.

The addresses of AEDAT 2.0 are read as the DVS128's, as jAER, `dat2mat.m` and the readers of
CIFAR10-DVS do: bit 0 is the polarity (0 is ON), bits 1-7 the column from the right, bits 8-14 the
row from below. Bit 15 marks events of the camera's trigger input (jAER: SYNC_EVENT_BITMASK), whose
other bits name no pixel. This reader leaves trigger events out, as jAER does when it draws;
`dat2mat.m` and jAER's MATLAB functions mask the bit away and so take them for events of pixels.
Without trigger events all of them read the same.
"""

import re
import struct
from pathlib import Path

import numpy as np

from refsnn.data.events import Events
from refsnn.files.reading import read_bytes
from refsnn.ops import Array, validate

HEADER = re.compile(rb"#!AER-DAT(\d+\.\d+)\r?\n(?:#(?!!END-HEADER)[^\n]*\n)*+(#!END-HEADER\r?\n)?")
#: eventType, eventSource, eventSize, eventTSOffset, eventTSOverflow, eventCapacity, eventNumber,
#: eventValid
PACKET = struct.Struct("<hhiiiiii")
POLARITY, POLARITY_BYTES = 1, 8  # eventType and eventSize of the events that are read
TRIGGER, MOST_ADDRESS = 1 << 15, (1 << 16) - 1
DISORDER = 100_000  # microseconds: a longer step back in time means that the counter restarted


def read_aedat(path: Path) -> Events:
    """Read a file's polarity events, in order of time; ValueError names the file and the byte."""
    data = read_bytes(path)
    header = HEADER.match(data)
    try:
        if header is None:
            raise ValueError("byte 0: got no AEDAT header, want #!AER-DAT2.0 or 3.1")
        version, end_line = header.groups()
        if version == b"2.0":
            return read_pairs(data, header.end())
        if version != b"3.1":
            raise ValueError(
                f"byte 9: got AEDAT {validate.named(version.decode())}, want 2.0 or 3.1"
            )
        if end_line is None:
            raise ValueError(f"byte {header.end()}: got no line #!END-HEADER")
        return read_packets(data, header.end())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_pairs(data: bytes, start: int) -> Events:
    """Read AEDAT 2.0: big-endian pairs of address and time."""
    n, rest = divmod(len(data) - start, 8)
    if rest:
        raise ValueError(f"byte {len(data) - rest}: the last event has {rest} bytes, want 8")
    address, counter = np.frombuffer(data, ">u4", 2 * n, start).astype(np.uint32).reshape(n, 2).T
    wrong = np.flatnonzero(address > MOST_ADDRESS)
    if len(wrong):
        where = int(wrong[0])
        raise ValueError(
            f"byte {start + 8 * where}: got the address {address[where]:#x}, "
            f"want at most {MOST_ADDRESS:#x} (DVS128)"
        )
    pixel = address & TRIGGER == 0
    address = address[pixel].astype(np.int16)
    if len(address) == 0:
        raise ValueError(f"byte {start}: got no events")
    t = unwrapped(counter[pixel])
    return in_order(Events(t, 127 - (address >> 1 & 127), 127 - (address >> 8), 1 - (address & 1)))


def unwrapped(counter: Array) -> Array:
    """Return a 32-bit counter of microseconds (n,) as int64 times that start at 0.

    Steps are taken modulo 2^32, the short way round. At a step back by more than DISORDER the
    counter restarted, and time stands still. Shorter steps back are kept.
    """
    steps = np.diff(counter).view(np.int32).astype(np.int64)
    steps[steps < -DISORDER] = 0
    t = np.concatenate([[0], np.cumsum(steps)])
    return t - t.min()


def in_order(events: Events) -> Events:
    """Return the events sorted by time; events of one microsecond keep their order."""
    if np.all(events.t[1:] >= events.t[:-1]):
        return events
    order = np.argsort(events.t, kind="stable")
    return Events(*(values[order] for values in events))


def read_packets(data: bytes, at: int) -> Events:
    """Read AEDAT 3.1 from byte `at`: little-endian packets of a header and events of one type."""
    packets = []
    while at < len(data):
        if len(data) - at < PACKET.size:
            raise ValueError(
                f"byte {at}: got {len(data) - at} bytes, want a packet header of {PACKET.size}"
            )
        event_type, _, size, _, overflow, capacity, number, _ = PACKET.unpack_from(data, at)
        start = at + PACKET.size
        if event_type < 0:
            raise ValueError(f"byte {at}: got a compressed packet, want the format RAW")
        if size <= 0 or overflow < 0 or not 0 <= number <= capacity:
            raise ValueError(
                f"byte {at}: got a packet of {number} events of {size} bytes, "
                f"capacity {capacity}, overflow {overflow}"
            )
        if number * size > len(data) - start:
            raise ValueError(
                f"byte {start}: got {len(data) - start} bytes, want {number} events of {size}"
            )
        if event_type == POLARITY:
            if size != POLARITY_BYTES:
                raise ValueError(f"byte {at}: got polarity events of {size} bytes, want 8")
            packets.append(polarity_events(data, start, number, overflow))
        at = start + number * size
    if not sum(len(packet.t) for packet in packets):
        raise ValueError(f"byte {at}: got no polarity events")
    return in_order(Events(*(np.concatenate(values) for values in zip(*packets, strict=True))))


def polarity_events(data: bytes, start: int, number: int, overflow: int) -> Events:
    """Return the valid events of one packet, whose times count from overflow * 2^31."""
    pairs = np.frombuffer(data, "<u4", 2 * number, start).astype(np.int64).reshape(number, 2)
    late = np.flatnonzero(pairs[:, 1] >> 31)
    if len(late):
        raise ValueError(f"byte {start + 8 * int(late[0]) + 4}: got a negative time")
    word, time = pairs[pairs[:, 0] & 1 == 1].T
    fields = (word >> 17, word >> 2 & 0x7FFF, word >> 1 & 1)
    x, y, polarity = (values.astype(np.int16) for values in fields)
    return Events(time + (overflow << 31), x, y, polarity)
