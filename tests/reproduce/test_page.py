import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from contentctr.report.blocks import Grid, Paragraph
from contentctr.report.page import Page, Section, page_html
from contentctr.reproduce import page, plan, tables
from contentctr.reproduce.figures import choose_windows
from contentctr.reproduce.markdown import as_markdown
from contentctr.reproduce.page_head import head_of
from contentctr.reproduce.results import (
    Measured,
    Spread,
    agreement,
    difference,
    measure,
    ours_of,
    verdict,
)
from contentctr.reproduce.study import open_study
from contentctr.reproduce.worker import run_job
from contentctr.simulate.personal import PersonalSimulation, write_personal_features
from contentctr.store import rooms as prepared
from contentctr.store.personal import PreparedPersonal
from contentctr.windows.rooms import Windows
from make import make_segments, write_data

TINY = (
    "d_model=8",
    "num_heads=2",
    "perceiver_layers=1",
    "decoder_layers=1",
    "streamer_dim=4",
    "window_len=4",
    "min_viewers=1",
    "epochs=2",
    "num_negatives=2",
)


def measured(label, paper, taus, run=None):
    metrics = {seed: {"kendall_tau": tau} for seed, tau in taus.items()}
    run = run or plan.Run(name=label)
    papers = {} if paper is None else {"kendall_tau": paper}
    return Measured(row=plan.Row(label=label, run=run, paper=papers), metrics=metrics)


def study_of(data, out, what="table3", seeds=3):
    return open_study(what, data.root, out, recipe_name="small", settings=TINY, seeds=seeds)


def save_metrics(study, run, taus, ratio=1.5):
    for seed, tau in taus.items():
        folder = study.job(run, seed).evaluation
        folder.mkdir(parents=True)
        block = {
            "kendall_tau": tau,
            "kendall_tau_in_rooms": None,
            "mean_ratio": ratio,
            "counts": {"samples": 77},
        }
        spec = {f"{part}_{of}": 1 for part in ("visual", "text") for of in ("encoder", "dim")}
        found = {"metrics": block, "references": {"streamer_mean": {"kendall_tau": 0.1234}}}
        (folder / "metrics.json").write_text(json.dumps({**found, "data_spec": spec}))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), rooms=10)


# Statistics


def test_spread_by_hand():
    spread = Spread(values=(0.1, 0.2, 0.6))
    assert spread.mean == pytest.approx(0.3)
    assert spread.deviation == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert spread.error == pytest.approx(math.sqrt(0.07 / 3))
    assert (
        tables.show_spread(spread, plan.TAU) == "0.3000\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.2646"
    )
    assert tables.show_spread(Spread(values=(-0.25,)), plan.TAU, sign="+") == "−0.2500"
    assert tables.show_spread(Spread(values=()), plan.TAU) == "–"


def test_runs_share_no_members_and_the_page_tells_their_seeds(data, tmp_path):
    words = ["members=3", *TINY]
    study = open_study(
        "table3", data.root, tmp_path / "out", recipe_name="small", settings=words, seeds=3
    )
    jobs = [study.job(plan.OURS, seed) for seed in study.seeds]
    assert [job.config.train.seed for job in jobs] == [0, 3, 6]
    assert [job.folder.name for job in jobs] == ["seed-0", "seed-3", "seed-6"]
    [setup] = head_of(study).sections
    assert setup.blocks[0].rows[-1] == ["Seeds", "0, 3, 6 (each of the first of 3 members)"]


def test_differences_are_paired_over_the_seeds_that_both_have():
    a = measured("a", 0.6, {0: 0.5, 1: 0.7, 2: None, 5: 0.9})
    b = measured("b", 0.5, {0: 0.4, 1: 0.9, 2: 0.1, 7: 0.0})
    assert difference(a, b, plan.TAU).values == pytest.approx((0.1, -0.2))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((), "unknown"),
        ((0.5,), "unknown"),
        ((0.1, 0.1), "same"),  # no spread at all
        ((-0.1, -0.1), "opposite"),
        ((0.0, 0.0), "close"),
        ((0.0, 0.2), "close"),  # mean 0.1, standard error 0.1
        ((0.25, 0.75), "close"),  # exactly two standard errors
        ((0.11, 0.3), "same"),
        ((-0.11, -0.3), "opposite"),
    ],
)
def test_verdicts(values, said):
    assert verdict(0.01, Spread(values=values)) == said
    other = {"same": "opposite", "opposite": "same"}.get(said, said)
    assert verdict(-0.01, Spread(values=values)) == other


