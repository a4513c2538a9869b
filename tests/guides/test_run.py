"""The harness of the guides: how it reads a guide, and that it notices what is wrong."""

import pytest
from guides import Guide
from run import alike, commands, execute

TEXT = """# A guide

See [below](#the-rest), `refsnn spec`.

<!-- one -->
```python
x = 2
print("value", x)
```

<!-- output -->
```text
value 2
```

<!-- two: exit 3, needs missing -->
```sh
refsnn spec EQ3  # a clause
```

## The rest
"""


@pytest.fixture
def guide_of(tmp_path, monkeypatch):
    """Makes a guide of a text, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("guides.ROOT", tmp_path)

    def make(text):
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
        return Guide(tmp_path / "README.md")

    return make


def test_a_guide_is_read(guide_of):
    guide = guide_of(TEXT)
    assert [block.name for block in guide.blocks] == ["one", "output", "two"]
    assert guide.block("two").option("exit") == ["3"]
    assert guide.block("two").option("needs") == ["missing"]
    assert guide.anchors == {"a-guide", "the-rest"}
    assert guide.links == ["#the-rest"]
    assert guide.spans == ["refsnn spec"]


def test_blocks_that_need_more_are_not_run(guide_of):
    execute(guide_of(TEXT), [])
    with pytest.raises(AssertionError, match="refsnn spec EQ3: exit code 0"):
        execute(guide_of(TEXT), ["missing"])


def test_another_output_is_noticed_and_further_lines_are_not(guide_of):
    execute(guide_of(TEXT.replace("x = 2", "x = 2; print('more')")), [])
    with pytest.raises(AssertionError, match="one does not print 'value 2'"):
        execute(guide_of(TEXT.replace("x = 2", "x = 3")), [])


def test_a_block_that_raises_is_noticed(guide_of):
    with pytest.raises(ZeroDivisionError):
        execute(guide_of(TEXT.replace("x = 2", "x = 1 / 0")), [])


def test_other_programs_are_run(guide_of):
    text = "<!-- a -->\n```sh\npython -c 'print(5)'\n```\n\n<!-- output -->\n```text\n5\n```\n"
    execute(guide_of(text), [])
    with pytest.raises(AssertionError, match="does not print '6'"):
        execute(guide_of(text.replace("\n5", "\n6")), [])


def test_commands_lose_comments_and_are_joined():
    assert commands("a b  # c\n\nd \\\n  e\n") == ["a b", "d   e"]


@pytest.mark.parametrize(
    ("shown", "printed", "about", "same"),
    [
        ("a  1", "a 1", False, True),
        ("a 1", "a 1.1", False, False),
        ("a 1.0", "a 1.1", True, True),
        ("a 1.0", "a 1.3", True, False),
        ("a …", "a (2) [3]", False, True),
        ("a … c", "a b", False, False),
        ("a 2e-07 …", "a 1.9e-07 b", True, True),
    ],
)
def test_lines_are_compared(shown, printed, about, same):
    assert alike(shown, printed, about) is same
