"""The unmodified `anthropic` client against the gateway."""

import anthropic
import pytest
from conftest import MODEL
from harness.fake_engine import hold, never
from harness.wait import eventually

HELLO = [{"role": "user", "content": "Hello from the other kind of client."}]


def client_of(gateway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, api_key="unused", max_retries=0)


@pytest.fixture
def client(fleet):
    with client_of(fleet) as client:
        yield client


def test_unary_message(client):
    message = client.messages.create(model=MODEL, max_tokens=10, messages=HELLO, system="Be brief.")
    assert message.content[0].text
    assert message.usage.output_tokens == 10
    assert message.stop_reason == "max_tokens"


def test_streamed_message(client):
    with client.messages.stream(model=MODEL, max_tokens=15, messages=HELLO) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 3
    assert "".join(pieces) == final.content[0].text
    assert final.usage.output_tokens == 15


def test_unknown_model_is_a_not_found_error_with_the_known_ones(client):
    with pytest.raises(anthropic.NotFoundError) as raised:
        client.messages.create(model="claude-unknown", max_tokens=5, messages=HELLO)
    assert raised.value.body["error"]["type"] == "not_found_error"
    assert MODEL in raised.value.body["error"]["message"]


def test_missing_messages_is_an_invalid_request_error(client):
    with pytest.raises(anthropic.BadRequestError) as raised:
        client.messages.create(model=MODEL, max_tokens=5, messages=[])
    assert raised.value.body["error"]["type"] == "invalid_request_error"
    assert "messages" in raised.value.body["error"]["message"]


def test_no_engine_is_an_overloaded_error(fake, start_gateway):
    gateway = start_gateway([fake.url])
    fake.stop()
    eventually(lambda: not gateway.healthy(), "the engine leaves the candidates")
    with client_of(gateway) as client, pytest.raises(anthropic.APIStatusError) as raised:
        client.messages.create(model="fake", max_tokens=5, messages=HELLO)
    assert raised.value.status_code == 503
    assert raised.value.body["error"]["type"] == "overloaded_error"


def test_silent_engine_is_a_timeout_error(fake, start_gateway):
    fake.answer = never
    gateway = start_gateway([fake.url], "--first-byte-timeout", "300ms")
    with client_of(gateway) as client, pytest.raises(anthropic.APIStatusError) as raised:
        client.messages.create(model="fake", max_tokens=5, messages=HELLO)
    assert raised.value.status_code == 504
    assert raised.value.body["error"]["type"] == "timeout_error"


def test_leaving_a_stream_cancels_the_engine_s_request(fake, start_gateway):
    fake.answer = hold()
    gateway = start_gateway([fake.url])
    with gateway.connect() as connection:
        from harness.raw import render_request

        connection.send(
            render_request(
                "POST", "/v1/messages",
                b'{"model":"fake","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"x"}]}',
            )
        )
        connection.read_head()
        assert connection.read_chunk()
    assert fake.requests[0].aborted.wait(10)
