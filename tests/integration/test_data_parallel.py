"""Ranks of data-parallel engines that are reached through one port of their pod."""

import pytest
from conftest import MODEL
from harness.fake_engine import chat

CHAT = "/v1/chat/completions"
HEADER = "x-data-parallel-host-port"


def ask() -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


def configuration(tmp_path, primary: int) -> str:
    """Requests alternate over the ranks and go to the primary port."""
    path = tmp_path / "epp.yaml"
    path.write_text(
        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n"
        "- {type: round-robin-picker}\n"
        f"- {{type: data-parallel-profile-handler, parameters: {{primaryPort: {primary}}}}}\n"
    )
    return str(path)


@pytest.fixture
def pod(fakes):
    """A side-car's port, which notes what it is sent, and two ranks that are only scraped."""
    sidecar, *ranks = (fakes.add(MODEL) for _ in range(3))
    sidecar.answer = chat("from the pod")
    return sidecar, ranks


def check(front, sidecar, ranks, host: str) -> None:
    named = set()
    for _ in range(4):
        # A client's own header means nothing.
        response = front.post(CHAT, ask(), {HEADER: "10.9.9.9:1"})
        assert response.status == 200, response
        request = sidecar.requests[-1]
        assert request.header("host") == host
        named.add(request.header(HEADER))
    assert named == {f"127.0.0.1:{rank.address[1]}" for rank in ranks}
    assert not any(rank.requests for rank in ranks)


def test_serve_sends_to_the_primary_port(pod, start_gateway, tmp_path):
    sidecar, ranks = pod
    config = configuration(tmp_path, sidecar.address[1])
    gateway = start_gateway([r.url for r in ranks], "--scheduling-config", config, "--threads", "1")
    gateway.wait_healthy(*[r.address for r in ranks])
    check(gateway, sidecar, ranks, f"127.0.0.1:{sidecar.address[1]}")
    assert gateway.metric("penstock_retries_total") == 0


def test_the_picker_names_the_primary_port_and_the_rank(pod, start_epp, start_envoy, tmp_path):
    sidecar, ranks = pod
    config = configuration(tmp_path, sidecar.address[1])
    epp = start_epp([r.url for r in ranks], f"--config-file={config}", "--threads=1")
    epp.wait_healthy(*[r.address for r in ranks])
    envoy = start_envoy(epp.address)
    check(envoy, sidecar, ranks, "gateway")
    # Requests are the ranks', and so is their load; nobody was passed over.
    response = envoy.post(CHAT, ask())
    record = epp.decision(sidecar.requests[-1].header("x-request-id"))
    assert response.status == 200
    assert record["attempts"][-1]["address"] == sidecar.requests[-1].header(HEADER)
    assert len(record["attempts"]) == 1
    assert epp.healthy() == {f"127.0.0.1:{rank.address[1]}" for rank in ranks}
