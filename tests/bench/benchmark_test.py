"""What benchmarks have in common: results that are written as they come."""
import json

import pytest

from bench.benchmark import Benchmark


class Stopped(Exception):
    pass


class TwoRows(Benchmark):
    targets = ()

    def __init__(self, stop_after):
        self.stop_after = stop_after

    def measure(self, options):
        result = {"rows": []}
        for row in range(2):
            if row == self.stop_after:
                raise Stopped
            result["rows"].append({"row": row, "seconds": float("inf")})
            self.keep(options, result)
        return result

    def show(self, result):
        pass


@pytest.mark.parametrize("stop_after", [1, 2])
def test_rows_are_on_disk_as_soon_as_they_are_measured(tmp_path, stop_after):
    file = tmp_path / "result.json"
    try:
        TwoRows(stop_after).run(["--json", str(file)], is_built=True)
    except Stopped:
        assert stop_after < 2
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["rows"] == [{"row": row, "seconds": None} for row in range(stop_after)]
    assert found["machine"]
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_without_a_file_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert TwoRows(2).run([], is_built=True)["rows"]
    assert list(tmp_path.iterdir()) == []
