"""Whatever a client or an engine sends: a clear error, a counter, bounded memory, and nobody else is disturbed.

Every test runs beside a `neighbour`, a well-behaved client of the same gateway that must get all its answers.
"""

import json
import threading
import time

import pytest
from harness.fake_engine import (
    break_after,
    chat,
    completion_json,
    delta,
    flood,
    hold,
    never,
    raw,
    start_stream,
    unary,
)
from harness.process import find_binary, sanitizer_of
from harness.raw import RawConnection, render_request
from harness.wait import PATIENCE_S, eventually

MIB = 1 << 20
CHAT = "/v1/chat/completions"
GOOD = {"model": "good", "messages": [{"role": "user", "content": "hi"}]}
BAD = {"model": "bad", "messages": [{"role": "user", "content": "hi"}]}


class Neighbour:
    """Asks, again and again on one connection; every answer must be right."""

    def __init__(self, gateway):
        self._gateway = gateway
        self._stop = threading.Event()
        self.answers = 0
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._gateway.connect() as connection:
                while not self._stop.is_set():
                    response = connection.request("POST", CHAT, json.dumps(GOOD).encode())
                    assert response.status == 200, response
                    text = response.json()["choices"][0]["message"]["content"]
                    assert text == "hello neighbour", response
                    self.answers += 1
                    self._stop.wait(0.01)
        except BaseException as failure:  # handed to the test's thread by check()
            self.failure = failure

    def check(self) -> None:
        """At least one more answer arrives after what the test did."""
        before = self.answers
        eventually(lambda: self.failure or self.answers > before + 1, "the neighbour is served")
        self._stop.set()
        self._thread.join(PATIENCE_S)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def scene(fakes, start_gateway, request):
    """A gateway with short timeouts over a good and a bad engine, and a neighbour."""
    good, bad = fakes.add("good"), fakes.add("bad")
    good.answer = chat("hello neighbour")
    flags = getattr(request, "param", [])
    gateway = start_gateway(
        [good.url, bad.url], "--max-body", "1MiB", "--header-timeout", "500ms", "--body-timeout", "500ms",
        "--first-byte-timeout", "1s", "--idle-timeout", "1s", *flags,
    )
    gateway.wait_healthy(good.address, bad.address)
    eventually(lambda: len(gateway.request("GET", "/v1/models").json()["data"]) == 2, "two models")
    gateway.bad, gateway.good = bad, good
    gateway.rss_before = gateway.process.rss_bytes()
    neighbour = Neighbour(gateway)
    gateway.neighbour = neighbour
    eventually(lambda: neighbour.failure or neighbour.answers > 2, "the neighbour is served")
    yield gateway
    neighbour.check()
    assert gateway.process.popen.poll() is None


def client_errors(gateway) -> float:
    return gateway.metric("penstock_client_errors_total")


def engine_failures(gateway, kind: str) -> float:
    return gateway.metric("penstock_engine_failures_total", kind=kind)


def assert_grown_less_than(gateway, limit: int) -> None:
    # A sanitizer keeps freed memory for a while, and shadows all of it.
    allowance = 256 * MIB if sanitizer_of(find_binary()) else 0
    assert gateway.process.rss_bytes() - gateway.rss_before < limit + allowance


def assert_client_error_counted(gateway, before: float, count: int = 1) -> None:
    eventually(lambda: client_errors(gateway) == before + count, "the counter of client errors moves")


# --- clients: malformed HTTP

