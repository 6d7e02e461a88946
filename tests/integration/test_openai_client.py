"""The unmodified `openai` client against the gateway in front of simulated engines."""

import concurrent.futures
import json

import openai
import pytest
from conftest import MODEL
from harness.fake_engine import hold, unary
from harness.raw import events_of
from harness.wait import eventually

HELLO = [{"role": "user", "content": "Hello, who picks the engine for this request?"}]


def client_of(gateway, **kwargs) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url + "/v1", api_key="unused", max_retries=0, **kwargs)


@pytest.fixture
def client(fleet):
    with client_of(fleet) as client:
        yield client


def test_unary_chat_has_text_and_usage(client):
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.prompt_tokens > 0


def test_streamed_chat_arrives_in_pieces_with_usage_at_the_end(client):
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=20, stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text
    assert len([c for c in chunks if c.choices]) > 5
    assert chunks[-1].usage.completion_tokens == 20


def test_same_seedless_prompt_streams_the_text_that_unary_returns(client):
    request = dict(model=MODEL, messages=HELLO, max_tokens=24, temperature=0)
    whole = client.chat.completions.create(**request).choices[0].message.content
    stream = client.chat.completions.create(**request, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == whole


def test_completions_unary_and_streamed(client):
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8)
    assert answer.usage.completion_tokens == 8
    stream = client.completions.create(
        model=MODEL, prompt="Once upon a time", max_tokens=8, stream=True
    )
    assert "".join(c.choices[0].text for c in stream) == answer.choices[0].text


def test_responses_unary_and_streamed(client):
    answer = client.responses.create(model=MODEL, input="Say something short.", max_output_tokens=10)
    assert answer.output_text
    assert answer.usage.output_tokens == 10
    stream = client.responses.create(
        model=MODEL, input="Say something short.", max_output_tokens=10, stream=True
    )
    events = list(stream)
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == answer.output_text
    assert events[-1].type in ("response.completed", "response.incomplete")


def test_embeddings_have_one_vector_per_input(client):
    answer = client.embeddings.create(
        model=MODEL, input=["first text", "second text"], encoding_format="float"
    )
    assert [d.index for d in answer.data] == [0, 1]
    assert len(answer.data[0].embedding) == len(answer.data[1].embedding) > 0


def test_models_are_the_union_with_adapters(client):
    ids = {m.id for m in client.models.list()}
    assert ids == {MODEL, "sql", "chat"}


def test_a_lora_adapter_is_served_under_its_name(client):
    answer = client.chat.completions.create(model="sql", messages=HELLO, max_tokens=4)
    assert answer.model == "sql"


def test_unknown_model_is_404_with_the_known_ones(client):
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="no-such-model", messages=HELLO)
    assert raised.value.code == "model_not_found"
    assert raised.value.param == "model"
    for name in (MODEL, "sql", "chat"):
        assert name in str(raised.value)


def test_wrong_type_is_400_that_names_the_field(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages="not a list")
    assert raised.value.code == "invalid_type"
    assert "messages" in str(raised.value)


def test_missing_messages_is_400(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.post("/chat/completions", body={"model": MODEL}, cast_to=object)
    assert raised.value.code == "missing_field"


def test_engine_s_own_400_reaches_the_client_unchanged(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=-1)
    assert raised.value.status_code == 400


def test_body_above_the_limit_is_413(start_sim, start_gateway):
    sim = start_sim()
    gateway = start_gateway(sim.urls, "--max-body", "64KiB")
    with client_of(gateway) as client, pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "x" * 70_000}]
        )
    assert raised.value.status_code == 413
    assert "65536" in str(raised.value) or "64" in str(raised.value)


def test_engine_s_429_reaches_the_client_with_its_headers(fake, start_gateway):
    body = b'{"error":{"message":"slow down","type":"rate_limit_error","param":null,"code":429}}'
    fake.answer = unary(429, body, retry_after="7")
    gateway = start_gateway([fake.url])
    with client_of(gateway) as client, pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model="fake", messages=HELLO)
    assert raised.value.response.headers["retry-after"] == "7"
    assert "slow down" in str(raised.value)
    assert gateway.healthy() == {f"127.0.0.1:{fake.port}"}


def test_no_healthy_engine_is_503_with_the_reason(fake, start_gateway):
    gateway = start_gateway([fake.url])
    gateway.wait_healthy(fake.address)
    fake.stop()
    eventually(lambda: not gateway.healthy(), "the engine leaves the candidates")
    with client_of(gateway) as client, pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="fake", messages=HELLO)
    assert raised.value.status_code == 503
    assert raised.value.code == "no_endpoint"
    assert f"127.0.0.1:{fake.port}" in str(raised.value)
    assert raised.value.response.headers["retry-after"]


def test_a_client_that_stops_reading_cancels_the_engine_s_request(fake, start_gateway):
    fake.answer = hold(first_events=3)
    gateway = start_gateway([fake.url])
    with client_of(gateway) as client:
        stream = client.chat.completions.create(model="fake", messages=HELLO, stream=True)
        assert next(iter(stream)).choices[0].delta.content == "0 "
        stream.close()
        assert fake.requests[0].aborted.wait(10)
    gateway.wait_idle()


