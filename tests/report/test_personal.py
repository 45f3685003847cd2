import itertools
import json
import re

import numpy as np
import polars as pl
import pytest
from PIL import Image

from contentctr.metrics.average_precision import (
    average_precision,
    chance_precision,
    mean_over_users,
    user_metrics,
)
from contentctr.outputs import MARKER
from contentctr.report import canvas, figures, write_report
from contentctr.report.personal import (
    choose_users,
    ranked_users,
    selected_spans,
)
from contentctr.score.evaluation import FORMS, read_evaluation
from html_page import Page

NAMES = ("user-0", "<b>用户</b> & \"x'", "user-2", "user-3", "user-4")
HISTORY = (0, 3, 8, 12, 25)


def make_users(seed=0):
    """Labels and scores of users; the scores tell less and less of the labels."""
    rng = np.random.default_rng(seed)
    labels, scores = [], []
    for number in range(len(NAMES)):
        label_T = np.zeros(60, bool)
        label_T[10 + number : 16 + number] = True
        label_T[40:42] = True
        labels.append(label_T)
        scores.append(np.clip(0.3 + 0.4 * label_T + rng.normal(0, 0.1 * number, 60), 0.001, 0.999))
    return labels, scores


def make_evaluation(folder, simulated=True, users=None, **changes):
    """An evaluation folder; a keyword replaces a field of metrics.json."""
    folder.mkdir(parents=True, exist_ok=True)
    labels, scores = users or make_users()
    frame = np.concatenate([np.arange(len(label_T)) for label_T in labels])
    which = np.repeat(np.arange(len(labels)), [len(label_T) for label_T in labels])
    predictions = pl.DataFrame(
        {
            "user_id": [NAMES[i] for i in which],
            "video_id": [f"video-{i // 2}" for i in which],
            "frame": frame,
            "start_s": frame * 1.0,
            "end_s": frame + 1.0,
            "score": np.concatenate(scores),
            "selected": np.concatenate(labels),
        },
        schema=FORMS["personal"].tables["predictions"],
    )
    rows = [
        {
            "user_id": NAMES[i],
            "video_id": f"video-{i // 2}",
            "history": HISTORY[i],
            "captions": i < 2,
            "frames": len(labels[i]),
            "highlight_frames": int(labels[i].sum()),
            **user_metrics(labels[i], scores[i], frame_rate=1.0),
        }
        for i in range(len(labels))
    ]
    people = pl.DataFrame(rows, schema=FORMS["personal"].tables["users"]).fill_nan(None)
    predictions.write_parquet(folder / "predictions.parquet")
    people.write_parquet(folder / "users.parquet")
    found = mean_over_users(labels, scores, frame_rate=1.0)
    block = {name: None if np.isnan(value) else value for name, value in found.items()}
    counts = {name: value for name, value in block.items() if name.startswith("users")}
    means = [name for name in block if name.startswith("map")]
    by_chance, oracle = (
        {name: first + place / 100 for place, name in enumerate(means)} | counts
        for first in (0.125, 0.925)
    )
    metrics = {
        "task": "personal",
        "simulated": simulated,
        "trained_on_simulated": simulated,
        "split": "test",
        "target": "highlight",
        "parameters": 1234567,
        "metrics": block,
        "references": {"random": by_chance} | ({"oracle": oracle} if simulated else {}),
        "counts": {
            "users": len(labels),
            "videos": 3,
            "frames": len(frame),
            "highlight_frames": 40,
            "users_without_history": 1,
            "users_with_captions": 2,
        },
        "config": {"model": {"kind": "contentctr_hl"}, "train": {"epochs": 12}},
        "data_spec": {"text_encoder": "<script>alert(1)</script>"},
        "checkpoint": {},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    return folder


def write_log(folder, steps=20):
    with (folder / "training_log.jsonl").open("w") as handle:
        for step in range(1, steps + 1):
            losses = {"point": 1 / step, "pair": 0.0, "align": 2.0, "total": 1.2 / step}
            handle.write(json.dumps({"step": step, "split": "train", **losses}) + "\n")
            if step % 10 == 0:
                found = {"map": step / 100, "map_top5": 0.5}
                handle.write(json.dumps({"step": step, "split": "val", **found}) + "\n")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = make_evaluation(tmp_path_factory.mktemp("report") / "evaluation")
    write_log(folder)
    path = write_report(folder, max_rooms=4)
    return folder, path, path.read_text("utf-8")


def test_page_shows_the_metrics_beside_their_references(report):
    folder, path, text = report
    assert path == folder / "report.html"
    page, found = Page(text), read_evaluation(folder).metrics
    block, references = found["metrics"], found["references"]
    assert "Personalized highlights of simulated test users" in page.text
    titles = {
        "map": "mAP",
        "map_published": "mAP as published",
        "map_stretches": "mAP over stretches",
        "map_top5": "Top-5 mAP",
    }
    for name, title in titles.items():
        card = page.text[page.text.index(f"{title} (simulated)") :]
        numbers = re.findall(r"\d\.\d{3}", card)[:3]
        shown = (block, references["random"], references["oracle"])
        assert numbers == [f"{of[name]:.3f}" for of in shown], name
    assert f"{block['map'] - 0.125:.3f} above a random order" in page.text
    assert f"reaches {100 * block['map'] / 0.925:.0f} % of the oracle" in page.text
    assert "Means over 5 users." in page.text
    assert "parameters of the model 1,234,567" in page.text


def test_page_asks_no_host_and_its_ids_are_unique(report):
    page = Page(report[2])
    page.assert_asks_no_host()
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) > 50
    links = [attrs.get("href") or attrs.get("xlink:href") for _, attrs in page.tags]
    links = [link[1:] for link in links if link] + re.findall(r"url\(#([^)]+)\)", report[2])
    assert links and set(links) <= set(ids)


