"""Documented JSON keys against results."""
from bench import keys

DOCUMENTATION = """name: what it measures.

--json keys (times in ms):
  machine, runs
  cases[].users          how many
  cases[].layers         {source: number}
                         and more about it
  speed.*.encode_mb_s
  prefill_*.ratio
  faults.failed
"""
RESULT = {"machine": "m", "runs": 3, "cases": [{"users": 1, "layers": {"cloud": 2}}], "speed": {"t4": {"encode_mb_s": 1.0}},
          "prefill_512": {"ratio": None}, "faults": {"failed": 0}}


def differences(*results):
    return keys.differences(keys.documented(DOCUMENTATION), results)


def test_keys_are_read_from_the_documentation():
    assert keys.documented(DOCUMENTATION) == ["machine", "runs", "cases[].users", "cases[].layers", "speed.*.encode_mb_s",
                                              "prefill_*.ratio", "faults.failed"]


def test_a_result_with_the_documented_keys_passes():
    assert differences(RESULT) == []


def test_a_key_that_is_not_there_is_named():
    assert differences({**RESULT, "cases": [{"users": 1}]}) == ["documented and not there: cases[].layers"]
    assert differences({**RESULT, "cases": []}) == ["documented and not there: cases[].users",
                                                    "documented and not there: cases[].layers"]


def test_a_key_that_is_not_documented_is_named():
    assert differences({**RESULT, "cases": [{"users": 1, "layers": {}, "bytes": 2}]}) == [
        "there and not documented: cases[].bytes"]
    assert differences({**RESULT, "more": {"inside": 1}}) == ["there and not documented: more"]


def test_runs_that_measure_different_things_have_the_keys_together():
    without = {**RESULT, "faults": None}
    assert differences(without) == ["documented and not there: faults.failed"]
    assert differences(without, {**RESULT, "cases": []}) == []
