"""`penstock epp` behind a real Envoy: client, Envoy, picker, engines."""

import concurrent.futures
import json
import resource
import signal
import socket

import grpc
import pytest
from conftest import MODEL
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness.envoy import ATTEMPTS, DESTINATION, PICKER_SERVICE, SERVED_BY, subset_hint
from harness.fake_engine import completion_json, hold, unary
from harness.raw import events_of, render_request
from harness.wait import PATIENCE_S, eventually

CHAT = "/v1/chat/completions"
REASON = "x-llm-d-request-dropped-reason"


def ask(content: str = "hi", **fields) -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}


def text_of(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


@pytest.fixture
def stack(start_sim, start_epp, start_envoy):
    """Simulated engines, the picker before them and Envoy before it."""

    def start(engines: int = 2, *flags: str, **options):
        sim = start_sim(engines, "--speed", "20")
        epp = start_epp(sim.urls, *flags)
        epp.wait_healthy(*sim.addresses)
        return sim, epp, start_envoy(epp.address, **options)

    return start


# --- routes


ROUTES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
    "/v1/completions": {"prompt": "hi", "max_tokens": 4},
    "/v1/responses": {"input": "hi", "max_output_tokens": 4},
    "/v1/embeddings": {"input": "hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
    "/tokenize": {"prompt": "hi"},
}


@pytest.mark.parametrize("path", ROUTES)
def test_route(path, fakes, start_epp, start_envoy):
    engines = [fakes.add(MODEL), fakes.add(MODEL)]
    epp = start_epp([e.url for e in engines])
    envoy = start_envoy(epp.address)
    for engine in engines:
        engine.answer = unary(200, b'{"ok": true}')
    body = {"model": MODEL, **ROUTES[path]}
    response = envoy.post(path, body)
    assert response.json() == {"ok": True}, response
    (request,) = [r for e in engines for r in e.requests]
    assert request.json() == body
    record = epp.decision(request.header("x-request-id"))
    assert record["model"] == MODEL
    assert record["attempts"][0]["address"] == response.headers[SERVED_BY]


def test_streams_pass(stack):
    _, epp, envoy = stack()
    response = envoy.post(CHAT, ask(stream=True, stream_options={"include_usage": True}))
    assert response.complete
    assert response.headers["x-went-into-resp-headers"] == "true"
    assert response.body.endswith(b"data: [DONE]\n\n")
    assert len(events_of(response.body)) >= 8
    eventually(lambda: epp.metric("llm_d_epp_request_output_tokens_count") == 1, "its usage is counted")
    assert epp.metric("llm_d_epp_request_output_tokens_sum") == 8


def test_request_without_a_body(stack):
    _, epp, envoy = stack()
    response = envoy.request("GET", "/v1/models")
    assert response.json()["data"][0]["id"] == MODEL
    assert epp.metric("llm_d_epp_request_total") == 1


def test_body_of_a_million_tokens(fake, start_epp, start_envoy):
    answer = completion_json("y" * 1_000_000)
    fake.answer = unary(200, answer)
    epp = start_epp([fake.url])
    envoy = start_envoy(epp.address)
    question = ask("four" * 1_000_000)
    response = envoy.post(CHAT, question)
    assert response.body == answer
    assert fake.requests[-1].json() == question
    assert epp.metric("llm_d_epp_request_size_bytes_sum") == len(json.dumps(question))


# --- what the picker changes


def test_headers_towards_the_engine(fake, start_epp, start_envoy):
    fake.answer = unary(200, b"{}")
    epp = start_epp([fake.url])
    envoy = start_envoy(epp.address)
    planted = {
        "x-prefiller-host-port": "10.0.0.9:1",
        "x-encoder-hosts-ports": "10.0.0.9:1",
        "x-kv-cache-source-host-port": "10.0.0.9:1",
        "x-data-parallel-host-port": "10.0.0.9:1",
        DESTINATION: "10.0.0.9:1",
        f"{DESTINATION}-subset": "10.0.0.9:1",
        "x-llm-d-inference-objective": "best",
        "x-slo-ttft-ms": "200",
        "x-session-id": "s1",
        "x-request-id": "mine-1",
    }
    assert envoy.post(CHAT, ask(), planted).status == 200
    seen = dict(fake.requests[-1].headers)
    assert seen[DESTINATION] == text_of(fake.address)
    assert seen["x-session-id"] == "s1"
    gone = set(planted) - {DESTINATION, "x-session-id", "x-request-id"}
    assert not gone & set(seen)
    assert epp.decision(seen["x-request-id"])["status"] == 200


def test_engines_never_see_transfer_parameters_of_clients(fake, start_epp, start_envoy):
    fake.answer = unary(200, b"{}")
    envoy = start_envoy(start_epp([fake.url]).address)
    body = json.dumps({**ask(), "kv_transfer_params": {"do_remote_decode": True}, "seed": 1}).encode()
    assert envoy.post(CHAT, body).status == 200
    seen = fake.requests[-1]
    assert seen.json() == {**ask(), "seed": 1}
    length = seen.header("content-length")
    assert length is None or int(length) == len(seen.body)


# --- refusals, in llm-d's words


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 400, "BadRequest - "),
        (b'{"model": "x"}', 400, "BadRequest - "),
        (b'{"messages": []}', 400, "BadRequest - "),
    ],
)
def test_bad_body(body, status, text, fake, start_epp, start_envoy):
    epp = start_epp([fake.url])
    envoy = start_envoy(epp.address)
    response = envoy.post(CHAT, body)
    assert response.status == status
    assert response.body.decode().startswith(f"inference error: {text}"), response.body
    assert REASON not in response.headers
    assert not fake.requests
    assert epp.metric("penstock_client_errors_total") == 1


