"""The gateway has no tokenizer: it asks engines, or a render server, for prompts' tokens where caches are known exactly."""

import asyncio
import json
import subprocess
import threading
import time
from pathlib import Path

import msgpack
import pytest
import zmq
from conftest import MODEL
from harness.certificate import make_certificate
from harness.fake_engine import never, raw, unary
from harness.kv_events import endpoints
from harness.raw import RawConnection, render_request
from harness.wait import PATIENCE_S, eventually

ROOT = Path(__file__).resolve().parents[2]
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
POLICY = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: token-producer
  parameters: {asking}
- type: precise-prefix-cache-producer
  parameters:
    speculativeIndexing: false  # what is known, and nothing else
    kvEventsConfig: {{podDiscoveryConfig: {{socketPort: 5557}}}}
- type: prefix-cache-scorer
  parameters: {{prefixMatchInfoProducerName: precise-prefix-cache-producer}}
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - {{pluginRef: prefix-cache-scorer}}
  - {{pluginRef: max-score-picker}}
"""
# Long enough for a machine that does something else meanwhile.
PATIENT = "{askTimeout: 20s}"


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    """A folder as models have it, for the engines."""
    made = subprocess.run([ROOT / "tools/peers/tokenizers"], check=True, capture_output=True, text=True)
    folder = tmp_path_factory.mktemp("qwen3")
    for file, source in {"tokenizer.json": "qwen3.json", "tokenizer_config.json": "qwen3.config.json"}.items():
        (folder / file).symlink_to(Path(made.stdout.strip()) / source)
    return folder


@pytest.fixture
def start_engines(start_sim, qwen):
    def start(count: int = 2, *flags: str):
        return start_sim(count, "--speed", "50", "--tokenizer", str(qwen), "--kv-events-port", "0",
                         "--kv-replay-port", "0", "--max-model-len", "1000000", "--num-gpu-blocks-override", "70000", *flags)

    return start


def flags_of(sim) -> list[str]:
    return [f"{url},kvEventsPort={events.rsplit(':', 1)[1]},kvReplayPort={replay.rsplit(':', 1)[1]}"
            for url, (events, replay) in zip(sim.urls, endpoints(sim.lines), strict=True)]


def wait_exact(gateway, *addresses) -> None:
    gateway.wait_healthy(*addresses)

    def probe():
        states = [p["state"] for p in gateway.admin_get("/debug/kv").json()["publishers"]]
        return len(states) == len(addresses) and set(states) == {"EXACT"}

    eventually(probe, "all that engines hold is known")


@pytest.fixture
def start(start_gateway, tmp_path):
    """A gateway that knows what these engines hold, and asks as the parameters of its token-producer say."""

    def start(sim, asking: str = PATIENT, *flags: str):
        path = tmp_path / "policy.yaml"
        path.write_text(POLICY.format(asking=asking))
        gateway = start_gateway(flags_of(sim), "--scheduling-config", str(path), *flags)
        wait_exact(gateway, *sim.addresses)
        return gateway

    return start


def vllm(server, timeout: str = "20s", more: str = "") -> str:
    return f"{{vllm: {{url: '{server.url}', timeout: {timeout}}}{more}}}"


def story(topic: str, paragraphs: int = 30) -> str:
    return "".join(f"Paragraph {i} about {topic}: 18 \u00b0C in K\u00f6ln, \u6771\u4eac\u306f\uff1f\n" for i in range(paragraphs))


def chat(topic: str, **fields) -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": story(topic)}], "max_tokens": 8, **fields}


def ask(gateway, body: dict, path: str = CHAT, **headers: str) -> tuple[dict, dict]:
    """Answer and record."""
    response = gateway.post(path, body, headers)
    assert response.status == 200, response.body
    return response.json(), gateway.decision(response.headers["x-request-id"])


def outcomes(gateway) -> dict[str, int]:
    """What became of prompts, without what did not happen."""
    metrics = gateway.metrics()
    names = ["ids", "tokenised", "told", "told_before", "no_tokenizer", "media", "other_api", "truncated"]
    names += [f"ask_{n}" for n in ("busy", "nobody", "resting", "no_route", "timeout", "unreached", "failed",
                                   "refused", "bad_answer", "too_large")]
    counts = {name: int(metrics.sum("penstock_token_prompts_total", outcome=name)) for name in names}
    return {name: count for name, count in counts.items() if count}


def questions(gateway, route: str) -> float:
    return gateway.metric("penstock_token_questions_total", route=route)


def input_of(answer: dict) -> int:
    """Anthropic's count leaves out what was cached."""
    usage = answer["usage"]
    return usage.get("prompt_tokens", usage.get("input_tokens", 0) + usage.get("cache_read_input_tokens", 0))


