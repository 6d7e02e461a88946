"""`penstock sim` answers in the shapes that a real vLLM 0.32 was recorded with (vllm.json).

Every field that the simulator sends has the name and type of vLLM's, and every field that vLLM fills is there. A null
of either side stands for any type: which fields are filled depends on the request.
"""

import json
from pathlib import Path

import pytest
from cases import cases, record, record_metrics
from harness.gateway import Sim
from harness.raw import RawConnection

MODEL = "tiny"
RECORD = json.loads((Path(__file__).parent / "vllm.json").read_text())

# Fields that vLLM fills and that mean nothing to a simulator.
NOT_SIMULATED = {
    "permission", "system_fingerprint", "cache_creation_input_tokens", "created_cache_tokens", "routed_experts",
}
# Of the responses API vLLM echoes every sampling parameter; the simulator sends what clients read.
ONLY_WHAT_IS_SENT = {"responses"}


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    sim = Sim(tmp_path_factory.mktemp("sim"), 1, 0, "--model", MODEL, "--speed", "50", "--max-model-len", "4096",
              "--cpu-blocks", "1000")
    yield sim
    sim.stop()


def differences(sim, real, path: str, complete: bool) -> list[str]:
    if "null" in (sim, real):
        return []
    if type(sim) is not type(real) or (isinstance(sim, str) and sim != real):
        return [f"{path}: {sim}, vLLM has {real}"]
    if isinstance(sim, list):
        return differences(sim[0], real[0], path + "[0]", complete) if sim and real else []
    if isinstance(sim, str):
        return []
    out = [f"{path}.{key}: vLLM has no such field" for key in sim if key not in real and sim[key] != "null"]
    if complete:
        out += [
            f"{path}.{key}: missing" for key in real
            if key not in sim and real[key] != "null" and key not in NOT_SIMULATED
        ]
    for key in sim.keys() & real.keys():
        out += differences(sim[key], real[key], f"{path}.{key}", complete)
    return out


@pytest.mark.parametrize("case", cases(MODEL), ids=lambda case: case.name)
def test_answer_has_vllm_s_shape(sim, case):
    with RawConnection(sim.addresses[0]) as connection:
        body = b"" if case.body is None else json.dumps(case.body).encode()
        got = record(connection.request(case.method, case.path, body))
    real = RECORD["answers"][case.name]
    assert (got["status"], got["type"]) == (real["status"], real["type"])
    complete = case.name not in ONLY_WHAT_IS_SENT
    if "events" in got:
        names = [[name, event == "[DONE]"] for name, event in got["events"]]
        assert names == [[name, event == "[DONE]"] for name, event in real["events"]]
        found = []
        for (_, mine), (_, theirs) in zip(got["events"], real["events"], strict=True):
            found += differences(mine, theirs, "event", complete)
    else:
        found = differences(got["json"], real["json"], "body", complete)
    assert not found, "\n".join(found)


def test_metrics_have_vllm_s_names_types_and_labels(sim):
    with RawConnection(sim.addresses[0]) as connection:
        connection.request("POST", "/v1/completions", json.dumps({"model": MODEL, "prompt": "x"}).encode())
    got = record_metrics(sim.metrics())
    real = RECORD["metrics"]
    assert not set(got) - set(real), "names that vLLM does not have"
    for name, family in got.items():
        assert family["type"] == real[name]["type"], name
        if name != "vllm:cache_config_info":  # vLLM adds labels with every release
            assert family["labels"] == real[name]["labels"], name
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "cache_config_info",
                 "time_to_first_token_seconds", "prefix_cache_hits", "external_prefix_cache_queries",
                 "external_prefix_cache_hits", "request_success"):
        assert f"vllm:{name}" in got
