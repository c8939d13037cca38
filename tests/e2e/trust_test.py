"""Who is refused, and what that leaves: one line of the log, nothing served and nothing stored."""
import json
import os
import signal
import stat

import pytest

from bench.lab import api
from bench.lab.certificates import Certificates
from bench.lab.programs import wait_until
from tests.e2e import support, trust

QUESTION = [{"role": "user", "content": "Where?"}]


def log_of(program):
    return program.log_path.read_text(encoding="utf-8")


def wait_for_log(program, words):
    wait_until(lambda: words in log_of(program), f"{program.name} to log {words!r}", support.PATIENCE_S)


@pytest.fixture
def certificates(binary, folder):
    return Certificates(binary, folder / "certs")


@pytest.fixture
def new_key(celslm, folder):
    """Makes a key in keys.json of this name; returns it."""

    def new_key(name, *options, file="keys.json"):
        made = celslm("key", "new", "--keys", folder / file, "--name", name, *options)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()
    return new_key


@pytest.fixture
def token_file(folder):
    """A file with this token, for options that want one."""

    def token_file(name, token):
        path = folder / f"{name}.token"
        path.write_text(token + "\n", encoding="utf-8")
        return path
    return token_file


# --- certificates ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def fleet(start, certificates, new_key, folder, celslm, token_file, context_file):
    """A cloud that wants certificates of nodes and keys of people, and a context that a person has registered there."""
    key = new_key("alice")
    cloud = start("cloud", *certificates.serving("cloud-1"), "--client-authority", certificates.authority,
                  "--keys", folder / "keys.json", "--audit", folder / "audit")
    put = celslm("context", "put", context_file, "--cloud", cloud.url, "--ca-file", certificates.authority,
                 "--token-file", token_file("alice", key))
    assert put.returncode == 0, put.stderr
    cloud.handle = put.stdout.split()[0]
    return cloud


def packs_served(cloud, tls):
    text = trust.request("GET", f"{cloud.url}/metrics", tls=tls).text
    return sum(float(line.split()[-1]) for line in text.splitlines()
               if line.startswith("celslm_cloud_sent_bytes_total"))


def test_nodes_trust_each_other_by_certificates(fleet, start, certificates, celslm, folder, world, question):
    edge = start("edge", "--cloud", fleet.url, "--cloud-ca", certificates.authority, *support.FETCH_FIRST,
                 *certificates.serving("edge-1"), name="edge")
    tls = certificates.context()
    wait_until(lambda: fleet.handle in trust.request("GET", f"{edge.url}/v1/contexts", tls=tls).text, "the context's handle",
               support.PATIENCE_S)
    messages = [{"role": "system", "content": world["context"]}, {"role": "user", "content": question["question"]}]
    answer = trust.request("POST", f"{edge.url}/v1/chat/completions", {"messages": messages, "max_tokens": 8}, tls=tls)
    assert answer.status == 200, answer.text
    assert {layer["source"] for layer in answer.json["x_celslm"]["layers"]} == {"cloud"}
    events = [json.loads(line) for line in (folder / "audit").read_text().splitlines()]
    assert {(e["what"], e.get("key"), e.get("certificate")) for e in events} >= {("register", "alice", None),
                                                                                   ("fetch", None, "edge-1")}
    assert all(e["context"] == fleet.handle for e in events)
    refused = celslm("doctor", "--cloud", fleet.url, "--cloud-ca", certificates.authority, "--port", 0)
    assert "401" in refused.stdout + refused.stderr


def test_an_edge_without_a_certificate_gets_no_packs(fleet, start, certificates, token_file, world, question, new_key,
                                                     folder):
    key = new_key("bob")
    os.kill(fleet.process.pid, signal.SIGHUP)
    wait_for_log(fleet, "2 keys in")
    edge = start("edge", "--cloud", fleet.url, "--cloud-ca", certificates.authority, "--cloud-token-file",
                 token_file("bob", key), *support.FETCH_FIRST, name="edge")
    support.wait_for_context(edge, fleet.handle)
    answer = support.ask(edge, world["context"], question["question"], max_tokens=2)
    assert answer.suppliers == {"compute"}
    assert "certificate" in answer.note
    pack = f"{fleet.url}/v1/packs/{fleet.handle}/{'0' * 64}/f16/header"
    for _ in range(3):
        assert trust.request("GET", pack, key=key, tls=certificates.context()).code == "certificate_required"
    assert log_of(fleet).count("no client certificate") == 1
    assert packs_served(fleet, certificates.context(certificates.node("looker"))) == 0
    assert not list((folder / "cloud").rglob("*.kvpack"))


