"""The Envoy of these tests does what a picker relies on; the picker here is the fixed one of the harness."""

import concurrent.futures
import json

import grpc
import pytest
from conftest import MODEL
from harness.certificate import make_certificate
from harness.envoy import ATTEMPTS, DESTINATION, SERVED_BY, subset_hint
from harness.fake_engine import completion_json, hold, unary
from harness.raw import events_of, render_request
from harness.wait import PATIENCE_S, eventually

CHAT = "/v1/chat/completions"
FULL_DUPLEX = {"FULL_DUPLEX_STREAMED"}


def ask(content: str = "hi", **fields) -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}


def text_of(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


@pytest.fixture
def dead_address(fakes) -> tuple[str, int]:
    """Where nobody listens."""
    engine = fakes.add()
    engine.stop()
    return engine.address


def test_request_goes_to_the_engine_that_the_picker_names(start_sim, start_picker, start_envoy):
    sim = start_sim(2, "--speed", "20")
    picker = start_picker(text_of(sim.addresses[1]))
    envoy = start_envoy(picker.address)
    response = envoy.post(CHAT, ask())
    assert response.status == 200, response
    assert response.json()["usage"]["completion_tokens"] == 8
    assert response.headers[SERVED_BY] == text_of(sim.addresses[1])
    (exchange,) = picker.exchanges
    assert exchange.modes == FULL_DUPLEX
    assert exchange.headers[":path"] == CHAT
    assert b'"messages"' in exchange.body
    assert exchange.response_headers[":status"] == "200"
    assert exchange.response_body == response.body


def test_stream_passes_the_picker(start_sim, start_picker, start_envoy):
    sim = start_sim(1, "--speed", "20")
    picker = start_picker(text_of(sim.addresses[0]))
    envoy = start_envoy(picker.address)
    response = envoy.post(CHAT, ask(stream=True))
    assert response.complete
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.body.endswith(b"data: [DONE]\n\n")
    assert len(events_of(response.body)) >= 8
    (exchange,) = picker.exchanges
    eventually(lambda: exchange.ended, "the picker's stream is over")
    assert exchange.response_body == response.body


def test_event_arrives_while_the_engine_still_writes(fake, start_picker, start_envoy):
    fake.answer = hold(first_events=3)
    picker = start_picker(text_of(fake.address))
    envoy = start_envoy(picker.address)
    with envoy.connect() as connection:
        body = json.dumps(ask(stream=True)).encode()
        connection.send(render_request("POST", CHAT, body))
        assert connection.read_head().status == 200
        seen = b""
        while seen.count(b"\n\n") < 3:
            seen += connection.read_chunk()
    assert fake.requests[-1].aborted.wait(PATIENCE_S)
    eventually(lambda: picker.exchanges[-1].ended, "the picker's stream is over")


def test_body_larger_than_every_window_arrives_whole(fake, start_picker, start_envoy):
    answer = completion_json("y" * 1_000_000)
    fake.answer = unary(200, answer)
    picker = start_picker(text_of(fake.address))
    envoy = start_envoy(picker.address)
    question = ask("x" * 1_000_000)
    response = envoy.post(CHAT, question)
    assert response.body == answer
    assert fake.requests[-1].json() == question


def test_request_without_body(start_sim, start_picker, start_envoy):
    sim = start_sim(1)
    picker = start_picker(text_of(sim.addresses[0]))
    envoy = start_envoy(picker.address)
    response = envoy.request("GET", "/v1/models")
    assert response.json()["data"][0]["id"] == MODEL


def test_subset_hint_reaches_the_picker_as_metadata(fake, start_picker, start_envoy):
    picker = start_picker(text_of(fake.address))
    envoy = start_envoy(picker.address)
    hosts = ["127.0.0.1:8000", "[fd00::1]:8000"]
    for value in (hosts, [], "127.0.0.1:8000"):
        assert envoy.post(CHAT, ask(), subset_hint(value)).status == 200
        hint = picker.exchanges[-1].metadata["envoy.lb.subset_hint"]
        assert hint == {f"{DESTINATION}-subset": value}
        assert "x-test-subset-hint" not in picker.exchanges[-1].headers
    assert envoy.post(CHAT, ask()).status == 200
    assert "envoy.lb.subset_hint" not in picker.exchanges[-1].metadata


def test_list_of_destinations_is_tried_in_order(dead_address, fakes, start_picker, start_envoy):
    alive = [fakes.add(), fakes.add()]
    picker = start_picker(",".join(text_of(a) for a in (dead_address, alive[1].address)))
    envoy = start_envoy(picker.address, [dead_address] + [e.address for e in alive])
    for _ in range(5):
        response = envoy.post(CHAT, ask())
        assert response.status == 200, response
        assert response.headers[SERVED_BY] == text_of(alive[1].address)
        assert response.headers[ATTEMPTS] == "2"
    assert envoy.stat("cluster.engines.upstream_rq_retry") == 5


def test_dead_picker_is_an_error_unless_it_fails_open(dead_address, fakes, start_envoy):
    engines = [fakes.add(), fakes.add()]
    addresses = [e.address for e in engines]
    closed = start_envoy(dead_address, addresses)
    assert closed.post(CHAT, ask()).status == 500
    assert closed.stat("http.client.ext_proc.picker.streams_failed") == 1
    # Without asking for its health, Envoy learns of it only when the body is under way, and then it is too late to go without.
    open_ = start_envoy(dead_address, addresses, fail_open=True, picker_health=True)
    eventually(lambda: open_.stat("cluster.picker.health_check.failure"), "the picker is known to be dead")
    served = {open_.post(CHAT, ask()).headers[SERVED_BY] for _ in range(4)}
    assert served == {text_of(a) for a in addresses}


def test_picker_behind_tls_that_tells_its_health(fake, tmp_path, start_picker, start_envoy):
    picker = start_picker(text_of(fake.address), make_certificate(tmp_path / "certificate"))
    envoy = start_envoy(picker.address, picker_tls=True, picker_health=True)
    eventually(envoy.picker_is_healthy, "the picker is healthy")
    assert envoy.post(CHAT, ask()).status == 200
    picker.set_serving(False)
    eventually(lambda: not envoy.picker_is_healthy(), "the picker is ill")
    assert envoy.post(CHAT, ask()).status == 500


def test_rpc_of_a_grpc_engine_keeps_its_trailers(start_picker, start_envoy):
    def echo(request, context):
        context.set_trailing_metadata((("x-trailer", "end"),))
        yield from (request, request)

    handler = grpc.unary_stream_rpc_method_handler(echo)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        engine = grpc.server(threads)
        engine.add_registered_method_handlers("test.Engine", {"Echo": handler})
        port = engine.add_insecure_port("127.0.0.1:0")
        engine.start()
        picker = start_picker(f"127.0.0.1:{port}")
        envoy = start_envoy(picker.address, engine_http2=True)
        with grpc.insecure_channel(envoy.target) as channel:
            call = channel.unary_stream("/test.Engine/Echo")(b"hello", timeout=PATIENCE_S)
            assert list(call) == [b"hello", b"hello"]
            assert ("x-trailer", "end") in call.trailing_metadata()
        engine.stop(0).wait(PATIENCE_S)
    assert picker.exchanges[-1].trailers["grpc-status"] == "0"