LENGTH = b"content-length: 5\r\n"
MALFORMED = {
    "no http": (b"this is no http at all\r\n\r\n", 400),
    "tls hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "bare line feeds": (b"GET /v1/models HTTP/1.1\nHost: a\n\n", 400),
    "no host": (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "folded header": (b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", 400),
    "space before colon": (b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400),
    "nul in header": (b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
    "two lengths": (b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n" + LENGTH * 2 + b"\r\nhello", 400),
    "different lengths": (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n" + LENGTH + b"content-length: 6\r\n\r\nhello", 400),
    "negative length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    "length of letters": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ten\r\n\r\n", 400),
    "length beyond 64 bits": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
    "length and chunked": (
        b"POST / HTTP/1.1\r\nHost: a\r\n" + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "bad chunk size": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "chunk without end": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n", 400),
    "unknown coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "connect": (b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "version 3": (b"GET /v1/models HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    "endless target": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "endless header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", 431),
    "header flood": (
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"x-%d: y\r\n" % i for i in range(500)) + b"\r\n", 431),
}


def test_malformed_http_is_refused_named_and_counted(scene):
    for name, (request, status) in MALFORMED.items():
        before = client_errors(scene)
        with scene.connect() as connection:
            connection.send_some(request)
            response = connection.read_response()
            assert response.status == status, f"{name}: {response}"
            assert response.error()["message"], name
            assert response.error()["code"], name
            assert connection.at_end(), f"{name}: the connection stays open"
        assert_client_error_counted(scene, before)
    assert not scene.bad.requests, "nothing malformed reaches an engine"


def test_smuggled_request_is_not_served(scene):
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
    with scene.connect() as connection:
        connection.send_some(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled
        )
        assert connection.read_response().status == 400
        assert connection.at_end()


def test_engine_gets_the_path_that_was_understood_and_no_header_of_the_connection(scene):
    with scene.connect() as connection:
        connection.send(
            b"GET http://elsewhere/v1/some?x=http://y HTTP/1.1\r\nHost: a\r\nConnection: x-one, keep-alive\r\n"
            b"Connection: X-Two\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\n\r\n"
        )
        connection.read_response()
    request = eventually(lambda: [r for r in (*scene.good.requests, *scene.bad.requests) if r.method == "GET"], "it")[0]
    assert request.path == "/v1/some?x=http://y"
    assert request.header("x-three") == "3"
    assert request.header("x-one") is None and request.header("x-two") is None


def test_an_escaped_path_is_the_same_api(scene):
    response = scene.post("/v1/chat%2Fcompletion%73", {"model": "nobody's", "messages": []})
    assert response.status == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert scene.request("GET", "/v1/model%73").json()["object"] == "list"


def test_unending_header_flood_is_cut_off_with_bounded_memory(scene):
    before = client_errors(scene)
    with scene.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        sent = 0
        line = b"x-flood: " + b"y" * 4000 + b"\r\n"
        while sent < 16 * MIB and connection.send_some(line):
            sent += len(line)
        assert sent < 16 * MIB, "the gateway takes headers without an end"
    assert_client_error_counted(scene, before)
    assert_grown_less_than(scene, 16 * MIB)


# --- clients: slow or gone


def test_slow_head_is_408(scene):
    before = client_errors(scene)
    with scene.connect() as connection:
        connection.send(b"GET /v1/models HT")
        response = connection.read_response()
        assert response.status == 408
        assert response.error()["message"]
        assert connection.at_end()
    assert_client_error_counted(scene, before)


def test_a_head_that_trickles_is_408_too(scene):
    # Each byte comes in time, the whole does not.
    with scene.connect() as connection:
        request = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 10_000
        connection.socket.settimeout(0.02)
        response = b""
        for byte in request:
            try:
                connection.socket.send(bytes([byte]))
                response = connection.socket.recv(4096)
            except TimeoutError:
                continue
            except OSError:
                break
            break
        assert b" 408 " in response


def test_slow_body_is_408(scene):
    before = client_errors(scene)
    with scene.connect() as connection:
        connection.send(render_request("POST", CHAT, b"", {"content-length": "100"}) + b'{"mod')
        assert connection.read_response().status == 408
    assert_client_error_counted(scene, before)


def test_client_that_leaves_inside_its_body_leaves_nothing_behind(scene):
    for _ in range(20):
        connection = scene.connect()
        connection.send(render_request("POST", CHAT, b"", {"content-length": "500000"}) + b"x" * 1000)
        connection.reset()
    assert not scene.bad.requests
    assert_grown_less_than(scene, 16 * MIB)


def test_hundreds_of_idle_and_half_open_connections_disturb_nobody(scene):
    connections = [scene.connect() for _ in range(300)]
    for i, connection in enumerate(connections):
        if i % 2:
            connection.send(b"POST /v1/chat/completions HTTP/1.1\r\nHo")
    assert scene.request("GET", "/v1/models").status == 200
    assert_grown_less_than(scene, 64 * MIB)
    for connection in connections:
        connection.close()


def test_client_that_never_reads_is_bounded_and_pauses_the_engine(scene):
    total = 256 * MIB
    scene.bad.answer = flood(total)
    with scene.connect(receive_buffer=4096) as connection:
        connection.send(render_request("POST", CHAT, json.dumps(BAD | {"stream": True}).encode()))
        engine_request = eventually(lambda: scene.bad.requests and scene.bad.requests[0], "the request")
        # The engine stands still when nothing moved for a while.
        seen = [-1, time.monotonic()]

        def stands():
            if engine_request.sent_bytes != seen[0]:
                seen[:] = [engine_request.sent_bytes, time.monotonic()]
            return time.monotonic() - seen[1] > 0.3

        eventually(stands, "back-pressure reaches the engine")
        assert engine_request.sent_bytes < 32 * MIB
        assert_grown_less_than(scene, 16 * MIB)
    assert engine_request.aborted.wait(PATIENCE_S)


def test_client_that_reads_late_gets_every_byte(scene):
    total = 8 * MIB
    scene.bad.answer = flood(total)
    with scene.connect(receive_buffer=4096) as connection:
        connection.send(render_request("POST", CHAT, json.dumps(BAD | {"stream": True}).encode()))
        connection.read_head()
        received = 0
        while chunk := connection.read_chunk():
            received += len(chunk)
        assert chunk == b""
        assert received == total


# --- clients: bodies


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_above_the_limit_is_413_with_bounded_memory(scene, framing):
    before = client_errors(scene)
    with scene.connect() as connection:
        if framing == "length":
            connection.send(render_request("POST", CHAT, b"", {"content-length": str(1 << 40)}))
        else:
            connection.send(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
            for _ in range(64):
                if not connection.send_some(piece):
                    break
        response = connection.read_response()
        assert response.status == 413
        assert "1048576" in response.error()["message"] or "1 MiB" in response.error()["message"]
    assert_client_error_counted(scene, before)
    assert_grown_less_than(scene, 16 * MIB)


def test_announced_length_alone_takes_no_memory(scene):
    connections = [scene.connect() for _ in range(100)]
    for connection in connections:
        connection.send(render_request("POST", CHAT, b"", {"content-length": "1000000"}))
    assert scene.request("GET", "/v1/models").status == 200
    assert_grown_less_than(scene, 16 * MIB)
    for connection in connections:
        connection.close()


def test_bodies_beyond_the_memory_for_them_are_503_until_there_is_room(fakes, start_gateway):
    slow, quick = fakes.add("slow"), fakes.add("quick")
    slow.answer, quick.answer = hold(), chat("here")
    gateway = start_gateway([slow.url, quick.url], "--max-body", "1MiB", "--max-buffered", "2MiB")
    gateway.wait_healthy(slow.address, quick.address)
    eventually(lambda: len(gateway.request("GET", "/v1/models").json()["data"]) == 2, "two models")

    def buffered() -> float:
        return gateway.metric("penstock_http_buffered_bytes", server="gateway")

    def ask(model: str) -> bytes:
        return json.dumps({"model": model, "messages": [{"role": "user", "content": "x" * 900_000}]}).encode()

    # What an engine has begun to answer holds no memory any more.
    streams = [gateway.connect() for _ in range(5)]
    for stream in streams:
        stream.send(render_request("POST", CHAT, ask("slow")))
        assert stream.read_head().status == 200
    assert buffered() == 0
    slow.answer = never
    # Two bodies fit, and what a body outgrows on its way; for a third there is no room whatever way it comes.
    waiting = [gateway.connect() for _ in range(2)]
    for number, connection in enumerate(waiting):
        connection.send(render_request("POST", CHAT, ask("slow")))
        eventually(lambda: len(slow.requests) == 6 + number, "the engine has the body")
    assert 1_800_000 < buffered() < 2_000_000
    refused = gateway.post(CHAT, ask("quick"))
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.error()["code"] == "overloaded"
    assert refused.error()["type"] == "service_unavailable"
    assert gateway.metric("penstock_http_overloaded_total", server="gateway") == 1
    assert client_errors(gateway) == 0
    assert gateway.post(CHAT, BAD | {"model": "quick"}).status == 200
    for connection in [*streams, *waiting]:
        connection.close()
    eventually(lambda: buffered() == 0, "all memory is back")
    assert gateway.post(CHAT, ask("quick")).status == 200


BODIES = {
    "truncated": (b'{"model":"bad","messages":[{"role":"user","content":"hi"', "invalid_json"),
    "empty": (b"", "invalid_json"),
    "a list": (b"[1,2]", "invalid_json"),
    "two objects": (json.dumps(BAD).encode() * 2, "invalid_json"),
    "invalid utf-8": (b'{"model":"bad","messages":[{"role":"user","content":"\xff\xfe"}]}', "invalid_utf8"),
    "lone surrogate bytes": (b'{"model":"bad","messages":[{"role":"user","content":"\xed\xa0\x80"}]}', "invalid_utf8"),
    "deep": (b'{"model":"bad","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nesting_too_deep"),
    "model is a number": (json.dumps(BAD | {"model": 7}).encode(), "invalid_type"),
    "messages is text": (json.dumps(BAD | {"messages": "hi"}).encode(), "invalid_type"),
    "stream is text": (json.dumps(BAD | {"stream": "yes"}).encode(), "invalid_type"),
    "no model": (json.dumps({"messages": BAD["messages"]}).encode(), "missing_field"),
    "no messages": (b'{"model":"bad"}', "missing_field"),
}


def test_bad_bodies_are_400_with_a_code_and_never_reach_an_engine(scene):
    for name, (body, code) in BODIES.items():
        before = scene.metric("penstock_client_errors_total", code=code)
        response = scene.post(CHAT, body)
        assert response.status == 400, f"{name}: {response}"
        assert response.error()["code"] == code, name
        assert response.error()["type"] == "invalid_request_error", name
        after = scene.metric("penstock_client_errors_total", code=code)
        assert after == before + 1, name
    assert not scene.bad.requests


def test_connection_survives_a_bad_body(scene):
    with scene.connect() as connection:
        assert connection.request("POST", CHAT, b"{").status == 400
        assert connection.request("POST", CHAT, json.dumps(GOOD).encode()).status == 200


def test_unknown_models_without_end_make_no_series_without_end(scene):
    for i in range(200):
        assert scene.post(CHAT, BAD | {"model": f"invented-{i}"}).status == 404
    invented = [
        labels for name, labels, _ in scene.metrics().samples
        if any(value.startswith("invented-") for value in labels.values())
    ]
    assert not invented


def test_models_that_nobody_names_make_no_series_while_no_engine_is_up(fake, start_gateway):
    fake.stop()
    gateway = start_gateway([fake.url])
    for i in range(20):
        assert gateway.post(CHAT, BAD | {"model": f"invented-{i}"}).status == 503
    values = {value for _, labels, _ in gateway.metrics().samples for value in labels.values()}
    assert not [value for value in values if value.startswith("invented-")]
    assert "unknown" in values


def test_fairness_ids_without_end_make_no_series_without_end(scene):
    with scene.connect() as connection:
        for i in range(1500):
            response = connection.request(
                "POST", CHAT, json.dumps(GOOD).encode(), {"x-llm-d-inference-fairness-id": f"tenant-{i}"}
            )
            assert response.status == 200
    metrics = scene.metrics()
    assert len(metrics.labels("llm_d_epp_request_total")) <= 1100
    assert len(metrics.labels("llm_d_epp_request_duration_seconds_count")) <= 300


def test_fairness_ids_of_any_bytes_leave_the_metrics_page_short_and_readable(scene):
    for value in ("\xff\xfe", "x" * 60_000, "y" * 60_000):
        response = scene.post(CHAT, GOOD, {"x-llm-d-inference-fairness-id": value})
        assert response.status == 200
    with RawConnection(scene.admin) as connection:
        page = connection.request("GET", "/metrics").body
    page.decode()  # Prometheus refuses a page that is not UTF-8
    assert len(page) < MIB


# --- engines


def bad_stream(scene) -> RawConnection:
    connection = scene.connect()
    connection.send(render_request("POST", CHAT, json.dumps(BAD | {"stream": True}).encode()))
    return connection


def test_engine_that_closes_between_events_gives_an_error_event_and_a_broken_end(scene):
    scene.bad.answer = break_after(3)
    with bad_stream(scene) as connection:
        response = connection.read_response()
    assert response.status == 200
    assert not response.complete, "the client must see that the stream is broken off"
    last = json.loads(response.body.rstrip(b"\n").rpartition(b"\n\n")[2].removeprefix(b"data: "))
    assert last["error"]["code"] == "engine_truncated"
    assert engine_failures(scene, "truncated") == 1


def test_engine_that_closes_inside_an_event_gives_a_broken_end_only(scene):
    scene.bad.answer = break_after(2, inside=True)
    with bad_stream(scene) as connection:
        response = connection.read_response()
    assert not response.complete
    assert response.body.endswith(b'data: {"id":"half')
    assert engine_failures(scene, "truncated") == 1


def test_engine_that_closes_inside_a_unary_body_breaks_the_client_s_too(scene):
    scene.bad.answer = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"half\":")
    with scene.connect() as connection:
        response = connection.request("POST", CHAT, json.dumps(BAD).encode())
        assert not response.complete
    assert engine_failures(scene, "truncated") == 1


GARBAGE = {
    "no http": b"\x00\x01\x02 what is this\r\n\r\n",
    "text": b"ERROR engine core died\n\n",
    "bad status": b"HTTP/1.1 abc OK\r\ncontent-length: 0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "length and chunked": b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "endless head": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 300_000 + b"\r\n\r\n",
}


def test_garbage_from_an_engine_is_502_and_counted(scene):
    for i, (name, data) in enumerate(GARBAGE.items()):
        scene.bad.answer = raw(data)
        response = scene.post(CHAT, BAD)
        assert response.status == 502, f"{name}: {response}"
        assert response.error()["code"] == "engine_bad_response", name
        assert f":{scene.bad.port}" in response.error()["message"], name
        assert engine_failures(scene, "bad_response") == i + 1, name


def test_garbage_inside_a_chunked_body_breaks_the_stream(scene):
    async def answer(request, connection):
        await start_stream(connection)
        await connection.event(delta("fine "))
        await connection.send(b"this is no chunk size\r\n")

    scene.bad.answer = answer
    with bad_stream(scene) as connection:
        response = connection.read_response()
    assert not response.complete
    assert b"fine " in response.body
    assert scene.metric("penstock_engine_failures_total") >= 1


def test_events_that_are_no_json_are_relayed_as_they_are(scene):
    async def answer(request, connection):
        await start_stream(connection)
        await connection.chunk(b'data: {"usage": {"prompt_tokens": \xff broken\n\n' * 50)
        await connection.chunk(b"\x00" * 1000 + b"\n\ndata: [DONE]\n\n")
        await connection.send(b"0\r\n\r\n")

    scene.bad.answer = answer
    with bad_stream(scene) as connection:
        response = connection.read_response()
    assert response.complete
    assert response.body.count(b"broken") == 50


def test_engine_that_never_answers_is_504(scene):
    scene.bad.answer = never
    response = scene.post(CHAT, BAD)
    assert response.status == 504
    assert response.error()["code"] == "engine_timeout"
    assert engine_failures(scene, "timeout") == 1
    assert scene.bad.requests[0].aborted.wait(PATIENCE_S), "the engine's request is cancelled"


def test_engine_that_falls_silent_inside_a_stream_is_cut_off(scene):
    from harness.fake_engine import hold

    scene.bad.answer = hold(2)
    with bad_stream(scene) as connection:
        response = connection.read_response()
    assert not response.complete
    assert b"engine_timeout" in response.body
    assert scene.bad.requests[0].aborted.wait(PATIENCE_S)


def test_engine_that_answers_faster_than_the_client_reads_is_relayed_whole(scene):
    scene.bad.answer = flood(32 * MIB)
    with bad_stream(scene) as connection:
        response = connection.read_response()
    assert response.complete and len(response.body) == 32 * MIB
    assert_grown_less_than(scene, 24 * MIB)


def test_interim_answers_of_an_engine_are_skipped(scene):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    scene.bad.answer = raw(interim + b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    response = scene.post(CHAT, BAD)
    assert (response.status, response.body) == (200, b"{}")


def test_usage_split_over_chunks_is_still_counted(scene):
    record = b'data: {"choices":[],"usage":{"prompt_tokens":77,"completion_tokens":5,"total_tokens":82}}\n\n'

    async def answer(request, connection):
        await start_stream(connection)
        await connection.event(delta("text"))
        for i in range(0, len(record), 3):
            await connection.chunk(record[i : i + 3])
        await connection.chunk(b"data: [DONE]\n\n")
        await connection.send(b"0\r\n\r\n")

    scene.bad.answer = answer
    with bad_stream(scene) as connection:
        assert connection.read_response().complete
    eventually(
        lambda: scene.metric("llm_d_epp_request_input_tokens_sum", model_name="bad") == 77,
        "the usage record is counted",
    )


def test_broken_metrics_and_models_of_an_engine_do_not_spread(scene):
    scene.bad.metrics_answer = unary(200, b"\x00\xff{{{{ not metrics\n" * 1000, content_type="text/plain")
    scene.bad.models_answer = unary(200, b'{"data": [{"id": ')
    before = scene.bad.scrapes
    eventually(lambda: scene.bad.scrapes > before + 5, "it is scraped on")
    assert scene.post(CHAT, GOOD).status == 200


def test_metrics_without_end_do_not_fill_the_memory(scene):
    async def endless(request, connection):
        await connection.head(200, content_type="text/plain", transfer_encoding="chunked")
        for _ in range(2000):
            await connection.chunk(b'vllm:other{a="b"} 1\n' * 3000)

    scene.bad.metrics_answer = endless
    before = scene.bad.scrapes
    eventually(lambda: scene.bad.scrapes > before + 2, "it is scraped again")
    assert_grown_less_than(scene, 24 * MIB)


def test_unary_answer_with_a_long_body_arrives_whole(scene):
    text = "x" * (4 * MIB)
    scene.bad.answer = unary(200, completion_json(text))
    response = scene.post(CHAT, BAD)
    assert response.json()["choices"][0]["message"]["content"] == text
