"""Text of others: nothing in it controls a terminal or turns a line around."""

import pytest

from contentctr.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("two\nlines\tand\r\x0bmore\u00a0x", "two lines and  more x"),
        ("\u2028\x85\x1c", r"\u2028\x85\x1c"),
        ("\ud800", r"\ud800"),
        ("可爱 می\u200cخواهم 👩\u200d👧", "可爱 می\u200cخواهم 👩\u200d👧"),
        ("\u200b\ufeff\U000e0041", r"\u200b\ufeff\U000e0041"),
    ],
)
def test_what_would_control_a_terminal_is_escaped(text, shown):
    assert visible(text) == shown
    assert visible(visible(text)) == visible(text)
