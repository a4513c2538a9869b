"""AEDAT files made byte by byte; an error names the byte."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.data.aedat import read_aedat

SHARED = Path(os.environ.get("REFSNN_SHARED", Path(__file__).parents[2].parent / "shared" / "data"))
REAL = sorted((SHARED / "dvs128").glob("*.aedat"))

LINES = (
    b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Timestamps tick is 1 us\r\n"
)
LINES_3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"


def pair(x, y, polarity, t):
    """One event of AEDAT 2.0: the DVS128 counts x from the right, y from below, and 0 is ON."""
    return struct.pack(">II", (127 - y) << 8 | (127 - x) << 1 | (1 - polarity), t)


def packet(body, number=None, kind=1, size=8, overflow=0, capacity=None):
    number = len(body) // size if number is None else number
    capacity = number if capacity is None else capacity
    return struct.pack("<hhiiiiii", kind, 1, size, 4, overflow, capacity, number, number) + body


def polarity(x, y, p, t, valid=1):
    return struct.pack("<Ii", x << 17 | y << 2 | p << 1 | valid, t)


@pytest.fixture
def read(tmp_path):
    def of(content):
        (tmp_path / "a.aedat").write_bytes(content)
        return read_aedat(tmp_path / "a.aedat")

    return of


def rows(events):
    """(t, x, y, polarity) of each event."""
    return list(zip(*(values.tolist() for values in events), strict=True))


def test_pairs_are_events_of_the_dvs128(read):
    seen = [(0, 0, 0, 0), (127, 0, 1, 3), (0, 127, 0, 3), (126, 5, 1, 2000)]
    events = read(LINES + b"".join(pair(*event) for event in seen))
    assert rows(events) == [(t, x, y, p) for x, y, p, t in seen]
    assert [values.dtype for values in events] == [np.int64, np.int16, np.int16, np.int16]


def test_bytes_as_a_camera_wrote_them(read):
    """0x47e9: row 0x47 from below, column 0x74 from the right, OFF."""
    events = read(LINES + bytes.fromhex("000047e90faabd0d 00007cc20faabd70"))
    assert rows(events) == [(0, 127 - 0x74, 127 - 0x47, 0), (0x63, 127 - 0x61, 127 - 0x7C, 1)]


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_the_header_may_be_short_or_long(read, end):
    event = pair(1, 2, 1, 77)
    assert rows(read(b"#!AER-DAT2.0" + end + event)) == [(0, 1, 2, 1)]
    assert rows(read(b"#!AER-DAT2.0" + end + (b"#<entry/>" + end) * 200_000 + event)) == [
        (0, 1, 2, 1)
    ]


def test_events_of_external_triggers_are_left_out(read):
    trigger = struct.pack(">II", 0x8000 | 0x1234, 5)
    assert rows(read(LINES + pair(3, 4, 0, 9) + trigger)) == [(0, 3, 4, 0)]
    with pytest.raises(ValueError, match=rf"a\.aedat: byte {len(LINES)}: got no events"):
        read(LINES + trigger)


def test_the_counter_wraps_after_32_bits(read):
    times = [2**32 - 5, 2**32 - 1, 0, 3, 2**31 - 1, 2**31 + 7, 2**32 - 1, 2]
    events = read(LINES + b"".join(pair(k, 0, 1, t) for k, t in enumerate(times)))
    turns = [0, 0, 1, 1, 1, 1, 1, 2]
    wanted = [t + 2**32 * turn - times[0] for t, turn in zip(times, turns, strict=True)]
    assert events.t.tolist() == wanted
    assert events.x.tolist() == list(range(8))


def test_small_disorder_is_sorted_and_ties_keep_their_order(read):
    times = [50, 70, 60, 60, 40, 70]
    events = read(LINES + b"".join(pair(k, 0, 1, t) for k, t in enumerate(times)))
    assert events.t.tolist() == [0, 10, 20, 20, 30, 30]
    assert events.x.tolist() == [4, 0, 2, 3, 1, 5]


@pytest.mark.parametrize("back", [100_000, 100_001, 10**7])
def test_a_long_step_back_means_that_the_counter_restarted(read, back):
    times = [back, back + 20, 20, 30]
    events = read(LINES + b"".join(pair(k, 0, 1, t) for k, t in enumerate(times)))
    if back == 100_000:
        assert events.t.tolist() == [0, 10, back - 20, back]
        assert events.x.tolist() == [2, 3, 0, 1]
    else:
        assert events.t.tolist() == [0, 20, 20, 30]
        assert events.x.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_last_event_that_is_cut_is_named(read, cut):
    content = LINES + pair(1, 2, 1, 3) + pair(1, 2, 1, 4)
    at = len(LINES) + 8
    with pytest.raises(ValueError, match=rf"a\.aedat: byte {at}: .* has {8 - cut} bytes, want 8$"):
        read(content[:-cut])


@pytest.mark.parametrize("address", [0x10000, 0x00400000, 0x80000001, 0xFFFFFFFF])
def test_addresses_of_another_camera_are_named(read, address):
    body = pair(1, 2, 1, 3) + struct.pack(">II", address, 4) + pair(1, 2, 1, 5)
    at = len(LINES) + 8
    with pytest.raises(ValueError, match=rf"byte {at}: got the address {address:#x}, want at most"):
        read(LINES + body)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "byte 0: got no AEDAT header"),
        (b"\x00" * 64, "byte 0: got no AEDAT header"),
        (b"PK\x03\x04 not one of ours", "byte 0: got no AEDAT header"),
        (b"# lines only\r\n" + pair(1, 2, 1, 3), "byte 0: got no AEDAT header"),
        (b"#!AER-DAT2.0", "byte 0: got no AEDAT header"),
        (b"#!AER-DAT1.0\r\n" + bytes(6), "byte 9: got AEDAT 1.0, want 2.0 or 3.1"),
        (b"#!AER-DAT3.0\r\n", "byte 9: got AEDAT 3.0, want 2.0 or 3.1"),
        (b"#!AER-DAT4.0\r\n" + bytes(9), "byte 9: got AEDAT 4.0, want 2.0 or 3.1"),
        (b"#!AER-DAT" + b"9" * 999 + b".0\r\n", r"byte 9: got AEDAT '9{76}\.\.\., want 2\.0 or"),
        (LINES, f"byte {len(LINES)}: got no events"),
        (LINES_3, f"byte {len(LINES_3)}: got no polarity events"),
        (LINES_3[:30] + packet(polarity(1, 2, 1, 3)), "byte 28: got no line #!END-HEADER"),
    ],
)
def test_a_file_that_is_not_a_recording_is_refused(read, content, message):
    with pytest.raises(ValueError, match=rf"^\S+a\.aedat: {message}"):
        read(content)


def test_packets_of_polarity_events(read):
    seen = [(0, 0, 0, 5), (32767, 1, 1, 5), (2, 32767, 1, 6), (127, 126, 0, 2**31 - 1)]
    body = b"".join(polarity(*event) for event in seen)
    events = read(LINES_3 + packet(body[:16]) + packet(body[16:]))
    assert rows(events) == [(t, x, y, p) for x, y, p, t in seen]
    assert [values.dtype for values in events] == [np.int64, np.int16, np.int16, np.int16]


def test_events_marked_invalid_are_left_out(read):
    body = polarity(1, 2, 1, 3, valid=0) + polarity(4, 5, 0, 6) + polarity(7, 8, 1, 9, valid=0)
    assert rows(read(LINES_3 + packet(body))) == [(6, 4, 5, 0)]
    with pytest.raises(ValueError, match="got no polarity events"):
        read(LINES_3 + packet(body[:8]))


def test_packets_of_other_events_are_skipped(read):
    """A packet of 35 begins with the byte that begins a header line, #."""
    other = packet(bytes(range(36)), kind=35, size=36) + packet(b"", kind=0)
    content = LINES_3 + other + packet(polarity(1, 2, 1, 3)) + packet(bytes(80), kind=2, size=40)
    assert rows(read(content)) == [(3, 1, 2, 1)]