def test_body_beyond_the_limit(fake, start_epp, start_envoy):
    envoy = start_envoy(start_epp([fake.url], "--max-body=64Ki").address)
    response = envoy.post(CHAT, ask("x" * 100_000))
    assert response.status == 413
    assert response.body.startswith(b"inference error: PayloadTooLarge - ")


def test_nobody_there(fake, start_epp, start_envoy):
    fake.stop()
    envoy = start_envoy(start_epp([fake.url]).address)
    response = envoy.post(CHAT, ask())
    assert response.status == 503
    assert response.body.startswith(b"inference error: ServiceUnavailable - "), response.body
    assert response.headers[REASON] == "rejected-no-endpoints"


def test_unknown_model_is_the_engines_to_refuse(stack):
    _, _, envoy = stack()
    response = envoy.post(CHAT, {**ask(), "model": "no-such-model"})
    assert response.status == 404
    assert response.json()["error"], "the engine's own words"


# --- subsets and fallbacks


def test_subset_hint(fakes, start_epp, start_envoy):
    engines = [fakes.add(MODEL) for _ in range(2)]
    for engine in engines:
        engine.answer = unary(200, b"{}")
    epp = start_epp([e.url for e in engines])
    envoy = start_envoy(epp.address)
    # Hosts are compared, not ports: a hint names one port of a pod that may have several.
    assert envoy.post(CHAT, ask(), subset_hint([text_of(engines[0].address)])).status == 200
    for nobody in (["10.0.0.1:80"], []):
        response = envoy.post(CHAT, ask(), subset_hint(nobody))
        assert response.status == 503
        assert response.headers[REASON] == "rejected-no-endpoints"
    # What is no list is no hint.
    assert envoy.post(CHAT, ask(), subset_hint("10.0.0.1:80")).status == 200
    deaf = start_envoy(start_epp([e.url for e in engines], "--disable-endpoint-subset-filter").address)
    assert deaf.post(CHAT, ask(), subset_hint([])).status == 200


