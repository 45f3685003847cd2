import numpy as np
import polars as pl
import pytest

from contentctr.rooms.room import COMMENTS_SCHEMA
from contentctr.rule import chat as chats
from contentctr.rule.chat import LAUGHTER, clean, read_chat, words_of


def comments(*rows):
    return pl.DataFrame(rows, schema=COMMENTS_SCHEMA, orient="row").sort("t")


def test_each_person_counts_once_within_15_seconds():
    flood = [(20 + 0.01 * i, "flood", "spam") for i in range(500)]
    found = read_chat(comments((21.0, "a", "x"), (26.0, "b", "y"), *flood), 8, 0.0)
    # Steps 3 to 5 look at step 4 (a, flood), steps 4 to 6 at step 5 (b).
    assert found.people_T.tolist() == [0, 0, 0, 2, 3, 3, 1, 0]


def test_people_against_a_naive_loop():
    rng = np.random.default_rng(0)
    rows = [
        (float(t), str(rng.integers(0, 15)) if rng.random() < 0.9 else "", "lol ok"[:n])
        for t, n in zip(np.sort(rng.uniform(0, 300, 200)), rng.integers(2, 7, 200), strict=True)
    ]
    found = read_chat(comments(*rows), 60, 7.0)
    for step in range(60):
        people, laughing = set(), set()
        for i, (t, user, text) in enumerate(rows):
            at = min(int(max(t - 7.0, 0.0) / 5), 59)
            if abs(at - step) <= 1:
                people.add(user or i)
                if text.startswith("lol"):
                    laughing.add(user or i)
        assert found.people_T[step] == len(people)
        assert found.laughing_T[step] == len(laughing)


def test_bots_and_commands_are_left_out():
    advert = "follow us on every platform, links below!"
    rows = [(float(i), "shop", advert) for i in range(12)]
    rows += [(float(i), "fan", "gg") for i in range(12)]  # short: a person may well say gg
    rows += [(1.0, "Nightbot", "hello"), (2.0, "a", "!discord"), (3.0, "a", "! really")]
    rows += [(float(i), "chatty", f"a long comment, never the same {i}") for i in range(12)]
    kept = clean(comments(*rows))
    assert set(kept["user_id"]) == {"fan", "chatty", "a"}
    assert kept.filter(pl.col("user_id") == "a")["text"].to_list() == ["! really"]
    assert read_chat(comments(*rows), 4, 0.0).left_out == 14


@pytest.mark.parametrize(
    ("text", "laughs"),
    [
        *(
            (t, True)
            for t in ("lol", "LOOOL!", "hahaha", "哈哈", "2333", "www", "ㅋㅋㅋ", "xD", "😂")
        ),
        *(
            (t, True)
            for t in ("jajaja", "kkkk", "ахаха", "KEKW", "so lul", "555", "lmao", "草草草")
        ),
        *((t, False) for t in ("follow", "ha", "ok", "1555", "12334", "xdr", "wow")),
    ],
)
def test_laughter_in_many_languages(text, laughs):
    found = pl.DataFrame({"text": [text]}).select(pl.col("text").str.contains(LAUGHTER)).item()
    assert found is laughs


def test_words_with_and_without_spaces():
    def words(text):
        return sorted(words_of(pl.Series([text, "other"])).filter(pl.col("text") == 0)["word"])

    assert words("What WHAT a goal!!") == ["a", "goal", "what"]
    assert words("LOOOOOL lool") == ["lool"]
    assert words("教主好帅 ok") == sorted(["教主", "主好", "好帅", "ok"])
    assert words("哈哈哈哈哈哈") == ["哈哈"] and words("好") == ["好"]
    assert words("안녕 하세요") == ["안녕", "하세요"] and words("naïve") == ["naïve"]
    assert "สว" in words("สวัสดี") and words("?!") == [] and words("a_b") == ["a", "b"]
    assert len(words(" ".join(map(str, range(999, 1999))))) == 40


def test_words_that_several_people_write_beyond_their_usual():
    rows = [(5.0 * i, f"u{i % 40}", "nice play") for i in range(200)]  # as usual
    rows += [(502.0, f"v{i}", "what a pentakill") for i in range(8)]
    rows += [(700.0 + 0.1 * i, "flood", "pentakill") for i in range(50)]
    found = read_chat(comments(*rows), 200, 0.0)
    near = found.words.filter(pl.col("step") == 100)
    assert near["word"].to_list()[:3] == ["a", "what", "pentakill"]
    assert near["people"].to_list()[:3] == [8, 8, 8]
    # Of "a": 8 of 209 that a person wrote in a step (200, 8 and 1); 11 people are around step 100.
    assert found.same_T[100] == pytest.approx(8 - 11 * 8 / 209)
    assert found.same_T[140] == 0  # one person is not several
    assert found.same_T.argmax() in (99, 100, 101)


def test_a_word_that_is_always_there_is_not_told():
    rows = [(5.0 * i, f"u{i % 40}", "the" if i % 2 else "ok") for i in range(200)]
    rows += [(502.0, f"v{i}", "the goal" if i < 4 else "goal") for i in range(5)]
    found = read_chat(comments(*rows), 200, 0.0)
    # Of 8 people around step 100, 6 write "the", and 4 would as usual; 5 write "goal".
    assert found.words["word"].unique().to_list() == ["goal"]


def test_a_long_chat_is_counted_in_pieces(monkeypatch):
    rng = np.random.default_rng(1)
    rows = [
        (float(t), str(rng.integers(0, 30)), " ".join(rng.choice(list("abcdef"), 3)))
        for t in np.sort(rng.uniform(0, 600, 900))
    ]
    rows += [(20.0 + 25 * burst, f"v{i}", f"w{burst}") for burst in range(22) for i in range(6)]
    whole = read_chat(comments(*rows), 120, 0.0)
    monkeypatch.setattr(chats, "_STEPS_AT_ONCE", 7)
    pieces = read_chat(comments(*rows), 120, 0.0)
    np.testing.assert_allclose(whole.same_T, pieces.same_T)
    assert whole.words.equals(pieces.words) and whole.words.height > 50


def test_a_chat_without_a_comment():
    found = read_chat(comments(), 3, 5.0)
    assert found.people_T.tolist() == found.same_T.tolist() == [0, 0, 0] and found.left_out == 0
    only_bots = read_chat(comments((1.0, "nightbot", "hi")), 3, 5.0)
    assert only_bots.people_T.tolist() == [0, 0, 0] and only_bots.left_out == 1
