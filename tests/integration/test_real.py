"""The unmodified clients through the gateway against two real vLLM servers (tools/peers/vllm)."""

import re
import subprocess

import anthropic
import openai
import pytest
from harness.gateway import Gateway
from harness.process import find_binary
from harness.vllm import Vllm, install
from harness.wait import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

MODEL = "tiny"
HELLO = [{"role": "user", "content": "The router picks an engine for this request."}]


@pytest.fixture(scope="module")
def vllm(tmp_path_factory):
    install()
    vllm = Vllm(tmp_path_factory.mktemp("vllm"))
    try:
        vllm.wait()
        yield vllm
    finally:
        vllm.stop()


@pytest.fixture(scope="module")
def gateway(vllm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    gateway = Gateway(folder, [f"http://127.0.0.1:{port}" for port in vllm.ports])
    gateway.wait_healthy(*(("127.0.0.1", port) for port in vllm.ports))
    yield gateway
    gateway.wait_idle()
    gateway.stop()


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key="unused", max_retries=0) as client:
        yield client


def served_by(gateway, request_id: str) -> str:
    return gateway.decision(request_id)["attempts"][-1]["address"]


def test_models_come_from_the_engines(client):
    assert [m.id for m in client.models.list()] == [MODEL]


def test_unary_and_streamed_answers_agree(client):
    request = dict(model=MODEL, messages=HELLO, max_tokens=24, temperature=0)
    whole = client.chat.completions.create(**request)
    assert whole.usage.completion_tokens > 0
    stream = list(client.chat.completions.create(
        **request, stream=True, stream_options={"include_usage": True}
    ))
    text = "".join(c.choices[0].delta.content or "" for c in stream if c.choices)
    assert text == whole.choices[0].message.content
    assert stream[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_completions(client):
    answer = client.completions.create(
        model=MODEL, prompt="A chat has many turns", max_tokens=8, extra_body={"ignore_eos": True}
    )
    assert answer.usage.completion_tokens == 8


def test_anthropic_messages_unary_and_streamed(gateway):
    with anthropic.Anthropic(base_url=gateway.url, api_key="unused", max_retries=0) as client:
        message = client.messages.create(model=MODEL, max_tokens=8, messages=HELLO)
        assert message.usage.output_tokens > 0
        with client.messages.stream(model=MODEL, max_tokens=8, messages=HELLO) as stream:
            assert stream.get_final_message().usage.output_tokens > 0


def test_responses(client):
    answer = client.responses.create(model=MODEL, input="The first words.", max_output_tokens=8)
    assert answer.usage.output_tokens > 0


def test_tokenize_passes_through(gateway):
    response = gateway.post("/tokenize", {"model": MODEL, "prompt": "the second turn"})
    assert response.status == 200 and response.json()["count"] > 0


def test_unknown_model_is_404_before_any_engine_is_asked(client):
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="large", messages=HELLO)
    assert "tiny" in str(raised.value)


def test_vllm_s_own_refusal_reaches_the_client(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=100_000)
    assert "4096" in str(raised.value)


def test_second_turn_goes_to_the_engine_that_has_the_first(gateway, client):
    for i in range(4):
        messages = [{"role": "user", "content": f"Chat {i}. " + "Blocks of the cache that nobody uses. " * 60}]
        request = dict(model=MODEL, max_tokens=16, temperature=0)
        first = client.chat.completions.with_raw_response.create(messages=messages, **request)
        answer = first.parse()
        messages += [
            {"role": "assistant", "content": answer.choices[0].message.content},
            {"role": "user", "content": "And what then?"},
        ]
        second = client.chat.completions.with_raw_response.create(messages=messages, **request)
        assert served_by(gateway, first.headers["x-request-id"]) == served_by(
            gateway, second.headers["x-request-id"]
        )
        details = second.parse().usage.prompt_tokens_details
        assert details is not None and details.cached_tokens >= answer.usage.prompt_tokens // 2
        decision = gateway.decision(second.headers["x-request-id"])
        assert decision["cached_tokens"] == details.cached_tokens


def test_abort_is_seen_by_vllm(vllm, client):
    # vLLM 0.32 has no count of requests that their client left; it says so in its log.
    before = vllm.sum("vllm:generation_tokens_total")
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, max_tokens=3500,
        extra_body={"ignore_eos": True}, extra_headers={"x-request-id": "left-by-its-client"},
    )
    next(iter(stream))
    stream.close()
    eventually(
        lambda: re.search(r"left-by-its-client\S* aborted", vllm.log.read_text(errors="replace")),
        "vLLM logs the abort",
    )
    eventually(lambda: vllm.sum("vllm:num_requests_running") == 0, "vLLM stops the request")
    assert vllm.sum("vllm:generation_tokens_total") - before < 3000


def test_vllm_s_metrics_are_scraped(gateway, client):
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, max_tokens=3500, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    eventually(
        lambda: any(e["running"] == 1 and e["kv_usage"] > 0 for e in gateway.endpoints()),
        "the gateway knows that one engine runs a request",
    )
    stream.close()
    eventually(lambda: all(e["running"] == 0 for e in gateway.endpoints()), "and that it is over")


def test_calibrate_measures_a_real_engine(vllm, tmp_path):
    profile = tmp_path / "tiny.yaml"
    done = subprocess.run(
        [str(find_binary()), "lab", "calibrate", "--url", f"http://127.0.0.1:{vllm.ports[0]}", "--max-tokens", "3000",
         "--max-sequences", "8", "--output-tokens", "256", "--max-num-seqs", "16", "--max-model-len", "4096",
         "--name", "tiny-cpu", "--out", str(profile)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "a request costs" in done.stderr
    text = profile.read_text()
    # What vLLM says of its cache, and a step that takes some time.
    assert re.search(r"blockSize: (\d+)", text)[1] == vllm.metrics()[0].labels("vllm:cache_config_info")[0]["block_size"]
    assert float(re.search(r"floorMs: ([\d.]+)", text)[1]) > 0.05
    sim = subprocess.run(
        [str(find_binary()), "lab", "replay", "--profile", str(profile), "--workload", "sharegpt-like", "--max-requests", "50"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )
    assert sim.returncode == 0 and "requests               50" in sim.stdout, sim.stderr
