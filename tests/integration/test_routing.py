"""Where requests go, why, and how that can be seen afterwards."""

import collections
import json

import pytest
from conftest import MODEL
from harness.fake_engine import chat
from harness.raw import RawConnection
from harness.wait import eventually

CHAT = "/v1/chat/completions"


def ask(model: str = "fake", content: str = "hi", **fields) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": content}], **fields}


def endpoint_of(gateway, response) -> str:
    """Address of the engine that answered."""
    attempts = gateway.decision(response.headers["x-request-id"])["attempts"]
    return attempts[-1]["address"]


def conversation(gateway, i: int, turns: int) -> list[str]:
    """Addresses of the engines that served the turns of one chat."""
    messages = [{"role": "user", "content": f"Chat number {i} begins like no other. " * 50}]
    served = []
    for turn in range(turns):
        response = gateway.post(CHAT, {"model": MODEL, "messages": messages, "max_tokens": 8})
        assert response.status == 200, response
        answer = response.json()
        served.append(endpoint_of(gateway, response))
        usage = answer["usage"]
        if turn > 0 and served[-1] == served[-2]:
            assert usage["prompt_tokens_details"]["cached_tokens"] > 0
        messages += [answer["choices"][0]["message"], {"role": "user", "content": f"Turn {turn}?"}]
    return served


def test_turns_of_a_chat_stay_with_the_engine_that_has_their_prefix(start_sim, start_gateway):
    sim = start_sim(4, "--speed", "20")
    gateway = start_gateway(sim.urls)
    gateway.wait_healthy(*sim.addresses)
    first_engines = set()
    for i in range(8):
        served = conversation(gateway, i, 3)
        assert len(set(served)) == 1, f"chat {i} moved: {served}"
        first_engines.add(served[0])
    assert len(first_engines) > 1, "chats spread over the engines"


def test_random_policy_scatters_what_sticky_keeps_together(start_sim, start_gateway):
    sim = start_sim(4, "--speed", "20")
    gateway = start_gateway(sim.urls, "--policy", "random")
    gateway.wait_healthy(*sim.addresses)
    chats = [conversation(gateway, i, 4) for i in range(5)]
    # All 15 later turns on their first engine would have a chance of 1 in 4^15.
    assert any(len(set(served)) > 1 for served in chats)


def test_least_requests_goes_around_a_busy_engine(fakes, start_gateway):
    from harness.fake_engine import hold
    from harness.raw import render_request

    a, b = fakes.add(), fakes.add()
    a.answer = b.answer = hold()
    gateway = start_gateway([a.url, b.url], "--policy", "least-requests")
    gateway.wait_healthy(a.address, b.address)
    connections = []
    for _ in range(8):
        connection = gateway.connect()
        connection.send(render_request("POST", CHAT, json.dumps(ask(stream=True)).encode()))
        connection.read_head()
        connections.append(connection)
    assert (len(a.requests), len(b.requests)) == (4, 4)
    in_flight = [gateway.endpoint(f"127.0.0.1:{e.port}")["in_flight_requests"] for e in (a, b)]
    assert in_flight == [4, 4]
    for connection in connections:
        connection.close()
    gateway.wait_idle()


@pytest.mark.parametrize("policy", ["sticky", "random", "round-robin", "power-of-two", "least-requests", "weighted"])
def test_every_built_in_policy_serves_and_explains(fakes, start_gateway, policy):
    engines = [fakes.add() for _ in range(3)]
    gateway = start_gateway([e.url for e in engines], "--policy", policy)
    gateway.wait_healthy(*(e.address for e in engines))
    response = gateway.post(CHAT, ask())
    assert response.status == 200
    decision = gateway.decision(response.headers["x-request-id"])
    assert decision["request_id"] == response.headers["x-request-id"]
    assert decision["model"] == "fake"
    assert decision["status"] == 200
    attempt = decision["attempts"][0]
    assert attempt["address"] in {f"127.0.0.1:{e.port}" for e in engines}
    names = {candidate["endpoint"] for candidate in attempt["candidates"]}
    assert names == {f"127.0.0.1:{e.port}" for e in engines}


def test_unknown_policy_fails_at_start_with_the_nearest_name(tmp_path):
    from harness.process import Process

    process = Process(["serve", "--engine", "http://127.0.0.1:1", "--policy", "stiky"], tmp_path, "bad")
    assert process.wait() != 0
    assert "sticky" in process.stderr()


