"""Clouds and edges that know each other through a Valkey server: who is seen, who gives what, and what is lost with whom."""
import json
import os
import re
import shutil
import signal
import socketserver
import threading

import pytest

from bench.lab import api
from bench.lab.certificates import Certificates
from bench.lab.programs import wait_until
from bench.lab.valkey import Valkey
from tests.e2e import support, trust

# Short beats, so that nobody waits; a lease of three is long enough for a machine on which a test takes all cores.
BEAT = ("--directory-beat", 500)


@pytest.fixture
def valkey(programs):
    return Valkey(programs)


@pytest.fixture
def fleet(valkey):
    """The options that make a node part of the fleet."""
    return ("--directory", valkey.url, *BEAT)


@pytest.fixture
def start_cloud(start, folder, fleet):
    """A cloud of the fleet: all sign with the key of the first."""

    def start_cloud(name="cloud", *arguments):
        first, mine = folder / "cloud" / "cloud" / "signing.key", folder / name / "cloud" / "signing.key"
        if first.exists() and not mine.exists():
            mine.parent.mkdir(parents=True)
            shutil.copy(first, mine)
        return start("cloud", *fleet, "--node-id", name, *arguments, name=name)
    return start_cloud


@pytest.fixture
def cloud(start_cloud):
    return start_cloud()


@pytest.fixture
def member(start_edge, cloud, fleet):
    """An edge of the fleet."""

    def member(name, *arguments):
        return start_edge(cloud, *fleet, *(() if "--node-id" in arguments else ("--node-id", name)), *arguments, name=name)
    return member


def seen_by(node):
    """The others that a node knows, by id."""
    return {other["id"]: other for other in api.request("GET", f"{node.url}/v1/status")["fleet"]["nodes"]}


def wait_to_see(node, *ids):
    wait_until(lambda: set(ids) <= set(seen_by(node)), f"{node.name} to see {', '.join(ids)}", support.PATIENCE_S)


def wait_for_holder(node, holder):
    wait_until(lambda: seen_by(node).get(holder, {}).get("held", 0) > 0, f"{node.name} to know what {holder} holds",
               support.PATIENCE_S)


def in_touch(node):
    return support.metric(node, "celslm_fleet_in_touch") == 1


def wait_for_touch(node, wanted=True):
    what = f"{node.name} to be {'in' if wanted else 'out of'} touch"
    wait_until(lambda: in_touch(node) == wanted, what, support.PATIENCE_S)


def test_an_edge_finds_a_neighbour_through_the_directory(cloud, member, share, ask):
    holder, reader = member("holder"), member("reader")
    handle = share(cloud, holder, reader)
    expected = ask(holder)
    support.wait_for_kept_pack(holder)
    wait_for_holder(reader, "holder")
    assert seen_by(reader)["cloud"]["role"] == "cloud"
    cloud.kill()
    answer = ask(reader)
    assert answer.extension["context"] == handle
    assert answer.sources == {"peer"}
    assert answer.choices == expected.choices


def test_an_edge_asks_another_cloud_while_its_own_is_gone(cloud, start_cloud, member, share, ask):
    other = start_cloud("other")
    edge = member("edge")
    share(other)
    share(cloud, edge)
    wait_to_see(edge, "other")
    cloud.kill()
    wait_until(lambda: api.request("GET", f"{edge.url}/v1/status")["cloud_trouble"], "the edge to miss its cloud",
               support.PATIENCE_S)
    assert ask(edge).sources == {"cloud"}


