"""From the published files to features: stored vectors in place of a visual encoder."""

import numpy as np
import polars as pl
import pytest

from contentctr import cli
from contentctr.batch import Vocabulary
from contentctr.encode import items
from contentctr.encode.rooms import encode_rooms
from contentctr.errors import InputError
from contentctr.files import read_json
from contentctr.prepare.klm3.prepare import prepare_klm3
from contentctr.store.vectors import FeatureStore, data_spec, read_entry, read_index
from contentctr.windows.segment_data import load_segments
from klm3_data import write_klm3
from tiny_models import make_tiny_bert


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return str(make_tiny_bert(tmp_path_factory.mktemp("models") / "bert"))


def prepare(root, target="highlight_score", **options):
    return prepare_klm3(root / "in", root / "data", target=target, show_progress=False, **options)


@pytest.fixture
def root(tmp_path):
    write_klm3(tmp_path / "in", rooms=8, segments=6, shards=2)
    return tmp_path


def test_stored_vectors_become_the_visual_features(root, text):
    data = prepare(root)
    counts = encode_rooms(data, text=text, show_progress=False)
    segments, rooms = data.segments(), data.rooms()
    assert counts["segments_with_visual"] == segments.height
    lengths = dict(rooms.select("room_id", "num_segments").iter_rows())
    found = FeatureStore(data.features_dir).load(lengths)
    index = read_index(data.visual_dir)
    stored = np.concatenate([read_entry(index[room])["visual"] for room in lengths])
    assert found.visual.any()
    np.testing.assert_array_equal(found.visual, stored)
    # With a lag of 1 a segment is given the comments of the one before it.
    lagged = pl.col("comments").shift(1).over("room_id").fill_null("")
    said = segments.select(lagged != "").to_series()
    assert found.has_comments.tolist() == said.to_list()
    assert not found.has_speech.any()
    spec = data_spec(data)
    assert (spec.visual_encoder, spec.visual_dim, spec.text_dim) == ("klm3", 128, 16)
    assert (spec.target, spec.comment_lag, spec.simulated) == ("highlight_score", 1, True)


def test_only_what_changed_is_encoded_again(root, text, monkeypatch):
    data = prepare(root)
    encode_rooms(data, text=text, show_progress=False)
    assert encode_rooms(data, text=text, show_progress=False)["rooms_encoded"] == 0
    monkeypatch.setattr(items, "encode_texts", None)  # texts are the same: never called
    shard = next((root / "in" / "live_emb_128_ts").iterdir())
    part = pl.read_parquet(shard)
    changed = part.row(0, named=True)["live_stream_id"]
    first = pl.int_range(pl.len()) == 0
    halves = pl.lit(pl.Series([[0.5] * 128], dtype=part.schema["feature_128"])).first()
    part.with_columns(
        feature_128=pl.when(first).then(halves).otherwise("feature_128")
    ).write_parquet(shard)
    data = prepare(root)
    counts = encode_rooms(data, text=text, show_progress=False)
    assert counts["rooms_encoded"] == 1
    entry = read_index(data.features_dir)[changed]
    assert (read_entry(entry, ["visual"])["visual"] == 0.5).all(1).sum() == 1


def test_the_whole_way_by_the_command(root, text, monkeypatch, capsys):
    """Prepare, encode, train, evaluate: as a user types them."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["contentctr", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return caught.value.code, out + err

    data, source = root / "data", root / "in"
    code, said = run(
        "prepare",
        "klm3",
        source,
        data,
        "--target",
        "highlight_score",
        "--val",
        0.25,
        "--test",
        0.25,
    )
    assert code == 0 and "segments" in said and "2 of the 18 published shards" in said
    code, said = run("prepare", "klm3", source, data, "--target", "gmv")
    assert code == 2 and "target must be one of" in said
    assert run("encode", data, "--text", text)[0] == 0
    tiny = [
        "model.d_model=8",
        "model.num_heads=2",
        "data.window_len=3",
        "data.min_viewers=0",
        "train.epochs=1",
        "data.horizon=1",
    ]
    code, said = run("train", "small", "-d", data, "-o", root / "run", "model.kind=gru", *tiny)
    assert code == 0, said
    code, said = run("evaluate", root / "run", data, "-o", root / "result")
    assert code == 0, said
    found = read_json(root / "result" / "metrics.json")["ranking"]
    assert found["labels"] == "highlight_label" and found["counts"]["rooms"] == 2


def test_pictures_cannot_be_asked_for(root, text):
    data = prepare(root)
    with pytest.raises(InputError, match="stored visual features and no pictures.*without --inp"):
        encode_rooms(data, text=text, inputs=True, show_progress=False)
    with pytest.raises(InputError, match="encode without --visual, not with 'swin'"):
        encode_rooms(data, visual="swin", text=text, show_progress=False)
    with pytest.raises(InputError, match="no pictures to choose; .* without --frames keyframe"):
        encode_rooms(data, frames="keyframe", text=text, show_progress=False)


def test_the_benchmarks_score_is_a_target_as_it_is_now_and_one_ahead(root, text):
    data = prepare(root)
    segments = data.segments()
    assert segments["target"].equals(segments["highlight_score"].alias("target"))
    encode_rooms(data, text=text, show_progress=False)
    vocabulary = Vocabulary(streamers=[])
    score = segments["highlight_score"].cast(pl.Float32).to_numpy()
    for horizon in (0, 1):
        found = load_segments(data, vocabulary, split="all", horizon=horizon)
        same_room = np.append(np.diff(found.room_S) == 0, False) if horizon else np.True_
        wanted = np.where(same_room, np.roll(score, -horizon), np.nan)
        np.testing.assert_array_equal(found.target_S.numpy(), wanted)
    labels = prepare(root, "highlight_label").segments()
    assert set(labels["target"]) == {0.0, 1.0}


def test_targets_with_comments_in_them_never_see_their_own(root):
    for target in ("highlight_score", "highlight_label", "engagement"):
        assert prepare(root, target).manifest()["comment_lag"] == 1
        with pytest.raises(InputError, match="comment_lag must be at least 1"):
            prepare(root, target, comment_lag=0)
