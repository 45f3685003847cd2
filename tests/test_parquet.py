"""Parquet files that unpack to far more than they are."""

import polars as pl
import pytest

from contentctr import parquet
from contentctr.errors import InputError
from contentctr.files import read_parquet
from contentctr.parquet import require_unpackable

ROWS = 400_000


def bomb(path, kind):
    values = {
        "rows": pl.repeat(0, ROWS, dtype=pl.Int8, eager=True),
        "text": pl.Series(["x" * 1_000_000 + str(k) for k in range(30)]),
        "list": pl.Series([[0.0] * ROWS]),
    }[kind]
    pl.DataFrame({"room_id": values}).write_parquet(path, compression="zstd")
    return path


@pytest.mark.parametrize("kind", ["rows", "text", "list"])
def test_a_file_that_unpacks_to_gigabytes_is_refused(tmp_path, monkeypatch, kind):
    path = bomb(tmp_path / "v.parquet", kind)
    assert path.stat().st_size < 20_000
    require_unpackable(path)  # small enough to be let in whatever its ratio
    monkeypatch.setattr(parquet, "FREE_BYTES", 2 << 20)
    with pytest.raises(InputError, match=r"v\.parquet: \d+ bytes that unpack to \d{7,8}: must"):
        read_parquet(path, {})


def test_tables_of_people_are_let_in_and_damage_is_the_readers(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "FREE_BYTES", 1000)
    path = tmp_path / "v.parquet"
    table = pl.DataFrame(
        {
            "id": [f"user {k * 7919 % 10007}" for k in range(5000)],
            "at": [k * 1.7 for k in range(5000)],
            "many": [[k, k + 1] for k in range(5000)],
            "flag": [k % 3 == 0 for k in range(5000)],
        }
    )
    table.write_parquet(path)
    assert read_parquet(path, {"id": pl.String}).equals(table)
    whole = path.read_bytes()
    for cut in range(len(whole) - 600, len(whole), 7):
        damaged = bytearray(whole)
        damaged[cut] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read_parquet(path, {})
        except InputError as error:
            assert str(path) in str(error)
        except pl.exceptions.PanicException:
            pass
    path.write_bytes(b"PAR1")
    require_unpackable(path)
