"""Scores of segments, and what an evaluation says of them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.metrics import average_precision_score

from contentctr import outputs
from contentctr.batch import Batch, DataSpec, Vocabulary
from contentctr.encode.rooms import encode_rooms
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model, headline
from contentctr.evaluate.rooms import streamer_mean
from contentctr.metrics.ctr import log_loss, summary
from contentctr.metrics.ranking import ranking_summary
from contentctr.models.registry import build_model
from contentctr.predict.rooms import predict_recording
from contentctr.prepare.rooms import prepare_rooms
from contentctr.report import write_report
from contentctr.score import calibration
from contentctr.score.calibration import Calibration, write_calibration
from contentctr.score.checkpoint import load
from contentctr.score.rooms import score_segments
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_features
from contentctr.store.rooms import PreparedRooms
from contentctr.train.loop import train_model
from contentctr.windows.segment_data import SegmentData, from_arrays
from make import make_table, write_data
from tiny_models import TINY_WORDS, make_tiny_bert, make_tiny_swin
from training import TINY, with_train

LENGTHS = [1, 2, 3, 4, 5, 9]
WINDOW = 4


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, rotary=True))
    known = Vocabulary(streamers=["a", "b"])
    return build_model(config, DataSpec(visual_dim=6, text_dim=4), known).eval()


@pytest.fixture(scope="module")
def segments() -> SegmentData:
    table = make_table(LENGTHS, streamers=("a", "b", "unknown"))
    g, count = torch.Generator().manual_seed(1), table.height
    flags = torch.rand(3, count, generator=g) < 0.7
    return from_arrays(
        table,
        Vocabulary(streamers=["a", "b"]),
        visual_SV=torch.randn(count, 6, generator=g).half(),
        text_ST=torch.randn(count, 4, generator=g).half(),
        has_visual_S=flags[0],
        has_speech_S=flags[1],
        has_comments_S=flags[2],
        horizon=0,
    )


def alone(model: torch.nn.Module, data: SegmentData, row: int) -> float:
    """The score of one segment from its own window, without padding and in no batch."""
    room = np.flatnonzero(data.room_S == data.room_S[row])
    rows = torch.arange(max(int(room[0]), row - WINDOW + 1), row + 1)
    batch = Batch(
        visual_BNV=data.visual_SV[None, rows].float(),
        text_BNT=data.text_ST[None, rows].float(),
        has_visual_BN=data.has_visual_S[None, rows],
        has_speech_BN=data.has_speech_S[None, rows],
        has_comments_BN=data.has_comments_S[None, rows],
        streamer_B=data.streamer_S[rows[:1]],
        valid_BN=torch.ones(1, len(rows), dtype=torch.bool),
        window_B=torch.zeros(1).long(),
        target_BN=data.target_S[None, rows],
    )
    with torch.inference_mode():
        return float(model(batch).scores_BN[0, -1])


def test_scores_are_those_of_each_segments_own_window(
    model: torch.nn.Module, segments: SegmentData
) -> None:
    expected = [alone(model, segments, row) for row in range(len(segments))]
    assert np.std(expected) > 1e-3
    for batch_size in (1, 3, 64):
        found = score_segments(model, segments, window_len=WINDOW, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    model.train()
    score_segments(model, segments, window_len=WINDOW)
    assert model.training
    model.eval()


def test_a_horizon_moves_scores_by_one_inside_rooms(
    model: torch.nn.Module, segments: SegmentData
) -> None:
    now = score_segments(model, segments, window_len=WINDOW)
    ahead = score_segments(model, segments, window_len=WINDOW, horizon=1)
    first = 0
    for length in LENGTHS:
        assert np.isnan(ahead[first])
        last = first + length
        np.testing.assert_array_equal(ahead[first + 1 : last], now[first : last - 1])
        first = last


def test_look_ahead_moves_scores_back_inside_rooms(
    model: torch.nn.Module, segments: SegmentData
) -> None:
    now = score_segments(model, segments, window_len=WINDOW)
    back = score_segments(model, segments, window_len=WINDOW, horizon=-2)
    first = 0
    for length in LENGTHS:
        last = first + length
        assert np.isnan(back[max(first, last - 2) : last]).all()
        np.testing.assert_array_equal(back[first : max(first, last - 2)], now[first + 2 : last])
        first = last


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedRooms, Path]:
    """Simulated rooms with a truth, and a run trained on them."""
    folder = tmp_path_factory.mktemp("simulated")
    config = SimulatorConfig(num_rooms=12, num_streamers=3, min_segments=3, max_segments=9)
    data = write_features(
        config, folder / "data", visual_dim=8, text_dim=6, test=0.3, show_progress=False
    )
    train_model(with_train(epochs=1), data, folder / "run", show_progress=False)
    return data, folder / "run"


def test_metrics_come_from_the_predictions(simulated: tuple[PreparedRooms, Path], tmp_path) -> None:
    data, run = simulated
    returned = evaluate_model(run, data, tmp_path, split="all", show_progress=False)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(returned))
    table = pl.read_parquet(tmp_path / "predictions.parquet")
    assert table.columns == [
        "room_id",
        "streamer_id",
        "segment",
        "start_s",
        "end_s",
        "target",
        "score",
        "viewers",
        "is_sample",
        "truth",
    ]
    own = data.segments()
    for name in ("room_id", "segment", "target", "viewers"):
        assert table[name].to_list() == own[name].to_list()
    sample = (own["segment"] >= TINY.data.window_len - 1) & own["target"].is_not_null()
    sample &= own["viewers"] >= TINY.data.min_viewers
    assert table["is_sample"].to_list() == sample.to_list()
    truth = data.truth()
    assert truth is not None
    assert table["truth"].to_list() == truth["click_probability"].to_list()

    rows = table.filter("is_sample")
    s, y, rooms = rows["score"].to_numpy(), rows["target"].to_numpy(), rows["room_id"].to_numpy()
    found = metrics["metrics"]
    assert found == json.loads(json.dumps(summary(s, y, rooms)))
    assert found["kendall_tau"] == pytest.approx(kendalltau(s, y).statistic)
    assert found["log_loss"] == pytest.approx(np.mean(-y * np.log(s) - (1 - y) * np.log1p(-s)))
    oracle = kendalltau(rows["truth"].to_numpy(), y).statistic
    assert metrics["references"]["oracle"]["kendall_tau"] == pytest.approx(oracle)
    assert metrics["counts"] == {
        "rooms": 12,
        "segments": own.height,
        "segments_with_target": int(own["target"].count()),
        "samples": rows.height,
        "rooms_with_samples": rows["room_id"].n_unique(),
    }
    assert metrics["simulated"] and metrics["trained_on_simulated"]
    log = (tmp_path / "training_log.jsonl").read_bytes()
    assert log == (run / "log.jsonl").read_bytes()
    page = write_report(tmp_path).read_text()
    assert "imulated" in page and f"{found['kendall_tau']:.3f}" in page


def test_speech_from_elsewhere_is_told_and_no_error(tmp_path: Path) -> None:
    data, found = write_data(tmp_path / "data"), {}
    manifest = data.features_dir / "manifest.json"
    whole = json.loads(manifest.read_text())

    def heard_from(source: str) -> None:
        whole["spec"]["speech_source"] = source
        manifest.write_text(json.dumps(whole))

    heard_from("files")
    train_model(with_train(epochs=1), data, tmp_path / "run", show_progress=False)
    for source in ("files", "embedded@1", "none"):
        heard_from(source)
        out = tmp_path / source
        metrics = evaluate_model(tmp_path / "run", data.root, out, show_progress=False)
        found[source] = metrics["warnings"]
    assert found.pop("embedded@1") == [
        "speech is from embedded@1; the model was trained on speech from files"
    ]
    assert found == {"files": [], "none": []}


def test_the_batch_size_changes_nothing(
    simulated: tuple[PreparedRooms, Path], tmp_path: Path
) -> None:
    data, run = simulated
    scores = []
    for size in (1, 7, 64):
        evaluate_model(run, data, tmp_path, batch_size=size, show_progress=False)
        scores.append(pl.read_parquet(tmp_path / "predictions.parquet")["score"].to_numpy())
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)
    np.testing.assert_allclose(scores[0], scores[2], atol=1e-6)


def test_of_two_into_one_folder_the_second_is_refused(
    simulated: tuple[PreparedRooms, Path], tmp_path: Path
) -> None:
    data, run = simulated
    refused = pytest.raises(InputError, match="another process is at work here")
    with outputs.alone(tmp_path), refused:
        evaluate_model(run, data, tmp_path, show_progress=False)
    evaluate_model(run, data, tmp_path, show_progress=False)
    refused = pytest.raises(InputError, match="another process is at work on an evaluation here")
    with outputs.alone(tmp_path), refused:
        write_report(tmp_path)
    with outputs.alone(tmp_path):
        assert write_report(tmp_path, tmp_path.parent / "elsewhere.html").is_file()
    assert write_report(tmp_path) == tmp_path / "report.html"


def test_a_horizon_is_measured_on_the_next_segment(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    config = with_train(epochs=1)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, horizon=1))
    train_model(config, data, tmp_path / "run", show_progress=False)
    metrics = evaluate_model(tmp_path / "run", data, tmp_path / "out", show_progress=False)
    table = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert table["segment"].to_list() == [*range(1, 8)] * 2  # a room's first has no score
    require_ranking(metrics, table, data)
    assert table.filter("is_sample")["segment"].to_list() == [*range(4, 8)] * 2
    assert metrics["horizon"] == 1 and metrics["counts"]["samples"] == 8


def test_look_ahead_is_measured_on_the_segment_before(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    config = with_train(epochs=1)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, horizon=-2))
    train_model(config, data, tmp_path / "run", show_progress=False)
    metrics = evaluate_model(tmp_path / "run", data, tmp_path / "out", show_progress=False)
    table = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert table["segment"].to_list() == [*range(6)] * 2  # a room's last two have no score
    own = data.segments().select("room_id", "segment", wanted="target")
    joined = table.join(own, on=["room_id", "segment"])
    assert joined["target"].to_list() == joined["wanted"].to_list()
    assert table.filter("is_sample")["segment"].to_list() == [*range(1, 6)] * 2
    assert metrics["horizon"] == -2 and metrics["counts"]["samples"] == 10


def require_ranking(metrics: dict, table: pl.DataFrame, data: PreparedRooms) -> None:
    """Without labels in the data: targets from their room's 70th percentile on are highlights."""
    rows, own = table.filter("is_sample"), data.segments().drop_nulls("target")
    cut = {
        room: np.percentile(own.filter(pl.col("room_id") == room)["target"], 70)
        for room in rows["room_id"].unique()
    }
    labels = [y >= cut[room] for room, y in rows.select("room_id", "target").iter_rows()]
    assert 0 < sum(labels) < len(labels)
    found = dict(metrics["ranking"])
    assert found.pop("labels") == "target at or above its room's 70th percentile"
    assert found == ranking_summary(rows["score"], rows["target"], labels, rows["room_id"])


