import json
import re

import numpy as np
import polars as pl
import pytest

from contentctr.abtest.analysis import TestSettings, analyse_logs, parse_shares
from contentctr.abtest.report import effect_lines, write_abtest_report
from contentctr.errors import InputError
from html_page import Page

FAST = TestSettings(bootstrap=100)


def write_log(
    folder, *, arms=("control", "content"), users=300, days=3, simulated=False, seed=0, shares=None
):
    rng = np.random.default_rng(seed)
    rows = users * days * 4
    user = rng.integers(users, size=rows)
    arm = rng.choice(len(arms), users, p=shares)[user]
    clicked = rng.random(rows) < 0.2 + 0.1 * arm
    folder.mkdir()
    pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in user],
            "arm": [arms[a] for a in arm],
            "day": rng.integers(days, size=rows),
            "clicked": clicked,
            "play_s": np.where(clicked, rng.exponential(60, rows), 0.0),
            "simulated": np.full(rows, simulated),
        }
    ).write_parquet(folder / "log.parquet")
    return folder


def report(tmp_path, settings=FAST, control=None, shares=None, **log):
    out = tmp_path / "out"
    logs = write_log(tmp_path / "logs", **log)
    found = analyse_logs(logs, out, settings=settings, control=control, shares=shares)
    text = write_abtest_report(out).read_text(encoding="utf-8")
    return found, text, Page(text)


def test_numbers_are_those_of_the_log(tmp_path):
    found, _, page = report(tmp_path)
    log = pl.read_parquet(tmp_path / "logs" / "log.parquet")
    for arm, block in found["arms"].items():
        rows = log.filter(arm=arm)
        assert block["exposures"] == rows.height
        assert block["users"] == rows["user_id"].n_unique()
        assert block["metrics"]["ctr"]["value"] == pytest.approx(rows["clicked"].mean())
        play = block["metrics"]["play_per_exposure"]["value"]
        assert play == pytest.approx(rows["play_s"].mean())
        per_user = block["metrics"]["play_per_user"]["value"]
        assert per_user == pytest.approx(rows["play_s"].sum() / rows["user_id"].n_unique())
        day = found["by_day"][1]["arms"][arm]
        assert day["exposures"] == rows.filter(day=1).height
    ctr = {arm: block["metrics"]["ctr"]["value"] for arm, block in found["arms"].items()}
    effect = found["effects"]["content"]["ctr"]
    assert effect["lift"] == pytest.approx(ctr["content"] / ctr["control"] - 1)
    assert f"{100 * effect['lift']:+.2f} %" in page.text
    running = effect["running"]
    assert [row["day"] for row in running] == ["0", "1", "2"]
    assert running[-1]["lift"] == effect["lift"]
    first = [log.filter(arm=arm, day=0)["clicked"].mean() for arm in ("control", "content")]
    assert running[0]["lift"] == pytest.approx(first[1] / first[0] - 1)
    assert found == json.loads((tmp_path / "out" / "abtest.json").read_text())


def test_the_same_logs_give_the_same_bytes(tmp_path):
    _, text, _ = report(tmp_path)
    again = analyse_logs(tmp_path / "logs", tmp_path / "again" / "out", settings=FAST)
    assert write_abtest_report(tmp_path / "again" / "out").read_text() == text
    other = TestSettings(bootstrap=100, seed=1)
    differs = analyse_logs(tmp_path / "logs", tmp_path / "other", settings=other)
    block = "effects", "content", "ctr", "bootstrap"
    a, b = again, differs
    for key in block:
        a, b = a[key], b[key]
    assert a != b


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_tests_say_so_everywhere(tmp_path, simulated):
    found, text, page = report(tmp_path, simulated=simulated)
    assert found["simulated"] is simulated
    assert ("Simulated test:" in page.text) == simulated
    assert ("simulated" in page.text.lower()) == simulated
    sections = re.findall(r"<section.*?</section>", text, flags=re.DOTALL)
    assert len(sections) == 6
    if simulated:
        assert "<title>A/B test of a simulated ranking</title>" in text
        for section in sections[:-1]:
            assert "simulated" in section


def test_the_papers_numbers_are_marked_as_the_papers(tmp_path):
    _, _, page = report(tmp_path, simulated=True)
    where = page.text.index("The paper's test, on its own platform")
    assert page.text.count("+2.9 %") == page.text.count("+5.9 %") == 1
    assert where < page.text.index("+2.9 %") < page.text.index("+5.9 %")
    assert "the numbers do not compare" in page.text