def test_every_section_and_figure_says_simulated(report, tmp_path):
    _, _, text = report
    svgs = [attrs for tag, attrs in Page(text).tags if tag == "svg"]
    # Four users and all of them, in two widths each; total, point, alignment and mAP by step: the
    # pairwise loss was off.
    assert len(svgs) == 5 * 2 + 4
    assert all(s["role"] == "img" and "imulated" in s["aria-label"] for s in svgs)
    assert text.count("<small>simulated</small></h2>") == text.count("<h2") == 6
    real = make_evaluation(tmp_path, simulated=False)
    text = write_report(real, max_rooms=1).read_text("utf-8")
    assert "imulated" not in Page(text).text and "imulated" not in text
    metrics = json.loads((real / "metrics.json").read_text()) | {"trained_on_simulated": True}
    (real / "metrics.json").write_text(json.dumps(metrics))
    page = Page(write_report(real, max_rooms=1).read_text("utf-8"))
    assert "Trained on simulated videos: the videos here are real" in page.text


def test_all_text_is_escaped(report):
    _, _, text = report
    assert "<b>用" not in text and "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert f"User {NAMES[1]}: AP" in Page(text).text


def test_pngs_are_written_and_old_ones_removed(report, monkeypatch):
    folder = report[0]
    curves = {"curve-best.png", "curve-median.png", "curve-worst.png", "curve-04.png"}
    names = {path.name for path in (folder / "report").iterdir()}
    assert names == curves | {"users.png", "training.png", MARKER}
    for name in names - {MARKER}:
        with Image.open(folder / "report" / name) as image:
            image.verify()
    titles, shaded = [], []
    head, shade = canvas.heading, figures._shade

    def heading(ax, title, note):
        titles.append((title, note))
        head(ax, title, note)

    def shading(ax, spans, **style):
        shaded.append(len(spans))
        shade(ax, spans, **style)

    monkeypatch.setattr(canvas, "heading", heading)
    monkeypatch.setattr(figures, "_shade", shading)
    write_report(folder, max_rooms=1)
    names = {path.name for path in (folder / "report").iterdir()}
    assert names & curves == {"curve-best.png"}
    best = read_evaluation(folder).users["ap"].max()
    assert (f"Best of 5 users: AP {best:.3f}", "simulated") in titles
    assert all(note == "simulated" for _, note in titles)
    assert shaded == [0, 2] * 3  # highlights and selections: wide, narrow and PNG


def test_same_files_give_the_same_page(report, tmp_path):
    folder = report[0]
    first = write_report(folder, tmp_path / "a.html", max_rooms=1).read_text("utf-8")
    second = write_report(folder, tmp_path / "b.html", max_rooms=1).read_text("utf-8")
    assert first.replace("<code>a/", "<code>b/") == second


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 1), (5, 2), (7, 3), (6, 6)])
def test_chance_is_the_mean_over_all_orders(n, m):
    scores = -np.arange(n)
    every = [
        average_precision(np.isin(np.arange(n), chosen), scores)
        for chosen in itertools.combinations(range(n), m)
    ]
    assert chance_precision([n, 9], [m, 4])[0] == pytest.approx(np.mean(every), abs=1e-12)


def test_groups_are_means_of_their_users(report):
    folder, _, text = report
    users = ranked_users(read_evaluation(folder))
    table = text[text.index('aria-label="mAP of groups of users"') :]
    table = table[: table.index("</table>")]
    rows = [re.findall(r">([^<]+)</t[hd]>", row) for row in table.split("<tr>")[2:]]
    names = [
        "All users",
        "History of 0 clips",
        "History of 1 to 4 clips",
        "History of 5 to 9 clips",
        "History of 10 to 14 clips",
        "History of 20 clips or more",
        "With captions",
        "Without captions",
    ]
    assert [row[0] for row in rows] == names
    assert [row[1] for row in rows] == ["5", "1", "1", "1", "1", "1", "2", "3"]
    captions = users.filter("captions")
    gain = (captions["ap"] - captions["chance"]).mean()
    assert rows[6][2:] == [
        f"{captions['ap'].mean():.3f}",
        f"{captions['chance'].mean():.3f}",
        f"{gain:+.3f}",
    ]
    one = users.row(by_predicate=pl.col("history") == 12, named=True)
    assert rows[4][2] == f"{one['ap']:.3f}"


