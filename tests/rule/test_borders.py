from pathlib import Path

import polars as pl
import pytest

from contentctr.rooms.room import SPEECH_SCHEMA, Media, Room
from contentctr.rule.borders import move_borders, sentences
from contentctr.score.highlights import Highlight
from shots import film


def spoken(*rows):
    return pl.DataFrame(rows, schema=SPEECH_SCHEMA, orient="row")


def room(**parts):
    return Room(room_id="r", streamer_id="", started_at=None, duration_s=120.0, **parts)


def highlight(start_s, end_s, peak_s, score=0.5):
    return Highlight(start_s=start_s, end_s=end_s, score=score, peak_s=peak_s)


def moved(given, *highlights, low=5.0, high=60.0):
    found = move_borders(given, highlights, min_length_s=low, max_length_s=high, half_peak_s=2.5)
    return [(h.start_s, h.end_s) for h in found]


def test_sentences_by_hand():
    speech = spoken(
        (1.0, 2.0, "It is"),
        (2.0, 3.0, "a goal!"),
        (3.1, 4.0, "What"),
        (6.0, 7.0, "a day”"),
        (7.0, 8.0, "indeed.”"),
        (9.0, 9.5, "和平。"),
        (9.6, 11.0, "so"),
    )
    starts, ends = sentences(speech)
    assert starts == [1.0, 3.1, 6.0, 9.0, 9.6] and ends == [3.0, 4.0, 8.0, 9.5, 11.0]
    assert sentences(None) == ([], []) == sentences(spoken())


def test_borders_move_to_sentences_within_reach():
    speech = spoken((17.0, 22.0, "Look at that."), (30.0, 33.0, "Well done."), (70.0, 71.0, "Hm."))
    given = room(speech=speech)
    assert moved(given, highlight(20, 30, 25)) == [(17.0, 33.0)]
    # The peak stays inside, whatever is near.
    assert moved(given, highlight(20, 30, 22)) == [(17.0, 33.0)]
    assert moved(given, highlight(27, 34, 30.5)) == [(27, 33.0)]
    assert moved(given, highlight(50, 60, 55)) == [(50, 60)]
    # Too long: what fits alone is moved.
    assert moved(given, highlight(20, 30, 25), high=14.0) == [(17.0, 30)]
    assert moved(given, highlight(20, 30, 25), high=10.0) == [(20, 30)]


def test_highlights_do_not_meet():
    speech = spoken((24.0, 29.0, "One."), (29.0, 34.0, "Two."))
    found = moved(room(speech=speech), highlight(20, 30, 25, 0.9), highlight(31, 45, 40))
    assert found[0][1] <= found[1][0] and found[0] == (20, 29.0)


def test_cuts_of_the_pictures(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", [(17.4, 20), (21.0, 230), (30.0, 90)])
    given = room(media=Media(path=path, kind="video"))
    [(start_s, end_s)] = moved(given, highlight(20, 35, 27.5))
    assert start_s == pytest.approx(17.4, abs=0.25)
    assert end_s == pytest.approx(17.4 + 21, abs=0.25)
    speech = spoken((19.0, 33.0, "A sentence."))
    with_speech = room(media=given.media, speech=speech)
    assert moved(with_speech, highlight(20, 35, 27.5)) == [(19.0, 33.0)]