SCHEDULING = """\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: label-selector-filter
  name: only-eu
  parameters: {matchLabels: {zone: eu}}
- type: queue-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: only-eu
  - pluginRef: queue-scorer
    weight: 2
  - pluginRef: max-score-picker
"""


def test_endpoint_picker_config_decides(fakes, start_gateway, tmp_path):
    eu, us = fakes.add(), fakes.add()
    path = tmp_path / "epp.yaml"
    path.write_text(SCHEDULING)
    gateway = start_gateway(
        [f"{eu.url},name=eu-1,label.zone=eu", f"{us.url},name=us-1,label.zone=us"],
        "--scheduling-config", str(path),
    )
    gateway.wait_healthy(eu.address, us.address)
    for _ in range(6):
        assert gateway.post(CHAT, ask()).status == 200
    assert len(eu.requests) == 6 and not us.requests
    text = gateway.admin_get("/debug/decisions").body.decode()
    assert "only-eu" in text or "label-selector-filter" in text


def test_mistake_in_endpoint_picker_config_names_file_line_and_nearest_type(tmp_path):
    from harness.process import Process

    path = tmp_path / "epp.yaml"
    path.write_text(SCHEDULING.replace("type: queue-scorer", "type: queue-scorrer"))
    process = Process(
        ["serve", "--engine", "http://127.0.0.1:1", "--scheduling-config", str(path)], tmp_path, "bad"
    )
    assert process.wait() != 0
    assert "epp.yaml:7:" in process.stderr()
    assert "queue-scorer" in process.stderr()


def test_queue_that_the_engine_reports_is_seen(fakes, start_gateway, tmp_path):
    busy, free = fakes.add(), fakes.add(flavour="sglang")
    busy.waiting = 40
    path = tmp_path / "epp.yaml"
    path.write_text(SCHEDULING.replace("  - pluginRef: only-eu\n", ""))
    gateway = start_gateway([busy.url, free.url], "--scheduling-config", str(path))
    gateway.wait_healthy(busy.address, free.address)
    eventually(
        lambda: gateway.endpoint(f"127.0.0.1:{busy.port}")["waiting"] == 40, "the queue is known"
    )
    for _ in range(5):
        assert gateway.post(CHAT, ask()).status == 200
    assert not busy.requests
    # And the other engine's names, when it is the busy one.
    busy.waiting, free.waiting = 0, 25
    eventually(
        lambda: gateway.endpoint(f"127.0.0.1:{free.port}")["waiting"] == 25, "SGLang's names are read"
    )
    eventually(lambda: gateway.endpoint(f"127.0.0.1:{busy.port}")["waiting"] == 0, "and vLLM's again")
    assert gateway.post(CHAT, ask()).status == 200
    assert busy.requests


# --- what an engine gets to see


def test_engine_gets_the_bytes_of_the_client(fake, start_gateway):
    gateway = start_gateway([fake.url])
    body = (
        b'{ "model" : "fake",\n\t"x": 1.000000000000000000001, "x": -0, "big": 123456789012345678901234567890,'
        b'"messages":[{"role":"user","content":"\\u00e9\\ud83d\\ude00 \\/"}], "z":null }'
    )
    assert gateway.post(CHAT, body).status == 200
    assert fake.requests[0].body == body


