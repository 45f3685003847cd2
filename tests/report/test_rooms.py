import json
import re
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from PIL import Image

from contentctr.errors import InputError
from contentctr.metrics.ctr import summary
from contentctr.metrics.labels import label_summary
from contentctr.outputs import MARKER
from contentctr.report import figures, write_report
from contentctr.report.canvas import Canvas
from contentctr.report.rooms import choose_rooms
from contentctr.score.evaluation import FORMS, read_evaluation
from contentctr.score.highlights import find_highlights
from floors import floors_of
from html_page import Page

ROOM_IDS = ("room-0", "<b>直播间</b> & \"x'", "room-2", "room-3", "room-4")


def make_predictions(simulated, seed=0):
    """Rooms of 24 segments whose scores follow the true probability less and less."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, room_id in enumerate(ROOM_IDS):
        truth = 1 / (1 + np.exp(2.5 - np.repeat(rng.normal(0, 0.8, 4), 6)))
        viewers = rng.integers(5, 200, 24)
        targets = rng.binomial(viewers, truth) / viewers
        scores = np.clip(truth + rng.normal(0, 0.02 * number, 24), 0.001, 0.999)
        for i in range(24):
            known = i != 10
            rows.append(
                {
                    "room_id": room_id,
                    "streamer_id": f"streamer-{number % 2}",
                    "segment": i,
                    "start_s": 30.0 * i,
                    "end_s": 30.0 * i + 30,
                    "target": targets[i] if known else None,
                    "score": None if i == 3 else scores[i],
                    "viewers": viewers[i] if known else None,
                    "is_sample": bool(known and viewers[i] >= 10 and i >= 4),
                    "truth": truth[i] if simulated else None,
                }
            )
    return pl.DataFrame(rows, schema=FORMS["rooms"].tables["predictions"])


def make_evaluation(folder, simulated=True, **changes):
    """An evaluation folder; a keyword replaces a field of metrics.json."""
    folder.mkdir(parents=True, exist_ok=True)
    table = make_predictions(simulated)
    table.write_parquet(folder / "predictions.parquet")
    samples = table.filter("is_sample")
    groups, targets = samples["room_id"].to_numpy(), samples["target"].to_numpy()
    references = {"streamer_mean": {"kendall_tau": 0.125}, "global_mean": {"kendall_tau": None}}
    if simulated:
        references["oracle"] = summary(samples["truth"].to_numpy(), targets, groups)
    metrics = {
        "task": "rooms",
        "simulated": simulated,
        "trained_on_simulated": simulated,
        "split": "test",
        "target": "ctr",
        "horizon": 0,
        "later_segments": 0,
        "metrics": summary(samples["score"].to_numpy(), targets, groups),
        "references": references,
        "floors": floors_of(table),
        "counts": {"rooms": 5, "segments": table.height},
        "config": {"model": {"kind": "contentctr"}, "train": {"epochs": 12}},
        "data_spec": {"text_encoder": "<script>alert(1)</script>"},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    return folder


def write_log(folder, steps=30, of=None):
    with (folder / "training_log.jsonl").open("a") as handle:
        for step in range(1, steps + 1):
            losses = {"point": 1 / step, "pair": 0.7, "align": 0.0, "total": 1.2 / step}
            member = {} if of is None else {"member": of}
            row = {**member, "step": step, "epoch": step / 10, "split": "train", **losses}
            handle.write(json.dumps(row) + "\n")
            if step % 10 == 0:
                val = {"kendall_tau": step / 100, "point": 0.4}
                row = {**member, "step": step, "split": "val", **val}
                handle.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = make_evaluation(tmp_path_factory.mktemp("report") / "evaluation")
    write_log(folder)
    path = write_report(folder, max_rooms=4)
    return folder, path, path.read_text("utf-8")


def test_page_is_one_file_that_asks_no_host(report):
    folder, path, text = report
    assert path == folder / "report.html"
    page = Page(text)
    page.assert_asks_no_host()
    addresses = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert addresses <= {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\((?!#)", text)
    assert "prefers-color-scheme: dark" in text


def test_ids_are_unique_and_links_lead_somewhere(report):
    page = Page(report[2])
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) > 50
    links = [attrs.get("href") or attrs.get("xlink:href") for _, attrs in page.tags]
    links = [link[1:] for link in links if link] + re.findall(r"url\(#([^)]+)\)", report[2])
    assert links and set(links) <= set(ids)


def test_figures_have_alternative_texts_and_follow_the_theme(report):
    svgs = [attrs for tag, attrs in Page(report[2]).tags if tag == "svg"]
    # Four rooms in two widths, two of the fit, and total, point, pair and tau of the training;
    # the alignment loss was off.
    assert len(svgs) == 4 * 2 + 2 + 4
    assert all(s["role"] == "img" and len(s["aria-label"]) > 20 for s in svgs)
    drawings = "".join(re.findall(r"<svg.*?</svg>", report[2], flags=re.DOTALL))
    assert "var(--predicted)" in drawings and "#" + "c2402a" not in drawings
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawings)) <= {"#000000"}


def test_page_says_that_rooms_are_simulated_and_shows_counts(report):
    folder, _, text = report
    page, found = Page(text), read_evaluation(folder).metrics
    assert text.count("<small>simulated</small></h2>") == 6
    block = found["metrics"]
    assert "Simulated rooms:" in page.text
    assert "Predicted CTR on simulated test rooms" in page.text
    assert f"{block['kendall_tau']:.3f}" in page.text
    assert f"{block['counts']['samples']:,} segments of 5 rooms" in page.text
    oracle = found["references"]["oracle"]["kendall_tau"]
    assert f"reaches {100 * block['kendall_tau'] / oracle:.0f} % of the oracle's tau" in page.text
    assert f"{block['kendall_tau'] - 0.125:.3f} above the streamer mean" in page.text
    assert "Global mean says the training rooms' mean for every segment undefined" in page.text


def test_ranks_inside_rooms_have_no_ceiling_over_all_rooms(tmp_path):
    folder = make_evaluation(tmp_path / "ranks", data_spec={"target_scale": "rank"})
    text = Page(write_report(folder).read_text("utf-8")).text
    assert "the oracle's tau" not in text and "above the streamer mean" not in text


def test_all_text_is_escaped(report):
    text = report[2]
    assert "<b>直" not in text and "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    evaluation = read_evaluation(report[0])
    shown = [room.room_id for _, room in choose_rooms(evaluation.predictions, 4)]
    page = Page(text)
    assert all(f"Room {room_id}" in page.text for room_id in shown)


def test_pngs_are_written_and_old_ones_removed(report):
    folder = report[0]
    names = {path.name for path in (folder / "report").iterdir()}
    curves = {"curve-best.png", "curve-median.png", "curve-worst.png", "curve-04.png"}
    assert names == curves | {"against.png", "calibration.png", "training.png", MARKER}
    for name in names - {MARKER}:
        with Image.open(folder / "report" / name) as image:
            image.verify()
            assert image.format == "PNG"
    (folder / "report" / "mine.png").write_bytes(b"kept")
    write_report(folder, max_rooms=1)
    names = {path.name for path in (folder / "report").iterdir()}
    assert names & curves == {"curve-best.png"} and "mine.png" in names


def test_same_files_give_the_same_page(report, tmp_path):
    folder = report[0]
    first = write_report(folder, tmp_path / "a.html", max_rooms=1).read_text("utf-8")
    second = write_report(folder, tmp_path / "b.html", max_rooms=1).read_text("utf-8")
    assert first.replace("<code>a/", "<code>b/") == second
    assert (tmp_path / "a" / "curve-best.png").is_file()


def test_real_rooms_without_a_log(tmp_path):
    folder = make_evaluation(
        tmp_path, simulated=False, target="comment_rate", horizon=1, trained_on_simulated=True
    )
    page = Page(write_report(folder, max_rooms=1).read_text("utf-8"))
    assert "Simulated rooms:" not in page.text and "click probability" not in page.text
    assert "Trained on simulated rooms" in page.text
    assert "comment rate of one segment of a live room 1 segment ahead" in page.text
    assert "Training batches" not in page.text


def test_each_member_of_an_ensemble_has_a_line(tmp_path):
    folder = make_evaluation(tmp_path)
    write_log(folder, 20, of=0)
    write_log(folder, 30, of=1)
    log = read_evaluation(folder).log
    assert log.filter(split="train")["member"].to_list() == [0] * 20 + [1] * 30
    page = Page(write_report(folder, max_rooms=1).read_text("utf-8"))
    assert "Training batches, a line a member" in page.text
    labels = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    # 1.2 / 20 and 1.2 / 30; 0.2 and 0.3.
    assert any("at the end: train 0.0500" in label for label in labels)
    assert any("at the end: validation 0.2500" in label for label in labels)


def test_the_verdict_on_the_floors_comes_first(report, tmp_path):
    floors = read_evaluation(report[0]).metrics["floors"]
    page = Page(report[2])
    assert floors["rooms"] == 5 and floors["without"] == []
    _, result = page.text.split("Result simulated ", 1)
    assert result.startswith(floors["sentence"])
    best = floors["comparisons"]["kendall_tau"]
    low, high = best["interval"]
    assert f"Model less best floor {best['difference']:+.3f} {low:+.3f} to {high:+.3f}" in page.text
    for name in ("Segment before", "Exponential mean", "Streamer mean", "Trees on earlier counts"):
        assert page.text.count(f"{name} ") >= 2, name  # a bar and a row
    whiskers = [attrs["style"] for tag, attrs in page.tags if tag == "i" and "style" in attrs]
    assert len(whiskers) == 5 and all(style.startswith("left:") for style in whiskers)

    few = make_predictions(True).filter(pl.col("room_id").is_in(["room-0", "room-2"]))
    folder = make_evaluation(tmp_path, floors=floors_of(few))
    page = Page(write_report(folder, max_rooms=1).read_text("utf-8"))
    assert "Too few rooms to say whether it is better" in page.text
    assert not [1 for tag, attrs in page.tags if tag == "i" and "style" in attrs]


def test_a_flat_curve_is_said_and_has_no_highlight(tmp_path):
    folder = make_evaluation(tmp_path)
    table = make_predictions(True).with_columns(score=0.3 + 0.001 * pl.col("score"))
    table.write_parquet(folder / "predictions.parquet")
    page = Page(write_report(folder, max_rooms=2).read_text("utf-8"))
    assert page.text.count("flat: its odds differ by less than a tenth") == 2
    assert not [1 for tag, attrs in page.tags if tag == "ol"]


def test_a_labels_metrics_have_rows_of_their_own(tmp_path):
    table = make_predictions(False)
    label = (pl.col("target") > 0.3).cast(pl.Float64)
    samples = table.with_columns(target=label).filter("is_sample")
    parts = [samples[name].to_numpy() for name in ("score", "target", "room_id")]
    folder = make_evaluation(
        tmp_path,
        simulated=False,
        target="goal",
        metrics={**summary(*parts), **label_summary(*parts)},
        floors=floors_of(table.with_columns(target=label), is_label=True),
    )
    page = Page(write_report(folder, max_rooms=1).read_text("utf-8"))
    base = (samples["target"] > 0).mean()
    assert f"Average precision chance is {base:.3f}; higher is better" in page.text
    assert f"the base rate {base:.3f} chance" in page.text and "ROC AUC" in page.text


def test_rooms_are_best_median_worst_then_spread():
    table = make_predictions(simulated=True)
    chosen = choose_rooms(table, 12)
    assert [label for label, _ in chosen] == [
        "Best of 5",
        "Median of 5",
        "Worst of 5",
        "Rank 2 of 5",
        "Rank 4 of 5",
    ]
    taus = [room.tau for _, room in chosen]
    assert taus[0] > taus[3] > taus[1] > taus[4] > taus[2]
    assert [label for label, _ in choose_rooms(table, 2)] == ["Best of 5", "Median of 5"]
    constant = table.with_columns(score=pl.lit(0.5))
    assert [label for label, _ in choose_rooms(constant, 2)] == ["Tau undefined"] * 2


def test_one_room_of_one_segment(tmp_path):
    folder = make_evaluation(tmp_path)
    table = make_predictions(True).head(1).with_columns(is_sample=True, score=0.5)
    table.write_parquet(folder / "predictions.parquet")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["metrics"] = summary([0.5], [0.25], ["room-0"])
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = Page(write_report(folder).read_text("utf-8"))
    assert "tau undefined over 1 segment" in page.text


def test_a_curve_becomes_a_png_whatever_its_title(tmp_path):
    starts = np.arange(10) * 30.0
    scores = np.array([0.1, 0.2, np.nan, 0.4, np.nan, 0.1, 0.1, 0.9, 0.1, 0.1])
    best = find_highlights(scores, starts, starts + 30)
    kinds = ("predicted", "truth dotted", "target dot", "highlight box")
    path = Canvas(folder=tmp_path, note="simulated").save(
        "curve",
        "直播\n$x_ \t{ <&>",
        lambda ax: figures.draw_curve(ax, starts, starts + 30, scores, scores, best),
        (960, 260),
        [(kind, kind) for kind in kinds],
    )
    with Image.open(path) as image:
        assert image.format == "PNG" and image.width > image.height > 400
    Canvas(folder=tmp_path, note="").save(
        "empty", "", lambda ax: figures.draw_curve(ax, [], [], []), (300, 200)
    )


def test_characters_without_a_font_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "contentctr.report.canvas.missing_fonts", lambda text: f"none for {text}"[:8]
    )
    warnings = []
    page = write_report(make_evaluation(tmp_path), max_rooms=1, warnings=warnings)
    assert warnings == ["none for"]
    assert "; none for." in Page(page.read_text("utf-8")).text


def test_svg_is_well_formed_and_breaks_lines_at_holes():
    figure, axes = figures.new_figure(300, 200)
    starts = np.array([0.0, 30.0, 120.0, 150.0, 180.0])
    figures.draw_curve(axes[0], starts, starts + 30, [0.1, 0.2, 0.3, np.nan, 0.5])
    line, dots = axes[0].lines
    assert np.isnan(line.get_ydata()).tolist() == [False, False, True, False, True, False]
    assert dots.get_xdata().tolist() == [135.0, 195.0]
    text = str(figures.to_svg(figure, 'a "b" <c>', "p", "wide"))
    root = ElementTree.fromstring(text.replace("<svg ", '<svg xmlns="http://x" ', 1))
    assert root.attrib["aria-label"] == 'a "b" <c>'
    assert root.attrib["viewBox"] == "0 0 300 200"


def test_missing_files_and_bad_arguments(tmp_path):
    with pytest.raises(InputError, match=r"metrics\.json: no such file"):
        write_report(tmp_path)
    folder = make_evaluation(tmp_path)
    (folder / "predictions.parquet").rename(folder / "elsewhere")
    with pytest.raises(InputError, match=r"predictions\.parquet: no such file"):
        write_report(folder)
    (folder / "elsewhere").rename(folder / "predictions.parquet")
    with pytest.raises(InputError, match="max_rooms must be at least 1, not 0"):
        write_report(folder, max_rooms=0)
    with pytest.raises(InputError, match="must be an HTML file"):
        write_report(folder, tmp_path / "report")
    (folder / "predictions.parquet").write_bytes(b"no")
    with pytest.raises(InputError, match="not a readable Parquet"):
        write_report(folder)