def test_the_datas_own_labels(run: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    rng, path = np.random.default_rng(0), data.root / "segments.parquet"
    label = pl.Series(rng.integers(0, 2, data.segments().height))
    data.segments().with_columns(highlight_label=label).write_parquet(path)
    metrics = evaluate_model(run, data, tmp_path / "out", show_progress=False)
    table = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    rows = table.filter("is_sample")
    wanted = data.segments().filter(pl.col("split") == "test")["highlight_label"]
    assert table["highlight_label"].to_list() == wanted.to_list()
    found = metrics["ranking"]
    assert found["labels"] == "highlight_label"
    rooms = [r for _, r in rows.group_by("room_id")]
    aps = [average_precision_score(r["highlight_label"], r["score"]) for r in rooms]
    assert found["mean_ap"] == pytest.approx(np.mean(aps))
    assert found["counts"]["rooms"] == len(rooms) == 2
    write_report(tmp_path / "out")
    for wrong in ("yes", 2.0):
        data.segments().with_columns(highlight_label=pl.lit(wrong)).write_parquet(path)
        with pytest.raises(InputError, match=f"must be 0, 1 or null, not {wrong!r}"):
            evaluate_model(run, data, tmp_path / "out", show_progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    data = write_data(folder / "data")
    train_model(with_train(epochs=1), data, folder / "run", show_progress=False)
    return folder / "run"


def test_streamer_means_by_hand(run: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    change_streamer(data, "room011", "stranger")
    metrics = evaluate_model(run, data, tmp_path / "out", show_progress=False)
    rows = pl.read_parquet(tmp_path / "out" / "predictions.parquet").filter("is_sample")
    train = [r for r in data.segments().to_dicts() if r["split"] == "train"]

    def mean(streamer: str) -> float:
        own = [r["target"] for r in train if r["streamer_id"] == streamer]
        own = own or [r["target"] for r in train]
        return sum(own) / len(own)

    expected = [mean(s) for s in rows["streamer_id"]]
    assert len(set(expected)) == 2
    np.testing.assert_allclose(streamer_mean(rows, data.segments()), expected)
    reference = summary(expected, rows["target"].to_numpy(), rows["room_id"].to_numpy())
    found = metrics["references"]["streamer_mean"]
    assert found["kendall_tau"] == pytest.approx(reference["kendall_tau"])
    assert found["log_loss"] == pytest.approx(reference["log_loss"])
    assert "oracle" not in metrics["references"]  # no truth
    assert rows["truth"].null_count() == rows.height


def change_streamer(data: PreparedRooms, room: str, streamer: str) -> None:
    chosen = pl.when(pl.col("room_id") == room).then(pl.lit(streamer))
    table = data.segments().with_columns(streamer_id=chosen.otherwise(pl.col("streamer_id")))
    table.write_parquet(data.root / "segments.parquet")


def test_unknown_streamers_share_one_embedding(run: Path, tmp_path: Path) -> None:
    scores = {}
    for name in ("c", "stranger", "other"):
        data = write_data(tmp_path / name)
        change_streamer(data, "room011", name)
        evaluate_model(run, data, tmp_path / "out", show_progress=False)
        table = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
        scores[name] = table.filter(pl.col("room_id") == "room011")["score"].to_numpy()
    assert np.array_equal(scores["stranger"], scores["other"])
    assert np.abs(scores["stranger"] - scores["c"]).max() > 1e-4


def test_a_split_without_samples(run: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    table = data.segments()
    table = table.with_columns(split=table["split"].replace({"val": "train"}))
    table.write_parquet(data.root / "segments.parquet")
    for split, message in (
        ("val", "data: val: no window passed.* 0 rooms"),
        ("vall", "split must be one of train, val, test, all, not 'vall'"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_model(run, data, tmp_path / "out", split=split, show_progress=False)
    table.with_columns(viewers=pl.lit(0, pl.UInt32)).write_parquet(data.root / "segments.parquet")
    with pytest.raises(InputError, match="2 rooms, .*data.min_viewers=1 viewers"):
        evaluate_model(run, data, tmp_path / "out", show_progress=False)
    assert not (tmp_path / "out").exists()


SEGMENTS, CHANGED = 8, 4


def write_chat_rooms(root: Path, *, changed: bool = False) -> Path:
    """Four rooms with comments alone; `changed`: the last says others in segment CHANGED."""
    rng = np.random.default_rng(0)
    for number in range(4):
        folder = root / f"room{number}"
        folder.mkdir(parents=True, exist_ok=True)
        head = {
            "room_id": f"r{number}",
            "streamer_id": "s",
            "duration_s": 30 * SEGMENTS,
            "started_at": f"2024-05-{number + 1:02}T20:00:00Z",
        }
        (folder / "room.json").write_text(json.dumps(head))
        lines = ["t,user_id,text"]
        for segment in range(SEGMENTS):
            for i in range(int(rng.integers(1, 6))):
                word = TINY_WORDS[int(rng.integers(len(TINY_WORDS)))]
                if changed and number == 3 and segment == CHANGED:
                    word = "gift" if word != "gift" else "wow"
                lines.append(f"{30 * segment + i + 1},u{i},{word}")
        (folder / "comments.csv").write_text("\n".join(lines) + "\n")
    return root


def test_a_segments_own_comments_do_not_reach_its_score(tmp_path: Path) -> None:
    """A target made of the comments must not be read off the comments themselves."""
    visual = str(make_tiny_swin(tmp_path / "swin"))
    text = str(make_tiny_bert(tmp_path / "bert"))
    scores, curves, targets = [], [], []
    for name in ("as_is", "changed"):
        rooms = write_chat_rooms(tmp_path / f"{name}_rooms", changed=name == "changed")
        data = prepare_rooms(
            rooms, tmp_path / name, target="comment_rate", val=0.25, test=0.25, show_progress=False
        )
        encode_rooms(data, visual=visual, text=text, show_progress=False)
        if name == "as_is":
            train_model(with_train(epochs=2), data, tmp_path / "run", show_progress=False)
        evaluate_model(tmp_path / "run", data, tmp_path / "out", show_progress=False)
        table = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
        assert table["room_id"].unique().to_list() == ["r3"]
        scores.append(table["score"].to_numpy())
        targets.append(table["target"].to_list())
        found = predict_recording(
            tmp_path / "run", rooms / "room3", tmp_path / "p", show_progress=False
        )
        curves.append(found.curve["score"].to_numpy())
    assert targets[0] == targets[1]  # the counts are the same, only the words differ
    for a, b in (scores, curves):
        assert len(a) == SEGMENTS
        assert np.array_equal(a[: CHANGED + 1], b[: CHANGED + 1])
        assert np.abs(a[CHANGED + 1 :] - b[CHANGED + 1 :]).max() > 1e-5
    write_report(tmp_path / "out")


def test_scores_are_measured_against_every_class_of_a_table_of_labels(
    run: Path, tmp_path: Path
) -> None:
    """Whatever the model was trained on."""
    data = write_data(tmp_path / "data")
    rng, path = np.random.default_rng(0), data.root / "segments.parquet"
    classes = {f"label:{name}": rng.integers(0, 2, data.segments().height) for name in "ab"}
    never = {"label:never": np.zeros(data.segments().height)}
    columns = {**classes, **never, "label": np.ones(data.segments().height)}
    table = data.segments().with_columns(pl.Series(k, v) for k, v in columns.items())
    table.write_parquet(path)
    manifest = json.loads((data.root / "manifest.json").read_text())
    manifest["labels"] = {"classes": [*classes, *never]}
    (data.root / "manifest.json").write_text(json.dumps(manifest | {"hashes": {}}))
    data = PreparedRooms(data.root)
    metrics = evaluate_model(run, data, tmp_path / "out", show_progress=False)
    rows = pl.read_parquet(tmp_path / "out" / "predictions.parquet").filter("is_sample")
    rows = rows.join(data.segments(), on=["room_id", "segment"])
    found = metrics["labels"]["classes"]
    for name in classes:
        wanted = average_precision_score(rows[name], rows["score"])
        assert found[name]["average_precision"] == pytest.approx(wanted)
        assert found[name]["positives"] == rows[name].sum()
    assert found["label:never"]["average_precision"] is None
    assert found["label"]["base_rate"] == 1
    both = np.mean([found[name]["average_precision"] for name in classes])
    assert metrics["labels"]["mean_average_precision"] == pytest.approx(both)
    page = write_report(tmp_path / "out").read_text()
    assert "any label" in page and "Base rate, which is chance" in page
    assert metrics["floors"]["metric"] == "kendall_tau"  # the target is CTR all the same


def test_a_run_is_calibrated_and_its_evaluation_shows_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "LEAST_ROOMS", 2)
    data = write_data(tmp_path / "data", rooms=30)
    best = train_model(with_train(epochs=1), data, tmp_path / "run", show_progress=False)
    checkpoint = load(best)
    before, about = checkpoint.model_id, checkpoint.calibration.about
    assert about["rooms"] == 2
    assert set(about["log_loss"]) == {"none", "platt", "beta", "isotonic"}
    found = evaluate_model(best, data, tmp_path / "plain", show_progress=False)
    write_calibration(best, Calibration(method="platt", parameters=(0.5, 1.0)))
    assert load(best).model_id != before
    metrics = evaluate_model(best, data, tmp_path / "eval", show_progress=False)
    assert metrics["metrics"]["kendall_tau"] == found["metrics"]["kendall_tau"]
    block, samples = metrics["calibration"], pl.read_parquet(tmp_path / "eval/predictions.parquet")
    samples = samples.filter("is_sample")
    assert block["method"] == "platt"
    assert block["before"] == found["calibration"]["before"]
    assert block["after"]["log_loss"] == metrics["metrics"]["log_loss"]
    assert block["after"]["log_loss"] == log_loss(samples["score"], samples["target"])
    assert block["after"]["log_loss"] != block["before"]["log_loss"]
    assert "log_loss, before and after" in headline(metrics)[1]
    assert "platt" in write_report(tmp_path / "eval").read_text()
    off = with_train(epochs=1, calibrate=False)
    assert load(train_model(off, data, tmp_path / "off", show_progress=False)).calibration.why_none
