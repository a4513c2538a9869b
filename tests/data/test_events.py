"""Event recordings as frames, against counting one by one; and the frames' augmentation."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.data.events import (
    Events,
    events_to_frames,
    random_roll,
    resize_nearest,
    split_by_order,
)

SENSOR = 4


@st.composite
def recordings(draw):
    n = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    t = np.sort(rng.integers(0, draw(st.integers(1, 60)), n))
    x, y = rng.integers(0, SENSOR, (2, n))
    return t, x, y, rng.integers(0, 2, n)


def count(events, slices, steps):
    frames = np.zeros((steps, SENSOR, SENSOR, 2), int)
    for (_, x, y, p), k in zip(zip(*events, strict=True), slices, strict=True):
        frames[k, y, x, p] += 1
    return frames


@settings(deadline=None, max_examples=60)
@given(recordings(), st.integers(1, 12))
def test_slices_of_equal_count_and_the_last_takes_the_rest(events, steps):
    n = len(events[0])
    frames = events_to_frames(*events, steps, SENSOR)
    share = max(n // steps, 1)
    slices = [min(k // share, steps - 1) for k in range(n)]
    assert np.array_equal(frames, count(events, slices, steps))
    assert frames.sum() == n
    if n >= steps:
        assert (frames[:-1].sum(axis=(1, 2, 3)) == n // steps).all()


@settings(deadline=None, max_examples=60)
@given(recordings(), st.sampled_from([1, 2, 4, 8]))
def test_slices_of_equal_duration(events, steps):
    t = events[0]
    duration = max(int(t[-1] - t[0]), 1)
    frames = events_to_frames(*events, steps, SENSOR, slices="duration")
    slices = [min(int(value - t[0]) * steps // duration, steps - 1) for value in t]
    assert np.array_equal(frames, count(events, slices, steps))


def test_duration_and_count_differ():
    t = np.array([100, 101, 102, 103, 104, 200])
    where = np.zeros(6, int)
    by_count = events_to_frames(t, where, where, where, 2, SENSOR, "count")
    by_time = events_to_frames(t, where, where, where, 2, SENSOR, "duration")
    assert by_count.sum(axis=(1, 2, 3)).tolist() == [3, 3]
    assert by_time.sum(axis=(1, 2, 3)).tolist() == [5, 1]


def test_rows_are_y_columns_are_x_and_polarity_is_the_channel():
    frames = events_to_frames(*(np.array([v]) for v in (9, 3, 1, 1)), 1, SENSOR)
    assert frames.shape == (1, SENSOR, SENSOR, 2)
    assert np.argwhere(frames).tolist() == [[0, 1, 3, 1]]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "int64"])
def test_counts_do_not_overflow_small_integers(dtype):
    n = 300
    last = np.full(n, 127, dtype)
    frames = events_to_frames(np.arange(n), last, last, np.ones(n, dtype), 1, 128)
    assert frames[0, 127, 127, 1] == frames.sum() == 300


@pytest.mark.parametrize("name", ["x", "y", "polarity"])
@pytest.mark.parametrize("wrong", ["low", "high", "short"])
def test_values_outside_their_bounds_are_named(name, wrong):
    events = {"t": np.arange(3), "x": np.zeros(3, int), "y": np.zeros(3, int)}
    events["polarity"] = np.ones(3, int)
    limit = 2 if name == "polarity" else SENSOR
    bad = {"low": [0, -1, 0], "high": [0, limit, 0], "short": [0, 0]}[wrong]
    events[name] = np.array(bad)
    with pytest.raises(ValueError, match=rf"^{name}: want 3 values from 0 to {limit - 1}"):
        events_to_frames(**events, steps=2, sensor=SENSOR)


def test_slices_of_duration_are_exact_for_long_recordings():
    late = 10**15
    t = late + np.array([0, 1, 2, 3 * 10**17])
    where = np.zeros(4, int)
    frames = events_to_frames(t, where, where, where, 3, SENSOR, "duration")
    assert frames.sum(axis=(1, 2, 3)).tolist() == [3, 0, 1]
    t = late + np.array([0, 10**17 - 1, 10**17, 2 * 10**17 - 1, 2 * 10**17, 3 * 10**17])
    where = np.zeros(6, int)
    frames = events_to_frames(t, where, where, where, 3, SENSOR, "duration")
    assert frames.sum(axis=(1, 2, 3)).tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", ["t", "x", "y", "polarity"])
@pytest.mark.parametrize("dtype", [float, bool, complex])
def test_values_that_are_not_integers_are_refused(name, dtype):
    events = dict.fromkeys(("t", "x", "y", "polarity"), np.ones(3, int))
    events[name] = events[name].astype(dtype)
    with pytest.raises(TypeError, match=rf"^{name}: got dtype \w+, want integers"):
        events_to_frames(**events, steps=2, sensor=SENSOR)


@pytest.mark.parametrize("dtype", ["int64", "uint32"])
def test_times_out_of_order_are_refused(dtype):
    zero = np.zeros(3, int)
    with pytest.raises(ValueError, match="t: want times in order"):
        events_to_frames(np.array([5, 4, 6], dtype), zero, zero, zero, 2, SENSOR)
    events_to_frames(np.array([5, 5, 6], dtype), zero, zero, zero, 2, SENSOR)


def test_zero_events_zero_steps_and_unknown_slices_are_refused():
    none, one = np.empty(0, int), np.zeros(1, int)
    with pytest.raises(ValueError, match="t: got no events"):
        events_to_frames(none, none, none, none, 2, SENSOR)
    with pytest.raises(ValueError, match="steps: got 0"):
        events_to_frames(one, one, one, one, 0, SENSOR)
    with pytest.raises(ValueError, match="slices: got 'time'"):
        events_to_frames(one, one, one, one, 2, SENSOR, "time")


def test_a_sensor_need_not_be_square():
    events = Events(*(np.array(v) for v in ([1, 2, 3], [5, 0, 5], [1, 0, 1], [0, 1, 0])))
    frames = events_to_frames(*events, 1, (2, 6))
    assert frames.shape == (1, 2, 6, 2)
    assert {tuple(i): int(frames[tuple(i)]) for i in np.argwhere(frames)} == {
        (0, 1, 5, 0): 2,
        (0, 0, 0, 1): 1,
    }
    with pytest.raises(ValueError, match="y: want 3 values from 0 to 1"):
        events_to_frames(*events._replace(y=events.y + 1), 1, (2, 6))
    with pytest.raises(ValueError, match="x: want 3 values from 0 to 4"):
        events_to_frames(*events, 1, (2, 5))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64"])
def test_slices_of_duration_begin_where_the_type_of_t_ends(dtype):
    last = 255 if dtype == "uint8" else min(np.iinfo(dtype).max, 2**63 - 2)
    t, where = np.array([last - 3, last - 1, last], dtype), np.zeros(3, int)
    frames = events_to_frames(t, where, where, where, 3, SENSOR, "duration")
    assert frames.sum(axis=(1, 2, 3)).tolist() == [1, 0, 2]
    frames = events_to_frames(t[2:], *[where[2:]] * 3, 3, SENSOR, "duration")
    assert frames.sum(axis=(1, 2, 3)).tolist() == [1, 0, 0]


@pytest.mark.parametrize(("height", "width", "size"), [(4, 6, 3), (3, 5, 7), (128, 128, 48)])
def test_a_resized_pixel_shows_the_nearest_below(height, width, size):
    frames = np.arange(2 * height * width * 2).reshape(2, height, width, 2)
    out = resize_nearest(frames, size)
    assert out.shape == (2, size, size, 2)
    for i in range(size):
        for j in range(size):
            wanted = frames[:, int(i * height / size), int(j * width / size)]
            assert np.array_equal(out[:, i, j], wanted)


def test_resizing_to_the_same_size_changes_nothing_and_to_none_is_refused():
    frames = np.random.default_rng(0).integers(0, 9, (2, 5, 5, 2))
    assert np.array_equal(resize_nearest(frames, 5), frames)
    with pytest.raises(ValueError, match="size: got 0"):
        resize_nearest(frames, 0)


def test_the_first_recordings_of_each_class_are_for_training():
    labels = np.array([2, 0, 2, 2, 0, 1, 2])
    assert split_by_order(labels, 2).tolist() == [True, True, True, False, True, True, False]
    assert not split_by_order(labels, 0).any()
    with pytest.raises(ValueError, match="train: got -1"):
        split_by_order(labels, -1)
    many = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 1000))
    mask = split_by_order(many, 900)
    assert (np.bincount(many[mask]) == 900).all()
    assert (np.bincount(many[~mask]) == 100).all()


def numbered_sequences(n, steps, height, width):
    """Samples that are alike; in them every number is another."""
    one = np.arange(steps * height * width * 2).reshape(steps, height, width, 2)
    return np.broadcast_to(one, (n, *one.shape)).copy()


def test_every_roll_is_equally_frequent_and_moves_all_steps_equally():
    frames = numbered_sequences(1800, 3, 4, 7)
    rolled = random_roll(frames, np.random.default_rng(0), 1)
    by_content = {}
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            wanted = np.empty_like(frames[0])
            for row in range(4):
                for column in range(7):
                    wanted[:, (row + dy) % 4, (column + dx) % 7] = frames[0, :, row, column]
            by_content[wanted.tobytes()] = dy, dx
    counts = Counter(by_content[sample.tobytes()] for sample in rolled)
    assert len(counts) == 9
    assert all(abs(count - 200) < 70 for count in counts.values())  # five standard deviations


def test_rolls_reach_five_pixels_each_way_unless_told_otherwise():
    frames = numbered_sequences(600, 1, 16, 16)
    corners = random_roll(frames, np.random.default_rng(0))[:, 0, 0, 0, 0] // 2
    moved = {((int(c) // 16 + 8) % 16 - 8, (int(c) + 8) % 16 - 8) for c in corners}
    assert {dy for dy, _ in moved} == {dx for _, dx in moved} == set(range(-5, 6))
    assert np.array_equal(random_roll(frames, np.random.default_rng(0), 0), frames)
    with pytest.raises(ValueError, match="most: got -1"):
        random_roll(frames, np.random.default_rng(0), -1)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_rolling_keeps_the_dtype_and_its_input_and_follows_the_generator(dtype):
    frames = numbered_sequences(20, 2, 12, 13).astype(dtype)
    before = frames.copy()
    first, again, other = (random_roll(frames, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.dtype == dtype
    assert np.array_equal(frames, before)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
