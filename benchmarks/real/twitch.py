"""How busy a streamer's chat will be in the next 30 s, told from real broadcasts.

    python benchmarks/real/twitch.py FOLDER -o OUT [--test 0.26] [--choose] [--no-ablations]

FOLDER holds room folders with a chat each. The target is the rate of comments; a segment's score
knows what came up to the segment before. The latest rooms (--test) are kept out; with --choose
nobody looks at them: the latest of the others are, for choosing settings. Measured is Kendall's tau
inside each room, over all its segments but the first. OUT/README.md is the page.

No row is without the causal mask: the segment after the one that is told shows its comments, and
its statistics count them, so a model that sees it tells nothing ahead. Training refuses that.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import polars as pl

from common import KEYS, Fold, Row, Study, by_time, parser
from contentctr.evaluate.floors import Floats
from contentctr.store.rooms import PreparedRooms
from contentctr.store.statistics import table_statistics
from tables import Page, over_rooms, tau_in_rooms

TEXT = ("kind=without_visual",)
"""These rooms have no pictures."""
ALONE = ("content=false",)
BARE = ("statistics=false", "wide=false")
IDS = (*BARE, "standardise=false")
MAIN = (Row("statistics and comments", TEXT), Row("statistics alone", ALONE))
ABLATIONS = (
    Row("statistics, comments and words", (*TEXT, "words=true")),
    Row("comments alone", (*TEXT, *BARE)),
    Row("alone, look-back of 1 segment", (*ALONE, "window_len=1", "stride=1", "batch_size=512")),
    Row("alone, look-back of 20 segments", (*ALONE, "window_len=20", "stride=15")),
    Row("DCN-M", ("kind=dcn_m", *IDS)),
    Row("DeepFM", ("kind=deepfm", *IDS)),
    Row("alone, without the linear part", (*ALONE, "wide=false")),
    Row("alone, residual form", (*ALONE, "residual=true")),
    Row("alone, pairwise loss", (*ALONE, "pair=L1")),
    Row("DIFM", ("kind=difm", *IDS)),
    Row("Wide&Deep", ("kind=wide_deep", *IDS)),
    Row("SelfAttention-plain", ("kind=self_attention_plain",)),
    Row("CrossAttention-q", ("kind=cross_attention_q",)),
    Row("CrossAttention-kv", ("kind=cross_attention_kv",)),
    Row("CrossAttention-qkv", ("kind=cross_attention_qkv",)),
)
FLOORS = {
    "segment_before": "floor: the segment before",
    "exponential_mean": "floor: its exponential mean, half-life 3",
    "trees": "floor: trees on counts of earlier segments",
    "ridge": "reference: ridge regression on the model's own statistics",
    "same_trees": "reference: trees on the model's own statistics",
}


def references(own: PreparedRooms) -> pl.DataFrame:
    """KEYS and what plain regressions on the very statistics of the model say of kept-out rooms."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    segments = own.segments(texts=False)
    known_SX = table_statistics(segments, horizon=0, target="comment_rate", scale="odds").values_RX
    test_S = (segments["split"] == "test").to_numpy()
    train_S = ~test_S & (segments["segment"] > 0).to_numpy()
    known_SX = known_SX[:, known_SX[train_S].std(0) > 0]
    targets_S = segments["target"].to_numpy()
    found = segments.filter(pl.Series(test_S)).select(KEYS)
    for name, model in {
        "ridge": make_pipeline(StandardScaler(), Ridge(100.0)),
        "same_trees": HistGradientBoostingRegressor(
            learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=50, random_state=0
        ),
    }.items():
        model.fit(known_SX[train_S], targets_S[train_S])
        found = found.with_columns(pl.Series(name, model.predict(known_SX[test_S])))
    return found