def test_agreement_by_hand():
    rows = [
        measured("low", 0.1, {0: 0.2, 1: 0.2}),
        measured("top", 0.9, {0: 0.5, 1: 0.5}),
        measured("mid", 0.5, {0: 0.1, 1: 0.1}),
        measured("odd", 0.4, {0: 0.0, 1: 0.9}),
        measured("late", 0.3, {0: 0.6}),
        measured("gone", 0.2, {}),
        measured("extra", None, {0: 0.9, 1: 0.9}),
    ]
    found = agreement(rows, plan.TAU)
    assert found.pairs["same"] == [("top", "low"), ("top", "mid")]
    assert found.pairs["opposite"] == [("mid", "low")]
    assert found.pairs["close"] == [("odd", "low"), ("top", "odd"), ("mid", "odd")]
    assert len(found.pairs["unknown"]) == 9
    # Means 0.2, 0.5, 0.1, 0.45, 0.6 against 0.1, 0.9, 0.5, 0.4, 0.3: 5 of 10 pairs agree.
    assert found.rows == 5 and found.tau == pytest.approx(0.0)
    first, *lists = tables.agreement_blocks(found, seeds=2)
    assert "orders 15 pairs" in first.text and "the same in 2" in first.text
    assert "opposite way in 1, and too close to tell in 3" in first.text
    assert "9 more lack two seeds" in first.text and "With 2 seeds that rule is loose" in first.text
    assert [block.lines[0] for block in lists] == [
        "mid above low in the paper",
        "odd above low in the paper",
    ]


def test_one_seed_tells_no_order():
    rows = [measured("a", 0.5, {0: 0.2}), measured("b", 0.4, {0: 0.1})]
    (only,) = tables.agreement_blocks(agreement(rows, plan.TAU), seeds=1)
    assert "cannot be told" in only.text and "the same in" not in only.text
    (none,) = tables.agreement_blocks(agreement([measured("a", 0.5, {})], plan.TAU), seeds=1)
    assert "nothing yet" in none.text


# The page


def test_tables_say_ours_beside_the_papers(data, tmp_path):
    study = study_of(data, tmp_path / "out")
    save_metrics(study, plan.OURS, {0: 0.30, 1: 0.40, 2: 0.50})
    save_metrics(study, plan.WITHOUT_ITEM, {0: 0.20, 2: 0.30})
    rows = measure(study, plan.TABLE_3)
    assert ours_of(rows, plan.TABLE_3) is rows[0] and rows[1].metrics.keys() == {0, 2}
    failed = study.job(plan.TABLE_3.rows[2].run, 1).folder
    written = page.write_page(study, {failed: "no <memory> & no time"})
    text = written.read_text()
    cells = [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", text)]
    cells = [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in cells]
    at = cells.index("ContentCTR w/o item")
    assert cells[at + 1 : at + 7] == [
        "0.2500 ± 0.0707",
        "0.5868",
        "−0.1500 ± 0.0707",
        "−0.0051",
        "–",
        "2 of 3",
    ]
    at = cells.index("ContentCTR w/o text")
    assert cells[at + 1 : at + 7] == ["missing", "0.5718", "–", "−0.0201", "–", "0 of 3"]
    assert "without_text seed 1: no &lt;memory&gt; &amp; no time" in text
    assert "0.1234" in text and "77" in text
    assert "Table 1" not in text  # neither asked for nor complete


def test_what_is_complete_stays_on_the_page(data, tmp_path):
    study = study_of(data, tmp_path / "out", what="table1", seeds=1)
    for row in plan.TABLE_3.rows:
        save_metrics(study, row.run, {0: 0.5})
    text = page.write_page(study, {}).read_text()
    assert 'id="table1"' in text and 'id="table3"' in text and 'id="table4"' not in text


def test_a_table_without_the_rows_that_the_data_cannot_have_is_shown(data, tmp_path):
    study = study_of(data, tmp_path / "out", what="beyond", seeds=1)
    text = page.write_page(study, {}).read_text()
    assert 'id="beyond"' in text and "with statistics" in text and "with sound" not in text


def test_table_4_has_mean_s_over_y_and_both_readings(data, tmp_path):
    study = study_of(data, tmp_path / "out", what="table4", seeds=1)
    for row in plan.TABLE_4.rows:
        save_metrics(study, row.run, {0: 0.5}, ratio=1.75)
    text = page.write_page(study, {}).with_suffix(".md").read_text()
    line = next(row for row in text.splitlines() if row.startswith("| Model4"))
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "Model4: point, pair L2",
        "0.5000",
        "0.5256",
        "+0.0000",
        "−0.0663",
        "1.7500",
        "1.3414",
        "1 of 1",
    ]
    assert "align as written (similarity) | 0.5000 | – | +0.0000 | – | 1.7500 | – |" in text


