"""Engines that die, come back, refuse and drain, under load."""

import concurrent.futures
import http.client
import itertools
import json
import threading
import time

import pytest
from conftest import MODEL
from harness.fake_engine import chat, delta, hold, in_turn, raw, start_stream, unary
from harness.raw import render_request
from harness.wait import PATIENCE_S, eventually

CHAT = "/v1/chat/completions"


def ask(model: str = "fake", **fields) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}


class Load:
    """Clients that stream without a pause. What became of each request is counted."""

    def __init__(self, gateway, clients: int, model: str, max_tokens: int):
        self._gateway = gateway
        self._fields = dict(model=model, stream=True, max_tokens=max_tokens)
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.complete = 0
        self.broken_after_start = 0
        self.lost: list[str] = []  # failed before a byte of the answer
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _client(self) -> None:
        while not self._stop.is_set():
            outcome = self._one()
            with self._lock:
                if outcome == "complete":
                    self.complete += 1
                elif outcome == "broken":
                    self.broken_after_start += 1
                elif len(self.lost) < 100:
                    self.lost.append(outcome)

    def _one(self) -> str:
        try:
            with self._gateway.connect() as connection:
                # Each question is new, so that no engine's cache attracts them all.
                body = ask(**self._fields)
                body["messages"][0]["content"] = f"Question {next(self._numbers)}?"
                connection.send(render_request("POST", CHAT, json.dumps(body).encode()))
                response = connection.read_response()
        except (OSError, http.client.HTTPException) as failure:
            return f"lost: {failure!r}"
        if response.status != 200:
            return f"lost: {response.status} {response.body[:300]!r}"
        whole = response.complete and response.body.rstrip().endswith(b"[DONE]")
        return "complete" if whole else "broken"

    def wait_for(self, more: int) -> None:
        target = self.complete + more
        eventually(lambda: self.complete >= target or self.lost, f"{more} more answers")

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


def test_killing_and_restarting_engines_under_load_loses_no_unanswered_request(
    start_sim, start_gateway
):
    sims = [start_sim(1, "--speed", "10") for _ in range(3)]
    gateway = start_gateway([url for sim in sims for url in sim.urls], "--log-format", "json")
    gateway.wait_healthy(*(sim.addresses[0] for sim in sims))
    load = Load(gateway, clients=12, model=MODEL, max_tokens=30)
    try:
        load.wait_for(20)
        for round_number in range(3):
            victim = sims[round_number % 3]
            address = victim.addresses[0]
            victim.kill()
            eventually(
                lambda: f"{address[0]}:{address[1]}" not in gateway.healthy(), "the dead one leaves"
            )
            load.wait_for(20)
            sims[round_number % 3] = start_sim(1, "--speed", "10", port=address[1])
            gateway.wait_healthy(*(sim.addresses[0] for sim in sims))
            load.wait_for(20)
    finally:
        load.stop()
    assert not load.lost, load.lost[:3]
    assert load.complete > 100
    gateway.wait_idle()
    # Each engine has work again after it came back.
    assert all(sim.metrics().sum("vllm:request_success_total") > 0 for sim in sims)


def test_a_restarted_engine_counts_as_cold(start_sim, start_gateway):
    sim = start_sim(1, "--speed", "20")
    gateway = start_gateway(sim.urls)
    gateway.wait_healthy(*sim.addresses)
    body = ask(MODEL, max_tokens=2)
    body["messages"][0]["content"] = "A prompt of several blocks. " * 100

    def matched() -> float:
        response = gateway.post(CHAT, body)
        assert response.status == 200, response
        attempt = gateway.decision(response.headers["x-request-id"])["attempts"][0]
        return attempt["candidates"][0]["matched_blocks"]

    assert matched() == 0
    assert matched() > 0
    sim.kill()
    eventually(lambda: not gateway.healthy(), "the engine is seen to be dead")
    assert gateway.post(CHAT, body).status == 503
    sim = start_sim(1, "--speed", "20", port=sim.addresses[0][1])
    gateway.wait_healthy(*sim.addresses)
    assert matched() == 0
    assert matched() > 0


def test_refused_connection_is_retried_elsewhere(fakes, start_gateway):
    a, b = fakes.add(), fakes.add()
    a.answer = b.answer = chat("hi")
    # Scrapes are rare: only the request itself finds out that `a` is gone.
    gateway = start_gateway([a.url, b.url], "--policy", "random", "--scrape-interval", "60s")
    gateway.wait_healthy(a.address, b.address)
    a.stop()
    for _ in range(20):
        assert gateway.post(CHAT, ask()).status == 200
    assert gateway.metric("penstock_retries_total", reason="connect") >= 1
    assert gateway.healthy() == {f"127.0.0.1:{b.port}"}