FALLBACKS = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: running-requests-size-scorer}
- {type: max-score-picker, parameters: {maxNumOfEndpoints: 3}}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: running-requests-size-scorer}, {pluginRef: max-score-picker}]
"""


def test_fallbacks_are_tried_in_order(fakes, start_epp, start_envoy):
    engines = [fakes.add(MODEL) for _ in range(3)]
    for i, engine in enumerate(engines):
        engine.running = 10.0 * i  # the order of preference
        engine.answer = unary(200, b"{}")
    # The last look at the engines is long past when the first one dies.
    epp = start_epp([e.url for e in engines], f"--config-text={FALLBACKS}", "--refresh-metrics-interval=1h")
    envoy = start_envoy(epp.address, [e.address for e in engines])
    response = envoy.post(CHAT, ask())
    assert response.headers[SERVED_BY] == text_of(engines[0].address)
    engines[0].stop()
    response = envoy.post(CHAT, ask())
    assert response.status == 200
    assert response.headers[SERVED_BY] == text_of(engines[1].address)
    assert response.headers[ATTEMPTS] == "2"


# --- trouble


def test_picker_down(fakes, start_epp, start_envoy):
    engines = [fakes.add(MODEL) for _ in range(2)]
    for engine in engines:
        engine.answer = unary(200, b"{}")
    addresses = [e.address for e in engines]
    epp = start_epp([e.url for e in engines], "--health-checking")
    closed = start_envoy(epp.address, addresses, picker_health=True)
    open_ = start_envoy(epp.address, addresses, picker_health=True, fail_open=True)
    for envoy in (closed, open_):
        eventually(envoy.picker_is_healthy, "the picker is healthy")
        assert envoy.post(CHAT, ask()).status == 200
    epp.process.stop()
    for envoy in (closed, open_):
        eventually(lambda: not envoy.picker_is_healthy(), "the picker is known to be down")
    assert closed.post(CHAT, ask()).status == 500
    assert open_.post(CHAT, ask()).status == 200


def test_client_that_goes_away(fake, start_epp, start_envoy):
    fake.answer = hold(first_events=3)
    epp = start_epp([fake.url])
    envoy = start_envoy(epp.address)
    with envoy.connect() as connection:
        connection.send(render_request("POST", CHAT, json.dumps(ask(stream=True)).encode()))
        assert connection.read_head().status == 200
        seen = b""
        while seen.count(b"\n\n") < 3:
            seen += connection.read_chunk()
        assert epp.endpoints()[0]["in_flight_requests"] == 1
    assert fake.requests[-1].aborted.wait(PATIENCE_S)
    epp.wait_idle()
    assert epp.metric("llm_d_epp_request_total") == 1
    assert epp.metric("llm_d_epp_request_error_total") == 0, "as llm-d counts"


def test_client_that_goes_away_while_its_body_comes(fake, start_epp, start_envoy):
    epp = start_epp([fake.url])
    envoy = start_envoy(epp.address)
    with envoy.connect() as connection:
        connection.send(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{")
        eventually(lambda: envoy.stat("http.client.ext_proc.picker.streams_started") == 1, "the picker hears of it")
    eventually(lambda: envoy.stat("http.client.ext_proc.picker.streams_closed") == 1, "the stream is over")
    assert not fake.requests
    assert epp.metric("llm_d_epp_request_total") == 0


def test_many_streams_at_a_time(stack):
    _, epp, envoy = stack(4)

    def one(i: int) -> bool:
        response = envoy.post(CHAT, ask(f"question {i} " + "x" * (i % 7) * 1000, stream=i % 2 == 0))
        return response.status == 200 and response.complete

    with concurrent.futures.ThreadPoolExecutor(100) as threads:
        assert all(threads.map(one, range(500)))
    eventually(lambda: epp.metric("llm_d_epp_request_total") == 500, "all are counted")
    assert epp.metric("llm_d_epp_request_error_total") == 0


def test_thousands_of_requests_on_one_connection(fake, start_epp, start_envoy):
    """Envoy resets the stream of every exchange when it is complete: no number of them is a fault."""
    fake.answer = unary(200, b"{}")
    epp = start_epp([fake.url], "--enable-grpc-stream-metrics")
    envoy = start_envoy(epp.address)
    request = render_request("POST", CHAT, json.dumps(ask()).encode())

    def ask_often(_) -> set[int]:
        with envoy.connect() as connection:
            statuses = set()
            for _ in range(300):
                connection.send(request)
                statuses.add(connection.read_response("POST").status)
            return statuses

    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        assert set().union(*threads.map(ask_often, range(10))) == {200}
    assert envoy.stat("cluster.picker.upstream_rq_tx_reset") == 3000, "as this test says of Envoy"
    assert envoy.stat("cluster.picker.upstream_cx_total") == 1
    assert envoy.stat("http.client.ext_proc.picker.streams_failed") == 0
    eventually(lambda: epp.metric("llm_d_epp_extproc_streams_total", code="OK") == 3000, "all are over, and well")
    assert epp.metric("penstock_grpc_clients_gone_total", server="ext_proc") == 0


@pytest.fixture
def many_descriptors():
    """For thousands of connections, here and in what is started."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(10_000, before[1])), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_1500_streams_at_once(many_descriptors, fakes, start_epp, start_envoy):
    """They come in one burst, of which Envoy puts the most it ever does on a new connection. None ends before all have
    begun; then all clients go."""
    engines = [fakes.add(MODEL) for _ in range(4)]
    for engine in engines:
        engine.answer = hold(first_events=1)
    epp = start_epp([e.url for e in engines], "--policy=least-requests")
    envoy = start_envoy(epp.address)
    request = render_request("POST", CHAT, json.dumps(ask(stream=True)).encode())
    connections = []
    try:
        epp.process.popen.send_signal(signal.SIGSTOP)
        for _ in range(1500):
            connections.append(envoy.connect())
            connections[-1].send(request)
        started = "http.client.ext_proc.picker.streams_started"
        eventually(lambda: envoy.stat(started) == 1500, "Envoy has them all")
        epp.process.popen.send_signal(signal.SIGCONT)
        for connection in connections:
            assert connection.read_head().status == 200
        in_flight = [e["in_flight_requests"] for e in epp.endpoints()]
        assert sum(in_flight) == 1500
        assert min(in_flight) > 300, "they are spread"
    finally:
        epp.process.popen.send_signal(signal.SIGCONT)
        for connection in connections:
            connection.close()
    epp.wait_idle()


