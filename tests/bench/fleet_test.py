"""What the fleet benchmark counts as a hit across tenants."""
import argparse
import contextlib
import types

import pytest

from bench.benchmarks import fleet
from bench.lab import api
from bench.lab.tally import Tally
from bench.lab.tenants import Tenants
from bench.lab.trouble import Refused, Reply

TEXTS = ("of acme", "of other")


@pytest.fixture
def run():
    tenants = Tenants(TEXTS, tls=None)
    contexts = {text: types.SimpleNamespace(handle=f"handle {text}") for text in TEXTS}
    town = types.SimpleNamespace(expected={}, expected_of_large={}, tenants=tenants, contexts=contexts)
    return fleet.Run(town, argparse.Namespace(large=True))


@pytest.fixture
def answer_with(monkeypatch):
    """What an edge answers from now on, or raises; returns what it was asked."""
    asked = []

    def answer_with(outcome):
        class User(contextlib.nullcontext):
            def __init__(self, _url, caller):
                super().__init__()
                self.caller = caller

            def close(self):
                pass

            def ask(self, text, _question, **extension):
                asked.append((self.caller, text, extension))
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome
        monkeypatch.setattr(fleet, "User", User)
        return asked
    return answer_with


EDGE = types.SimpleNamespace(url="http://edge", name="edge")


@pytest.mark.parametrize("context, cached, is_hit", [(None, 0, False), ("handle", 0, True), (None, 1, True)])
def test_an_answer_from_the_other_tenants_context_or_kv_is_a_hit(run, answer_with, context, cached, is_hit):
    answer_with(Reply("x", {"context": context}, cached))
    assert run.read_text(EDGE, *run.town.tenants.unread(), "fleet") == is_hit


@pytest.mark.parametrize("outcome, is_hit", [
    (Reply("x", {"context": None}, 0), True), (api.ApiError(404, ""), False), (api.ApiError(500, ""), None),
    (ConnectionError(), None), (Refused(0), None)])
def test_any_answer_to_the_other_tenants_handle_is_a_hit(run, answer_with, outcome, is_hit):
    asked = answer_with(outcome)
    assert run.name_handle(EDGE, TEXTS[0], "fleet") is is_hit
    assert asked == [(run.town.tenants.user["other"], None, {"policy": "fleet", "context": f"handle {TEXTS[0]}"})]


def test_nobody_reads_a_text_of_his_own_tenant_or_the_same_one_twice(run):
    tenants = run.town.tenants
    pairs = list(iter(tenants.unread, None))
    assert len(set(pairs)) == len(pairs) == len(TEXTS) * len({caller for caller, _ in pairs}) / 2
    of_acme = {caller for caller, text in pairs if text == "of other"}
    assert not of_acme & {caller for caller, text in pairs if text == "of acme"}


def test_counters_go_on_where_a_node_starts_again(monkeypatch):
    tally = Tally()
    pages = ['c_total{a="x",source="cloud"} 3\nd_total 1\n# c\n',
             'c_total{a="x",source="cloud"} 5\n', 'c_total{source="peer"} 2\n']
    process = types.SimpleNamespace()
    node = types.SimpleNamespace(name="n", url="http://n", program=types.SimpleNamespace(process=process))
    for page, process.pid in zip(pages, (1, 1, 2)):
        monkeypatch.setattr(api, "request", lambda *_, page=page, **__: page)
        tally.read(node)
    assert tally.by("source", "c_total") == {"cloud": 5, "peer": 2}
    assert tally.total("c_total") == 7