def test_simulated_rooms_are_labelled_and_real_ones_are_not(data, tmp_path):
    said = page.write_page(study_of(data, tmp_path / "a"), {})
    real = study_of(data, tmp_path / "b")
    manifest = {**data.manifest(), "simulated": False}
    path = tmp_path / "real"
    path.mkdir()
    for file in data.root.iterdir():
        (path / file.name).symlink_to(file)
    (path / "manifest.json").unlink()
    (path / "manifest.json").write_text(json.dumps(manifest))
    real = page.write_page(dataclasses.replace(real, data=prepared.PreparedRooms(path)), {})
    for suffix in (".html", ".md"):
        text = re.sub(r"</?strong>", "", said.with_suffix(suffix).read_text())
        assert "Simulated rooms: every number" in text and "tau (simulated)" in text
        assert "simulated" not in re.sub(
            "where rooms are simulated", "", real.with_suffix(suffix).read_text()
        )


def test_the_users_words_are_on_the_page_as_text(data, tmp_path):
    study = study_of(data, tmp_path / "out")
    (tmp_path / "out" / "notes.md").write_text("One <b>bold</b>\nclaim.\n\nTwo *stars*.\n")
    written = page.write_page(study, {})
    assert "<p>One &lt;b&gt;bold&lt;/b&gt; claim.</p>" in written.read_text()
    assert "Two \\*stars\\*." in written.with_suffix(".md").read_text()


def test_text_is_escaped_in_both_forms():
    nasty = 'a|b <i> & "q" [x](y) `c`'
    grid = Grid(name=nasty, head=[nasty, "n"], rows=[[nasty, "1"]], numbers=[1])
    section = Section(key="a", title=nasty, blocks=[grid])
    text = page_html(Page(title=nasty, lead=nasty, sections=[section], footer=["", nasty]))
    assert "<i>" not in text and text.count("&lt;i&gt; &amp; &#34;q&#34;") == 9
    lines = as_markdown(grid).splitlines()
    assert lines[1] == "| --- | ---: |" and 'a\\|b \\<i\\> & "q" \\[x\\]' in lines[2]
    assert as_markdown(Paragraph(text="# no\nheading")) == "\\# no heading"


# Personalized highlights


@pytest.fixture(scope="module")
def highlights(tmp_path_factory):
    sizes = {"num_users": 12, "max_video_s": 120, "visual_dim": 6, "text_dim": 4}
    root = tmp_path_factory.mktemp("highlights") / "data"
    return write_personal_features(PersonalSimulation(**sizes), root, show_progress=False)


def highlights_study(data, out, what="table2", seeds=3):
    words = ("d_model=8", "num_heads=2", "epochs=1")
    return open_study(
        what, data.root, out, recipe_name="highlights_small", settings=words, seeds=seeds
    )


COUNTS = {
    "users": 40,
    "users_without_history": 3,
    "users_with_captions": 12,
    "frames": 1000,
    "highlight_frames": 55,
}
HL_SPEC = {"visual_encoder": "v", "visual_dim": 6, "text_encoder": "t", "text_dim": 4}


def save_map(study, run, maps, oracle=0.9, published=0.25):
    for seed, value in maps.items():
        folder = study.job(run, seed).evaluation
        folder.mkdir(parents=True)
        references = {"random": {"map": 0.05, "map_published": 0.07}}
        if oracle:
            references["oracle"] = {"map": oracle, "map_published": None}
        found = {
            "task": "personal",
            "parameters": 1_234_567,
            "counts": COUNTS,
            "metrics": {"map": value, "map_published": published},
            "data_spec": HL_SPEC,
            "references": references,
        }
        (folder / "metrics.json").write_text(json.dumps(found))


