"""What two real vLLM servers tell of their caches is what they use."""

import random

import openai
import pytest
from harness.gateway import Gateway
from harness.vllm import Vllm, install
from harness.wait import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

MODEL = "tiny"
POLICY = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {{type: token-producer, parameters: {{models: [{{name: tiny, tokenizer: {model}}}]}}}}
- {{type: precise-prefix-cache-producer, parameters: {{kvEventsConfig: {{podDiscoveryConfig: {{socketPort: 5557}}}}}}}}
- {{type: prefix-cache-scorer, parameters: {{prefixMatchInfoProducerName: precise-prefix-cache-producer}}}}
- {{type: active-request-scorer}}
- {{type: max-score-picker}}
schedulingProfiles:
- name: default
  plugins:
  - {{pluginRef: prefix-cache-scorer, weight: 3}}
  - {{pluginRef: active-request-scorer}}
  - {{pluginRef: max-score-picker}}
"""
WORDS = (
    "The router knows what every engine is doing and picks the right one for each request; blocks of the cache that "
    "nobody uses are given to the next prompt that needs room, and the second turn begins with the words of the first."
).split()


@pytest.fixture(scope="module")
def model():
    return install()


@pytest.fixture(scope="module")
def vllm(model, tmp_path_factory):
    vllm = Vllm(tmp_path_factory.mktemp("vllm"), events=True)
    try:
        vllm.wait()
        yield vllm
    finally:
        vllm.stop()


@pytest.fixture(scope="module")
def gateway(vllm, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    policy = folder / "exact.yaml"
    policy.write_text(POLICY.format(model=model))
    engines = [
        f"http://127.0.0.1:{port},kvEventsPort={vllm.events[i]},kvReplayPort={vllm.replays[i]}"
        for i, port in enumerate(vllm.ports)
    ]
    gateway = Gateway(folder, engines, "--scheduling-config", str(policy))
    gateway.wait_healthy(*(("127.0.0.1", port) for port in vllm.ports))
    yield gateway
    gateway.wait_idle()
    gateway.stop()


@pytest.fixture
def client(gateway):
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key="unused", max_retries=0) as client:
        yield client


def publishers(gateway) -> list[dict]:
    return gateway.admin_get("/debug/kv").json()["publishers"]


def settle(gateway) -> None:
    """Until what the last answer left in a cache has been told: the number of batches stands still."""
    counts = [None]

    def still():
        now = [p["last_sequence"] for p in publishers(gateway)]
        same = now == counts[0]
        counts[0] = now
        return same

    eventually(still, "no batch is on its way")


def chat(client, messages, **more):
    answer = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=messages, max_tokens=12, temperature=0, **more
    )
    return answer.headers.get("x-request-id"), answer.parse()


def told(decision: dict) -> tuple[dict, int]:
    """The candidate that served a request, and how many cached tokens were expected there."""
    attempt = decision["attempts"][-1]
    picked = next(c for c in attempt["candidates"] if c.get("picked"))
    return picked, round(picked.get("told_blocks", 0) * attempt["block_size_tokens"])


def test_predicted_is_what_vllm_reports(gateway, client):
    pick = random.Random(7)
    compared = exact = 0
    chats: dict[int, list[dict]] = {}
    for step in range(60):
        number = pick.randrange(6)
        messages = chats.setdefault(number, [{"role": "user", "content": f"Chat {number}. " + " ".join(pick.choices(WORDS, k=260))}])
        request_id, answer = chat(client, messages)
        decision = gateway.decision(request_id)
        assert decision["input_tokens"] == answer.usage.prompt_tokens, "the same tokens as vLLM's"
        details = answer.usage.prompt_tokens_details
        messages += [
            {"role": "assistant", "content": answer.choices[0].message.content},
            {"role": "user", "content": " ".join(pick.choices(WORDS, k=40))},
        ]
        settle(gateway)
        picked, predicted = told(decision)
        if picked.get("match") == "exact":
            compared += 1
            assert predicted == details.cached_tokens, (step, decision)
            exact += predicted > 0
    assert compared >= 50 and exact >= 30
    for publisher in publishers(gateway):
        assert publisher["state"] == "EXACT", publisher
        assert not publisher["faults"], publisher
        assert not publisher["drift"]["differs"], publisher


def test_anthropic_messages_are_what_vllm_makes_of_them(gateway):
    tool = {"name": "look", "description": "Looks", "input_schema": {"properties": {"where": {"type": "string"}}}}
    bodies = []
    for i in range(4):
        system = [{"type": "text", "text": "x-anthropic-billing-header: cch=1"},
                  {"type": "text", "text": f"System {i}. " + " ".join(WORDS * 3), "cache_control": {"type": "ephemeral"}}]
        messages = [{"role": "user", "content": [{"type": "text", "text": "Where is it?"}]}]
        bodies.append({"system": system, "messages": messages})
        messages = messages + [
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"},
                                              {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"where": "there"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "No"}]},
                                         {"type": "text", "text": "And now?"}]},
        ]
        bodies.append({"system": system, "messages": messages})
        bodies.append({"system": system, "messages": [*messages, {"role": "system", "content": "Stay calm."}, *messages[:1]],
                       "tools": [tool], "tool_choice": {"type": "none"}, "thinking": {"type": "disabled"}})
    known = 0
    for body in bodies:
        answer = gateway.post("/v1/messages", {"model": MODEL, "max_tokens": 12, "temperature": 0, **body})
        assert answer.status == 200, answer.body
        decision, usage = gateway.decision(answer.headers["x-request-id"]), answer.json()["usage"]
        cached = usage.get("cache_read_input_tokens") or 0
        whole = usage["input_tokens"] + cached + (usage.get("cache_creation_input_tokens") or 0)
        assert decision["estimated_because"] is None, decision
        assert decision["estimated_input_tokens"] == whole == decision["input_tokens"], (body, decision)
        settle(gateway)
        picked, predicted = told(decision)
        assert picked["match"] == "exact" and predicted == cached, (body, decision)
        known += predicted > 0
    assert known >= 4


def test_second_turn_goes_to_the_engine_that_holds_the_first(gateway, client, vllm):
    for i in range(4):
        messages = [{"role": "user", "content": f"Again {i}. " + "Blocks of the cache that nobody uses. " * 60}]
        # The first turn is asked of an engine itself: the gateway knows of it by the engine's events alone.
        port = vllm.ports[i % 2]
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused", max_retries=0) as engine:
            _, answer = chat(engine, messages)
        settle(gateway)
        messages += [
            {"role": "assistant", "content": answer.choices[0].message.content},
            {"role": "user", "content": "And what then?"},
        ]
        request_id, answer = chat(client, messages)
        picked, predicted = told(gateway.decision(request_id))
        assert picked["address"] == f"127.0.0.1:{port}"
        assert predicted == answer.usage.prompt_tokens_details.cached_tokens > 0


def test_the_default_policy_asks_vllm_for_tokens(vllm, gateway, tmp_path):
    """No tokenizer, no policy named: caches are known all the same, and what is predicted is what vLLM reports."""
    engines = [
        f"http://127.0.0.1:{port},kvEventsPort={vllm.events[i]},kvReplayPort={vllm.replays[i]}"
        for i, port in enumerate(vllm.ports)
    ]
    unaided = Gateway(tmp_path, engines)
    known = 0
    try:
        unaided.wait_healthy(*(("127.0.0.1", port) for port in vllm.ports))
        eventually(lambda: [p["state"] for p in publishers(unaided)] == ["EXACT"] * 2, "both engines are exact")
        with openai.OpenAI(base_url=unaided.url + "/v1", api_key="unused", max_retries=0) as client:
            for i in range(8):
                messages = [{"role": "user", "content": f"Asked {i}. " + " ".join(WORDS * 5)}]
                for turn in range(2):
                    request_id, answer = chat(client, messages)
                    decision = unaided.decision(request_id)
                    messages += [
                        {"role": "assistant", "content": answer.choices[0].message.content},
                        {"role": "user", "content": "And what then?"},
                    ]
                    settle(unaided)
                    if decision.get("estimated_because"):  # a busy machine takes longer than a request may wait
                        continue
                    assert decision["input_tokens"] == answer.usage.prompt_tokens
                    picked, predicted = told(decision)
                    assert picked["match"] == "exact"
                    assert predicted == answer.usage.prompt_tokens_details.cached_tokens, (i, turn, decision)
                    known += predicted > 0
        outcomes = ("told", "not_wanted", "no_tokenizer", "ask_no_route", "ask_timeout", "ask_refused", "ask_failed", "ask_bad_answer", "ask_unreached", "ask_resting", "ask_nobody")
        counts = " ".join(f"{o}={unaided.metric('penstock_token_prompts_total', outcome=o):.0f}" for o in outcomes)
        assert known >= 4, counts
    finally:
        unaided.stop()


def test_a_router_that_comes_late_reads_the_history(vllm, gateway, model, tmp_path):
    policy = tmp_path / "exact.yaml"
    policy.write_text(POLICY.format(model=model))
    engines = [
        f"http://127.0.0.1:{port},kvEventsPort={vllm.events[i]},kvReplayPort={vllm.replays[i]}"
        for i, port in enumerate(vllm.ports)
    ]
    late = Gateway(tmp_path, engines, "--scheduling-config", str(policy))
    try:
        late.wait_healthy(*(("127.0.0.1", port) for port in vllm.ports))

        def known(by) -> list[tuple]:
            return [(p["state"], p["last_sequence"], p["blocks"]) for p in publishers(by)]

        eventually(lambda: known(late) == known(gateway), "the late one knows what the first one knows")
        assert [state for state, *_ in known(late)] == ["EXACT", "EXACT"], known(late)
    finally:
        late.stop()