@pytest.mark.parametrize("status", [502, 503, 504])
def test_5xx_before_the_first_byte_is_retried_elsewhere(fakes, start_gateway, status):
    a, b = fakes.add(), fakes.add()
    a.answer, b.answer = unary(status, b'{"error":{"message":"no"}}'), chat("hi")
    gateway = start_gateway([a.url, b.url], "--policy", "random")
    gateway.wait_healthy(a.address, b.address)
    for _ in range(20):
        assert gateway.post(CHAT, ask()).status == 200
    assert a.requests, "random reaches both"
    assert gateway.metric("penstock_retries_total", reason=f"status_{status}") == len(a.requests)


def test_reset_before_the_first_byte_is_retried_elsewhere(fakes, start_gateway):
    a, b = fakes.add(), fakes.add()
    a.answer, b.answer = raw(b"", "reset"), chat("hi")
    gateway = start_gateway([a.url, b.url], "--policy", "random")
    gateway.wait_healthy(a.address, b.address)
    for _ in range(20):
        assert gateway.post(CHAT, ask()).status == 200
    assert a.requests
    assert gateway.metric("penstock_retries_total", reason="reset") >= 1


def test_nothing_is_retried_after_the_first_byte(fakes, start_gateway):
    async def half(request, connection):
        await start_stream(connection)
        await connection.event(delta("half"))
        connection.reset()

    a, b = fakes.add(), fakes.add()
    a.answer = b.answer = half
    gateway = start_gateway([a.url, b.url])
    gateway.wait_healthy(a.address, b.address)
    for i in range(10):
        with gateway.connect() as connection:
            connection.send(render_request("POST", CHAT, json.dumps(ask(stream=True)).encode()))
            assert not connection.read_response().complete
        assert len(a.requests) + len(b.requests) == i + 1
    assert gateway.metric("penstock_retries_total") == 0


def test_at_most_two_tries(fakes, start_gateway):
    engines = [fakes.add() for _ in range(4)]
    for engine in engines:
        engine.answer = unary(503, b'{"error":{"message":"busy"}}')
    gateway = start_gateway([e.url for e in engines])
    gateway.wait_healthy(*(e.address for e in engines))
    response = gateway.post(CHAT, ask())
    assert response.status == 503
    assert response.error()["message"] == "busy", "the last engine's own answer reaches the client"
    assert sum(len(e.requests) for e in engines) == 2


def test_retries_stay_inside_their_budget(fakes, start_gateway):
    engines = [fakes.add() for _ in range(2)]
    for engine in engines:
        engine.answer = unary(503, b"{}")
    gateway = start_gateway([e.url for e in engines])
    gateway.wait_healthy(*(e.address for e in engines))
    asked = 600
    with gateway.connect() as connection:
        for _ in range(asked):
            assert connection.request("POST", CHAT, json.dumps(ask()).encode()).status == 503
    # A fifth of the requests, and the reserve with which the budget starts.
    retries = gateway.metric("penstock_retries_total")
    assert retries == sum(len(e.requests) for e in engines) - asked
    assert 200 <= retries <= 200 + asked * 0.2 + 1


def test_errors_count_under_the_fairness_id_of_their_request(fake, start_gateway):
    fake.answer = unary(500, b"{}")
    gateway = start_gateway([fake.url])
    gateway.wait_healthy(fake.address)
    assert gateway.post(CHAT, ask(), {"x-llm-d-inference-fairness-id": "tenant"}).status == 500
    for name in ("llm_d_epp_request_total", "llm_d_epp_request_error_total"):
        assert gateway.metric(name, fairness_id="tenant") == gateway.metric(name) == 1, name


def test_4xx_never_counts_against_an_engine(fake, start_gateway):
    gateway = start_gateway([fake.url])
    gateway.wait_healthy(fake.address)
    for status in (400, 401, 404, 409, 422, 429):
        fake.answer = unary(status, b'{"error":{"message":"yours"}}')
        for _ in range(5):
            response = gateway.post(CHAT, ask())
            assert (response.status, response.body) == (status, b'{"error":{"message":"yours"}}')
    assert gateway.healthy() == {f"127.0.0.1:{fake.port}"}
    assert gateway.metric("penstock_retries_total") == 0
    assert gateway.metric("penstock_engine_failures_total") == 0