def test_a_packet_has_as_many_events_as_its_number_not_its_capacity(read):
    roomy = packet(polarity(1, 2, 1, 3), capacity=9)
    assert rows(read(LINES_3 + roomy + packet(polarity(4, 5, 0, 6)))) == [
        (3, 1, 2, 1),
        (6, 4, 5, 0),
    ]


def test_times_continue_after_31_bits(read):
    first, second = packet(polarity(1, 1, 1, 2**31 - 1)), packet(polarity(2, 2, 1, 4), overflow=1)
    third = packet(polarity(3, 3, 0, 4), overflow=5)
    assert read(LINES_3 + first + second + third).t.tolist() == [
        2**31 - 1,
        2**31 + 4,
        5 * 2**31 + 4,
    ]


def test_packets_out_of_order_are_sorted(read):
    events = read(LINES_3 + packet(polarity(1, 1, 1, 9)) + packet(polarity(2, 2, 0, 4)))
    assert rows(events) == [(4, 2, 2, 0), (9, 1, 1, 1)]


def test_a_file_cut_anywhere_is_named_unless_between_packets(read):
    packets = [packet(polarity(k, 1, 1, k) * 2) for k in range(3)]
    whole = LINES_3 + b"".join(packets)
    begins = [len(LINES_3) + len(packets[0]) * k for k in range(4)]
    for length in range(len(LINES_3) + 1, len(whole)):
        if length in begins:
            assert len(read(whole[:length]).t) == 2 * begins.index(length)
            continue
        begin = max(b for b in begins if b <= length)
        at = begin + 28 * (length >= begin + 28)
        with pytest.raises(ValueError, match=rf"a\.aedat: byte {at}: got {length - at} bytes"):
            read(whole[:length])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": 2**31 - 1}, "byte 125: got 8 bytes, want 2147483647 events of 8"),
        ({"number": 2}, "byte 125: got 8 bytes, want 2 events of 8"),
        ({"number": -1}, "byte 97: got a packet of -1 events"),
        ({"capacity": 0}, "byte 97: got a packet of 1 events of 8 bytes, capacity 0"),
        ({"size": 0, "number": 1}, "byte 97: got a packet of 1 events of 0 bytes"),
        ({"size": -8}, "byte 97: got a packet of -1 events of -8 bytes"),
        ({"size": 2**31 - 1, "number": 2**31 - 1}, "byte 125: got 8 bytes, want 2147483647 events"),
        ({"size": 4}, "byte 97: got polarity events of 4 bytes, want 8"),
        ({"overflow": -1}, "byte 97: got a packet .* overflow -1"),
        ({"kind": 1 - 2**15}, "byte 97: got a compressed packet, want the format RAW"),
        ({"body": polarity(1, 2, 1, -3)}, "byte 129: got a negative time"),
    ],
)
def test_impossible_packets_are_named(read, change, message):
    content = (
        LINES_3 + packet(polarity(1, 2, 1, 3)) + packet(**{"body": polarity(1, 2, 1, 3)} | change)
    )
    with pytest.raises(ValueError, match=rf"a\.aedat: {message}"):
        read(content)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([LINES, LINES_3]), st.binary(max_size=120))