def test_an_aborted_stream_is_seen_by_the_simulated_engine(start_sim, start_gateway):
    sim = start_sim()
    gateway = start_gateway(sim.urls)
    with client_of(gateway) as client:
        stream = client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, max_tokens=5000
        )
        next(iter(stream))
        stream.close()
    eventually(
        lambda: sim.metrics().sum("vllm:request_success_total", finished_reason="abort") == 1,
        "the engine counts an abort",
    )
    eventually(lambda: sim.metrics().sum("vllm:num_requests_running") == 0, "nothing runs")


def test_second_turn_reports_cached_tokens(client):
    messages = [{"role": "user", "content": "A question about caches. " * 60}]
    first = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=16)
    messages += [
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "And now?"},
    ]
    second = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=4)
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert cached >= first.usage.prompt_tokens - 16


def test_many_clients_at_once_each_get_their_own_answer(fleet):
    # Two adapters and the base model at once: an answer that went to the wrong client names the wrong model.
    names = [MODEL, "sql", "chat"]

    def one(i: int) -> None:
        with client_of(fleet) as client:
            stream = client.chat.completions.create(
                model=names[i % 3], messages=[{"role": "user", "content": f"number {i}"}],
                max_tokens=8 + i % 5, stream=True, stream_options={"include_usage": True},
            )
            chunks = list(stream)
        assert {c.model for c in chunks} == {names[i % 3]}
        assert chunks[-1].usage.completion_tokens == 8 + i % 5

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(48)))


# --- routes that the client library does not have


def test_tokenize_rerank_and_score_pass_through(fleet):
    tokens = fleet.post("/tokenize", {"model": MODEL, "prompt": "five small words stand here"})
    assert tokens.status == 200 and tokens.json()["count"] == len(tokens.json()["tokens"]) > 0
    ranked = fleet.post(
        "/v1/rerank", {"model": MODEL, "query": "cats", "documents": ["dogs", "cats", "trees"]}
    )
    assert ranked.status == 200 and len(ranked.json()["results"]) == 3
    scored = fleet.post(
        "/v1/score", {"model": MODEL, "text_1": "cats", "text_2": ["dogs", "cats"]}
    )
    assert scored.status == 200 and len(scored.json()["data"]) == 2


def test_a_route_that_no_one_knows_is_the_engine_s_404(fleet):
    response = fleet.request("GET", "/v1/no/such/route")
    assert response.status == 404


def test_any_other_route_goes_to_an_engine_that_has_the_model(fakes, start_gateway):
    a, b = fakes.add("model-a"), fakes.add("model-b")
    a.answer = unary(200, b'{"from":"a"}')
    b.answer = unary(200, b'{"from":"b"}')
    gateway = start_gateway([a.url, b.url])
    gateway.wait_healthy(a.address, b.address)
    eventually(
        lambda: len(json.loads(gateway.request("GET", "/v1/models").body)["data"]) == 2, "two models"
    )
    for _ in range(5):
        response = gateway.post("/v1/audio/transcriptions?x=1", {"model": "model-b", "file": "…"})
        assert response.json() == {"from": "b"}
    assert b.requests[0].path == "/v1/audio/transcriptions?x=1"
    assert not a.requests


def test_request_id_is_echoed_or_made(fleet):
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 1}
    given = fleet.post("/v1/chat/completions", body, {"x-request-id": "my-own-id"})
    assert given.headers["x-request-id"] == "my-own-id"
    made = fleet.post("/v1/chat/completions", body)
    assert len(made.headers["x-request-id"]) == 32


def test_keep_alive_serves_requests_one_after_the_other_and_pipelined(fleet):
    from harness.raw import render_request

    body = json.dumps({"model": MODEL, "messages": HELLO, "max_tokens": 1}).encode()
    with fleet.connect() as connection:
        for _ in range(5):
            assert connection.request("POST", "/v1/chat/completions", body).status == 200
        connection.send(render_request("POST", "/v1/chat/completions", body) * 3)
        assert [connection.read_response().status for _ in range(3)] == [200] * 3


def test_streams_arrive_as_they_are_made_and_not_at_the_end(fake, start_gateway):
    fake.answer = hold(first_events=4)
    gateway = start_gateway([fake.url])
    body = json.dumps({"model": "fake", "messages": HELLO, "stream": True}).encode()
    with gateway.connect() as connection:
        from harness.raw import render_request

        connection.send(render_request("POST", "/v1/chat/completions", body))
        head = connection.read_head()
        assert head.headers["content-type"] == "text/event-stream"
        seen = b""
        while seen.count(b"\n\n") < 4:
            seen += connection.read_chunk()
        assert [e["choices"][0]["delta"]["content"] for e in events_of(seen)] == ["0 ", "1 ", "2 ", "3 "]
