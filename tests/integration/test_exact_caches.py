"""The gateway knows what the engines' caches hold, from the KV events that they publish."""

import itertools
import json
import os
import re
import subprocess

import msgpack
import pytest
import zmq
from conftest import MODEL
from harness.gateway import Sim
from harness.kv_events import endpoints
from harness.process import find_binary
from harness.raw import RawConnection
from harness.wait import eventually

BLOCK = 16
POLICY = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: precise-prefix-cache-producer
  parameters:
    tokenProcessorConfig: {blockSizeTokens: 16}
    speculativeIndexing: false  # what is known, and nothing else
    kvEventsConfig: %s
- type: token-producer
- type: prefix-cache-scorer
  parameters: {prefixMatchInfoProducerName: precise-prefix-cache-producer}
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: prefix-cache-scorer}
  - {pluginRef: max-score-picker}
"""
DIALS = "{podDiscoveryConfig: {socketPort: 5557}}"


def tokens(first: int, blocks: int, more: int = 3) -> list[int]:
    """A prompt of whole blocks and a few tokens, like no prompt with another first token."""
    return list(range(first, first + blocks * BLOCK + more))


def port(address: str) -> str:
    return address.rsplit(":", 1)[1]


def flags_of(sim: Sim) -> list[str]:
    """Values of --engine for its engines, with where they publish."""
    found = []
    for url, (events, replay) in zip(sim.urls, endpoints(sim.lines), strict=True):
        found.append(f"{url},kvEventsPort={port(events)}" + (f",kvReplayPort={port(replay)}" if replay else ""))
    return found


def name(sim: Sim, engine: int = 0) -> str:
    return "{}:{}".format(*sim.addresses[engine])


def ask_engine(sim: Sim, prompt: list[int], engine: int = 0) -> int:
    """A request that the gateway does not see; gives the number of cached tokens."""
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 1}
    with RawConnection(sim.addresses[engine]) as connection:
        answer = connection.request("POST", "/v1/completions", json.dumps(body).encode())
    assert answer.status == 200, answer
    return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


def verify(recording, *flags: str) -> subprocess.CompletedProcess:
    """What `penstock lab verify` says of a recording."""
    command = [str(find_binary()), "lab", "verify", str(recording), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def reset(sim: Sim, engine: int = 0) -> None:
    with RawConnection(sim.addresses[engine]) as connection:
        assert connection.request("POST", "/reset_prefix_cache", b"").status == 200


def ask(gateway, prompt: list[int]) -> dict:
    """A request through the gateway; gives its record."""
    response = gateway.post("/v1/completions", {"model": MODEL, "prompt": prompt, "max_tokens": 1})
    assert response.status == 200, response
    return gateway.decision(response.headers["x-request-id"])


def known(gateway) -> dict:
    response = gateway.admin_get("/debug/kv")
    assert response.status == 200, response
    return response.json()


def publisher(gateway, endpoint: str) -> dict:
    response = gateway.admin_get(f"/debug/kv?endpoint={endpoint}")
    assert response.status == 200, response
    found = response.json()["publishers"]
    return found[0] if found else {}


def becomes(gateway, endpoint: str, **wanted) -> dict:
    """The publisher, once it is as wanted; tiers by their names."""

    def probe():
        found = publisher(gateway, endpoint)
        has = {**found, **found.get("blocks", {})}
        return found if all(has.get(key) == value for key, value in wanted.items()) else None

    try:
        return eventually(probe, f"{endpoint} is {wanted}")
    except AssertionError as failure:
        raise AssertionError(f"{failure}; it is {publisher(gateway, endpoint)}") from None


def holders(gateway, prompt: list[int], **more) -> dict[str, int]:
    """How many blocks of the prompt each endpoint holds, as the index has it."""
    body = json.dumps({"token_ids": prompt, **more}).encode()
    with RawConnection(gateway.admin) as connection:
        response = connection.request("POST", "/debug/kv/match", body)
    assert response.status == 200, response
    return {found["endpoint"]: found["blocks"] for found in response.json()["endpoints"]}


@pytest.fixture
def start_engines(start_sim):
    """Engines that publish. With history, unless told otherwise."""

    def start(count: int = 1, *flags: str, replay: bool = True) -> Sim:
        ports = ["--kv-events-port", "0"] + (["--kv-replay-port", "0"] if replay else [])
        return start_sim(count, "--speed", "50", *ports, *flags)

    return start


@pytest.fixture
def policy(tmp_path):
    def write(kv_events: str = DIALS) -> str:
        path = tmp_path / "exact.yaml"
        path.write_text(POLICY % kv_events)
        return str(path)

    return write


@pytest.fixture
def start_exact(start_gateway, policy):
    """A gateway that listens to these engines."""

    def start(*sims: Sim, kv_events: str = DIALS):
        engines = [flag for sim in sims for flag in flags_of(sim)]
        gateway = start_gateway(engines, "--scheduling-config", policy(kv_events))
        gateway.wait_healthy(*[address for sim in sims for address in sim.addresses])
        return gateway

    return start


def test_knows_what_others_have_asked_for(start_engines, start_exact):
    sim = start_engines(3)
    before, after = tokens(1000, 5), tokens(9000, 4)
    ask_engine(sim, before, 1)
    gateway = start_exact(sim)
    for engine in range(3):
        becomes(gateway, name(sim, engine), state="EXACT")
    becomes(gateway, name(sim, 1), gpu=5)
    assert holders(gateway, before) == {name(sim, 1): 5}
    ask_engine(sim, after, 2)
    becomes(gateway, name(sim, 2), gpu=4)
    assert holders(gateway, after) == {name(sim, 2): 4}
    assert holders(gateway, after[: 2 * BLOCK] + [7] * BLOCK) == {name(sim, 2): 2}
    assert holders(gateway, after, salt="tenant") == {}
    found = publisher(gateway, name(sim, 2))
    assert found["last_sequence"] == 0 and found["batches"] == found["events"] == 1
    assert found["why"] == "all that it holds is known" and found["gaps"] == found["missed"] == 0
    assert abs(found["lag_s"]) < 60 and found["gpu_blocks"] > 0


def test_decides_by_what_engines_hold(start_engines, start_exact):
    sim = start_engines(3)
    gateway = start_exact(sim)
    for engine in range(3):
        prompt = tokens(10_000 * (engine + 1), 6)
        ask_engine(sim, prompt, engine)
        becomes(gateway, name(sim, engine), gpu=6)
        record = ask(gateway, prompt)
        assert record["endpoint"] == name(sim, engine), record
        assert record["cached_tokens"] == 6 * BLOCK
    # An engine tells that it holds nothing any more with its next step.
    reset(sim, 1)
    ask_engine(sim, tokens(500, 1), 1)
    becomes(gateway, name(sim, 1), gpu=1, state="EXACT")
    prompt = tokens(20_000, 6)
    assert holders(gateway, prompt) == {}
    record = ask(gateway, prompt)
    candidates = {(c["endpoint"], c["matched_blocks"], c["match"]) for c in record["attempts"][0]["candidates"]}
    assert candidates == {(name(sim, engine), 0, "exact") for engine in range(3)}


def test_a_recording_holds_what_was_known_of_caches(start_engines, start_gateway, policy, tmp_path):
    sim = start_engines(3)
    recording = tmp_path / "exact.rec"
    gateway = start_gateway(flags_of(sim), "--scheduling-config", policy(), "--record", str(recording))
    gateway.wait_healthy(*sim.addresses)
    for engine in range(3):
        becomes(gateway, name(sim, engine), state="EXACT")
    # Nobody knows but the engine.
    for engine in range(3):
        prompt = tokens(10_000 * (engine + 1), 6)
        ask_engine(sim, prompt, engine)
        becomes(gateway, name(sim, engine), gpu=6)
        assert ask(gateway, prompt)["endpoint"] == name(sim, engine)
    for first in range(20):
        ask(gateway, tokens(100_000 * (1 + first % 5), 2 + first % 3))
    gateway.wait_idle()
    gateway.stop()
    sim.kill()
    verdict = verify(recording)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert "23 requests, of them 0 rejected" in verdict.stdout
    assert "all decisions are the same" in verdict.stdout
    explained = verify(recording, "--explain", "2").stdout
    assert f"{name(sim, 2)} holds 6 of the prompt's 7 blocks in its cache (86 %), as its engine told" in explained
    # Without it they are others: there is nothing else to go by.
    lines = subprocess.run(["zstdcat", str(recording)], capture_output=True, text=True, check=True).stdout
    assert lines.count('"told":[{"of":0,') == 23
    other = tmp_path / "other.rec"
    other.write_text(re.sub(r',"told":\[\{.*?\}\]', "", lines))
    verdict = verify(other)
    assert verdict.returncode == 1 and "are others now" in verdict.stdout, verdict.stdout


def test_an_engine_that_comes_back_holds_nothing(start_engines, start_sim, start_exact):
    sim = start_engines()
    gateway = start_exact(sim)
    prompt = tokens(1, 3)
    ask_engine(sim, prompt)
    becomes(gateway, name(sim), gpu=3, state="EXACT", connections=1)
    events, replay = endpoints(sim.lines)[0]
    sim.kill()
    assert "broken" in becomes(gateway, name(sim), state="CONNECTING")["why"]
    again = start_sim(1, "--speed", "50", "--kv-events-port", port(events), "--kv-replay-port", port(replay),
                      port=sim.addresses[0][1])
    assert becomes(gateway, name(again), state="EXACT", gpu=0)["connections"] == 2
    assert holders(gateway, prompt) == {}
    assert ask_engine(again, prompt) == 0
    becomes(gateway, name(again), state="EXACT", gpu=3, last_sequence=0, restarts=1, missed=0)
    assert gateway.metric("penstock_kv_events_restarts_total", endpoint_name=name(again)) == 1
    assert gateway.metric("llm_d_epp_kv_cache_events_subscriber_reconnections_total", pod_identifier=name(again)) == 1


def test_what_got_lost_is_had_again(start_engines, start_exact):
    sim = start_engines(1, "--kv-events-loss", "0.4")
    gateway = start_exact(sim)
    becomes(gateway, name(sim), state="EXACT")
    for first in range(1000, 40_000, 1000):
        ask_engine(sim, tokens(first, 2))
    # The last ones may be lost, too: nobody knows before the next one comes.
    def all_there():
        ask_engine(sim, tokens(50_000, 2))
        reset(sim)
        ask_engine(sim, tokens(60_000, 2))
        found = publisher(gateway, name(sim))
        return found["state"] == "EXACT" and found["blocks"]["gpu"] == 2 and found["gaps"] > 0 and found

    found = eventually(all_there, "all is known again")
    assert found["missed"] == 0 and found["replays"] > 1
    assert gateway.metric("penstock_kv_events_gaps_total", endpoint_name=name(sim)) >= found["gaps"]
    assert gateway.metric("penstock_kv_events_missed_batches_total") == 0


def test_what_is_lost_for_good_is_said(start_engines, start_exact):
    sim = start_engines(1, "--kv-events-loss", "0.4", replay=False)
    gateway = start_exact(sim)

    def is_degraded():
        ask_engine(sim, tokens(is_degraded.first, 2))
        is_degraded.first += 1000
        found = publisher(gateway, name(sim))
        return found["state"] == "DEGRADED" and found["reason"] == "gap" and found

    is_degraded.first = 1000
    found = eventually(is_degraded, "the gap is noticed")
    assert found["missed"] > 0 and "lost on the way" in found["why"]
    state = gateway.metrics().labels("penstock_kv_events_publisher_state")
    assert state == [{"endpoint_name": name(sim), "state": "DEGRADED", "reason": "gap"}]
    assert gateway.metric("penstock_kv_events_publishers", state="DEGRADED") == 1

    # Who holds nothing is known to the last block.
    def is_exact():
        reset(sim)
        ask_engine(sim, tokens(1, 2))
        return publisher(gateway, name(sim))["state"] == "EXACT"

    eventually(is_exact, "the engine is known again")
    state = gateway.metrics().labels("penstock_kv_events_publisher_state")
    assert len(state) == 1, "the state before has gone"


def test_history_that_does_not_reach_back_is_said(start_engines, start_exact):
    sim = start_engines(1, "--kv-events-history", "2")
    for first in range(1000, 6000, 1000):
        ask_engine(sim, tokens(first, 2))
    gateway = start_exact(sim)
    found = becomes(gateway, name(sim), state="DEGRADED", reason="truncated_history")
    assert found["blocks"]["gpu"] == 4 and "buffer_steps" in found["why"]
    assert holders(gateway, tokens(5000, 2)) == {name(sim): 2}


def test_an_endpoint_that_leaves_takes_its_blocks_along(start_engines, start_gateway, policy, tmp_path):
    sim = start_engines(2)
    entries = []
    for url, (events, replay) in zip(sim.urls, endpoints(sim.lines), strict=True):
        entries.append({"url": url, "kvEventsPort": int(port(events)), "kvReplayPort": int(port(replay))})
    file = tmp_path / "endpoints.json"
    file.write_text(json.dumps({"endpoints": entries}))
    gateway = start_gateway([], "--endpoints-file", str(file), "--scheduling-config", policy())
    prompt = tokens(1, 3)
    for engine in range(2):
        ask_engine(sim, prompt, engine)
        becomes(gateway, name(sim, engine), state="EXACT", gpu=3)
    assert holders(gateway, prompt) == {name(sim, 0): 3, name(sim, 1): 3}
    assert known(gateway)["index"]["slots"] == 2
    assert gateway.metric("penstock_kv_cache_blocks", tier="gpu") == 6
    file.write_text(json.dumps({"endpoints": entries[1:]}))
    eventually(lambda: known(gateway)["index"]["slots"] == 1, "the place in the index is free")
    assert holders(gateway, prompt) == {name(sim, 1): 3}
    metrics = gateway.metrics()
    for family in ("penstock_kv_cache_blocks", "penstock_kv_events_total", "penstock_kv_events_publisher_state"):
        assert {has["endpoint_name"] for has in metrics.labels(family)} == {name(sim, 1)}
    assert metrics.sum("llm_d_epp_kv_cache_events_active_subscribers") == 1


def test_says_whom_it_does_not_hear(start_engines, start_gateway, policy):
    sim = start_engines(2)
    gateway = start_gateway(sim.urls, "--scheduling-config", policy())
    found = known(gateway)
    assert found["publishers"] == [] and found["left_out"] == 0
    assert {one["endpoint"] for one in found["unheard"]} == {name(sim, 0), name(sim, 1)}
    assert "2 endpoints would be heard at tcp://127.0.0.1:5557" in found["unheard"][0]["why"]
    assert gateway.metric("penstock_kv_events_unheard_endpoints") == 2
    assert "set kvEventsPort of each" in gateway.process.stderr()


def test_engines_may_connect_to_the_gateway(start_sim, start_exact):
    sim = start_sim(1, "--speed", "50")  # publishes nothing itself
    settings = '{zmqEndpoint: "tcp://127.0.0.1:*", discoverPods: false, topicFilter: "kv@"}'

    class Silent:
        urls, addresses, lines = sim.urls, sim.addresses, [f"{sim.urls[0]} events tcp://127.0.0.1:0"]

    gateway = start_exact(Silent, kv_events=settings)
    assert "nothing has come" in publisher(gateway, name(sim))["why"]
    prompt = tokens(1, 2, 0)
    batch = msgpack.packb([1.0, [["BlockStored", [1, 2], None, prompt, BLOCK, None]]])
    context = zmq.Context()
    try:
        socket = context.socket(zmq.PUB)
        socket.connect(known(gateway)["settings"]["bound_at"])
        sequence = 0

        def has_come():
            nonlocal sequence
            socket.send_multipart([f"kv@{name(sim)}@{MODEL}".encode(), sequence.to_bytes(8, "big"), batch])
            sequence += 1
            return holders(gateway, prompt) == {name(sim): 2}

        eventually(has_come, "the engine's blocks are known")
        socket.send_multipart([b"kv@10.0.0.9:1@m", (0).to_bytes(8, "big"), batch])
        eventually(lambda: known(gateway)["unknown_topics"] == 1, "the stranger is counted")
        assert gateway.metric("penstock_kv_events_unknown_topics_total") == 1
    finally:
        context.destroy(linger=0)


def test_the_picker_listens_too(start_engines, start_epp, policy):
    sim = start_engines(2)
    ask_engine(sim, tokens(1, 3), 1)
    epp = start_epp(flags_of(sim), f"--config-file={policy()}")
    becomes(epp, name(sim, 1), state="EXACT", gpu=3)
    becomes(epp, name(sim, 0), state="EXACT", gpu=0)
    assert holders(epp, tokens(1, 3)) == {name(sim, 1): 3}


def test_without_the_plugin_nobody_listens(fake, start_gateway):
    gateway = start_gateway([fake.url], "--policy", "sticky")
    response = gateway.admin_get("/debug/kv")
    assert response.status == 404 and "precise-prefix-cache-producer" in response.json()["error"]["message"]
    assert gateway.admin_get("/api/live").json()["caches"] is None


USUAL_PORTS = ("--kv-events-port", "5557", "--kv-replay-port", "5558")


@pytest.fixture
def hosts():
    """Addresses of this machine that no other test has."""
    number = (os.getpid() * 7 + next(_used_hosts)) % 60_000
    return [f"127.{1 + number // 250}.{1 + number % 250}.{last}" for last in range(1, 9)]


_used_hosts = itertools.count()


def test_engines_that_publish_at_the_usual_ports_are_heard_unasked(start_sim, start_gateway, hosts):
    # Two hosts with an engine each, and one with an engine that publishes nothing.
    sims = [start_sim(1, "--speed", "50", "--host", host, *USUAL_PORTS) for host in hosts[:2]]
    sims.append(start_sim(1, "--speed", "50", "--host", hosts[2]))
    gateway = start_gateway([url for sim in sims for url in sim.urls])
    gateway.wait_healthy(*[address for sim in sims for address in sim.addresses])
    for sim in sims[:2]:
        found = becomes(gateway, name(sim), state="EXACT")
        assert found["events_at"].endswith(":5557") and found["replay_at"].endswith(":5558")
    silent = publisher(gateway, name(sims[2]))
    assert silent["state"] == "CONNECTING" and f"nothing listens at tcp://{hosts[2]}:5557" in silent["why"]
    for engine, sim in enumerate(sims[:2]):
        prompt = tokens(10_000 * (engine + 1), 40)
        ask_engine(sim, prompt)
        becomes(gateway, name(sim), gpu=40)
        record = ask(gateway, prompt)
        assert record["endpoint"] == name(sim), record
        assert record["cached_tokens"] == 40 * BLOCK
    assert gateway.metric("penstock_kv_events_publishers", state="EXACT") == 2
    assert gateway.admin_get("/api/live").json()["caches"]["publishers_total"] == 3
    assert "WARN" not in gateway.process.stderr(), gateway.process.stderr()


def test_engines_without_events_are_as_they_were(start_sim, start_gateway, hosts):
    sim = start_sim(2, "--speed", "50")
    alone = start_sim(1, "--speed", "50", "--host", hosts[0])
    off = start_sim(1, "--speed", "50", "--host", hosts[1])
    gateway = start_gateway([*sim.urls, *alone.urls, f"{off.urls[0]},kvEventsPort=0"])
    found = known(gateway)
    assert found["settings"]["sole_endpoints_only"] is True
    assert [one["endpoint"] for one in found["publishers"]] == [name(alone)]
    why = {one["endpoint"]: one["why"] for one in found["unheard"]}
    assert set(why) == {name(sim, 0), name(sim, 1), name(off)}
    assert "2 endpoints share its host" in why[name(sim)] and "kvEventsPort is 0" in why[name(off)]
    assert gateway.admin_get("/api/live").json()["caches"] is None
    for _ in range(2):
        record = ask(gateway, tokens(1, 40))
    attempt = record["attempts"][0]
    assert {candidate.get("match") for candidate in attempt["candidates"]} <= {None, "approximate"}
    assert gateway.metric("penstock_exact_answers_total") == 0
    log = gateway.process.stderr()
    assert log.count("nobody listens to the KV events of some endpoints") == 1 and "WARN" not in log, log


def test_a_selector_that_is_none_ends_the_start(start_engines, start_gateway, policy):
    sim = start_engines()
    settings = '{podDiscoveryConfig: {podLabelSelector: "a within (b)"}}'
    with pytest.raises(AssertionError, match="podLabelSelector: 'a within .b.' is no condition on labels"):
        start_gateway(flags_of(sim), "--scheduling-config", policy(settings))
