"""Plain text tables."""

from refsnn.output import table


def test_words_left_numbers_right():
    assert table(["library", "ms"], [["refsnn", "1.0"], ["torch", "10.0"]], ["library"]) == (
        "library    ms\n"
        "refsnn    1.0\n"
        "torch    10.0"
    )  # fmt: skip
