"""The header that names a peer with more of the prompt cached."""

from conftest import MODEL
from harness.fake_engine import chat

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
