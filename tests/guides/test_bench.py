"""The guide of speed: its rows, and the README's one of them."""

from guides import guide

from refsnn.ops import CONV_METHODS

GUIDE = guide("refsnn/bench/README.md")


def test_the_readmes_row_of_speed_is_one_of_the_table():
    (row,) = guide("README.md").rows("resnet.*, training")
    assert row in GUIDE.rows("resnet.*, training")


def test_every_method_of_convolution_has_its_row():
    rows = GUIDE.rows("|".join(f"`{name}`" for name in CONV_METHODS))
    assert {"auto", *(row[0].strip("`") for row in rows)} == set(CONV_METHODS)