def test_chunked_client_body_reaches_the_engine_whole(fake, start_gateway):
    gateway = start_gateway([fake.url])
    body = json.dumps(ask(content="x" * 10_000)).encode()
    with gateway.connect() as connection:
        connection.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nTrailer: x\r\n\r\n"
        )
        for i in range(0, len(body), 777):
            piece = body[i : i + 777]
            connection.send(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
        connection.send(b"0\r\nx: y\r\n\r\n")
        assert connection.read_response().status == 200
    assert fake.requests[0].body == body
    assert fake.requests[0].header("content-length") == str(len(body))


def test_control_headers_and_kv_transfer_params_do_not_reach_the_engine(fake, start_gateway):
    gateway = start_gateway([fake.url])
    control = {
        "x-gateway-destination-endpoint": "10.9.9.9:1", "X-Gateway-Destination-Endpoint-Subset": "a",
        "x-prefiller-host-port": "10.9.9.9:1", "x-data-parallel-host-port": "10.9.9.9:1",
        "x-llm-d-inference-fairness-id": "tenant", "x-llm-d-inference-objective": "gold",
        "test-epp-endpoint-selection": "10.9.9.9:1",
    }
    kept = {"authorization": "Bearer secret", "x-session-id": "s1", "traceparent": "00-ab-cd-01"}
    hop = {"connection": "keep-alive, x-hop", "x-hop": "1", "te": "trailers", "upgrade": "h2c"}
    transfer = {"do_remote_prefill": True, "remote_host": "10.9.9.9", "nested": [{"kv_transfer_params": 1}]}
    body = ask(kv_transfer_params=transfer, temperature=0.5)
    assert gateway.post(CHAT, body, {**control, **kept, **hop}).status == 200
    seen = {name.lower(): value for name, value in fake.requests[0].headers}
    for name in (*control, *hop):
        assert name.lower() not in seen, name
    for name, value in kept.items():
        assert seen[name] == value
    assert fake.requests[0].json() == ask(temperature=0.5)
    assert seen["content-length"] == str(len(fake.requests[0].body))
    assert seen["x-request-id"]


def test_answer_s_headers_reach_the_client_without_the_hop_s(fake, start_gateway):
    async def answer(request, connection):
        await connection.whole(200, b"{}", x_engine="yes", connection="keep-alive", keep_alive="timeout=5")

    fake.answer = answer
    gateway = start_gateway([fake.url])
    response = gateway.post(CHAT, ask())
    assert response.headers["x-engine"] == "yes"
    assert "keep-alive" not in response.headers


# --- what can be seen


def test_decision_says_what_was_known_and_what_happened(fleet):
    body = ask(MODEL, "Explain this decision. " * 40, max_tokens=6)
    fleet.post(CHAT, body)
    response = fleet.post(CHAT, body)
    decision = fleet.decision(response.headers["x-request-id"])
    assert decision["end"] == "complete"
    assert decision["output_tokens"] == 6
    assert decision["cached_tokens"] > 0
    assert 0 < decision["ttft_s"] <= decision["e2e_s"]
    attempt = decision["attempts"][0]
    assert len(attempt["candidates"]) == 2
    picked = [c for c in attempt["candidates"] if c.get("picked")]
    assert len(picked) == 1 and picked[0]["endpoint"] == attempt["endpoint"]
    listed = fleet.admin_get("/debug/decisions").json()
    listed = listed["decisions"] if isinstance(listed, dict) else listed
    why = {d["request_id"]: d["why"] for d in listed}[response.headers["x-request-id"]]
    assert why.startswith("least time") and "prompt block" in why, why


def test_unknown_decision_is_404(fleet):
    assert fleet.admin_get("/debug/decisions/no-such-request").status == 404


def test_metrics_have_llm_d_s_names_and_count(fleet):
    for _ in range(3):
        assert fleet.post(CHAT, ask(MODEL, max_tokens=3)).status == 200
    metrics = fleet.metrics()
    assert metrics.sum("llm_d_epp_request_total", model_name=MODEL) >= 3
    assert metrics.sum("llm_d_epp_request_duration_seconds_count", model_name=MODEL) >= 3
    assert metrics.sum("llm_d_epp_request_ttft_seconds_count", model_name=MODEL, streaming="false") >= 3
    assert metrics.sum("llm_d_epp_request_output_tokens_sum", model_name=MODEL) >= 9
    assert metrics.sum("llm_d_epp_request_running") == 0
    assert metrics.sum("llm_d_epp_scheduler_attempts_total", status="success") >= 3
    assert metrics.sum("llm_d_epp_request_processing_duration_seconds_count") >= 3
    for name in metrics.names():
        assert name.startswith(("llm_d_", "penstock_", "process_", "inference_")), name


def test_hits_of_the_prefix_index_are_those_of_the_picked_endpoint(fleet):
    ratio, size = "llm_d_epp_prefix_indexer_hit_ratio", "llm_d_epp_prefix_indexer_hit_bytes"
    before = fleet.metrics()
    prompt = "A prompt of its own, ten blocks of 64 tokens long. " * 51  # 2601 bytes
    for _ in range(3):
        assert fleet.post(CHAT, ask(MODEL, prompt, max_tokens=1)).status == 200
    after = fleet.metrics()

    def gained(name: str) -> float:
        return after.sum(name) - before.sum(name)

    assert gained(f"{ratio}_count") == gained(f"{size}_count") == 3
    assert gained(f"{ratio}_sum") == 2, "the first is cold, the others are hits from end to end"
    assert gained(f"{size}_sum") == pytest.approx(2 * 2601, abs=2 * 256)
    assert after.labels(f"{ratio}_count") == [
        {"plugin_name": "precise-prefix-cache-producer", "plugin_type": "precise-prefix-cache-producer"}
    ]


def test_counters_agree_with_what_the_engines_counted(start_sim, start_gateway):
    sim = start_sim(3, "--speed", "20")
    gateway = start_gateway(sim.urls)
    gateway.wait_healthy(*sim.addresses)
    with gateway.connect() as connection:
        for i in range(30):
            body = json.dumps(ask(MODEL, f"Question {i}", max_tokens=5)).encode()
            assert connection.request("POST", CHAT, body).status == 200
    served = sum(sim.metrics(i).sum("vllm:request_success_total") for i in range(3))
    generated = sum(sim.metrics(i).sum("vllm:generation_tokens_total") for i in range(3))
    metrics = gateway.metrics()
    assert served == metrics.sum("llm_d_epp_request_total") == 30
    assert generated == metrics.sum("llm_d_epp_request_output_tokens_sum") == 150


def test_json_logs_are_one_object_a_line_and_hold_no_prompt(fakes, start_gateway):
    a, b = fakes.add(), fakes.add()
    a.answer = b.answer = chat("an answer that stays out of the log")
    gateway = start_gateway(
        [a.url, b.url], "--log-format", "json", "--log-level", "debug", "--policy", "random",
        "--scrape-interval", "60s",
    )
    gateway.wait_healthy(a.address, b.address)
    for _ in range(10):
        secret = {"authorization": "Bearer secret-token"}
        gateway.post(CHAT, ask(content='a "secret" prompt\nof two lines'), secret)
    a.stop()
    for _ in range(10):
        gateway.post(CHAT, ask(content='a "secret" prompt\nof two lines'))
    gateway.post(CHAT, b'{"broken \x01')
    gateway.stop()
    text = gateway.process.stderr()
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines
    assert all(isinstance(line, dict) for line in lines)
    retried = [line for line in lines if "request_id" in line and "endpoint" in line]
    assert retried, "the retry is logged with its request and endpoint"
    for secret in ("secret", "stays out of the log"):
        assert secret not in text


def test_endpoints_show_what_is_known(fleet):
    endpoints = fleet.endpoints()
    assert len(endpoints) == 2
    for endpoint in endpoints:
        assert endpoint["health"] == "healthy"
        assert set(endpoint["models"]) == {MODEL, "sql", "chat"}
        assert endpoint["in_flight_requests"] == 0


def test_health_routes(fake, start_gateway):
    gateway = start_gateway([fake.url])
    gateway.wait_healthy(fake.address)
    assert gateway.request("GET", "/health").status == 200
    assert gateway.admin_get("/healthz").status == 200
    assert gateway.admin_get("/readyz").status == 200
    fake.stop()
    eventually(lambda: gateway.admin_get("/readyz").status == 503, "not ready without an engine")
    assert gateway.request("GET", "/health").status == 503
    assert gateway.admin_get("/healthz").status == 200


def test_admin_port_refuses_what_it_does_not_have(fleet):
    assert fleet.admin_get("/no/such/page").status == 404
    with RawConnection(fleet.admin) as connection:
        assert connection.request("POST", "/metrics", b"{}").status in (404, 405)


def test_requests_spread_over_threads_and_engines(start_sim, start_gateway):
    sim = start_sim(3, "--speed", "50")
    gateway = start_gateway(sim.urls, "--threads", "2", "--policy", "weighted")
    gateway.wait_healthy(*sim.addresses)
    served = collections.Counter()
    for i in range(30):
        response = gateway.post(CHAT, ask(MODEL, f"A different question, number {i}", max_tokens=1))
        assert response.status == 200
        served[endpoint_of(gateway, response)] += 1
    assert len(served) == 3, served
