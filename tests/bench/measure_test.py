"""Runs in turn, and failures that count."""
import math
import socket

from bench.benchmark import without_infinities
from bench.benchmarks.serve import carried
from bench.lab import api
from bench.measure import in_turn, median, percentile, ratio, speeds


def test_subjects_take_turns_and_every_other_round_goes_the_other_way_round():
    calls = []
    in_turn({name: lambda n=name: calls.append(n) for name in "abc"}, runs=2)
    assert "".join(calls) == "abccba"


def test_a_subject_may_need_fewer_rounds():
    runs = in_turn({"ours": lambda: 1, "local": lambda: 2}, runs=3, at_most={"local": 1})
    assert runs == {"ours": [1, 1, 1], "local": [2]}


def test_a_failed_request_is_slower_than_any_answer():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        failed = api.first_token_or_failure(f"http://127.0.0.1:{nobody.getsockname()[1]}", "context")
    times = [10.0] * 18 + [failed.ms] * 2
    assert percentile(times, 0.5) == 10.0
    assert percentile(times, 0.95) == math.inf
    assert median([failed.ms, 1.0, failed.ms]) == math.inf


def test_a_server_that_fails_requests_carries_no_more_than_the_rate_before():
    rates = [{"requests_per_s": 1, "ours": {"ttft_p95_ms": 500.0}}, {"requests_per_s": 2, "ours": {"ttft_p95_ms": math.inf}}]
    assert carried(rates, "ours") == 1
    assert carried(rates[1:], "ours") == 0


def test_json_gets_null_for_infinite_times():
    assert without_infinities({"ms": [math.inf, 1.5], "n": 3}) == {"ms": [None, 1.5], "n": 3}


def test_a_ratio_of_something_that_failed_has_no_value():
    assert ratio(math.inf, 2.0) is None
    assert ratio(1.0, None) is None
    assert ratio(1.0, 4.0) == 0.25


def test_speeds_have_medians_spread_and_the_noise_floor():
    figures = speeds({"ours": [10.0, 30.0, 20.0], "peer": [10.0, 10.0, 10.0], "self": [25.0, 25.0, 25.0]})
    assert figures == {"ours_tps": 20.0, "peer_tps": 10.0, "ratio": 2.0, "ours_spread": [10.0, 30.0],
                       "peer_spread": [10.0, 10.0], "self_ratio": 0.8}
    assert speeds({"ours": [1.0], "peer": [1.0]})["self_ratio"] is None
