"""The table of streamers' vectors: what is written comes back, what is wrong is named."""

import numpy as np
import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.store.streamer_table import read_streamer_table, write_streamer_table


def test_written_table_comes_back_sorted_and_bit_equal(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    write_streamer_table(tmp_path / "t.parquet", ["b", "ü", "a"], vectors)
    ids, found = read_streamer_table(tmp_path / "t.parquet")
    assert ids == ["a", "b", "ü"]
    assert found.dtype == np.float32 and np.array_equal(found, vectors[[2, 0, 1]])
    schema = pl.read_parquet_schema(tmp_path / "t.parquet")
    assert schema["vector"] == pl.Array(pl.Float32, 4)


def test_lists_of_other_number_types_and_further_columns_are_fine(tmp_path):
    for kind in (pl.Float64, pl.Int32, pl.Float32):
        table = pl.DataFrame(
            {"streamer_id": ["b", "a"], "name": ["x", "y"], "vector": [[1, 2], [3, 4]]},
            schema_overrides={"vector": pl.List(kind)},
        )
        table.write_parquet(tmp_path / "t.parquet")
        ids, found = read_streamer_table(tmp_path / "t.parquet")
        assert ids == ["a", "b"] and found.tolist() == [[3, 4], [1, 2]]


def test_csv_with_spaces_and_a_byte_order_mark(tmp_path):
    text = "\ufeffstreamer_id, v0, v1\n7, 1.5, -2e-3\n 06,0,1\n\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    ids, found = read_streamer_table(tmp_path / "t.csv")
    assert ids == ["06", "7"]
    np.testing.assert_array_equal(found, np.array([[0, 1], [1.5, -2e-3]], np.float32))


BAD_CSV = {
    "": "not a readable CSV",
    "streamer_id,v0\n": "at least one streamer",
    "streamer,v0\na,1\n": "line 1: must be 'streamer_id'",
    "streamer_id\na\n": "line 1: must be 'streamer_id'",
    "streamer_id,v0\na,1\n,2\n": "line 3: streamer_id must not be empty",
    "streamer_id,v0\na,1\nb,2\na,3\n": "line 4: streamer_id must be there once; 'a' is in line 2",
    "streamer_id,v0,v1\na,1,2\nb,1,x\n": "line 3: column 'v1' must be a number, not 'x'",
    "streamer_id,v0,v1\na,1,2\nb,1\n": "line 3: column 'v1' must be a number, not None",
    "streamer_id,v0,v1\na,1,inf\n": "line 2: vector must be finite .*; number 1 of 'a' is inf",
    "streamer_id,v0\na,1e300\n": "line 2: vector must be finite .*; number 0 of 'a' is inf",
    "streamer_id,v0\na,nan\n": "number 0 of 'a' is nan",
}


@pytest.mark.parametrize("text", BAD_CSV)
def test_bad_csv_is_named(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=f"t.csv.*{BAD_CSV[text]}"):
        read_streamer_table(tmp_path / "t.csv")


BAD_PARQUET = [
    ({"streamer_id": ["a"]}, "column 'vector' is missing"),
    ({"streamer_id": [1], "vector": [[1.0]]}, "'streamer_id' must be String, not Int64"),
    ({"streamer_id": ["a"], "vector": [1.0]}, "'vector' must be a list or array of Float32"),
    ({"streamer_id": ["a"], "vector": [["x"]]}, "'vector' must be a list or array of Float32"),
    ({"streamer_id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}, "row 2: .* the first, 1, not 2"),
    ({"streamer_id": ["a", "b"], "vector": [[1.0], None]}, "row 2: vector must not be null"),
    ({"streamer_id": ["a", "b"], "vector": [[1.0], [None]]}, "row 2: .*number 0 of 'b' is nan"),
    ({"streamer_id": ["a"], "vector": [[]]}, "row 1: vector must be of 1 number or more"),
    ({"streamer_id": [None], "vector": [[1.0]]}, "row 1: streamer_id must not be empty"),
    ({"streamer_id": ["a", "a"], "vector": [[1.0], [2.0]]}, "row 2: streamer_id must be there"),
    ({"streamer_id": [], "vector": []}, "at least one streamer"),
]


@pytest.mark.parametrize(("columns", "message"), BAD_PARQUET)
def test_bad_parquet_is_named(tmp_path, columns, message):
    schema = {"vector": pl.List(pl.Float64), "streamer_id": pl.String}
    use = {k: v for k, v in schema.items() if not columns.get(k, [0])}
    if columns.get("vector") == [[]]:
        use = {"vector": schema["vector"]}
    if columns["streamer_id"] == [None]:
        use = {"streamer_id": pl.String}
    pl.DataFrame(columns, schema_overrides=use).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=f"t.parquet.*{message}"):
        read_streamer_table(tmp_path / "t.parquet")


def test_missing_damaged_and_other_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_streamer_table(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no such file"):
        read_streamer_table(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="must be .parquet or .csv"):
        read_streamer_table(tmp_path / "none.npy")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="not a readable Parquet"):
        read_streamer_table(tmp_path / "bad.parquet")
    (tmp_path / "bad.csv").write_bytes(b"streamer_id,v0\n\xff\xfe,1\n")
    with pytest.raises(InputError, match=r"bad\.csv"):
        read_streamer_table(tmp_path / "bad.csv")


def test_nothing_wrong_is_written(tmp_path):
    for ids, vectors in (
        (["a", "a"], np.ones((2, 1))),
        (["a", " "], np.ones((2, 1))),
        (["a"], np.full((1, 2), np.nan)),
        (["a"], np.ones((1, 0))),
        ([], np.ones((0, 2))),
    ):
        with pytest.raises(InputError):
            write_streamer_table(tmp_path / "t.parquet", ids, vectors)
        assert list(tmp_path.iterdir()) == []
