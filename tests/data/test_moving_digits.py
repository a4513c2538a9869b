"""Moving digits: pixels fire like those of the standard model of an event camera."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.data.dataset import Split
from refsnn.data.digits import load_digits
from refsnn.data.events import events_to_frames
from refsnn.data.moving_digits import (
    FIELD,
    brightness_events,
    make_moving_digits,
    moving_digits,
    saccades,
    view,
)

module = importlib.import_module("refsnn.data.moving_digits")


def in_memory(*asked):
    """Training frames, labels, test frames, labels."""
    arrays = {}

    def new(name, shape, dtype):
        arrays[name] = np.zeros(shape, dtype)
        return arrays[name]

    make_moving_digits(new, *asked)
    assert list(arrays) == ["train_frames", "train_labels", "test_frames", "test_labels"]
    return tuple(arrays.values())


def rows(events):
    return list(zip(*(values.tolist() for values in events), strict=True))


def one_pixel(levels, times, threshold=0.125):
    """(t, polarity) of a pixel with these brightnesses."""
    video = np.array(levels, float).reshape(-1, 1, 1, 1)
    _, events = brightness_events(video, np.array(times, float), threshold)
    return [(t, p) for t, _, _, p in rows(events)]


def pixel_by_loop(levels, times, threshold):
    """Simulate one pixel, from event to event."""
    found, level = [], levels[0]
    for before, now, start, end in zip(levels, levels[1:], times, times[1:], strict=False):
        sign = 1 if now > before else -1
        while sign * (now - level) >= threshold * (1 - 1e-9):
            level += sign * threshold
            share = min(max((level - before) / (now - before), 0), 1)
            found.append((round(start + share * (end - start)), int(sign > 0)))
    return found


def test_constant_brightness_makes_no_events():
    image, events = brightness_events([np.ones((2, 3, 4))] * 5, np.arange(5) * 10.0, 0.1)
    assert len(image) == 0
    assert [len(values) for values in events] == [0] * 4
    (events,) = moving_digits(np.zeros((1, 8, 8)), np.random.default_rng(0))
    assert len(events.t) == 0


@pytest.mark.parametrize("steps", range(-5, 6))
def test_a_step_of_k_thresholds_makes_k_events_evenly_in_time(steps):
    size = abs(steps)
    wanted = [(100 + round(1000 * k / size), int(steps > 0)) for k in range(1, size + 1)]
    assert one_pixel([0.5, 0.5, 0.5 + 0.125 * steps], [0, 100, 1100]) == wanted


def test_a_change_counts_from_the_last_event():
    assert one_pixel([0, 0.1, 0.2, 0.1], [0, 10, 20, 30]) == [(12, 1)]
    assert one_pixel([0, 0.2, 0.01, 0.0, 0.25], [0, 10, 20, 30, 40]) == [
        (6, 1),
        (30, 0),
        (35, 1),
        (40, 1),
    ]


@settings(deadline=None, max_examples=100)
@given(st.integers(0), st.integers(2, 12), st.sampled_from([0.05, 0.3, 1.0]))
def test_pixels_agree_with_a_loop_over_each(seed, length, threshold):
    rng = np.random.default_rng(seed)
    video = rng.normal(size=(length, 2, 3, 4)).round(2)
    times = np.cumsum(rng.integers(1, 1000, length)).astype(float)
    image, events = brightness_events(video, times, threshold)
    found = {}
    for n, (t, x, y, p) in zip(image.tolist(), rows(events), strict=True):
        found.setdefault((n, y, x), []).append((t, p))
    for place in np.ndindex(2, 3, 4):
        wanted = pixel_by_loop(video[:, *place].tolist(), times.tolist(), threshold)
        got = found.get(place, [])
        assert [p for _, p in got] == [p for _, p in wanted]
        assert all(abs(a - b) <= 1 for (a, _), (b, _) in zip(got, wanted, strict=True))
    assert (np.diff(image) >= 0).all()
    assert all((np.diff(events.t[image == n]) >= 0).all() for n in (0, 1))
    assert [values.dtype for values in events] == [np.int64, np.int16, np.int16, np.int16]


def test_every_pixel_fires_on_as_often_as_off():
    digit = load_digits().train.images[:1, ..., 0] / 16
    places = [np.array([[x, 0.4]]) for x in np.linspace(-40, 40, 200)]
    video = [np.log(0.1 + view(digit, place)) for place in places]
    assert np.ptp(video[0]) == np.ptp(video[-1]) == 0
    _, events = brightness_events(video, np.arange(200) * 1000.0, 0.2)
    balance = np.zeros((FIELD, FIELD), int)
    np.add.at(balance, (events.y, events.x), 2 * events.polarity - 1)
    assert len(events.t) > 1000
    assert not balance.any()
    first = events.t < np.median(events.t)
    assert events.x[first].mean() < events.x[~first].mean()  # to the right


def test_a_view_is_the_digit_enlarged_and_moved():
    image = np.random.default_rng(0).random((1, 8, 8))
    still = view(image, np.zeros((1, 2)))
    assert still.shape == (1, FIELD, FIELD)
    np.testing.assert_allclose(still[0, 6:28:3, 6:28:3], image[0], atol=1e-12)
    between = (2 * image[0, :, :-1] + image[0, :, 1:]) / 3
    np.testing.assert_allclose(still[0, 6:28:3, 7:26:3], between, atol=1e-12)
    moved = view(image, np.array([[2.0, 3.0]]))
    np.testing.assert_allclose(moved[0, 3:, 2:], still[0, :-3, :-2], atol=1e-12)
    flat = view(np.ones((1, 8, 8)), np.zeros((1, 2)))[0]
    np.testing.assert_allclose(flat[6:28, 6:28], 1)
    np.testing.assert_allclose(flat.sum(), (8 * 3) ** 2)  # light is spread, none is lost


def test_the_path_goes_round_its_corners():
    corners = np.random.default_rng(0).normal(size=(4, 3, 2))
    path = np.array(list(saccades(corners)))
    assert path.shape == (151, 4, 2)
    for view_index, corner in ((0, 0), (50, 1), (100, 2), (150, 0)):
        np.testing.assert_allclose(path[view_index], corners[:, corner], atol=1e-12)
    speed = np.linalg.norm(np.diff(path, axis=0), axis=2)
    assert (speed[[0, 49, 50, 99]] < speed[25] / 10).all()


def test_every_recording_is_in_order_and_ends_where_it_began():
    images = load_digits().train.images[:130, ..., 0] / 16
    recordings = list(moving_digits(images, np.random.default_rng(0)))
    assert len(recordings) == 130
    for events in recordings:
        assert 2000 < len(events.t) < 12_000
        assert (np.diff(events.t) >= 0).all()
        assert 0 <= events.t[0] < events.t[-1] <= 300_000
        assert min(events.x.min(), events.y.min()) >= 0
        assert max(events.x.max(), events.y.max()) < FIELD
        balance = np.zeros((FIELD, FIELD), int)
        np.add.at(balance, (events.y, events.x), 2 * events.polarity - 1)
        assert not balance.any()


def test_events_depend_only_on_the_generator_and_the_image():
    images = load_digits().train.images[:70, ..., 0] / 16
    first, again, other = (
        [rows(e) for e in moving_digits(images, np.random.default_rng(seed))] for seed in (1, 1, 2)
    )
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))
    changed = images.copy()
    changed[3] = 0
    without = [rows(e) for e in moving_digits(changed, np.random.default_rng(1))]
    assert [k for k in range(70) if first[k] != without[k]] == [3]


def test_every_image_has_a_path_of_its_own():
    images = load_digits().train.images[[0] * 70, ..., 0] / 16
    assert len({str(rows(e)) for e in moving_digits(images, np.random.default_rng(0))}) == 70


def test_a_lower_threshold_makes_more_events():
    images = load_digits().train.images[:3, ..., 0] / 16
    counts = [
        sum(len(e.t) for e in moving_digits(images, np.random.default_rng(0), threshold))
        for threshold in (0.1, 0.2, 0.4)
    ]
    assert counts[0] > 1.8 * counts[1] > 3 * counts[2]


@pytest.mark.parametrize(
    ("images", "threshold", "message"),
    [
        (np.zeros((2, 8)), 0.3, r"images: got shape \(2, 8\), want \(N, H, W\)"),
        (np.zeros((0, 8, 8)), 0.3, r"images: got shape \(0, 8, 8\)"),
        (np.full((1, 8, 8), 16), 0.3, "images: .* light 0 to 1"),
        (-np.ones((1, 8, 8)), 0.3, "images: .* light 0 to 1"),
        (np.zeros((1, 8, 8)), 0.0, "threshold: got 0.0, want a finite number above 0"),
    ],
)
def test_invalid_images_are_refused(images, threshold, message):
    with pytest.raises(ValueError, match=message):
        next(moving_digits(images, np.random.default_rng(0), threshold))


@pytest.fixture(scope="module")
def data():
    return in_memory(4, 16)


@pytest.mark.slow
def test_frames_of_the_whole_set_keep_the_digits_split(data):
    train, train_labels, test, test_labels = data
    digits = load_digits()
    assert (train.shape, test.shape) == ((1442, 4, 16, 16, 2), (355, 4, 16, 16, 2))
    assert (train.dtype, test.dtype) == (np.uint16, np.uint16)
    assert np.array_equal(train_labels, digits.train.labels)
    assert np.array_equal(test_labels, digits.test.labels)
    assert (train.sum(axis=(1, 2, 3, 4)) > 300).all()


@pytest.mark.slow
def test_a_linear_classifier_separates_the_moving_digits(data):
    """The classifier is least squares with a penalty, on the raw frames."""
    train, train_labels, test, test_labels = data
    train, test = (part.reshape(len(part), -1).astype(float) for part in (train, test))
    gram = train.T @ train + 100 * np.eye(train.shape[1])
    rule = np.linalg.solve(gram, train.T @ np.eye(10)[train_labels])
    assert (np.argmax(test @ rule, axis=1) == test_labels).mean() > 0.9


def test_slices_may_be_of_equal_duration(monkeypatch):
    digits = load_digits()
    parts = [Split(s.images[:k], s.labels[:k]) for s, k in ((digits.train, 7), (digits.test, 4))]
    few = replace(digits, train=parts[0], test=parts[1])
    monkeypatch.setattr(module, "load_digits", lambda: few)
    made = in_memory(3, FIELD, "duration")
    rng = np.random.default_rng(module.SEED)
    for frames, split in zip(made[::2], parts, strict=True):
        recordings = moving_digits(split.images[..., 0] / 16, rng)
        for got, events in zip(frames, recordings, strict=True):
            assert np.array_equal(got, events_to_frames(*events, 3, FIELD, "duration"))
    for labels, split in zip(made[1::2], parts, strict=True):
        assert np.array_equal(labels, split.labels)
