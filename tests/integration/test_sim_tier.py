"""`penstock sim` with a tier of KV blocks in host memory."""

import json

import pytest
from harness.gateway import Sim
from harness.raw import RawConnection

PROMPT_TOKENS = 1500


@pytest.fixture
def sim(tmp_path):
    sim = Sim(tmp_path, 1, 0, "--profile", "h100-qwen3-32b", "--speed", "20", "--model", "m",
              "--num-gpu-blocks-override", "100", "--cpu-blocks", "1000")
    yield sim
    sim.stop()


def cached_tokens(connection: RawConnection, first_token: int) -> int:
    body = {"model": "m", "prompt": list(range(first_token, first_token + PROMPT_TOKENS)), "max_tokens": 3}
    answer = connection.request("POST", "/v1/completions", json.dumps(body).encode())
    assert answer.status == 200
    return json.loads(answer.body)["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_prompts_come_back_from_host_memory(sim):
    with RawConnection(sim.addresses[0]) as connection:
        # The engine's own cache holds one of the prompts.
        assert [cached_tokens(connection, first) for first in (0, 10_000, 20_000)] == [0, 0, 0]
        assert [cached_tokens(connection, first) for first in (0, 10_000, 20_000)] == [1488, 1488, 1488]
    metrics = sim.metrics()
    assert metrics.sum("vllm:prefix_cache_hits_total") == 0
    assert metrics.sum("vllm:external_prefix_cache_queries_total") == 6 * PROMPT_TOKENS
    assert metrics.sum("vllm:external_prefix_cache_hits_total") == 3 * 1488