def cached_of(answer: dict) -> int:
    usage = answer["usage"]
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    return details.get("cached_tokens", usage.get("cache_read_input_tokens"))


def predicted(record: dict) -> int:
    """How many cached tokens were expected at the engine that answered."""
    attempt = record["attempts"][-1]
    picked = next(c for c in attempt["candidates"] if c.get("picked"))
    return round(picked["told_blocks"] * attempt["block_size_tokens"])


def assert_exact(answer: dict, record: dict) -> None:
    assert record["estimated_input_tokens"] == input_of(answer), record
    assert record["estimated_because"] is None, record
    assert {c["match"] for c in record["attempts"][0]["candidates"]} == {"exact"}, record


def assert_approximate(answer: dict, record: dict) -> None:
    assert record["estimated_because"], record
    assert {c.get("match", "approximate") for c in record["attempts"][0]["candidates"]} == {"approximate"}, record


def holds(gateway, endpoint: str) -> int:
    found = gateway.admin_get(f"/debug/kv?endpoint={endpoint}").json()["publishers"]
    return found[0]["blocks"]["gpu"] if found else 0


def name(sim, engine: int) -> str:
    return "{}:{}".format(*sim.addresses[engine])


def ask_engine(sim, engine: int, body: dict, path: str = CHAT) -> dict:
    """A request that the gateway does not see."""
    with RawConnection(sim.addresses[engine]) as connection:
        answer = connection.request("POST", path, json.dumps(body).encode())
    assert answer.status == 200, answer
    return answer.json()


def test_a_turn_goes_to_the_engine_that_holds_the_one_before(start_engines, start):
    sim = start_engines(3)
    gateway = start(sim)
    for engine in range(3):
        body = chat(f"river {engine}")
        first = ask_engine(sim, engine, body)
        eventually(lambda: holds(gateway, name(sim, engine)) > 10, "its blocks are known")
        body["messages"] += [first["choices"][0]["message"], {"role": "user", "content": "And then?"}]
        answer, record = ask(gateway, body)
        assert record["endpoint"] == name(sim, engine)
        assert_exact(answer, record)
        assert record["cached_tokens"] == answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 500
    assert outcomes(gateway) == {"told": 3}
    assert questions(gateway, "render") == 3 and questions(gateway, "tokenize") == 0
    assert gateway.metric("penstock_token_servers", state="render") >= 1
    state = gateway.admin_get("/debug/plugins/state").json()["plugins"]["token-producer"]["state"]
    assert state["token_questions_total.render"] == 3 and state["token_told_entries"] == 3