def test_failing_scrapes_take_an_engine_out_and_it_comes_back_by_itself(fakes, start_gateway):
    a, b = fakes.add(), fakes.add()
    gateway = start_gateway([a.url, b.url])
    gateway.wait_healthy(a.address, b.address)
    well = a.metrics_answer
    a.metrics_answer = unary(500, b"broken")
    gateway.wait_healthy(b.address)
    assert "500" in gateway.endpoint(f"127.0.0.1:{a.port}")["reason"]
    for _ in range(10):
        assert gateway.post(CHAT, ask()).status == 200
    assert not a.requests
    a.metrics_answer = well
    gateway.wait_healthy(a.address, b.address)


def test_engine_that_hangs_in_its_scrape_leaves_the_candidates(fakes, start_gateway):
    from harness.fake_engine import never

    a, b = fakes.add(), fakes.add()
    gateway = start_gateway([a.url, b.url])
    gateway.wait_healthy(a.address, b.address)
    a.metrics_answer = never
    gateway.wait_healthy(b.address)


def test_engine_that_starts_after_the_gateway_is_found(fake, start_gateway):
    fake.stop()
    gateway = start_gateway([fake.url])
    assert gateway.healthy() == set()
    assert gateway.post(CHAT, ask()).status == 503
    fake.start()
    gateway.wait_healthy(fake.address)
    assert gateway.post(CHAT, ask()).status == 200


def test_stale_kept_connection_is_replaced_unseen(fake, start_gateway):
    # The engine closes each connection after its answer without having said so.
    async def answer_and_close(request, connection):
        await chat("hi")(request, connection)
        connection.close()

    fake.answer = answer_and_close
    gateway = start_gateway([fake.url])
    for _ in range(30):
        assert gateway.post(CHAT, ask()).status == 200
    assert gateway.metric("penstock_retries_total") == 0


def test_sigterm_lets_streams_end_and_takes_nothing_new(fake, start_gateway):
    gate = threading.Event()

    async def slow(request, connection):
        await start_stream(connection)
        await connection.event(delta("first "))
        while not gate.is_set():
            await asyncio.sleep(0.01)
        await connection.event(delta("last"))
        await connection.chunk(b"data: [DONE]\n\n")
        await connection.send(b"0\r\n\r\n")

    import asyncio

    fake.answer = slow
    gateway = start_gateway([fake.url])
    with gateway.connect() as connection:
        connection.send(render_request("POST", CHAT, json.dumps(ask(stream=True)).encode()))
        connection.read_head()
        assert b"first " in connection.read_chunk()
        gateway.process.terminate()

        def refused():
            try:
                gateway.connect().close()
            except ConnectionRefusedError:
                return True
            return False

        eventually(refused, "the port closes")
        assert gateway.process.popen.poll() is None, "it waits for the stream"
        gate.set()
        rest = b""
        while chunk := connection.read_chunk():
            rest += chunk
        assert chunk == b"" and b"last" in rest and rest.endswith(b"[DONE]\n\n")
    assert gateway.process.wait() == 0


def test_drain_has_a_limit(fake, start_gateway):
    fake.answer = hold()
    gateway = start_gateway([fake.url], "--drain-timeout", "300ms")
    with gateway.connect() as connection:
        connection.send(render_request("POST", CHAT, json.dumps(ask(stream=True)).encode()))
        connection.read_head()
        gateway.process.terminate()
        assert gateway.process.wait() == 0
        assert fake.requests[0].aborted.wait(PATIENCE_S)


def test_every_way_to_end_gives_back_what_it_took(fakes, start_gateway):
    """Completed, refused, broken off, timed out, retried, left: the ledgers are zero after all of it."""
    from harness.fake_engine import break_after, never

    a, b = fakes.add(), fakes.add()
    behaviours = [
        chat("fine"), unary(400, b"{}"), unary(503, b"{}"), break_after(2), break_after(1, inside=True),
        raw(b"garbage\r\n\r\n"), raw(b"", "reset"), never, hold(1),
    ]
    a.answer = in_turn(*behaviours * 8)
    b.answer = in_turn(*reversed(behaviours * 8))
    gateway = start_gateway(
        [a.url, b.url], "--first-byte-timeout", "200ms", "--idle-timeout", "200ms", "--policy", "random"
    )
    gateway.wait_healthy(a.address, b.address)

    def one(i: int) -> None:
        with gateway.connect() as connection:
            connection.send(render_request("POST", CHAT, json.dumps(ask(stream=i % 3 > 0)).encode()))
            if i % 4 == 0:
                return connection.reset()
            try:
                connection.read_response()
            except ConnectionError:
                pass

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(96)))
    gateway.wait_idle()
    assert gateway.metric("llm_d_epp_request_running") == 0