def labelled(program, name):
    """The sum of a metric over its labels."""
    lines = api.request("GET", f"{program.url}/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(name + r"[{ ]", line))


def listed(cloud):
    return {context["id"] for context in api.request("GET", f"{cloud.url}/v1/contexts")["contexts"]}


def test_what_is_registered_at_one_cloud_is_registered_at_all(cloud, start_cloud, share):
    other = start_cloud("other")
    handle = share(cloud)
    wait_until(lambda: handle in listed(other), "the other cloud to learn of the context", support.PATIENCE_S)
    late = start_cloud("late")
    wait_until(lambda: handle in listed(late), "a third cloud to learn of it", support.PATIENCE_S)
    api.request("DELETE", f"{other.url}/v1/contexts/{handle}")
    wait_until(lambda: not listed(cloud) | listed(late), "the context to be gone everywhere", support.PATIENCE_S)


def test_a_pack_is_computed_at_one_cloud_and_fetched_by_the_other(cloud, start_cloud, start_edge, share, ask, local_edge):
    other = start_cloud("other")
    handle = share(cloud)
    first = start_edge(cloud, name="first")
    support.wait_for_context(first, handle)
    expected = ask(first)
    wait_for_holder(other, "cloud")
    wait_until(lambda: handle in listed(other), "the other cloud to learn of the context", support.PATIENCE_S)
    second = start_edge(other, name="second")
    support.wait_for_context(second, handle)
    answer = ask(second)
    assert answer.choices == expected.choices == ask(local_edge).choices
    assert labelled(other, "celslm_cloud_packs_fetched_total") == 1
    assert labelled(other, "celslm_cloud_packs_computed_total") == 0


def test_without_valkey_nothing_is_missing_and_with_it_all_is_there_again(valkey, cloud, member, share, ask):
    holder, reader = member("holder"), member("reader")
    share(cloud, holder, reader)
    expected = ask(holder)
    support.wait_for_kept_pack(holder)
    wait_for_holder(reader, "holder")
    valkey.kill()
    wait_for_touch(reader, False)
    assert {"holder", "cloud"} <= set(seen_by(reader))
    cloud.kill()
    answer = ask(reader)  # from the neighbour that it knew before
    assert answer.sources == {"peer"}
    assert answer.choices == expected.choices
    valkey.start()  # empty
    for node in (holder, reader):
        wait_for_touch(node)
    wait_for_holder(reader, "holder")
    wait_for_holder(holder, "reader")


def test_nobody_waits_for_a_valkey_that_hangs(valkey, cloud, member, share, ask):
    edge = member("edge")
    share(cloud, edge)
    wait_to_see(edge, "cloud")
    valkey.pause()
    try:
        answer = ask(edge)  # while it hangs
        wait_for_touch(edge, False)
    finally:
        valkey.go_on()
    assert answer.sources == {"cloud"}
    wait_for_touch(edge)


def test_an_idle_edge_loads_what_others_hold_and_nothing_else_first(cloud, member, celslm, folder, share, ask):
    for i in range(4):
        text = folder / f"other-{i}.txt"
        text.write_text(f"Nobody reads text {i}. " * 20, encoding="utf-8")
        assert celslm("context", "put", text, "--cloud", cloud.url).returncode == 0
    holder = member("holder")
    handle = share(cloud, holder)
    ask(holder)
    support.wait_for_kept_pack(holder)
    watcher = member("watcher")
    wait_for_holder(watcher, "holder")  # so the directory has it
    idle = member("idle", "--prefetch", 1)

    def held():
        return api.request("GET", f"{idle.url}/v1/node")["held"]
    wait_until(held, "a context to be prefetched", support.PATIENCE_S)
    assert held() == [handle]


def test_who_dies_or_is_stopped_is_gone_for_the_others_and_who_goes_on_is_back(member):
    watcher, killed, stopped = member("watcher"), member("killed"), member("stopped")
    wait_to_see(watcher, "killed", "stopped")
    killed.kill()
    os.killpg(stopped.process.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: not {"killed", "stopped"} & set(seen_by(watcher)), "both to be gone", support.PATIENCE_S)
    finally:
        os.killpg(stopped.process.pid, signal.SIGCONT)
    wait_to_see(watcher, "stopped")
    assert stopped.stop() == 0
    wait_until(lambda: "stopped" not in seen_by(watcher), "it to have left", support.PATIENCE_S)


def test_of_two_nodes_with_one_id_one_is_renamed(member):
    """The second, unless the first could not renew its lease in time, as on a busy machine."""
    nodes = [member("first", "--node-id", "twin"), member("second", "--node-id", "twin")]
    sees_renamed = lambda node: any(name.startswith("twin-") for name in seen_by(node))
    wait_until(lambda: any(map(sees_renamed, nodes)), "one of them to be renamed", support.PATIENCE_S)
    kept, renamed = sorted(nodes, key=sees_renamed, reverse=True)
    wait_to_see(renamed, "twin")
    assert seen_by(renamed)["twin"]["url"] == kept.url
    assert "two nodes were given the id 'twin'" in renamed.log_path.read_text()
    assert [support.metric(node, "celslm_fleet_renamed_total") for node in (kept, renamed)] == [0, 1]


@pytest.fixture
def certificates(binary, folder):
    return Certificates(binary, folder / "certs")


def test_a_directory_with_tls_is_used_if_its_certificate_is_of_the_authority_named(programs, certificates, binary, folder,
                                                                                   start, celslm):
    valkey = Valkey(programs, certificates)
    cloud = start("cloud", "--directory", valkey.url, "--directory-ca", certificates.authority, *BEAT)
    wait_for_touch(cloud)
    others = Certificates(binary, folder / "others")
    for authority, words in ((certificates.authority, "directory ok"), (others.authority, "directory failed")):
        report = celslm("doctor", "--directory", valkey.url, "--directory-ca", authority, "--port", 0)
        assert words in " ".join(report.stdout.split())
    assert "certificate" in report.stdout
    stranger = start("cloud", "--directory", valkey.url, "--directory-ca", others.authority, *BEAT, name="stranger")
    wait_until(lambda: "certificate" in stranger.log_path.read_text(), "the stranger to log it", support.PATIENCE_S)
    assert not in_touch(stranger)
    assert in_touch(cloud)


def test_clouds_that_want_certificates_fetch_packs_from_each_other(start_cloud, certificates, world):
    secured = {name: (*certificates.serving(name), "--client-authority", certificates.authority)
               for name in ("cloud", "other")}
    first, other = (start_cloud(name, *options) for name, options in secured.items())
    tls = certificates.context(certificates.node("looker"))

    def get(node, path):
        return trust.request("GET", node.url + path, tls=tls)

    def has_pack(node):
        return get(node, f"/v1/packs/{handle}/{model}/f16/header").headers["x-celslm-state"] == "complete"

    def knows(node, name):
        nodes = get(node, "/v1/status").json["fleet"]["nodes"]
        return any(seen["id"] == name and seen["held"] > 0 for seen in nodes)

    handle = trust.request("POST", f"{first.url}/v1/contexts", {"text": world["context"], "name": "n"}, tls=tls).json["id"]
    model = get(first, "/v1/models").json["models"][0]["id"]
    wait_until(lambda: has_pack(first), "the pack", support.PATIENCE_S)
    wait_until(lambda: handle in get(other, "/v1/contexts").text, "the other cloud to learn of it", support.PATIENCE_S)
    wait_until(lambda: knows(other, "cloud"), "the other cloud to know what the first holds", support.PATIENCE_S)
    wait_until(lambda: has_pack(other), "the other cloud to have the pack", support.PATIENCE_S)
    metrics = get(other, "/metrics").text
    assert re.search(r"^celslm_cloud_packs_fetched_total\S* 1$", metrics, re.M), metrics
    assert not re.search(r"^celslm_cloud_packs_computed_total\S* [1-9]", metrics, re.M), metrics


class Liar(socketserver.BaseRequestHandler):
    """Answers every request with something that is no pack, and keeps what it was sent."""

    def handle(self):
        while data := self.request.recv(65536):
            self.server.received += data
            body = b"\x00" * 4096
            head = b"HTTP/1.1 200 OK\r\nx-celslm-state: complete\r\nContent-Length: %d\r\n\r\n" % len(body)
            self.request.sendall(head + body)


@pytest.fixture
def liar():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Liar) as server:
        server.daemon_threads = True
        server.received = b""
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_poisoned_directory_changes_no_answer_and_gets_no_token(valkey, cloud, member, share, ask, local_edge, folder,
                                                                  liar):
    token = folder / "token"
    token.write_text("secret-of-the-peers")
    edge = member("edge", "--peer-token-file", token, "--cloud-token-file", token, "--token-in-clear")
    handle = share(cloud, edge)
    wait_until(lambda: valkey.call("KEYS", "celslm:1:*:node:edge"), "the edge to be a member", support.PATIENCE_S)
    prefix = valkey.call("KEYS", "celslm:1:*:node:edge")[0].removesuffix("node:edge")
    model = api.request("GET", f"{edge.url}/v1/status")["model"]["id"]
    held = json.dumps({"models": {model: [handle]}}, separators=(",", ":"))
    revision = api.request("POST", f"{cloud.url}/v1/contexts", {"text": held})["id"][:32]  # its hash
    honest = {"role": "edge", "models": [model], "held": revision}
    poison = {"liar": {**honest, "url": f"http://127.0.0.1:{liar.server_address[1]}"},
              "other": {**honest, "role": "cloud", "url": f"http://localhost:{liar.server_address[1]}"},
              "metadata": {**honest, "url": "http://169.254.169.254:80"},
              "nobody": {**honest, "url": "http://127.0.0.1:1"}}
    for name, record in poison.items():
        valkey.call("SET", f"{prefix}held:{name}", held)
        valkey.call("SET", f"{prefix}node:{name}", json.dumps({"id": name, **record}))
        valkey.call("SADD", f"{prefix}nodes", name)
    valkey.call("SET", f"{prefix}node:junk", "{" * 100_000)
    valkey.call("LPUSH", f"{prefix}node:list", "1")
    valkey.call("SADD", f"{prefix}nodes", "junk", "list", "x\r\ny")
    wait_for_holder(edge, "liar")
    wait_for_holder(edge, "other")
    assert not {"metadata", "junk", "list", "x\r\ny"} & set(seen_by(edge))
    assert ask(edge).choices == ask(local_edge).choices
    assert b"GET /v1/packs/" in liar.received
    assert b"secret-of-the-peers" not in liar.received
    log = edge.log_path.read_text()
    assert log.count("a node 'metadata' that cannot be used") == 1
    assert log.count("a node 'junk' that cannot be used") == 1


def test_doctor_reports_whether_the_directory_answers(valkey, celslm):
    fine = celslm("doctor", "--directory", valkey.url, "--port", 0)
    assert "directory ok" in " ".join(fine.stdout.split())
    valkey.kill()
    failed = celslm("doctor", "--directory", valkey.url, "--port", 0)
    assert failed.returncode == 1
    assert "directory failed" in " ".join(failed.stdout.split())


@pytest.mark.parametrize(("arguments", "words"), [
    (("--directory", "http://127.0.0.1:1"), "valkey://HOST"),
    (("--directory", "valkey://user:hunter2@127.0.0.1:1"), "--directory-password-file"),
    (("--directory", "valkey://127.0.0.1:1", "--node-id", "a b"), "--node-id"),
    (("--directory", "valkey://127.0.0.1:1", "--node-url", "http://169.254.169.254:80"), "169.254"),
    (("--directory", "valkey://127.0.0.1:1", "--host", "0.0.0.0", "--insecure"), "--node-url"),
])
def test_what_cannot_be_a_fleet_is_refused_at_the_start(celslm, model, folder, arguments, words):
    result = celslm("cloud", "--model", model, "--port", 0, "--data", folder / "x", *arguments)
    support.refused(result, words)
    assert "hunter2" not in result.stderr