def lines_of(page):
    """Cells of the table rows of the Markdown page, by the first."""
    text = page.with_suffix(".md").read_text().replace("\N{NO-BREAK SPACE}", " ")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}, text


def run_of(table, label):
    return next(row.run for row in table.trained if row.label == label)


def test_table_2_has_per_cents_parameters_and_what_needs_no_training(highlights, tmp_path):
    study = highlights_study(highlights, tmp_path / "out")
    save_map(study, plan.OURS_HL, {0: 0.20, 1: 0.30, 2: 0.25})
    save_map(study, run_of(plan.TABLE_2, "PAC-Net"), {0: 0.15, 2: 0.22}, published=None)
    rows, text = lines_of(page.write_page(study, {}))
    assert rows["Model"] == [
        "Ours: mAP % (simulated)",
        "Paper: mAP %",
        "Ours: minus ContentCTR-HL (simulated)",
        "Paper: minus ContentCTR-HL",
        "Ours: mAP % as published (simulated)",
        "Ours: parameters, M",
        "Paper: parameters, M",
        "Seeds",
    ]
    assert rows["ContentCTR-HL"] == [
        "25.00 ± 5.00",
        "21.89",
        "",
        "",
        "25.00 ± 0.00",
        "1.23",
        "66.35",
        "3 of 3",
    ]
    assert rows["PAC-Net"] == [
        "18.50 ± 4.95",
        "17.51",
        "−4.00 ± 1.41",
        "−4.38",
        "–",
        "1.23",
        "5.89",
        "2 of 3",
    ]
    assert rows["PR-Net"] == ["missing", "18.66", "–", "−3.23", "–", "–", "–", "0 of 3"]
    # A reference is the same at every seed; the difference to it is not.
    assert rows["Random"][:5] == ["5.00", "–", "−20.00 ± 5.00", "–", "7.00"]
    assert rows["Oracle (ceiling)"][:5] == ["90.00", "–", "+65.00 ± 5.00", "–", "–"]
    assert rows["Non-personal"][0] == "missing"
    assert rows["Test users"] == ["40, of which 3 without a history and 12 with captions"]
    assert rows["Test frames"] == ["1,000, of which selected 5.5 %"]
    assert rows["Random scores (simulated), mAP %"] == ["5.00"]
    assert "The paper orders 10 pairs" in text and "the same in 1" in text


def test_models_are_held_against_the_rows_that_they_must_beat(highlights, tmp_path):
    study = highlights_study(highlights, tmp_path / "out")
    floor = run_of(plan.TABLE_2, "Non-personal")
    save_map(study, floor, {0: 0.20, 1: 0.30, 2: 0.25})
    save_map(study, plan.OURS_HL, {0: 0.25, 1: 0.34, 2: 0.31})
    save_map(study, run_of(plan.TABLE_2, "PR-Net"), {0: 0.10, 1: 0.19, 2: 0.16})
    save_map(study, run_of(plan.TABLE_2, "ShowMe"), {0: 0.30, 1: 0.20, 2: 0.25})
    save_map(study, run_of(plan.TABLE_2, "PAC-Net"), {0: 0.30})
    _, text = lines_of(page.write_page(study, {}))
    assert (
        "should be above “Non-personal”. Above it: ContentCTR-HL. Below it: PR-Net. Too close to "
        "tell, by the same rule: ShowMe. Open, with fewer than two seeds: Adaptive-H-FCSN, PAC-Net."
    ) in text
    assert (
        "should be above “Random”. Above it: PR-Net, ShowMe, ContentCTR-HL. Open, with fewer than "
        "two seeds: Adaptive-H-FCSN, PAC-Net."
    ) in text


def test_a_reference_without_a_run_is_left_out(highlights, tmp_path):
    study = highlights_study(highlights, tmp_path / "out", seeds=1)
    rows, text = lines_of(page.write_page(study, {}))
    assert "Random" not in rows and "Oracle (ceiling)" not in rows and "should be" not in text
    save_map(study, plan.OURS_HL, {0: 0.2}, oracle=None)
    rows, _ = lines_of(page.write_page(study, {}))
    assert "Random" in rows and "Oracle (ceiling)" not in rows