def test_picker_restarted_under_load(start_sim, start_epp, start_envoy):
    sim = start_sim(2, "--speed", "20")
    first = start_epp(sim.urls, "--health-checking")
    first.wait_healthy(*sim.addresses)
    envoy = start_envoy(first.address, picker_health=True)
    eventually(envoy.picker_is_healthy, "the picker is healthy")
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        going = [threads.submit(envoy.post, CHAT, ask(f"q{i}", stream=True)) for i in range(40)]
        eventually(lambda: sum(f.done() for f in going) >= 8, "traffic flows")
        # A drain: what has begun ends well, nothing new is sent while health says no.
        first.process.stop()
        answers = [f.result() for f in going]
    statuses = {a.status for a in answers}
    assert statuses <= {200, 500}, statuses
    assert all(a.complete for a in answers if a.status == 200)
    port = first.address[1]
    second = start_epp(sim.urls, "--health-checking", f"--grpc-port={port}")
    second.wait_healthy(*sim.addresses)
    eventually(envoy.picker_is_healthy, "the picker is healthy again")
    assert envoy.post(CHAT, ask()).status == 200


def test_connections_come_anew_and_nothing_is_lost(fake, start_epp, start_envoy):
    async def answer(request, connection) -> None:
        behaviour = hold(first_events=1) if request.json().get("stream") else unary(200, b"{}")
        await behaviour(request, connection)

    fake.answer = answer
    epp = start_epp([fake.url], "--max-connection-age=1s")
    envoy = start_envoy(epp.address)

    def ask_often(_) -> set[int]:
        statuses = set()
        while envoy.stat("cluster.picker.upstream_cx_total") < 4:
            statuses.add(envoy.post(CHAT, ask()).status)
        return statuses

    with envoy.connect() as long:
        long.send(render_request("POST", CHAT, json.dumps(ask(stream=True)).encode()))
        assert long.read_head().status == 200
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            assert set().union(*threads.map(ask_often, range(4))) == {200}
        eventually(lambda: epp.endpoints()[0]["in_flight_requests"] == 1, "only the long one is there")
        assert not fake.requests[0].aborted.is_set(), "it outlives three connections"
    assert fake.requests[0].aborted.wait(PATIENCE_S)
    assert envoy.stat("http.client.ext_proc.picker.streams_failed") == 0
    epp.wait_idle()


# --- rewritten models