def test_a_node_of_another_authority_is_refused_and_logged_once(fleet, start, binary, certificates, folder):
    others = Certificates(binary, folder / "others")
    certificate, key = others.node("stranger")
    edge = start("edge", "--cloud", fleet.url, "--cloud-ca", certificates.authority, "--client-cert", certificate,
                 "--client-key", key, name="edge")
    wait_for_log(edge, "list of contexts cannot be read")
    wait_until(lambda: "client certificate" in log_of(fleet), "the cloud to log it", support.PATIENCE_S)
    assert log_of(fleet).count("client certificate:") == 1
    assert api.request("GET", f"{edge.url}/v1/contexts")["contexts"] == []
    assert packs_served(fleet, certificates.context(certificates.node("looker"))) == 0


# --- keys -----------------------------------------------------------------------------------------------------------------

def test_keys_open_an_edge_as_far_as_they_may(start, new_key, folder):
    alice = new_key("alice", "--requests-per-minute", 3)
    boss = new_key("boss", "--operator")
    edge = start("edge", "--keys", folder / "keys.json")
    chat = f"{edge.url}/v1/chat/completions"
    body = {"messages": QUESTION, "max_tokens": 2}
    assert trust.request("POST", chat, body, key=alice).status == 200
    for wrong in (None, "celslm-" + "0" * 64, alice[:-1], alice + "0"):
        refused = trust.request("POST", chat, body, key=wrong)
        assert refused.status == 401 and refused.code == "unauthorized"
    assert log_of(edge).count("a wrong bearer token") == 1
    assert trust.request("GET", f"{edge.url}/metrics", key=alice).code == "operators_only"
    assert trust.request("GET", f"{edge.url}/v1/models", key=alice).status == 200
    refused = trust.request("POST", chat, body, key=alice)
    assert refused.status == 429 and refused.code == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    assert trust.request("GET", f"{edge.url}/metrics", key=boss).status == 200


def test_tokens_are_paid_for(start, new_key, folder):
    key = new_key("alice", "--tokens-per-minute", 4)
    edge = start("edge", "--keys", folder / "keys.json")
    chat = f"{edge.url}/v1/chat/completions"
    body = {"messages": QUESTION, "max_tokens": 8}
    assert trust.request("POST", chat, body, key=key).status == 200
    refused = trust.request("POST", chat, body, key=key)
    assert refused.status == 429 and "4 tokens per minute" in refused.text
    assert int(refused.headers["Retry-After"]) > 30


def test_keys_are_read_again_on_sighup(start, new_key, celslm, folder):
    alice = new_key("alice")
    edge = start("edge", "--keys", folder / "keys.json", "--audit", folder / "audit")
    assert celslm("key", "remove", "--keys", folder / "keys.json", "--name", "alice").returncode == 0
    bob = new_key("bob")
    models = f"{edge.url}/v1/models"
    assert trust.request("GET", models, key=alice).status == 200
    (folder / "audit").rename(folder / "audit.1")
    os.kill(edge.process.pid, signal.SIGHUP)
    wait_until(lambda: trust.request("GET", models, key=bob).status == 200, "the edge to read its keys again",
               support.PATIENCE_S)
    assert trust.request("GET", models, key=alice).status == 401
    wait_until((folder / "audit").exists, "the audit log to be opened again", support.PATIENCE_S)
    (folder / "keys.json").write_text("{", encoding="utf-8")
    os.kill(edge.process.pid, signal.SIGHUP)
    wait_for_log(edge, "the keys stay as they were")
    assert trust.request("GET", models, key=bob).status == 200


# --- tenants --------------------------------------------------------------------------------------------------------------

@pytest.fixture
def tenants(start, start_edge, new_key, folder):
    """An edge with keys of two tenants and of none, in front of a cloud."""
    keys = {"acme": new_key("a", "--tenant", "acme"), "other": new_key("o", "--tenant", "other"), "": new_key("d")}
    cloud = start("cloud", "--audit", folder / "cloud-audit")
    edge = start_edge(cloud, "--keys", folder / "keys.json", "--audit", folder / "edge-audit")
    edge.keys, edge.cloud = keys, cloud
    return edge


