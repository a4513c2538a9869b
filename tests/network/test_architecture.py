"""Architectures are those of D19-D21, by name or by depths and widths."""

import pytest

from refsnn.network import ARCHITECTURES, Architecture, Network, Stem, architecture
from refsnn.ops import AvgPool, Conv

FOUR = (64, 128, 256, 512)
CIFAR = Stem(kernel=3, stride=1, convs=1, pool=None)
IMAGENET = Stem(kernel=7, stride=2, convs=1, pool=AvgPool(kernel=3, stride=2, padding=1))
TRIPLE = Stem(kernel=3, stride=1, convs=3, pool=AvgPool(kernel=2, stride=2, padding=0))
TABLE = {
    "resnet18": ((2, 2, 2, 2), FOUR, 64, CIFAR, 0),
    "resnet34": ((3, 4, 6, 3), FOUR, 64, CIFAR, 0),
    "resnet18-imagenet": ((2, 2, 2, 2), FOUR, 64, IMAGENET, 0),
    "resnet34-imagenet": ((3, 4, 6, 3), FOUR, 64, IMAGENET, 0),
    "resnet19": ((3, 3, 2), (128, 256, 512), 128, CIFAR, 0),
    "resnet19-tet": ((3, 3, 2), (128, 256, 512), 64, CIFAR, 256),
    "resnet8": ((1, 1, 1), (16, 32, 64), 16, CIFAR, 0),
    "resnet20": ((3, 3, 3), (16, 32, 64), 16, CIFAR, 0),
    "resnet20m": ((2, 2, 2, 2), FOUR, 64, TRIPLE, 0),
}


def test_named_architectures_are_those_of_the_decisions():
    assert {name: Architecture(*row) for name, row in TABLE.items()} == ARCHITECTURES


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        ("resnet18", 10, 11_173_962),
        ("resnet20", 10, 272_474),
        ("resnet20m", 10, 11_247_946),
        ("resnet18-imagenet", 1000, 11_689_512),
        ("resnet34-imagenet", 1000, 21_797_672),
    ],
)
def test_parameter_counts_of_the_literature(name, classes, count):
    assert Network(architecture(name), 3, classes, "none").count_parameters() == count


def test_custom_depths_and_widths():
    assert architecture("2-1-3:8-4-6") == Architecture((2, 1, 3), (8, 4, 6), 8)
    assert architecture("3-3-3:16-32-64") == ARCHITECTURES["resnet20"]
    assert architecture("5:7") == Architecture((5,), (7,), 7)


def test_a_name_that_would_fill_the_screen_is_shortened():
    with pytest.raises(ValueError, match=r"^arch: got '\[{76}\.\.\., want one of resnet18"):
        architecture("[" * 9999)


@pytest.mark.parametrize("name", ["resnet21", "", "2-2", "2-2:", "1:2:3", "2-x:4-4", "1.5:4"])
def test_a_name_that_is_none_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=rf"^arch: got '{name}', want one of resnet18, .*2-2-2"):
        architecture(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1-1:4", "arch: got 2 depths and 1 widths"),
        ("1:4-4", "arch: got 1 depths and 2 widths"),
        ("0-1:4-4", "depths: got 0"),
        ("1-1:4-0", "widths: got 0"),
    ],
)
def test_depths_and_widths_that_fit_no_network_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        architecture(name)


@pytest.mark.parametrize(
    ("fields", "message"),
    [(((), (), 4), "arch: got 0 depths"), (((1,), (4,), 0), "stem_width: got 0")],
)
def test_an_architecture_has_stages_and_a_stem(fields, message):
    with pytest.raises(ValueError, match=message):
        Architecture(*fields)


def test_the_factor_scales_every_width_and_nothing_else():
    tet = architecture("resnet19-tet").scaled(0.25)
    assert tet == Architecture((3, 3, 2), (32, 64, 128), 16, CIFAR, 64)
    assert architecture("resnet20m").scaled(2).stem == TRIPLE
    assert architecture("resnet20").scaled(1.5).widths == (24, 48, 96)


def test_scaled_widths_are_rounded_and_at_least_one():
    assert architecture("1-1-1:3-5-100").scaled(0.25) == Architecture((1, 1, 1), (1, 1, 25), 1)
    assert architecture("1-1:11-100").scaled(0.25).widths == (3, 25)
    assert architecture("resnet18").scaled(1e-9).hidden == 0


@pytest.mark.parametrize("factor", [0, -1.0, float("nan"), float("inf")])
def test_a_factor_that_is_no_positive_number_is_refused(factor):
    with pytest.raises(ValueError, match=rf"^width: got {factor}"):
        architecture("resnet18").scaled(factor)


def test_only_the_first_stem_convolution_strides_and_padding_keeps_the_size():
    assert IMAGENET.conv(0) == Conv((2, 2), (3, 3))
    assert TRIPLE.conv(0) == TRIPLE.conv(2) == Conv((1, 1), (1, 1))
    assert Stem(kernel=5, stride=2, convs=2).conv(1) == Conv((1, 1), (2, 2))