@pytest.mark.parametrize("is_stream", [False, True])
def test_rewritten_model(is_stream, fake, start_epp, start_gateway, start_envoy):
    """The engine is asked for another model than the client, and the client never learns of it."""

    async def answer(request, connection):
        text = json.dumps({"model": request.json()["model"], "choices": []}).encode()
        if not is_stream:
            return await connection.whole(200, text)
        await connection.head(200, content_type="text/event-stream", transfer_encoding="chunked")
        whole = b"data: " + text + b"\n\n"
        for piece in (whole[:20], whole[20:26], whole[26:]):
            await connection.chunk(piece)
        await connection.chunk(b"")

    fake.answer = answer
    fake.loras = ["tuned-42"]
    envoy = start_envoy(start_epp([fake.url]).address)
    gateway = start_gateway([fake.url])
    gateway.wait_healthy(fake.address)
    for front in (envoy, gateway):
        response = front.post(CHAT, ask(stream=is_stream), {"x-llm-d-model-name-rewrite": "tuned-42"})
        assert response.status == 200, response
        assert fake.requests[-1].json() == {**ask(stream=is_stream), "model": "tuned-42"}
        assert b"tuned-42" not in response.body
        assert MODEL.encode() in response.body
        assert response.complete


# --- TLS, health, gRPC engines


def test_tls_and_health_on_one_port(fake, start_epp, start_envoy):
    fake.answer = unary(200, b"{}")
    epp = start_epp([fake.url], "--secure-serving=true", "--health-checking")
    envoy = start_envoy(epp.address, picker_tls=True, picker_health=True)
    eventually(envoy.picker_is_healthy, "the picker is healthy")
    assert envoy.post(CHAT, ask()).status == 200


def test_health(fake, start_epp):
    epp = start_epp([fake.url], "--drain-timeout=3s")
    with grpc.insecure_channel(f"127.0.0.1:{epp.health[1]}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        # The last is what charts probe for: no service of that name.
        for name in ("", "liveness", "readiness", PICKER_SERVICE, "inference-extension"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE_S)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, name
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="readiness"), timeout=PATIENCE_S)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        with socket.create_connection(epp.address):  # somebody is there, so the drain takes its time
            epp.process.terminate()
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            for name in ("", "liveness", "readiness", PICKER_SERVICE):
                answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=PATIENCE_S)
                assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING, name
    assert epp.process.wait() == 0


def field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field."""
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


VLLM_GRPC = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: vllmgrpc-parser}
- {type: prefix-cache-scorer}
- {type: max-score-picker}
requestHandler: {parsers: [{pluginRef: vllmgrpc-parser}]}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: prefix-cache-scorer}, {pluginRef: max-score-picker}]
"""


def test_vllms_grpc(fakes, start_epp, start_envoy):
    """RPCs of vLLM's engine service, whose metrics come over HTTP from the same port's neighbour."""
    fake = fakes.add(MODEL)
    chunk = field(1, b"\x08\x01\x10\x07\x18\x02\x20\x03")  # token ids and counts of a stream's chunk
    handler = grpc.unary_stream_rpc_method_handler(lambda request, context: iter([chunk, chunk]))
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        engine = grpc.server(threads)
        engine.add_registered_method_handlers("vllm.grpc.engine.VllmEngine", {"Generate": handler})
        port = engine.add_insecure_port("127.0.0.1:0")
        engine.start()
        epp = start_epp(
            [f"http://127.0.0.1:{port},metricsPort={fake.port}"], f"--config-text={VLLM_GRPC}"
        )
        epp.wait_healthy(("127.0.0.1", port))
        envoy = start_envoy(epp.address, engine_http2=True)
        request = field(1, b"rpc-1") + field(2, field(1, b"hello there") + field(2, bytes(range(1, 65))))
        with grpc.insecure_channel(envoy.target) as channel:
            call = channel.unary_stream("/vllm.grpc.engine.VllmEngine/Generate")
            assert list(call(request, timeout=PATIENCE_S)) == [chunk, chunk]
            other = channel.unary_unary("/vllm.grpc.engine.VllmEngine/Elsewhere")
            with pytest.raises(grpc.RpcError) as refused:
                other(b"", timeout=PATIENCE_S)
            assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED, "the engine's own word"
        engine.stop(0).wait(PATIENCE_S)
    eventually(lambda: epp.metric("llm_d_epp_request_total") == 2, "both are counted")
    assert epp.metric("llm_d_epp_request_input_tokens_sum") == 7