def register(edge, text, tenant):
    answer = trust.request("POST", f"{edge.url}/v1/contexts", {"text": text, "name": "n"}, key=edge.keys[tenant])
    assert answer.status == 200, answer.text
    return answer.json["id"]


def chat(edge, body, tenant):
    return trust.request("POST", f"{edge.url}/v1/chat/completions", {"max_tokens": 2, **body}, key=edge.keys[tenant])


def test_a_context_is_its_tenants_alone(tenants, world, folder):
    edge, text = tenants, world["context"]
    handle = register(edge, text, "acme")
    system = {"messages": [{"role": "system", "content": text}, *QUESTION]}
    named = {"messages": QUESTION, "x_celslm": {"context": handle}}
    mine = chat(edge, system, "acme")
    assert mine.json["x_celslm"]["context"] == handle
    assert chat(edge, named, "acme").json["x_celslm"]["context"] == handle
    for tenant in ("other", ""):
        key = edge.keys[tenant]
        answer = chat(edge, system, tenant).json["x_celslm"]
        assert answer["context"] is None, "the same text is no hit for others"
        assert answer["ms"]["prefill"] > 0
        missing = "0" * 64
        unknown = chat(edge, {**named, "x_celslm": {"context": missing}}, tenant)
        wrong = chat(edge, named, tenant)
        assert (wrong.status, wrong.code) == (404, "unknown_context")
        assert wrong.text.replace(handle, missing) == unknown.text, "exactly what a handle of nothing gets"
        removed = trust.request("DELETE", f"{edge.url}/v1/contexts/{handle}", key=key)
        nothing = trust.request("DELETE", f"{edge.url}/v1/contexts/{missing}", key=key)
        assert removed.status == 404 and removed.text.replace(handle, missing) == nothing.text
        for path in ("/v1/contexts", "/v1/status"):
            assert handle not in trust.request("GET", edge.url + path, key=key).text
        pack = f"{edge.url}/v1/packs/{handle}/{edge_model(edge)}/f16/header"
        assert trust.request("GET", pack, key=key).text == trust.request(
            "GET", pack.replace(handle, missing), key=key).text.replace(missing, handle)
    assert handle in trust.request("GET", f"{edge.url}/v1/contexts", key=edge.keys["acme"]).text
    theirs = register(edge, text, "other")
    default = register(edge, text, "")
    assert len({handle, theirs, default}) == 3
    assert chat(edge, system, "other").json["x_celslm"]["context"] == theirs
    assert chat(edge, system, "").json["x_celslm"]["context"] == default
    events = [json.loads(line) for line in (folder / "edge-audit").read_text().splitlines()]
    assert {(e["what"], e["status"], e["key"], e.get("tenant")) for e in events} >= {
        ("register", 200, "a", "acme"), ("remove", 404, "o", "other"), ("register", 200, "o", "other")}


def edge_model(edge):
    models = trust.request("GET", f"{edge.url}/v1/models", key=edge.keys[""]).json
    return models["data"][0]["x_celslm"]["model_id"]


def test_packs_are_not_shared_between_tenants(tenants, world):
    edge, text = tenants, world["context"]
    system = {"messages": [{"role": "system", "content": text}, *QUESTION]}
    counts = []
    for tenant in ("acme", "other"):
        register(edge, text, tenant)
        answer = chat(edge, system, tenant).json["x_celslm"]
        assert {layer["source"] for layer in answer["layers"]} == {"cloud"}, answer
        counts.append(len(api.request("GET", f"{edge.cloud.url}/v1/status")["packs"]))
    assert counts == [1, 2], "one tenant's pack is not found by the other, however long it has been there"