def test_random_bytes_give_events_or_a_clear_error(tmp_path_factory, header, body):
    path = tmp_path_factory.mktemp("rubbish") / "a.aedat"
    path.write_bytes(header + body)
    try:
        events = read_aedat(path)
    except ValueError as error:
        events, message = None, str(error)
    if events is None:
        assert message.startswith(f"{path}: byte ")
    else:
        assert len(events.t) > 0
        assert (np.diff(events.t) >= 0).all()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"nothing\.aedat"):
        read_aedat(tmp_path / "nothing.aedat")


@pytest.mark.skipif(not REAL, reason="no shared recordings")
@pytest.mark.parametrize("path", REAL, ids=lambda p: p.stem)
def test_real_recordings_of_people_that_walk(path):
    """A person is taller than wide. Pixels that see no change leak, which makes ON events."""
    events = read_aedat(path)
    assert (np.diff(events.t) >= 0).all()
    assert 5e6 < events.t[-1] < 11e6
    assert 2e3 < len(events.t) / (events.t[-1] / 1e6) < 2e4
    assert min(events.x.min(), events.y.min()) >= 0
    assert max(events.x.max(), events.y.max()) == 127
    assert np.std(events.y) > 1.2 * np.std(events.x)
    aside = (events.x < 25) | (events.x > 100)
    balance = np.zeros((128, 128), int)
    np.add.at(balance, (events.y[aside], events.x[aside]), 2 * events.polarity[aside] - 1)
    assert (balance > 0).sum() > 2 * (balance < 0).sum()
