"""What goes to a terminal."""

import io

from contentctr.printing import safe, say


def test_lines_hold_no_control_and_no_password(capsys):
    say("room \x1b[2J\u202e in redis://:secret@host:1/0\nrtsp://a:b@cam/x and http://host/@me")
    found = capsys.readouterr().err
    assert found == (
        "room \\x1b[2J\\u202e in redis://***@host:1/0\nrtsp://***@cam/x and http://host/@me\n"
    )
    assert safe("a\nb") == "a b"


def test_no_name_is_too_strange_to_be_printed(monkeypatch):
    data = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(data, "ascii", write_through=True))
    say("a\udcff \u4f60", result=True)
    assert data.getvalue() == b"a\\udcff \\u4f60\n"