def test_at_a_cloud_a_key_sees_one_tenant(start, new_key, folder):
    keys = {tenant: new_key(tenant, "--tenant", tenant) for tenant in ("acme", "other")}
    boss = new_key("boss", "--operator")
    cloud = start("cloud", "--keys", folder / "keys.json")
    contexts = f"{cloud.url}/v1/contexts"
    handle = trust.request("POST", contexts, {"text": "ours", "name": "n"}, key=keys["acme"]).json["id"]
    before = trust.request("GET", contexts, key=keys["other"])
    assert before.json["contexts"] == []
    trust.request("POST", contexts, {"text": "ours again", "name": "n"}, key=keys["acme"])
    after = trust.request("GET", contexts, key=keys["other"])
    assert after.text == before.text, "not even that something has changed"
    for method in ("GET", "DELETE"):
        wrong = trust.request(method, f"{contexts}/{handle}", key=keys["other"])
        unknown = trust.request(method, f"{contexts}/{'0' * 64}", key=keys["other"])
        assert wrong.status == 404 and wrong.text.replace(handle, "0" * 64) == unknown.text
    status = trust.request("GET", f"{cloud.url}/v1/status", key=keys["other"]).json
    assert (status["n_contexts"], status["contexts"], status["packs"], status["edges"]) == (0, [], [], [])
    assert handle in trust.request("GET", f"{cloud.url}/v1/status", key=boss).text
    assert trust.request("GET", f"{contexts}/{handle}", key=keys["acme"]).json["text"] == "ours"
    assert trust.request("DELETE", f"{contexts}/{handle}", key=keys["acme"]).status == 204


# --- signatures -----------------------------------------------------------------------------------------------------------

def refused_pack(start_edge, lying, handle, world, question, folder, words):
    edge = start_edge(lying)
    support.wait_for_context(edge, handle)
    answer = support.ask(edge, world["context"], question["question"], max_tokens=2)
    assert answer.suppliers == {"compute"}
    assert log_of(edge).count(words) == 1, log_of(edge)
    assert not list((folder / edge.name).rglob("*.kvpack")), "nothing of it is stored"


def test_a_forged_header_is_refused(cloud, start_edge, share, world, question, folder):
    def change(path, status, body):
        if "/header" in path and status in (200, 202):
            return body[:-1] + bytes([body[-1] ^ 1]) if status == 202 else body[:40] + bytes([body[40] ^ 1]) + body[41:]
        return body
    lying = trust.LyingCloud(cloud, change)
    refused_pack(start_edge, lying, share(cloud), world, question, folder, "the cloud's key has not signed")
    lying.stop()


def test_a_replayed_header_is_refused(cloud, start_edge, share, ask, world, question, folder, celslm):
    handle = share(cloud)
    other = folder / "other.txt"
    other.write_text(world["context"] + " And more.", encoding="utf-8")
    second = celslm("context", "put", other, "--cloud", cloud.url).stdout.split()[0]
    honest = start_edge(cloud, name="honest")
    support.wait_for_context(honest, second)
    support.chat(honest, [{"role": "system", "content": other.read_text(encoding="utf-8")}, *QUESTION], max_tokens=2)
    wait_until(lambda: api.request("GET", f"{cloud.url}/v1/status")["packs"], "the cloud to have the pack",
               support.PATIENCE_S)
    kept = {}

    def change(path, status, body):
        if "/header" not in path:
            return body
        if not kept:
            model, codec = path.split("/")[4:6]
            kept["header"] = trust.request_bytes(f"{cloud.url}/v1/packs/{second}/{model}/{codec}/header")
        return kept["header"]
    lying = trust.LyingCloud(cloud, change)
    refused_pack(start_edge, lying, handle, world, question, folder, "another pack than the one that was asked for")
    lying.stop()