def messages(topic: str, **fields) -> dict:
    return {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": story(topic)}], **fields}


def responses(topic: str, **fields) -> dict:
    return {"model": MODEL, "max_output_tokens": 8, "input": [{"role": "user", "content": story(topic)}], **fields}


def next_of_messages(body: dict, answer: dict) -> dict:
    return {**body, "messages": [*body["messages"], {"role": "assistant", "content": answer["content"]},
                                 {"role": "user", "content": "And then?"}]}


def next_of_responses(body: dict, answer: dict) -> dict:
    said = [{"role": item["role"], "content": item["content"]} for item in answer["output"]]
    return {**body, "input": [*body["input"], *said, {"role": "user", "content": "And then?"}]}


FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
OTHER_APIS = {
    "messages": (MESSAGES, messages, next_of_messages, {
        "system": [{"type": "text", "text": "Be short."}], "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto"}, "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
    "responses": (RESPONSES, responses, next_of_responses, {
        "instructions": "Be short.", "tools": [FUNCTION], "tool_choice": "auto", "reasoning": {"effort": "low"}}),
}


@pytest.mark.parametrize("api", OTHER_APIS)
def test_other_apis_are_told_by_their_own_endpoints(start_engines, start, api):
    path, first_of, next_of, fields = OTHER_APIS[api]
    sim = start_engines(3)
    gateway = start(sim)
    for engine in range(3):
        body = first_of(f"river {engine}", **fields)
        first = ask_engine(sim, engine, body, path)
        eventually(lambda: holds(gateway, name(sim, engine)) > 10, "its blocks are known")
        answer, record = ask(gateway, next_of(body, first), path)
        assert record["endpoint"] == name(sim, engine)
        assert_exact(answer, record)
        assert predicted(record) == record["cached_tokens"] == cached_of(answer) > 500, record
    assert outcomes(gateway) == {"told": 3}
    assert questions(gateway, "render") == 3 and questions(gateway, "tokenize") == 0
    drifts = [p["drift"] for p in gateway.admin_get("/debug/kv").json()["publishers"] if p["drift"]]
    assert sum(d["answers"] for d in drifts) == 3 and not any(d["differs"] or d["error"] for d in drifts), drifts
    # Whatever tokens depend on makes another question; what they do not depend on makes none.
    again = first_of("river 0", **fields)
    _, record = ask(gateway, again, path)
    ask(gateway, {**again, "temperature": 0.5}, path)
    assert outcomes(gateway) == {"told": 4, "told_before": 1}
    for field in fields:
        answer, record = ask(gateway, {k: v for k, v in again.items() if k != field}, path)
        assert_exact(answer, record)
    assert outcomes(gateway) == {"told": 4 + len(fields), "told_before": 1}


@pytest.mark.parametrize("api", OTHER_APIS)
def test_other_apis_are_not_asked_of_tokenize(start_engines, start, api):
    path, first_of, _, _ = OTHER_APIS[api]
    sim = start_engines(1, "--no-render")
    gateway = start(sim)
    for turn in range(2):
        assert_approximate(*ask(gateway, first_of(f"turn {turn}"), path))
    assert outcomes(gateway) == {"ask_no_route": 2}
    assert questions(gateway, "render") == 1 and questions(gateway, "tokenize") == 0
    assert_exact(*ask(gateway, chat("chat")))
    assert questions(gateway, "tokenize") == 1


def test_a_server_that_renders_chats_alone(start_engines, start, fake):
    """As vLLM was before it had the other endpoints."""
    sim = start_engines(1)
    render = render_with(sim)

    async def answer(request, connection):
        if request.path in ("/v1/chat/completions/render", "/v1/completions/render"):
            return await render(request, connection)
        await connection.whole(404, b'{"detail":"Not Found"}')

    fake.answer = answer
    gateway = start(sim, vllm(fake))
    for turn in range(2):
        assert_approximate(*ask(gateway, messages(f"turn {turn}"), MESSAGES))
        assert_approximate(*ask(gateway, responses(f"turn {turn}"), RESPONSES))
        assert_exact(*ask(gateway, chat(f"turn {turn}")))
    assert outcomes(gateway) == {"ask_no_route": 4, "told": 2}
    assert [r.path for r in fake.requests] == ["/v1/messages/render", "/v1/responses/render",
                                               "/v1/chat/completions/render", "/v1/chat/completions/render"]
    assert gateway.metric("penstock_token_servers", state="render") == 1


def test_several_prompts_are_counted(start_engines, start):
    """The caches' index is asked for one prompt: several go by what was sent where."""
    sim = start_engines(2)
    gateway = start(sim)
    body = {"model": MODEL, "prompt": [story("one"), "Two.", story("three", 7)], "max_tokens": 4}
    for _ in range(2):
        answer, record = ask(gateway, body, TEXT)
        assert record["estimated_input_tokens"] == answer["usage"]["prompt_tokens"], record
        assert record["estimated_because"] is None, record
    assert outcomes(gateway) == {"told": 1, "told_before": 1}
    ask(gateway, {**body, "prompt": body["prompt"][::-1]}, TEXT)
    assert outcomes(gateway) == {"told": 2, "told_before": 1}


def test_as_many_answers_as_there_are_prompts(start_engines, start, fake):
    sim = start_engines(1)

    async def answer(request, connection):
        told = [{"token_ids": [1, 2]} for _ in request.json()["prompt"]]
        await connection.whole(200, json.dumps(told[1:]).encode())

    fake.answer = answer
    gateway = start(sim, vllm(fake))
    assert_approximate(*ask(gateway, {"model": MODEL, "prompt": ["one", "two", "three"], "max_tokens": 4}, TEXT))
    assert outcomes(gateway) == {"ask_bad_answer": 1}


BODIES = {
    "tools": (CHAT, chat("tools", tools=[{"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "properties": {"city": {"type": "string", "enum": ["K\u00f6ln"]}}}}}], tool_choice="auto")),
    "kwargs": (CHAT, chat("kwargs", chat_template_kwargs={"enable_thinking": False})),
    "text": (TEXT, {"model": MODEL, "prompt": story("text"), "max_tokens": 4}),
    "without special tokens": (TEXT, {"model": MODEL, "prompt": story("text"), "max_tokens": 4, "add_special_tokens": False}),
}


@pytest.mark.parametrize("hidden", ["none", "render"])
def test_counts_what_the_engine_counts(start_engines, start, hidden):
    sim = start_engines(2, *(["--no-render"] if hidden == "render" else []))
    gateway = start(sim)
    asked = 0
    for path, body in BODIES.values():
        answer, record = ask(gateway, body, path)
        assert_exact(answer, record)
        asked += 1
    assert outcomes(gateway) == {"told": asked}
    if hidden == "none":
        assert questions(gateway, "render") == asked and questions(gateway, "tokenize") == 0
    else:
        # Each engine says once that it does not render.
        assert 1 <= questions(gateway, "render") <= 2 and questions(gateway, "tokenize") == asked
        assert gateway.metric("penstock_token_servers", state="tokenize") == questions(gateway, "render")
    # What /tokenize has no place for is asked of render endpoints alone.
    answer, record = ask(gateway, chat("effort", reasoning_effort="none"))
    if hidden == "none":
        assert_exact(answer, record)
    else:
        assert_approximate(answer, record)
        assert outcomes(gateway) == {"told": asked, "ask_no_route": 1}


def test_a_prompt_that_comes_again_is_not_asked_for(start_engines, start):
    sim = start_engines()
    gateway = start(sim)
    body = chat("again")
    for _ in range(3):
        answer, record = ask(gateway, body)
        assert_exact(answer, record)
    assert outcomes(gateway) == {"told": 1, "told_before": 2}
    assert questions(gateway, "render") == 1
    assert gateway.metric("penstock_token_told_entries") == 1
    assert 0 < gateway.metric("penstock_token_told_bytes") < 100_000


def test_engines_without_either_endpoint(start_engines, start):
    sim = start_engines(2, "--no-render", "--no-tokenize")
    gateway = start(sim)
    for turn in range(6):
        answer, record = ask(gateway, chat(f"turn {turn}"))
        assert_approximate(answer, record)
        assert record["estimated_because"] == "whoever could be asked for the tokens has no endpoint that tells them"
    assert outcomes(gateway) == {"ask_no_route": 6}
    assert gateway.metric("penstock_token_servers", state="no_route") == 2
    assert questions(gateway, "render") == questions(gateway, "tokenize") == 2
    lines = [line for line in gateway.process.stderr().splitlines() if "no such endpoint" in line]
    assert len(lines) == 4, lines


def test_nobody_is_asked_where_nothing_is_known(start_sim, start_gateway, tmp_path):
    sim = start_sim(1, "--speed", "50")
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(asking=PATIENT))
    gateway = start_gateway(sim.urls, "--scheduling-config", str(path))
    gateway.wait_healthy(*sim.addresses)
    ask(gateway, chat("nothing"))
    assert outcomes(gateway) == {"no_tokenizer": 1}
    assert questions(gateway, "render") == 0


def test_what_cannot_be_asked_for_says_why(start_engines, start):
    sim = start_engines(1)
    gateway = start(sim)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
    ask(gateway, {"model": MODEL, "max_tokens": 4, "messages": [
        {"role": "user", "content": [{"type": "text", "text": story("image")}, image]}]})
    ask(gateway, {"model": MODEL, "max_tokens": 4, "messages": [
        {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://h/i"}}]}]}, MESSAGES)
    ask(gateway, messages("thinking", thinking={"type": "disabled"}), MESSAGES)
    for field in ({"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"truncation": "auto"},
                  {"tools": [{"type": "web_search_preview"}]}):
        ask(gateway, responses("stored", **field), RESPONSES)
    assert outcomes(gateway) == {"media": 2, "no_tokenizer": 1, "other_api": 4}
    assert questions(gateway, "render") == 0


def test_engines_with_tls_are_asked_with_tls(start_engines, start_tls, start_gateway, tmp_path):
    sim = start_engines(1)
    make_certificate(tmp_path / "engine")
    front = start_tls(sim.addresses[0], tmp_path / "engine")
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(asking=PATIENT))
    (flag,) = flags_of(sim)
    gateway = start_gateway([flag.replace(sim.urls[0], front.url)], "--scheduling-config", str(path),
                            "--engine-ca-file", str(tmp_path / "engine" / "tls.crt"))
    wait_exact(gateway, front.address)
    assert_exact(*ask(gateway, chat("tls")))
    assert outcomes(gateway) == {"told": 1}


# --- a render server


def render_with(sim):
    """A render server that has an engine's tokenizer."""

    async def answer(request, connection):
        # On the fakes' loop, for a moment.
        with RawConnection(sim.addresses[0]) as engine:
            told = engine.request("POST", request.path, request.body)
        await connection.whole(told.status, told.body)

    return answer


def test_a_render_server_is_asked_in_place_of_engines(start_engines, start, fake):
    sim = start_engines()
    fake.answer = render_with(sim)
    gateway = start(sim, vllm(fake, more=f", modelName: {MODEL}"))
    answer, record = ask(gateway, chat("render"), authorization="Bearer secret")
    assert_exact(answer, record)
    (request,) = fake.requests
    assert request.path == "/v1/chat/completions/render" and request.json()["model"] == MODEL
    assert request.header("authorization") is None
    assert request.header("x-request-id") == record["request_id"]
    assert outcomes(gateway) == {"told": 1}


def test_a_render_server_tells_where_images_are(start_sim, start_gateway, fake, tmp_path):
    """Prompts of the same tokens with another image are other prompts; the engine's events name images as vLLM's do."""
    sim = start_sim(1, "--speed", "50")  # publishes nothing itself
    block, blocks = 16, 8
    ids = [1000 + i for i in range(block * blocks)]
    ids[40:100] = [7] * 60  # an image's placeholders

    async def answer(request, connection):
        body = request.json()
        assert body["mm_payload"] == "none" and request.path.endswith("/render")
        url = next(part["image_url"]["url"] for part in body["messages"][0]["content"] if "image_url" in part)
        features = {"mm_hashes": {"image": [url[-1] * 64]}, "mm_placeholders": {"image": [{"offset": 40, "length": 60}]},
                    "kwargs_data": None}
        await connection.whole(200, json.dumps({"request_id": "r", "token_ids": [*ids, 1], "features": features}).encode())

    def told(url: str) -> int:
        image = {"type": "image_url", "image_url": {"url": url}}
        _, record = ask(gateway, {"model": MODEL, "max_tokens": 4, "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]})
        assert record["estimated_because"] is None and record["estimated_input_tokens"] == len(ids) + 1, record
        (candidate,) = record["attempts"][0]["candidates"]
        assert candidate["match"] == "exact", record
        return candidate["told_blocks"]

    fake.answer = answer
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(asking=vllm(fake)))
    context = zmq.Context()
    try:
        socket = context.socket(zmq.XPUB)  # which hears of subscriptions
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        gateway = start_gateway([f"{sim.urls[0]},kvEventsPort={port}"], "--scheduling-config", str(path))
        gateway.wait_healthy(*sim.addresses)
        # Blocks 2 to 6 hold a part of the image; its place is counted from each block's begin.
        extra = [[["a" * 64, 40 - block * i]] if 2 <= i <= 6 else None for i in range(blocks)]
        stored = {"type": "BlockStored", "block_hashes": [*range(1, blocks + 1)], "parent_block_hash": None, "token_ids": ids,
                  "block_size": block, "lora_id": None, "medium": "GPU", "lora_name": None, "extra_keys": extra}
        assert socket.poll(PATIENCE_S * 1000), "nobody listens"
        assert socket.recv() == b"\x01"
        socket.send_multipart([b"", (0).to_bytes(8, "big"), msgpack.packb([1.0, [stored]])])

        def is_heard():
            (publisher,) = gateway.admin_get("/debug/kv").json()["publishers"]
            return publisher["blocks"]["gpu"] == blocks and publisher["state"] == "EXACT"

        eventually(is_heard, "the engine's blocks are known")
        assert told("http://h/a") == blocks
        assert told("http://h/b") == 2, "up to the image"
        assert told("http://h/a") == blocks
        assert outcomes(gateway) == {"told": 2, "told_before": 1}
    finally:
        context.destroy(linger=0)


def test_media_need_a_server_that_says_where_they_are(start_engines, start, fake):
    sim = start_engines(1)
    fake.answer = render_with(sim)  # which has none of vLLM's features
    gateway = start(sim, vllm(fake))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
    ask(gateway, {"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": [image]}]})
    assert outcomes(gateway) == {"ask_bad_answer": 1}


def test_a_render_server_knows_the_model_by_its_own_name(start_engines, start, fake):
    sim = start_engines(1)

    async def answer(request, connection):
        body = request.json()
        assert body["model"] == "org/base"
        with RawConnection(sim.addresses[0]) as engine:
            told = engine.request("POST", request.path, json.dumps({**body, "model": MODEL}).encode())
        await connection.whole(told.status, told.body)

    fake.answer = answer
    gateway = start(sim, vllm(fake, more=", modelName: org/base"))
    assert_exact(*ask(gateway, chat("name")))
    assert outcomes(gateway) == {"told": 1}


def test_a_render_server_without_render_endpoints_tokenizes(start_engines, start, fake):
    sim = start_engines(1)
    render = render_with(sim)

    async def answer(request, connection):
        if request.path == "/tokenize":
            return await render(request, connection)
        await connection.whole(404, b'{"detail":"Not Found"}')

    fake.answer = answer
    gateway = start(sim, vllm(fake))
    for turn in range(2):
        assert_exact(*ask(gateway, chat(f"turn {turn}")))
    assert [r.path for r in fake.requests] == ["/v1/chat/completions/render", "/tokenize", "/tokenize"]
    assert gateway.metric("penstock_token_servers", state="tokenize") == 1


HUGE = b"[" + b"1," * (1 << 20) + b"1]"
TROUBLES = {
    "garbage": ("ask_bad_answer", unary(200, b"<html>hello</html>")),
    "no tokens": ("ask_bad_answer", unary(200, b'{"token_ids": []}')),
    "not ids": ("ask_bad_answer", unary(200, b'{"token_ids": [1, -2, 3.5]}')),
    "deep": ("ask_bad_answer", unary(200, b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "token_ids": [1]}')),
    "no http": ("ask_bad_answer", raw(b"hello\r\n\r\n")),
    "huge": ("ask_too_large", unary(200, b'{"token_ids": ' + HUGE + b"}")),
    "huge and unannounced": ("ask_too_large", raw(b"HTTP/1.1 200 OK\r\n\r\n" + HUGE)),
    "refuses": ("ask_refused", unary(400, b'{"error": {"message": "no"}}')),
    "no such model": ("ask_refused", unary(404, b'{"error": {"message": "The model `x` does not exist."}}')),
    "fails": ("ask_failed", unary(500, b"oops")),
    "overloaded": ("ask_failed", unary(429, b"{}")),
    "breaks": ("ask_unreached", raw(b"", "reset")),
    "breaks inside": ("ask_unreached", raw(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"token_ids\": [1,", "close")),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_request_is_answered_whatever_the_server_does(start_engines, start, fake, trouble):
    sim = start_engines(1)
    outcome, fake.answer = TROUBLES[trouble]
    gateway = start(sim, vllm(fake))
    for turn in range(2):
        answer, record = ask(gateway, chat(f"turn {turn}"))
        assert_approximate(answer, record)
    assert outcomes(gateway) == {outcome: 2}
    # A server that is well again is asked again.
    fake.answer = render_with(sim)
    assert_exact(*ask(gateway, chat("well again")))
    assert outcomes(gateway) == {outcome: 2, "told": 1}


def test_a_dead_server_rests(start_engines, start, fake):
    sim = start_engines(1)
    gateway = start(sim, vllm(fake))
    fake.stop()
    for turn in range(8):
        assert_approximate(*ask(gateway, chat(f"turn {turn}")))
    found = outcomes(gateway)
    assert found["ask_unreached"] >= 3 and sum(found.values()) == 8
    assert gateway.metric("penstock_token_servers", state="resting") == 1
    fake.answer = render_with(sim)
    fake.start()

    def is_told():
        ask(gateway, chat(f"at {time.monotonic()}"))
        return outcomes(gateway).get("told", 0) > 0

    eventually(is_told, "it is asked again")
    assert gateway.metric("penstock_token_servers", state="render") == 1


def test_a_slow_server_holds_nobody_longer_than_it_may(start_engines, start, fake):
    sim = start_engines(1)
    fake.answer = never
    gateway = start(sim, vllm(fake, timeout="50ms"))
    assert_approximate(*ask(gateway, chat("slow")))
    assert outcomes(gateway) == {"ask_timeout": 1}
    assert fake.requests[0].aborted.wait(60), "its connection is closed"

    async def trickle(request, connection):
        await connection.head(200, content_length="100000")
        for _ in range(1000):
            await connection.send(b" ")
            await asyncio.sleep(0.005)

    fake.answer = trickle
    assert_approximate(*ask(gateway, chat("trickling")))
    assert outcomes(gateway) == {"ask_timeout": 2}


def test_as_many_are_asked_for_at_once_as_may_be(start_engines, start, fake):
    sim = start_engines(1)
    fake.answer = never
    gateway = start(sim, vllm(fake, more=", maxAsking: 2"), "--threads", "1")
    body = [render_request("POST", CHAT, json.dumps(chat(f"held {i}")).encode(), {}) for i in range(2)]
    with gateway.connect() as one, gateway.connect() as two:
        for connection, request in zip((one, two), body, strict=True):
            connection.send(request)
        eventually(lambda: gateway.metric("penstock_token_questions") == 2, "both are asked for")
        for turn in range(3):
            assert_approximate(*ask(gateway, chat(f"turn {turn}")))
        assert outcomes(gateway) == {"ask_busy": 3}
    # Both clients leave: nobody waits any more.
    eventually(lambda: gateway.metric("penstock_token_questions_abandoned_total") == 2, "both are given up")
    assert gateway.metric("penstock_token_questions") == 0
    for request in list(fake.requests):
        assert request.aborted.wait(60)
    fake.answer = render_with(sim)
    assert_exact(*ask(gateway, chat("well again")))


def test_clients_that_leave_while_servers_answer(start_engines, start, fake):
    """Many of them at once, at any moment."""
    sim = start_engines(1)
    fake.answer = render_with(sim)
    gateway = start(sim, vllm(fake), "--threads", "2")

    def leave(i: int) -> None:
        with gateway.connect() as connection:
            connection.send(render_request("POST", CHAT, json.dumps(chat(f"leaves {i}")).encode(), {}))
            time.sleep(i % 8 * 0.002)
            connection.reset() if i % 2 else connection.close()

    threads = [threading.Thread(target=leave, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: gateway.metric("penstock_token_questions") == 0, "nobody waits")
    assert_exact(*ask(gateway, chat("stays")))


def test_a_long_prompt_is_asked_for(start_engines, start):
    sim = start_engines(1)
    gateway = start(sim)
    body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": story("long", 10_000)}]}
    answer, record = ask(gateway, body)
    assert answer["usage"]["prompt_tokens"] > 100_000
    assert_exact(answer, record)
    assert outcomes(gateway) == {"told": 1}


# --- the endpoint picker


def newest(epp, earlier: int) -> dict | None:
    """The record of the last request, when there are more than so many."""
    listed = epp.admin_get("/debug/decisions").json()["decisions"]
    return epp.decision(listed[0]["request_id"]) if len(listed) > earlier else None


def test_the_picker_asks_too(start_engines, start_epp, start_envoy, tmp_path):
    sim = start_engines(2)
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(asking=PATIENT))
    epp = start_epp(flags_of(sim), f"--config-file={path}")
    wait_exact(epp, *sim.addresses)
    envoy = start_envoy(epp.address)
    for engine in range(2):
        body = chat(f"river {engine}")
        first = ask_engine(sim, engine, body)
        eventually(lambda: holds(epp, name(sim, engine)) > 10, "its blocks are known")
        body["messages"] += [first["choices"][0]["message"], {"role": "user", "content": "And then?"}]
        response = envoy.post(CHAT, body)
        assert response.status == 200, response
        answer = response.json()
        record = eventually(lambda: newest(epp, engine), "it is on record")
        assert record["endpoint"] == name(sim, engine)
        assert_exact(answer, record)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 500
    assert outcomes(epp) == {"told": 2}
