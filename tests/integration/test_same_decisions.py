"""The gateway and the picker behind Envoy are two bodies of one brain: what they are asked alike they decide alike."""

import json
import random

import pytest
from conftest import MODEL
from harness.envoy import SERVED_BY
from harness.fake_engine import completion_json, unary

# Those that toss no coins where no two engines are alike.
POLICIES = ["least-cost", "weighted", "weighted-lru", "round-robin"]
WITH_SESSIONS = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: session-affinity-scorer, parameters: {strategy: session_id}}
- {type: queue-scorer}
- {type: prefix-cache-scorer}
- {type: no-hit-lru-scorer}
- {type: max-score-picker, parameters: {maxNumOfEndpoints: 1}}
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: session-affinity-scorer, weight: 4}
  - {pluginRef: queue-scorer, weight: 1}
  - {pluginRef: prefix-cache-scorer, weight: 3}
  - {pluginRef: no-hit-lru-scorer, weight: 0.5}
  - {pluginRef: max-score-picker}
"""
# What may differ: clocks, and the number of bytes that a decision happened to wait for.
VOLATILE = {"unix_micros", "decision_us", "ttft_s", "e2e_s", "dispatched_after_s", "why", "explanation"}


def without_clocks(value):
    if isinstance(value, dict):
        return {k: without_clocks(v) for k, v in value.items() if k not in VOLATILE}
    if isinstance(value, list):
        return [without_clocks(v) for v in value]
    return value


def requests(count: int):
    """Path, body and headers of requests of every kind; prompts share beginnings, sessions come back."""
    rng = random.Random(20)
    words = ["prefill", "decode", "router", "block", "cache", "naïve", "日本", '"quoted"', "\n", "😀"]
    text = lambda n: " ".join(rng.choice(words) for _ in range(n))  # noqa: E731
    shared = [text(400) for _ in range(3)]
    for i in range(count):
        prompt = rng.choice(shared)[: rng.randrange(10, 3000)] + text(rng.randrange(1, 200))
        messages = [{"role": "system", "content": rng.choice(shared)}, {"role": "user", "content": prompt}]
        parts = [{"type": "text", "text": prompt}, {"type": "image_url", "image_url": {"url": "http://x/y.png"}}]
        path, fields = rng.choice(
            [
                ("/v1/chat/completions", {"messages": messages, "max_tokens": rng.randrange(1, 500)}),
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": parts}]}),
                ("/v1/completions", {"prompt": prompt, "cache_salt": rng.choice(["", "a"])}),
                ("/v1/completions", {"prompt": [prompt, text(30)]}),
                ("/v1/completions", {"prompt": [rng.randrange(50_000) for _ in range(300)]}),
                ("/v1/responses", {"input": prompt, "instructions": shared[0]}),
                ("/v1/embeddings", {"input": [prompt, prompt[:40]]}),
                ("/v1/messages", {"system": shared[1], "messages": messages[1:], "max_tokens": 10}),
                ("/tokenize", {"prompt": prompt}),
                ("/elsewhere", {"anything": prompt}),
            ]
        )
        headers = {"x-request-id": f"same-{i}", "x-session-id": f"session-{rng.randrange(4)}"}
        if rng.random() < 0.3:
            headers["x-llm-d-inference-fairness-id"] = f"tenant-{rng.randrange(3)}"
        body = json.dumps({"model": MODEL, **fields}, ensure_ascii=rng.random() < 0.5).encode()
        yield path, body, headers


@pytest.mark.parametrize("policy", [*POLICIES, "sessions"])
def test_same_input_same_decision(policy, fakes, tmp_path, start_gateway, start_epp, start_envoy):
    engines = [fakes.add(MODEL) for _ in range(5)]
    for i, engine in enumerate(engines):
        engine.answer = unary(200, completion_json("hi"))
        # No two alike, so that nothing is left to chance, and none so bad that nobody goes there.
        engine.running, engine.kv_usage = 1.0 + i, 0.1 + 0.01 * ((i * 3) % 5)
        engine.gpu_blocks = 20_000
    urls = [e.url for e in engines]
    if policy == "sessions":
        config = tmp_path / "epp.yaml"
        config.write_text(WITH_SESSIONS)
        gateway = start_gateway(urls, "--scheduling-config", str(config))
        epp = start_epp(urls, f"--config-file={config}")
    else:
        gateway = start_gateway(urls, "--policy", policy)
        epp = start_epp(urls, f"--policy={policy}")
    for program in (gateway, epp):
        program.wait_healthy(*(e.address for e in engines))
    envoy = start_envoy(epp.address)
    picked = set()
    for path, body, headers in requests(60):
        direct = gateway.post(path, body, headers)
        through_envoy = envoy.post(path, body, headers)
        assert direct.status == through_envoy.status == 200, (path, direct, through_envoy)
        ours, theirs = (without_clocks(p.decision(headers["x-request-id"])) for p in (gateway, epp))
        assert ours == theirs, path
        assert theirs["attempts"][0]["address"] == through_envoy.headers[SERVED_BY]
        # The engine got the same bytes as well.
        seen = {r.body for e in engines for r in e.requests if r.header("x-request-id") == headers["x-request-id"]}
        assert len(seen) == 1
        picked.add(ours["endpoint"])
        gateway.wait_idle()
        epp.wait_idle()
    assert len(picked) > 1 or policy == "weighted", "but for one, whose prefixes outweigh all else, they spread"
