import dataclasses

import numpy as np
import polars as pl
import pytest

from contentctr.rooms.room import COMMENTS_SCHEMA, SPEECH_SCHEMA, Room
from contentctr.rule.curve import CHANCE_SAYS, FAINT_SAYS, make_curve, score_chat
from contentctr.rule.parts import PARTS
from contentctr.rule.reasons import reasons_of
from contentctr.rule.watched import Watched
from contentctr.score.highlights import Highlight

LAG = 5.0


def room(comments=None, duration_s=3600.0, **parts):
    rows = None
    if comments is not None:
        rows = pl.DataFrame(comments, schema=COMMENTS_SCHEMA, orient="row").sort("t")
    return Room(
        room_id="r",
        streamer_id="",
        started_at=None,
        duration_s=duration_s,
        comments=rows,
        **parts,
    )


def lively(burst_s=1800.0, people=30, text="what lol"):
    rng = np.random.default_rng(0)
    rows = [
        (float(t), f"u{rng.integers(0, 300)}", f"so it is {rng.integers(0, 99)}")
        for t in np.sort(rng.uniform(0, 3600, 1200))
    ]
    return rows + [(burst_s + LAG + 0.2 * i, f"v{i}", text) for i in range(people)]


def test_a_burst_is_the_best_step_its_lag_taken_off():
    curve = make_curve(room(lively()), Watched())
    assert list(curve.signals) == ["chat", "laughter", "words"] and curve.lag_s == LAG
    assert abs(int(curve.score_T.argmax()) - 360) <= 1 and curve.lag_from == ""
    assert (curve.score_T >= 0).all() and (curve.score_T <= 1).all()
    assert curve.doubt() == ("", None)
    table = curve.table()
    assert table.columns == ["segment", "start_s", "end_s", "score", *(f"part_{p}" for p in PARTS)]
    assert table.height == 720 and table["part_loudness"].null_count() == 720
    assert table["part_chat"].null_count() == 0


def test_reasons_are_in_plain_words():
    curve = make_curve(room(lively()), Watched())
    h = Highlight(start_s=1797, end_s=1815, score=0.5, peak_s=1805)
    found = {r.part: r for r in reasons_of(curve, h)}
    assert found["chat"].text.startswith("chat ") and " x its usual, 3" in found["chat"].text
    assert found["laughter"].text == "30 people laugh in the chat"
    assert found["words"].text == "'lol' and 'what'"
    scores = [r.score for r in reasons_of(curve, h)]
    assert scores == sorted(scores, reverse=True)
    quiet = Highlight(start_s=900, end_s=905, score=0.1, peak_s=902)
    assert len(reasons_of(curve, quiet)) <= 1


def test_other_reasons():
    loud_S = np.full(3600, -80.0)
    loud_S[1800:1810] = -20.0
    watched = Watched(loudness_S=loud_S, cuts=np.array([1800.0, 1802.5]))
    speech = pl.DataFrame([(1795.0, 1810.0, "go " * 60)], schema=SPEECH_SCHEMA, orient="row")
    curve = make_curve(room(lively("", 0), speech=speech), watched)
    h = Highlight(start_s=1795, end_s=1815, score=0.5, peak_s=1805)
    found = {r.part: r.text for r in reasons_of(curve, h)}
    assert found["loudness"] == "sound where it is usually silent"
    assert found["scenes"] == "2 changes of shot in 15 s"
    assert found["speech"] == "speech where there is usually none"
    loud_S[:1800] = loud_S[1810:] = -35.0
    found = {r.part: r.text for r in reasons_of(make_curve(room(), watched), h)}
    assert found["loudness"] == "loud: 15 dB above its usual"


def test_one_who_floods_is_no_highlight():
    rng = np.random.default_rng(0)
    flood = [(900 + 0.05 * i, "flood", "buy now") for i in range(800)]
    some = [(float(t), f"u{rng.integers(0, 99)}", "hm") for t in rng.uniform(0, 3600, 900)]
    curve = make_curve(room([*some, *flood]), Watched())
    plain = make_curve(room(some), Watched())
    assert curve.score_T[176:190].max() <= plain.score_T[176:190].max() + 0.1


def test_doubts():
    rng = np.random.default_rng(4)
    thin = [(float(t), f"u{i}", f"w{i}") for i, t in enumerate(np.sort(rng.uniform(0, 3600, 60)))]
    assert make_curve(room(thin), Watched()).doubt() == (CHANCE_SAYS, 1)
    assert make_curve(room([]), Watched(cuts=np.array([]))).doubt() == (FAINT_SAYS, 0)
    loud_S = np.full(3600, -40.0)
    assert make_curve(room(), Watched(loudness_S=loud_S)).doubt() == (FAINT_SAYS, 0)
    loud_S[100:110] = -10.0
    assert make_curve(room(), Watched(loudness_S=loud_S)).doubt() == ("", None)


def test_a_chat_at_random_is_seldom_taken_for_a_lively_one():
    passed = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rows = [(float(t), f"u{i}", f"w{i}") for i, t in enumerate(rng.uniform(0, 3600, 400))]
        passed += make_curve(room(rows), Watched()).doubt()[0] == ""
    assert passed <= 2


@pytest.mark.parametrize("text", ["真的好厉害啊", "какой гол", "goooool", "ゴールだ"])
def test_any_language(text):
    curve = make_curve(room(lively(text=text)), Watched())
    assert abs(int(curve.signals["words"].score_T.argmax()) - 360) <= 2
    h = Highlight(start_s=1797, end_s=1815, score=0.5, peak_s=1805)
    [words] = [r.text for r in reasons_of(curve, h) if r.part == "words"]
    assert words.strip("'")[0] == text[0] or text.split()[-1] in words


def test_scores_on_another_grid():
    given = room(lively())
    curve = make_curve(given, Watched())
    starts = np.arange(0, 3585, 5.0)
    found = score_chat(given.comments, 3600, starts, starts + 15)
    np.testing.assert_array_equal(found, curve.score_T[1:-2])
    only = score_chat(
        given.comments,
        3600,
        starts,
        starts + 15,
        weights={"chat": 1.0, "laughter": 0.0, "words": 0.0},
    )
    np.testing.assert_array_equal(only, curve.signals["chat"].score_T[1:-2])
    wide = curve.part_columns([0.0, 1790.0], [30.0, 1820.0])
    assert (
        wide[0].name == "part_chat" and wide[0][1] == curve.signals["chat"].score_T[358:364].max()
    )


def test_a_model_keeps_the_parts():
    curve = make_curve(room(lively()), Watched())
    other = dataclasses.replace(curve, score_T=np.zeros(720))
    assert other.parts() == curve.parts() and [p["part"] for p in curve.parts()][0] == "chat"
