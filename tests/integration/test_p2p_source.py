"""The header that names a peer with more of the prompt cached."""

import msgpack
import pytest
import zmq
from conftest import MODEL
from harness.fake_engine import chat, completion_json, unary
from harness.wait import eventually

CHAT = "/v1/chat/completions"
HEADER = "x-kv-cache-source-host-port"
CONFIG = """apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: round-robin-picker}
- {type: approx-prefix-cache-producer}
- {type: p2p-source-producer}
"""


def ask() -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": "a long text " * 200}]}


def engines_of(fakes, count: int):
    engines = [fakes.add(MODEL) for _ in range(count)]
    for engine in engines:
        engine.answer = chat("hello")
    return engines


def configuration(tmp_path) -> str:
    path = tmp_path / "epp.yaml"
    path.write_text(CONFIG)
    return str(path)


def check(front, engines) -> None:
    # Round robin: the second request goes where the prompt is not; the first engine has it.
    told = []
    for _ in range(2):
        response = front.post(CHAT, ask(), {HEADER: "10.9.9.9:1"})
        assert response.status == 200, response
        served = next(e for e in engines if len(e.requests) == 1 and e not in [s for s, _ in told])
        told.append((served, served.requests[-1].header(HEADER)))
    (first, nobody), (_, source) = told
    assert not nobody, "a client's own header means nothing, and nobody has the prompt yet"
    assert source == f"127.0.0.1:{first.address[1]}"


def test_serve_names_the_peer(fakes, start_gateway, tmp_path):
    engines = engines_of(fakes, 2)
    gateway = start_gateway(
        [e.url for e in engines], "--scheduling-config", configuration(tmp_path), "--threads", "1"
    )
    gateway.wait_healthy(*[e.address for e in engines])
    check(gateway, engines)
    assert gateway.metric("penstock_p2p_sources_named_total", plugin_name="p2p-source-producer") == 1


def test_the_picker_names_the_peer(fakes, start_epp, start_envoy, tmp_path):
    engines = engines_of(fakes, 2)
    epp = start_epp([e.url for e in engines], f"--config-file={configuration(tmp_path)}", "--threads=1")
    epp.wait_healthy(*[e.address for e in engines])
    check(start_envoy(epp.address), engines)


BLOCK = 16
EXACT = """apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: round-robin-picker}
- type: precise-prefix-cache-producer
  parameters:
    tokenProcessorConfig: {blockSizeTokens: 16}
    speculativeIndexing: false
    kvEventsConfig: {zmqEndpoint: "tcp://127.0.0.1:*", discoverPods: false, topicFilter: "kv@"}
- {type: p2p-source-producer}
"""


def stored(tokens: list[int], blocks: int, medium: str) -> list:
    """The event of an engine that holds so many of the prompt's first blocks."""
    hashes = list(range(1, blocks + 1))
    return ["BlockStored", hashes, None, tokens[: blocks * BLOCK], BLOCK, None, medium]


@pytest.fixture
def publish():
    """Publishes one batch for an engine at a gateway, until it is heard."""
    context = zmq.Context()

    def send(gateway, engine, events: list) -> None:
        socket = context.socket(zmq.PUB)
        socket.connect(gateway.admin_get("/debug/kv").json()["settings"]["bound_at"])
        name = "{}:{}".format(*engine.address)
        batch = msgpack.packb([1.0, events])

        def is_heard() -> bool:
            socket.send_multipart([f"kv@{name}@{MODEL}".encode(), (0).to_bytes(8, "big"), batch])
            found = gateway.admin_get(f"/debug/kv?endpoint={name}").json()["publishers"]
            return any(one["state"] == "EXACT" and one["events"] >= len(events) for one in found)

        eventually(is_heard, f"{name} is heard")

    yield send
    context.destroy(linger=0)


@pytest.mark.parametrize("has_tiers", [True, False])
def test_the_source_is_who_has_it_in_host_memory(fakes, start_gateway, tmp_path, publish, has_tiers):
    most, offloads, empty = engines = [fakes.add(MODEL) for _ in range(3)]
    for engine in engines:
        engine.answer = unary(200, completion_json("hello"))
    path = tmp_path / "exact.yaml"
    path.write_text(EXACT)
    gateway = start_gateway([e.url for e in engines], "--scheduling-config", str(path), "--threads", "1")
    gateway.wait_healthy(*[e.address for e in engines])
    tokens = list(range(1000, 1000 + 12 * BLOCK))
    tiers = {most: 2, offloads: 6} if has_tiers else {}
    for engine, blocks in ((most, 10), (offloads, 6)):
        events = [stored(tokens, blocks, "GPU")]
        if engine in tiers:
            events.append(stored(tokens, tiers[engine], "CPU"))
        publish(gateway, engine, events)
    ask = {"model": MODEL, "prompt": tokens, "max_tokens": 1}
    for _ in engines:
        response = gateway.post("/v1/completions", ask)
        assert response.status == 200, response
    sources = {engine: engine.requests[-1].header(HEADER) for engine in engines}

    def address(engine) -> str:
        return "{}:{}".format(*engine.address)

    assert not sources[most]
    if has_tiers:
        assert not sources[offloads], "of what the other one has more, nothing can be fetched"
        assert sources[empty] == address(offloads)
    else:
        assert sources[offloads] == address(most)
        assert sources[empty] == address(most)
