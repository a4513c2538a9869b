"""Plain text tables."""

import pytest

from refsnn.output import counted, printable, table


def test_words_left_numbers_right():
    assert table(["library", "ms"], [["refsnn", "1.0"], ["torch", "10.0"]], ["library"]) == (
        "library    ms\nrefsnn    1.0\ntorch    10.0"
    )


@pytest.mark.parametrize(("count", "text"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases")])
def test_numbers_have_their_plural(count, text):
    assert counted(count, "case") == text


def test_a_file_name_that_is_not_text_can_be_printed():
    assert printable("dä \udcff.npz") == "dä \\udcff.npz"
