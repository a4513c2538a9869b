"""Refusals before a run begins, because data and network don't fit."""

from types import SimpleNamespace

import numpy as np
import pytest

from refsnn.training.compatible import check_fit
from refsnn.training.config import make_config


def images(*shape):
    return SimpleNamespace(train=SimpleNamespace(images=np.zeros((5, *shape), np.uint8)))


@pytest.mark.parametrize("frames", [1, 3, 4])
def test_sequences_have_as_many_frames_as_there_are_steps(frames):
    with pytest.raises(
        ValueError, match=f"^steps: got 2, but the data set has sequences of {frames} frames$"
    ):
        check_fit(make_config(steps=2), images(frames, 8, 8, 2))
    check_fit(make_config(steps=frames), images(frames, 8, 8, 2))
    check_fit(make_config(steps=frames), images(8, 8, 2))


@pytest.mark.parametrize(
    ("settings", "size", "words"),
    [
        ({"downsample": "avgpool"}, (6, 8), r"^downsample: avgpool wants even sizes, got \(3, 4\)"),
        ({"downsample": "avgpool"}, (8, 8), ""),
        ({"arch": "resnet20m"}, (1, 1), r"^x: got \(1, 1\) pixels"),
        ({"arch": "resnet20m"}, (2, 3), ""),
        ({"arch": "resnet19-tet"}, (7, 5), ""),
    ],
)
def test_images_of_a_size_that_the_network_can_not_take(settings, size, words):
    config = make_config(**settings)
    if not words:
        check_fit(config, images(*size, 3))
        return
    with pytest.raises(ValueError, match=words):
        check_fit(config, images(*size, 3))