def test_table_5_shares_the_run_of_192_frames_with_table_2(highlights, tmp_path):
    study = highlights_study(highlights, tmp_path / "out", what="table5", seeds=1)
    save_map(study, plan.OURS_HL, {0: 0.20})
    save_map(study, run_of(plan.TABLE_5, "w/o DTW"), {0: 0.21})
    rows, text = lines_of(page.write_page(study, {}))
    assert rows["ContentCTR-HL, n = 192"] == ["20.00", "21.89", "", "", "25.00", "1 of 1"]
    assert rows["w/o DTW"] == ["21.00", "21.75", "+1.00", "−0.14", "25.00", "1 of 1"]
    assert "## Table 2" not in text
    for row in plan.TABLE_2.trained:
        if row.run != plan.OURS_HL:
            save_map(study, row.run, {0: 0.1})
    _, text = lines_of(page.write_page(study, {}))
    assert "## Table 2" in text  # complete by now
    assert "## Table 1" not in text and "## Figure" not in text


def test_highlights_are_labelled_simulated_or_not(highlights, tmp_path):
    said = page.write_page(highlights_study(highlights, tmp_path / "a"), {})
    study = highlights_study(highlights, tmp_path / "b")
    shutil.copytree(highlights.root, tmp_path / "real")
    manifest = {**highlights.manifest(), "simulated": False}
    (tmp_path / "real" / "manifest.json").write_text(json.dumps(manifest))
    real = dataclasses.replace(study, data=PreparedPersonal(tmp_path / "real"))
    real = page.write_page(real, {})
    for suffix in (".html", ".md"):
        text = re.sub(r"</?strong>", "", said.with_suffix(suffix).read_text())
        assert "Simulated users and videos: every number" in text and "(simulated)" in text
        assert "KLive" not in text and "rooms" not in text and "reproduction/" not in text
        plain = real.with_suffix(suffix).read_text()
        assert "simulated" not in plain.replace("where users are simulated", "")
        assert "those videos of PHD that could still be had" in plain


def test_runs_of_highlights_are_made_and_shown(highlights, tmp_path):
    study = highlights_study(highlights, tmp_path / "out", what="table5", seeds=1)
    run_job(study.job(plan.OURS_HL, 0))
    rows, _ = lines_of(page.write_page(study, {}))
    found = json.loads((study.job(plan.OURS_HL, 0).evaluation / "metrics.json").read_text())
    shown = f"{100 * found['metrics']['map']:.2f}"
    assert rows["ContentCTR-HL, n = 192"][0] == shown and found["split"] == "test"
    assert (
        rows["Oracle (ceiling) (simulated), mAP %"][0]
        == f"{100 * found['references']['oracle']['map']:.2f}"
    )


# Figures


def test_figures_are_drawn_from_finished_runs(data, tmp_path):
    study = study_of(data, tmp_path / "out", what="all", seeds=1)
    runs = (plan.OURS, plan.MODEL_2, plan.MODEL_3, plan.ID_ROWS[2].run)
    for run in runs:
        run_job(study.job(run, 0))
    written = page.write_page(study, {})
    text = written.read_text()
    pictures = {path.name for path in (tmp_path / "out" / "reproduction").iterdir()}
    assert {"fig4-1.png", "fig5-point.png", "fig5-pair.png", "fig6-1.png"} <= pictures
    assert "DIFM is the ID model" in text and "Model2 (L0) begins at" in text
    assert text.count('role="img"') == text.count('aria-label="Simulated. ')
    markdown = written.with_suffix(".md").read_text()
    linked = re.findall(r"\]\((reproduction/.+?\.png)\)", markdown)
    assert {Path(name).name for name in linked} == pictures
    assert not re.search(r'(src|href)="(https?:)?//', text) and "<script" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_figures_without_runs_say_so(data, tmp_path):
    text = page.write_page(study_of(data, tmp_path / "out", what="fig5"), {}).read_text()
    assert "Not drawn: no finished run of model2, model3." in text


def test_windows_for_the_alignment_figure_have_every_part():
    segments = make_segments([20])
    segments.has_visual_S[10] = False
    windows = Windows(np.arange(17), np.full(17, 4))
    whole = [w for w in range(17) if not w <= 10 <= w + 3]
    chosen = choose_windows(segments, windows)
    assert len(chosen) == 3 and set(chosen) <= set(whole)
    segments.has_visual_S[:] = False
    assert len(choose_windows(segments, windows)) == 0
