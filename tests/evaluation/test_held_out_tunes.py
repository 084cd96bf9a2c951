"""Real pieces that samples are compared with are a sample of all collections."""

import pyarrow as pa
import pyarrow.parquet as pq

from evaluation.loading.finished_run import held_out_tunes


def test_first_tunes_are_of_all_collections(tmp_path):
    tunes = [f"X:{n}\n% of {'folk' if n < 300 else 'song'}" for n in range(400)]
    (tmp_path / "4_split").mkdir()
    pq.write_table(pa.table({"abc": tunes}), tmp_path / "4_split" / "test.parquet")
    found = held_out_tunes(tmp_path)
    assert sorted(found) == sorted(tunes)
    assert 10 <= sum("song" in tune for tune in found[:100]) <= 40
