"""A fleet under faults for a minute and a half, as in './dev bench fleet': nothing fails, is wrong or crosses tenants."""
from bench.benchmarks.fleet import Fleet

SHORT = ("--minutes", "1.5", "--clouds", "3", "--edges", "6", "--users", "6", "--contexts", "10", "--every", "3")


def test_users_notice_nothing_of_nodes_that_are_killed_and_paused():
    result = Fleet().run(SHORT, is_built=True)
    assert result["failed"] == result["wrong"] == result["cross_tenant"] == 0
    # Otherwise nothing was tested.
    assert result["intrusions"] > 0
    assert result["requests_by_policy"].keys() == {"edge-only", "fleet", "cloud"}
    assert sum(result["faults"].values()) >= 5