def test_an_edge_follows_a_cloud_to_a_key_that_the_old_one_has_signed(start, celslm, binary, folder, model, programs, world,
                                                                        question, context_file):
    def run_cloud(log, data):
        program = programs.start([binary, "cloud", "--model", model, "--port", port, "--data", data], log)
        program.wait_listening()
        return program

    def key_of(cloud):
        return api.request("GET", f"{cloud.url}/v1/key")["public_key"]

    port = 0
    cloud = run_cloud("cloud-before", folder / "cloud")
    port = int(cloud.url.rsplit(":", 1)[1])
    handle = celslm("context", "put", context_file, "--cloud", cloud.url).stdout.split()[0]
    old = key_of(cloud)
    stolen = (folder / "cloud" / "cloud" / "signing.key").read_bytes()
    edge = start("edge", "--cloud", cloud.url, "--cloud-key", old, *support.FETCH_FIRST, name="edge")
    support.wait_for_context(edge, handle)
    assert support.ask(edge, world["context"], question["question"], max_tokens=2).suppliers == {"cloud"}
    cloud.stop()
    rotated = celslm("key", "rotate", "--data", folder / "cloud")
    assert rotated.returncode == 0, rotated.stderr
    cloud = run_cloud("cloud-after", folder / "cloud")
    assert key_of(cloud) == rotated.stdout.strip() != old
    wait_for_log(edge, f"is {key_of(cloud)} from now on")
    edge.stop()
    edge = programs.start([binary, "edge", "--model", model, "--port", 0, "--data", folder / "edge", "--codec", "f16",
                           "--cloud", cloud.url, "--cloud-key", old, *support.FETCH_FIRST], "edge-again")
    edge.wait_listening()
    support.wait_for_context(edge, handle)
    answer = support.ask(edge, world["context"], question["question"], max_tokens=2)
    assert answer.suppliers <= {"cloud", "disk"} and answer.suppliers, answer.note
    cloud.stop()
    # Whoever has the old key cannot lead the edge back.
    data = folder / "thief"
    (data / "cloud").mkdir(parents=True, mode=0o700)
    (data / "cloud" / "signing.key").write_bytes(stolen)
    (data / "cloud" / "signing.key").chmod(0o600)
    thief = run_cloud("thief", data)
    assert key_of(thief) == old
    wait_for_log(edge, "has not vouched for: its packs are refused")
    assert log_of(edge).count("has not vouched for") == 1


# --- secrets --------------------------------------------------------------------------------------------------------------

def test_no_secret_is_in_logs_metrics_or_the_audit_log(start, start_edge, new_key, token_file, folder, celslm, world):
    secrets = {"cloud's token": "cloud-token-XQZJV-1", "edge's token": "edge-token-XQZJV-2", "a wrong one": "wrong-XQZJV-3",
               "a password": "hunter-XQZJV-4", "a key": new_key("alice", "--tenant", "acme")}
    prompt, text = "My secret question is XQZJV-5.", "The registered text XQZJV-6. " + world["context"]
    cloud_token = token_file("cloud", secrets["cloud's token"])
    cloud = start("cloud", "--token-file", cloud_token, "--audit", folder / "cloud-audit", "--log-level", "trace")
    edge = start_edge(cloud, "--cloud-token-file", cloud_token, "--keys", folder / "keys.json", "--log-level", "trace",
                      "--token-file", token_file("edge", secrets["edge's token"]), "--audit", folder / "edge-audit")
    for key in (secrets["a key"], secrets["edge's token"], secrets["a wrong one"]):
        trust.request("POST", f"{edge.url}/v1/contexts", {"text": text, "name": "n"}, key=key)
        for system in (text, "A private instruction XQZJV-7."):
            messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
            trust.request("POST", f"{edge.url}/v1/chat/completions", {"messages": messages, "max_tokens": 2}, key=key)
    trust.request("GET", f"{edge.url}/v1/models?token={secrets['a password']}", key=secrets["a key"])
    trust.request("GET", f"{cloud.url}/v1/contexts", headers={"Authorization": f"Basic {secrets['a password']}"})
    refused = celslm("edge", "--model", "m.gguf", "--cloud", f"http://user:{secrets['a password']}@cloud:8081",
                     "--data", folder / "none")
    assert refused.returncode != 0
    shown = {"refused URL": refused.stdout + refused.stderr, "cloud's log": log_of(cloud), "edge's log": log_of(edge)}
    shown["edge's metrics"] = trust.request("GET", f"{edge.url}/metrics", key=secrets["edge's token"]).text
    shown["cloud's metrics"] = trust.request("GET", f"{cloud.url}/metrics", key=secrets["cloud's token"]).text
    shown["edge's status"] = trust.request("GET", f"{edge.url}/v1/status", key=secrets["edge's token"]).text
    for audit in ("cloud-audit", "edge-audit"):
        shown[audit] = (folder / audit).read_text(encoding="utf-8")
        assert shown[audit].count("\n") >= 2
        assert stat.S_IMODE((folder / audit).stat().st_mode) == 0o600
    for place, content in shown.items():
        assert content, place
        assert secrets["a key"] not in content, f"the key is in {place}"
        assert "XQZJV" not in content, f"a secret is in {place}"