def test_the_page_asks_no_host_for_anything(tmp_path):
    _, text, page = report(tmp_path)
    page.assert_asks_no_host()
    assert re.findall(r"url\((?!#)", text) == []
    assert "@import" not in text
    assert "<script" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_names_are_escaped(tmp_path):
    arm = "<b>$1 & \"x'"
    _, text, page = report(tmp_path, arms=("control", arm))
    assert "<b>$1" not in text
    assert arm in page.text


def test_a_mismatch_of_the_sample_ratio_is_loud(tmp_path):
    found, _, page = report(tmp_path, shares={"control": 0.4, "content": 0.6}, users=3000, days=1)
    assert found["sample_ratio"]["mismatch"]
    assert "Sample-ratio mismatch:" in page.text


def test_planned_shares_count(tmp_path):
    logs = write_log(tmp_path / "logs", shares=[0.8, 0.2], users=3000, days=1)
    planned = {"control": 0.8, "content": 0.2}
    found = analyse_logs(logs, tmp_path / "a", shares=planned, settings=FAST)
    assert not found["sample_ratio"]["mismatch"]
    assert analyse_logs(logs, tmp_path / "b", settings=FAST)["sample_ratio"]["mismatch"]
    with pytest.raises(InputError, match=r"shares must be given for the arms \['content', 'con"):
        analyse_logs(logs, tmp_path / "c", shares={"control": 1.0})


def test_several_treatments_one_day_and_no_bootstrap(tmp_path):
    found, _, page = report(
        tmp_path, TestSettings(bootstrap=0), "b", arms=("a", "b", "c"), days=1, users=600
    )
    assert list(found["arms"]) == ["b", "a", "c"]
    assert list(found["effects"]) == ["a", "c"]
    assert found["effects"]["a"]["ctr"]["bootstrap"] is None
    assert "Bootstrap, " not in page.text
    assert "a against b" in page.text
    assert "unknown one day" in page.text


def test_arms_without_a_click_have_no_lift(tmp_path):
    logs = write_log(tmp_path / "logs")
    log = pl.read_parquet(logs / "log.parquet").with_columns(clicked=False, play_s=0.0)
    log.write_parquet(logs / "log.parquet")
    found = analyse_logs(logs, tmp_path / "out", settings=FAST)
    effect = found["effects"]["content"]["ctr"]
    assert (effect["lift"], effect["p_value"]) == (None, 1.0)
    assert "undefined" in Page(write_abtest_report(tmp_path / "out").read_text()).text


def test_the_control_must_be_known(tmp_path):
    logs = write_log(tmp_path / "logs", arms=("a", "b"))
    with pytest.raises(InputError, match=r"--control NAME\); there are \['a', 'b'\]"):
        analyse_logs(logs, tmp_path / "out")
    with pytest.raises(InputError, match=r"one of the arms \['a', 'b'\], not 'c'"):
        analyse_logs(logs, tmp_path / "out", control="c")


def test_saved_files_are_checked(tmp_path):
    report(tmp_path)
    path = tmp_path / "out" / "abtest.json"
    good = json.loads(path.read_text())
    for change, words in (
        ({"schema_version": 99}, "schema_version must be 1, not 99"),
        ({"effects": None}, "field 'effects' is missing"),
    ):
        path.write_text(json.dumps({k: v for k, v in {**good, **change}.items() if v is not None}))
        with pytest.raises(InputError, match=words):
            write_abtest_report(tmp_path / "out")
    with pytest.raises(InputError, match="no such file"):
        write_abtest_report(tmp_path / "none")


@pytest.mark.parametrize("bad", [{"alpha": 0}, {"power": 1}, {"effect": 0}, {"bootstrap": 5}])
def test_settings_are_checked(bad):
    with pytest.raises(InputError, match=f"{next(iter(bad))} must"):
        TestSettings(**bad)


def test_shares_from_words():
    assert parse_shares([]) is None
    assert parse_shares(["a=0.25", "b=c=0.75"]) == {"a": 0.25, "b=c": 0.75}
    for words in (["a"], ["=1"], ["a=x"], ["a=nan"], ["a=0.5", "a=0.5"]):
        with pytest.raises(InputError, match="a share must be ARM=NUMBER"):
            parse_shares(words)


def test_effects_in_a_line(tmp_path):
    found, _, _ = report(tmp_path)
    effect = found["effects"]["content"]["ctr"]
    low, high = (f"{100 * end:+.2f} %" for end in effect["lift_interval"])
    line = effect_lines(found)["CTR, content"]
    assert line == f"{100 * effect['lift']:+.2f} % ({low} to {high}), p < 0.0001"
