"""The gateway knows a prompt's token ids: it counts exactly what an engine with the same tokenizer counts."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import MODEL
from harness.process import find_binary
from harness.raw import RawConnection, render_request

ROOT = Path(__file__).resolve().parents[2]
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
POLICY = """\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: token-producer
  parameters: {{models: [{{tokenizer: {tokenizer}}}], cacheMiB: 8}}
- type: inflight-load-producer
- type: token-load-scorer
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: token-load-scorer
"""
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Tells the weather of a city: \u00e8 & <b>.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["K\u00f6ln", "\u6771\u4eac"]}},
                   "required": ["city"]}}}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"K\\u00f6ln\"}"}}
USER = {"role": "user", "content": "How is the weather in K\u00f6ln? \U0001f327\ufe0f \u6771\u4eac\u306f\uff1f"}
CHATS = {
    "a word": {"messages": [{"role": "user", "content": "Hi"}]},
    "a system prompt": {"messages": [{"role": "system", "content": "Be brief.\n\n" * 300}, USER]},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]},
    "tools": {"messages": [USER], "tools": TOOLS, "tool_choice": "auto"},
    "tool calls": {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                                {"role": "tool", "tool_call_id": "call_1", "content": "18 \u00b0C"}], "tools": TOOLS},
    "without thinking": {"messages": [USER], "chat_template_kwargs": {"enable_thinking": False}},
    "effort": {"messages": [USER], "reasoning_effort": "none"},
    "no generation prompt": {"messages": [USER], "add_generation_prompt": False},
    "special tokens in the text": {"messages": [{"role": "user", "content": "<|im_start|>user <|eot_id|> <think>"}],
                                   "add_special_tokens": True},
}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "18 \u00b0C"}]}
ANTHROPIC = {
    "a word": {"messages": [{"role": "user", "content": "Hi"}]},
    "a system prompt": {"system": [{"type": "text", "text": "x-anthropic-billing-header: cch=1"},
                                   {"type": "text", "text": "Be brief.\n\n" * 300}], "messages": [USER]},
    "tools": {"tools": [{"name": "get_weather", "input_schema": {"properties": {"city": {"type": "string"}}}}], "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"},
                                          {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "K\u00f6ln"}}]},
        {"role": "user", "content": [RESULT]}]},
    "reminders": {"messages": [USER, {"role": "system", "content": "Stay calm."}, USER]},
    "without thinking": {"messages": [USER], "thinking": {"type": "disabled"}},
}
TEXTS = {
    "text": {"prompt": "The quick brown fox \u6f22\u5b57 \U0001f469\u200d\U0001f467 jumps. " * 200},
    "texts": {"prompt": ["one", " two three", "\u00e9\n\n\n  x"]},
    "without special tokens": {"prompt": "one two", "add_special_tokens": False},
    "ids": {"prompt": [5, 6, 7, 8, 9]},
    "lists of ids": {"prompt": [[5, 6, 7], [8, 9]]},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    """Folders as models have them."""
    made = subprocess.run([ROOT / "tools/peers/tokenizers"], check=True, capture_output=True, text=True)
    out = {}
    for name in ("qwen3", "llama3_1", "llama2"):
        folder = tmp_path_factory.mktemp(name)
        for file, source in {"tokenizer.json": f"{name}.json", "tokenizer_config.json": f"{name}.config.json"}.items():
            (folder / file).symlink_to(Path(made.stdout.strip()) / source)
        out[name] = folder
    return out


# Room for prompts of a million tokens.
LARGE = ["--speed", "50", "--max-model-len", "1000000", "--num-gpu-blocks-override", "70000"]


def start(start_sim, start_gateway, tmp_path, folder: Path, *flags: str):
    sim = start_sim(1, *LARGE, "--tokenizer", str(folder))
    config = tmp_path / "policy.yaml"
    config.write_text(POLICY.format(tokenizer=folder))
    gateway = start_gateway(sim.urls, "--scheduling-config", str(config), *flags)
    gateway.wait_healthy(*sim.addresses)
    return gateway


def counts(gateway, path: str, body: dict) -> tuple[int, int]:
    """Tokens of the prompt as the gateway knew them, and as the engine reports them."""
    response = gateway.post(path, {"model": MODEL, "max_tokens": 2, **body})
    assert response.status == 200, response.body
    record = gateway.decision(response.headers["x-request-id"])
    return record["estimated_input_tokens"], response.json()["usage"]["prompt_tokens"]


def outcome(gateway, name: str) -> float:
    return gateway.metric("penstock_token_prompts_total", outcome=name)


@pytest.mark.parametrize("model", ["qwen3", "llama3_1", "llama2"])
def test_counts_what_the_engine_counts(start_sim, start_gateway, tmp_path, models, model):
    gateway = start(start_sim, start_gateway, tmp_path, models[model])
    has_template = "chat_template" in json.loads((models[model] / "tokenizer_config.json").read_text())
    for name, body in CHATS.items() if has_template else ():
        known, reported = counts(gateway, CHAT, body)
        assert known == reported, f"{model}, {name}"
    for name, body in ANTHROPIC.items() if has_template else ():
        response = gateway.post("/v1/messages", {"model": MODEL, "max_tokens": 2, **body})
        assert response.status == 200, response.body
        record, usage = gateway.decision(response.headers["x-request-id"]), response.json()["usage"]
        assert record["estimated_because"] is None, record
        assert record["estimated_input_tokens"] == usage["input_tokens"] + usage.get("cache_read_input_tokens", 0), name
    for name, body in TEXTS.items():
        known, reported = counts(gateway, TEXT, body)
        assert known == reported, f"{model}, {name}"
    assert outcome(gateway, "ids") == 2
    assert outcome(gateway, "tokenised") == len(TEXTS) - 2 + (len(CHATS) + len(ANTHROPIC) if has_template else 0)


def test_a_chat_that_grows_costs_its_new_part(start_sim, start_gateway, tmp_path, models):
    gateway = start(start_sim, start_gateway, tmp_path, models["qwen3"])
    messages = [{"role": "system", "content": "You know every river of the world. " * 2000}]
    for turn in range(4):
        messages.append({"role": "user", "content": f"Turn {turn}: and then? " * 20})
        response = gateway.post(CHAT, {"model": MODEL, "messages": messages, "max_tokens": 40})
        assert response.status == 200, response.body
        answer = response.json()
        record = gateway.decision(response.headers["x-request-id"])
        assert record["estimated_input_tokens"] == answer["usage"]["prompt_tokens"]
        messages.append(answer["choices"][0]["message"])
        if turn > 0:
            assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 10_000
    metrics = gateway.metrics()
    whole, reused = metrics.sum("penstock_token_text_bytes_total"), metrics.sum("penstock_token_reused_bytes_total")
    assert whole > 4 * 70_000
    assert 0.7 * whole < reused < 0.75 * whole, "three of four turns were known but for their ends"
    assert 0 < metrics.sum("penstock_token_cache_bytes") <= 8 << 20


def long_chat(turns: int = 1) -> dict:
    """A chat of 700 KB a turn."""
    return {"messages": [{"role": "user", "content": f"Turn {i}. " + "It was a dark and stormy night; \u96e8\n" * 20_000}
                         for i in range(turns)]}


def prepared(gateway, name: str = "prepared") -> float:
    return gateway.metric("penstock_long_prompts_total", outcome=name)


def test_a_long_prompt_is_prepared_beside_the_loops(start_sim, start_gateway, tmp_path, models):
    gateway = start(start_sim, start_gateway, tmp_path, models["qwen3"], "--threads", "1")
    known, reported = counts(gateway, CHAT, {**long_chat(), "max_tokens": 1})
    assert known == reported > 100_000
    assert prepared(gateway) == 1
    refused = gateway.post(CHAT, {"model": "nobody's", **long_chat()})
    assert refused.status == 404, refused.body
    assert prepared(gateway) == 2
    bad = gateway.post(CHAT, json.dumps({"model": MODEL, **long_chat()}).encode()[:-1])
    assert bad.status == 400, bad.body
    assert prepared(gateway) == 2
    counts(gateway, CHAT, CHATS["a word"])
    assert prepared(gateway) == 2, "short ones are not"


def test_a_client_may_leave_while_its_prompt_is_prepared(start_sim, start_gateway, tmp_path, models):
    gateway = start(start_sim, start_gateway, tmp_path, models["qwen3"], "--threads", "1")
    for turns in (2, 3, 4):
        connection = gateway.connect()
        connection.send(render_request("POST", CHAT, json.dumps({"model": MODEL, **long_chat(turns)}).encode()))
        connection.close()
    # The gateway works on and is none the worse for it.
    known, reported = counts(gateway, CHAT, {**long_chat(), "max_tokens": 1})
    assert known == reported
    assert 1 <= prepared(gateway) <= 4


def test_long_prompts_through_envoy(start_sim, start_epp, start_envoy, tmp_path, models):
    sim = start_sim(1, *LARGE, "--tokenizer", str(models["qwen3"]))
    config = tmp_path / "policy.yaml"
    config.write_text(POLICY.format(tokenizer=models["qwen3"]))
    epp = start_epp(sim.urls, f"--config-file={config}", "--threads=1")
    epp.wait_healthy(*sim.addresses)
    envoy = start_envoy(epp.address)
    for turns in (1, 2):
        response = envoy.post(CHAT, {"model": MODEL, "max_tokens": 1, **long_chat(turns)}, {"x-request-id": f"long-{turns}"})
        assert response.status == 200, response.body
        assert prepared(epp) == turns
        record = epp.decision(f"long-{turns}")
        assert record["estimated_input_tokens"] == json.loads(response.body)["usage"]["prompt_tokens"]


def test_what_cannot_be_known_is_estimated_and_told(start_sim, start_gateway, tmp_path, models):
    gateway = start(start_sim, start_gateway, tmp_path, models["qwen3"])
    image = {"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}]}
    for name, path, body in (
        ("media", CHAT, image),
        ("own_template", CHAT, {"messages": [USER], "chat_template": "{{ 1 }}"}),
        ("continues", CHAT, {"messages": [USER, {"role": "assistant", "content": "It is"}],
                             "continue_final_message": True, "add_generation_prompt": False}),
        ("refused", CHAT, {"messages": [{"role": "user", "content": [{"type": "sculpture"}]}]}),
        ("not_supported", "/v1/messages", {"max_tokens": 2, "messages": [USER, {"role": "assistant", "content": [
            {"type": "tool_use", "name": "f", "input": {}}]}, USER]}),  # the engine gives the call an id of its clock
        ("other_api", "/v1/embeddings", {"input": "hi"}),
        ("truncated", TEXT, {"prompt": "hi", "truncate_prompt_tokens": 1}),
    ):
        gateway.post(path, {"model": MODEL, **body})
        assert outcome(gateway, name) == 1, name
    assert outcome(gateway, "tokenised") == 0


def test_the_simulator_tokenises_and_renders_as_the_gateway(start_sim, models):
    sim = start_sim(1, "--tokenizer", str(models["qwen3"]))

    def post(path: str, body: dict):
        with RawConnection(sim.addresses[0]) as connection:
            response = connection.request("POST", path, json.dumps({"model": MODEL, **body}).encode())
        assert response.status == 200, response.body
        return json.loads(response.body)

    def ids_of(text: str) -> list[int]:
        done = subprocess.run([sim.process.args[0], "tokenize", "--tokenizer", models["qwen3"] / "tokenizer.json", "--json",
                               "--text", text], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["ids"]

    text = "Hello, \u6771\u4eac!"
    assert post("/tokenize", {"prompt": text})["tokens"] == ids_of(text)
    chat = post("/tokenize", {"messages": [{"role": "user", "content": text}]})
    assert chat["tokens"] == ids_of(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")
    assert chat["count"] == len(chat["tokens"]) and chat["max_model_len"] > 0
    rendered = post("/v1/chat/completions/render", {"messages": [{"role": "user", "content": text}]})
    assert rendered["token_ids"] == chat["tokens"] and rendered["features"] is None
    assert [r["token_ids"] for r in post("/v1/completions/render", {"prompt": [text, "a"]})] == [ids_of(text), ids_of("a")]
    answer = post(CHAT, {"messages": [{"role": "user", "content": text}], "max_tokens": 50, "ignore_eos": True})
    assert answer["usage"]["completion_tokens"] == 50 == len(ids_of(answer["choices"][0]["message"]["content"]))


def test_a_tokenizer_that_is_not_there_is_said_at_start(tmp_path):
    config = tmp_path / "policy.yaml"
    config.write_text(POLICY.format(tokenizer="/nowhere/model"))
    done = subprocess.run([find_binary(), "serve", "--engine", "http://127.0.0.1:1", "--listen", "127.0.0.1:0",
                           "--admin", "127.0.0.1:0", "--scheduling-config", config], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "models[0]: /nowhere/model: " in done.stderr