def ceilings(own: PreparedRooms) -> dict[str, Floats]:
    """What cannot be had: tau by room of those who know what comes later.

    A mean of the segments on both sides (weights halved with every segment, without the segment
    itself), and a rate that is true where counts are Poisson draws of that mean.
    """
    generator = np.random.default_rng(0)
    test = own.segments(texts=False).filter(pl.col("split") == "test")
    weight_K = 2.0 ** -np.abs(np.arange(-20.0, 21))
    rows: list[pl.DataFrame] = []
    for room in test.partition_by("room_id", maintain_order=True):
        count_S = room["comment_count"].to_numpy().astype(float)
        smoothed, others = (
            np.convolve(count_S, w, "same") / np.convolve(np.ones(len(count_S)), w, "same")
            for w in (weight_K, np.where(weight_K == 1, 0, weight_K))
        )
        rows.append(
            room.select(
                "room_id",
                count="comment_count",
                others=pl.Series(others),
                rate=pl.Series(smoothed),
                drawn=pl.Series(generator.poisson(smoothed)),
            )
        )
    table = pl.concat(rows)
    return {
        "ceiling: the mean of the segments before and after": tau_in_rooms(
            table, "others", "count"
        ),
        "ceiling: the true rate, were counts Poisson draws of it": tau_in_rooms(
            table, "rate", "drawn"
        ),
    }


def write_page(study: Study, data: PreparedRooms, fold: Fold, rows: Sequence[Row]) -> None:
    """Train, measure and write; the page grows row by row."""
    own = study.fold_data(data, fold)
    known = study.floors(data, [fold]).join(references(own), on=KEYS, maintain_order="left")
    base = own.segments(texts=False).filter(pl.col("split") == "test", pl.col("segment") > 0)
    floors = base.select(*KEYS, "target").join(known, on=KEYS, maintain_order="left")
    taus = {name: tau_in_rooms(floors, name) for name in FLOORS if name in floors.columns}
    real = [
        n
        for n in ("segment_before", "exponential_mean", "trees")
        if n in taus and not np.isnan(taus[n]).all()
    ]
    best = max(real, key=lambda name: np.nanmean(taus[name]))
    lines = [[FLOORS[name], over_rooms(tau_G), "", ""] for name, tau_G in taus.items()]
    lines += [[name, over_rooms(tau_G), "", ""] for name, tau_G in ceilings(own).items()]
    for row in rows:
        found = study.scores(data, [fold], row).filter(pl.col("segment") > 0)
        tau_G = tau_in_rooms(found, "score")
        single = [np.nanmean(tau_in_rooms(found, f"seed_{n}")) for n in range(study.seeds)]
        lines.append(
            [
                row.name,
                over_rooms(tau_G),
                over_rooms(tau_G - taus[best]).signed,
                " ".join(f"{tau:.3f}" for tau in single),
            ]
        )
        print(*lines[-1], sep=" | ", flush=True)
        _write(study, fold, lines, FLOORS[best], " ".join(rows[0].words))


def _write(study: Study, fold: Fold, lines: list[list[object]], best: str, words: str) -> None:
    page = Page(study.out / "README.md", "Comment rate of real broadcasts, one segment ahead")
    page.add(
        f"Trained on the {len(fold.train)} earlier broadcasts, measured on the {len(fold.test)} "
        f"latest. Kendall's tau inside a room, all segments but the first; mean over rooms ± "
        f"standard error (95 % interval, rooms drawn). Recipe `{study.recipe}`, text encoder "
        f"`{study.text}`; the first row's settings: `{words}`. Each row: {study.seeds} trainings, "
        "their log-odds averaged; what each has alone stands last."
    )
    head = ["", "tau inside a room", f"over the {best.removeprefix('floor: ')}", "seeds alone"]
    page.table(head, lines)
    seconds = [[name, f"{took:.0f}"] for name, took in study.seconds.items()]
    page.table(["stage of this call", "seconds"], seconds)


def main() -> None:
    """Run the study."""
    arguments = parser(__doc__)
    arguments.add_argument("--test", type=float, default=0.26, help="share that is kept out (0.26)")
    arguments.add_argument("--choose", action="store_true", help="among the other rooms alone")
    given: argparse.Namespace = arguments.parse_args()
    study = Study.of(given)
    data = study.prepare("rate", target="comment_rate", target_scale="odds")
    (fold,) = by_time(data, test=given.test)
    if given.choose:
        kept = max(1, round(given.test * len(fold.train)))
        fold = Fold("choose", fold.train[:-kept], fold.train[-kept:])
    write_page(study, data, fold, MAIN if given.no_ablations else (*MAIN, *ABLATIONS))


if __name__ == "__main__":
    main()
