import json
import zlib

import numpy as np
import pytest

from contentctr.encode import items
from contentctr.encode.comments import encoder_pair
from contentctr.encode.rooms import encode_rooms
from contentctr.encode.words import DIM, LETTERS, MOST, REVISION, word_numbers
from contentctr.models.words import DIGITS
from contentctr.prepare.rooms import prepare_rooms
from contentctr.store.rooms import encoder_texts
from contentctr.store.vectors import FeatureStore, data_spec
from tiny_models import make_tiny_bert, make_tiny_swin


def hashes(*pairs):
    """The set of hashes of each pair's words."""
    numbers_SX, _ = word_numbers(pairs)
    high, low = numbers_SX[:, :MOST].astype(int), numbers_SX[:, MOST:].astype(int)
    return [set(row[row > 0].tolist()) for row in high * DIGITS + low]


def hash_of(text):
    return zlib.crc32(text.encode()) % DIGITS**2


def test_words_are_cut_to_five_letters_and_come_with_their_pairs():
    (found,) = hashes(("Goals, GOAL!", ""))
    wanted = ("speech goals", "speech goal", "speech goals goal")
    assert found == {hash_of(text) for text in wanted}
    assert hashes(("substitution", ""))[0] == hashes(("substituted", ""))[0]


def test_numbers_are_halves_of_hashes_that_float16_holds():
    numbers_SX, has_S = word_numbers([("one two", "three"), ("", "")])
    assert numbers_SX.dtype == np.float16 and numbers_SX.shape == (2, DIM)
    assert numbers_SX.max() < DIGITS and has_S.tolist() == [True, False]
    assert not numbers_SX[1].any()
    assert hash_of("speech one two") in hashes(("one two", "three"))[0]


@pytest.mark.parametrize("text", ["进球了", "ゴール", "ประตู"])
def test_scripts_without_spaces_are_read_letter_by_letter_and_in_pairs(text):
    (found,) = hashes((text, ""))
    letters = [c for c in text if c.isalnum()]
    assert {hash_of(f"speech {c}") for c in letters} <= found
    assert hash_of(f"speech {text[0]} {text[1]}") in found


@pytest.mark.parametrize("text", ["हिन्दी भाषा।", "தமிழ் மொழி", "বাংলা ভাষা", "مُحَمَّد", "עִבְרִית"])
def test_vowels_that_are_marks_are_parts_of_words(text):
    (found,) = hashes((text, ""))
    stems = [word[:LETTERS] for word in text.rstrip("।").split()]
    assert found == {hash_of(f"speech {said}") for said in (*stems, " ".join(stems))}


def test_accents_that_no_letter_has_part_words_as_before():
    (found,) = hashes(("İzmir ❤\ufe0f", ""))
    assert hash_of("speech i zmir") in found and hash_of("speech zmir ❤") in found


def test_of_a_text_without_end_the_first_words_are_read(monkeypatch):
    monkeypatch.setattr("contentctr.encode.words.MOST_READ", 3)
    assert hashes(("a b c d e", "f g\nh i j\nk"))[0] == hashes(("a b c", "f g\nh"))[0]


def test_korean_and_emoji_are_words():
    (found,) = hashes(("", "골인 축하 😂🔥"))
    assert {hash_of(f"comment {w}") for w in ("골인", "축하", "😂", "🔥")} <= found


def test_the_same_word_said_and_written_are_two():
    said, written = hashes(("goal", ""), ("", "goal"))
    assert said and written and not said & written


def test_a_joined_comment_counts_once_and_its_number_is_no_word():
    assert hashes(("", "lol ×3"))[0] == hashes(("", "lol"))[0]
    assert hashes(("", "lol\nwow"))[0].isdisjoint({hash_of("comment lol wow")})


def test_of_many_words_those_of_the_smallest_hashes_are_kept():
    text = " ".join(f"w{n:04d}" for n in range(500))
    numbers_SX, _ = word_numbers([(text, "")])
    kept = hashes((text, ""))[0]
    every = {hash_of(f"speech w{n:04d}") for n in range(500)}
    every |= {hash_of(f"speech w{n:04d} w{n + 1:04d}") for n in range(499)}
    assert len(kept) == MOST and kept == set(sorted(every)[:MOST])
    assert np.isfinite(numbers_SX).all()


def test_spellings_of_one_character_are_one():
    assert hashes(("café", ""))[0] == hashes(("cafe\u0301", ""))[0]
    assert hashes(("ＧＯＡＬ", ""))[0] == hashes(("goal", ""))[0]


def test_words_are_stored_beside_features_and_made_anew_alone(tmp_path, monkeypatch):
    folder = tmp_path / "rooms" / "one"
    folder.mkdir(parents=True)
    head = {"room_id": "one", "started_at": "2026-01-01T00:00:00Z", "duration_s": 60}
    (folder / "room.json").write_text(json.dumps(head))
    lines = [{"t": 5.0, "user_id": "u", "text": "what a goal"}, {"t": 40.0, "text": "lol"}]
    (folder / "comments.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    data = prepare_rooms(
        tmp_path / "rooms", tmp_path / "data", target="comment_rate", val=0, test=0
    )
    models = {
        "visual": str(make_tiny_swin(tmp_path / "swin")),
        "text": str(make_tiny_bert(tmp_path / "bert")),
    }
    encode_rooms(data, **models, show_progress=False)
    spec = data_spec(data)
    assert (spec.words_dim, spec.words_revision) == (DIM, REVISION)
    segments = data.segments()
    texts = encoder_texts(segments, spec.comment_lag).iter_rows()
    wanted_SX, has_S = word_numbers([encoder_pair(*pair) for pair in texts])
    found = FeatureStore(data.features_dir).load({"one": segments.height})
    assert has_S.any() and np.array_equal(found.words, wanted_SX)
    assert np.array_equal(found.has_words, has_S)
    monkeypatch.setattr(items, "encode_frames", None)
    monkeypatch.setattr(items, "encode_texts", None)
    monkeypatch.setattr("contentctr.encode.words.REVISION", "another")
    assert encode_rooms(data, **models, show_progress=False)["rooms_encoded"] == 1
    assert data_spec(data).words_revision == "another"
    assert encode_rooms(data, **models, show_progress=False)["rooms_encoded"] == 0