def test_users_are_best_median_worst_then_spread():
    users = pl.DataFrame(
        {
            "user_id": list("abcdef"),
            "frames": [9] * 6,
            "highlight_frames": [9, 3, 3, 3, 3, 3],
            "ap": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5],
        }
    )
    assert choose_users(users, 12) == [
        ("Best of 5", "b"),
        ("Median of 5", "d"),
        ("Worst of 5", "f"),
        ("Rank 2 of 5", "c"),
        ("Rank 4 of 5", "e"),
    ]
    assert choose_users(users, 2) == [("Best of 5", "b"), ("Median of 5", "d")]
    assert choose_users(users.head(2), 3) == [("The only user to tell", "b")]
    assert choose_users(users.head(1), 3) == [("Precision tells nothing", "a")]


def test_selected_runs_of_frames_are_spans_in_seconds():
    selected = [True, True, False, False, True, False, True]
    frame = np.arange(7)
    rows = pl.DataFrame(
        {"frame": frame, "start_s": frame / 2, "end_s": (frame + 1) / 2, "selected": selected},
        schema_overrides={"frame": pl.Int32},
    )
    assert selected_spans(rows) == [(0.0, 1.0), (2.0, 2.5), (3.0, 3.5)]
    assert selected_spans(rows.filter(~pl.col("selected"))) == []


def test_selections_are_shaded_without_ranks():
    _, axes = figures.new_figure(300, 200)
    starts = np.arange(10.0)
    spans = [(2.0, 4.0), (7.0, 8.0)]
    figures.draw_curve(axes[0], starts, starts + 1, starts / 10, selections=spans)
    boxes = [
        patch.get_extents().transformed(axes[0].transData.inverted()) for patch in axes[0].patches
    ]
    assert [(round(box.x0, 6), round(box.x1, 6)) for box in boxes] == spans
    assert not axes[0].texts


def test_users_without_a_precision_or_who_selected_everything(tmp_path):
    labels, scores = make_users()
    labels[0][:], labels[1][:] = False, True
    page = Page(write_report(make_evaluation(tmp_path, users=(labels, scores))).read_text("utf-8"))
    assert "Means over 4 users. 1 more selected no frame and have no precision." in page.text
    assert "1 of them selected every frame, which is 1 whatever the scores." in page.text
    assert "Best of 3" in page.text and "User user-0" not in page.text


def test_nobody_has_a_precision(tmp_path):
    labels, scores = make_users()
    none = [np.zeros_like(label_T) for label_T in labels[:1]]
    write_report(make_evaluation(tmp_path))
    assert (tmp_path / "report" / "users.png").exists()
    folder = make_evaluation(tmp_path, users=(none, scores[:1]))
    text = write_report(folder).read_text("utf-8")
    page = Page(text)
    assert not (folder / "report" / "users.png").exists()
    assert "No user has an average precision." in page.text
    assert "User user-0: AP undefined" in page.text and "Selected: nothing" in text
    assert "undefined" in page.text[page.text.index("mAP (simulated)") :]


def test_page_of_a_real_evaluation(tmp_path):
    from contentctr.config import override
    from contentctr.evaluate.evaluate import evaluate_model
    from contentctr.recipes import recipe
    from contentctr.simulate.personal import PersonalSimulation, write_personal_features
    from contentctr.train.loop import train_model

    simulation = PersonalSimulation(num_users=40, max_video_s=200, visual_dim=8, text_dim=5)
    data = write_personal_features(simulation, tmp_path / "data", show_progress=False)
    sizes = ["epochs=1", "d_model=16", "num_heads=2", "decoder_layers=1"]
    config = override(recipe("highlights_small"), sizes)
    train_model(config, data, tmp_path / "run", show_progress=False)
    metrics = evaluate_model(tmp_path / "run", data, tmp_path / "eval", show_progress=False)
    text = write_report(tmp_path / "eval", max_rooms=2).read_text("utf-8")
    assert f"{metrics['metrics']['map']:.3f}" in text and "Validation users" in text
    # The closed form against the drawn orders of the evaluation.
    chance = ranked_users(read_evaluation(tmp_path / "eval"))["chance"].mean()
    assert chance == pytest.approx(metrics["references"]["random"]["map"], rel=0.2)