# --- discovery from a file


def write(path, text: str) -> None:
    """Replaces the file at once, as editors and configuration mounts do."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def listing(*engines) -> str:
    return "endpoints:\n" + "".join(f"- {{url: {e.url}}}\n" for e in engines)


def test_edits_of_the_endpoints_file_take_effect(fakes, start_gateway, tmp_path):
    a, b = fakes.add(), fakes.add()
    path = tmp_path / "endpoints.yaml"
    write(path, listing(a))
    gateway = start_gateway([], "--endpoints-file", str(path))
    gateway.wait_healthy(a.address)
    write(path, listing(a, b))
    gateway.wait_healthy(a.address, b.address)
    write(path, listing(b))
    gateway.wait_healthy(b.address)
    for _ in range(5):
        assert gateway.post(CHAT, ask()).status == 200
    assert not a.requests and len(b.requests) == 5


def test_a_broken_edit_keeps_the_last_good_state_and_says_so(fakes, start_gateway, tmp_path):
    a, b = fakes.add(), fakes.add()
    path = tmp_path / "endpoints.yaml"
    write(path, listing(a))
    gateway = start_gateway([], "--endpoints-file", str(path))
    gateway.wait_healthy(a.address)
    broken = [
        "endpoints: [", "endpoints:\n- {url: http://127.0.0.1:99999}\n", "endpoints:\n- {uri: http://x:1}\n",
        f"endpoints:\n- {{url: {a.url}}}\n- {{url: {a.url}}}\n",
    ]
    for text in broken:
        before = gateway.metric("penstock_discovery_reload_errors_total")
        write(path, text)
        eventually(
            lambda: gateway.metric("penstock_discovery_reload_errors_total") > before,
            f"the error in {text!r} is counted",
        )
        assert gateway.healthy() == {f"127.0.0.1:{a.port}"}
        assert gateway.post(CHAT, ask()).status == 200
    assert "endpoints.yaml:" in gateway.process.stderr()
    write(path, listing(a, b))
    gateway.wait_healthy(a.address, b.address)


def test_json_and_llm_d_s_form_are_read(fakes, start_gateway, tmp_path):
    a = fakes.add()
    path = tmp_path / "endpoints.json"
    entry = {"name": "a", "address": "127.0.0.1", "port": str(a.port), "labels": {"zone": "eu"}}
    write(path, json.dumps({"endpoints": [entry]}))
    gateway = start_gateway([], "--endpoints-file", str(path))
    gateway.wait_healthy(a.address)
    assert gateway.endpoint("a")["labels"]["zone"] == "eu"


def test_endpoint_that_leaves_finishes_what_it_has(fakes, start_gateway, tmp_path):
    gate = threading.Event()

    async def slow(request, connection):
        import asyncio

        await start_stream(connection)
        await connection.event(delta("first "))
        while not gate.is_set():
            await asyncio.sleep(0.01)
        await connection.chunk(b"data: [DONE]\n\n")
        await connection.send(b"0\r\n\r\n")

    a, b = fakes.add(), fakes.add()
    a.answer = slow
    path = tmp_path / "endpoints.yaml"
    write(path, listing(a))
    gateway = start_gateway([], "--endpoints-file", str(path))
    gateway.wait_healthy(a.address)
    with gateway.connect() as connection:
        connection.send(render_request("POST", CHAT, json.dumps(ask(stream=True)).encode()))
        connection.read_head()
        connection.read_chunk()
        write(path, listing(b))
        gateway.wait_healthy(b.address)
        assert gateway.post(CHAT, ask()).status == 200
        gate.set()
        assert b"[DONE]" in connection.read_chunk()


def test_killed_engine_leaves_quickly_enough_for_its_clients(start_sim, start_gateway):
    """Streams that were running on a killed engine end with an error, and do not hang."""
    sim = start_sim(1)
    gateway = start_gateway(sim.urls)
    with gateway.connect() as connection:
        body = json.dumps(ask(MODEL, stream=True, max_tokens=4000)).encode()
        connection.send(render_request("POST", CHAT, body))
        connection.read_head()
        assert connection.read_chunk()
        began = time.monotonic()
        sim.kill()
        response = b""
        while chunk := connection.read_chunk():
            response += chunk
        assert chunk is None, "broken off, not ended"
        assert b"engine_truncated" in response
        assert time.monotonic() - began < PATIENCE_S
