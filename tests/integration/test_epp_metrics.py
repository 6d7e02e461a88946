"""The picker's /metrics and /debug/plugins/state, read as Prometheus reads them, against what llm-d promises."""

import json
import re

import pytest
from conftest import MODEL
from harness.fake_engine import delta, never, start_stream, unary
from harness.raw import RawConnection
from harness.wait import eventually
from prometheus_client.parser import text_string_to_metric_families

CHAT = "/v1/chat/completions"
POOL = "my-pool"

# --- llm-d's table: name, type, labels, buckets

LONG = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60, 120, 180,
        240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600]
TTFT = LONG[: LONG.index(120) + 1]
SCHED = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]
REQUEST_BYTES = [2**i for i in range(6, 31)]
RESPONSE_BYTES = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32778, 65536]
INPUT = [*RESPONSE_BYTES, 131072, 262144, 524288, 1048576]
OUTPUT = RESPONSE_BYTES[:12]
NTPOT = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
TPOT = [0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 2]
ITL = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2]
PROCESSING = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
ANSWER = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
RATIO = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
HIT_BYTES = [0, *(2**i for i in range(4, 17))]
STREAMS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600]

L = {"model_name", "target_model_name", "fairness_id", "priority"}
MODELS = {"model_name", "target_model_name"}
POOL_LABEL = {"name"}
LOAD = {"endpoint_name", "namespace", "producer_name", "fairness_id", "priority"}
PLUGIN = {"plugin_name", "plugin_type"}

TODAY = {
    "request_total": ("counter", L, None),
    "request_error_total": ("counter", L | {"error_code"}, None),
    "request_running": ("gauge", L, None),
    "request_duration_seconds": ("histogram", L, LONG),
    "request_size_bytes": ("histogram", L, REQUEST_BYTES),
    "response_size_bytes": ("histogram", L, RESPONSE_BYTES),
    "request_input_tokens": ("histogram", L, INPUT),
    "request_cached_tokens": ("histogram", L, INPUT),
    "request_output_tokens": ("histogram", L, OUTPUT),
    "request_ntpot_seconds": ("histogram", L, NTPOT),
    "request_ttft_seconds": ("histogram", L | {"streaming"}, TTFT),
    "request_streaming_tpot_seconds": ("histogram", L, TPOT),
    "request_streaming_itl_seconds": ("histogram", L, ITL),
    "request_processing_duration_seconds": ("histogram", set(), PROCESSING),
    "response_processing_duration_seconds": ("histogram", set(), ANSWER),
    "average_kv_cache_utilization": ("gauge", POOL_LABEL, None),
    "average_queue_size": ("gauge", POOL_LABEL, None),
    "average_running_requests": ("gauge", POOL_LABEL, None),
    "std_dev_kv_cache_utilization": ("gauge", POOL_LABEL, None),
    "std_dev_queue_size": ("gauge", POOL_LABEL, None),
    "std_dev_running_requests": ("gauge", POOL_LABEL, None),
    "ready_endpoints": ("gauge", POOL_LABEL, None),
    "per_endpoint_queue_size": ("gauge", {"name", "model_server_endpoint"}, None),
    "scheduler_e2e_duration_seconds": ("histogram", set(), SCHED),
    "scheduler_attempts_total": (
        "counter", {"status", "target_model_name", "endpoint_name", "namespace", "port"}, None),
    "plugin_duration_seconds": ("histogram", PLUGIN | {"extension_point"}, SCHED),
    "info": ("gauge", {"commit", "build_ref"}, None),
    "datalayer_poll_errors_total": ("counter", {"source_type"}, None),
    "datalayer_extract_errors_total": ("counter", {"source_type", "extractor_type"}, None),
    "inflight_requests": ("gauge", LOAD, None),
    "inflight_tokens": ("gauge", LOAD, None),
    "prefix_indexer_size": ("gauge", PLUGIN, None),
    "prefix_indexer_hit_ratio": ("histogram", PLUGIN, RATIO),
    "prefix_indexer_hit_bytes": ("histogram", PLUGIN, HIT_BYTES),
}
OPT_IN = {
    "extproc_streams_inflight": ("gauge", set(), None),
    "extproc_stream_duration_seconds": ("histogram", set(), STREAMS),
    "extproc_streams_total": ("counter", {"code"}, None),
}
# Declared always; with samples when a plugin knows caches (test_exact_caches.py).
POD = {"pod_identifier"}
KV_EVENTS = {
    "kv_cache_events_active_subscribers": ("gauge", set(), None),
    "kv_cache_events_messages_received_total": ("counter", POD, None),
    "kv_cache_events_subscriber_reconnections_total": ("counter", POD, None),
    "kv_cache_index_admissions_total": ("counter", set(), None),
    "kv_cache_index_evictions_total": ("counter", set(), None),
}
OLDER = {
    "inference_objective_request_total": ("counter", MODELS | {"priority"}, None),
    "inference_objective_request_error_total": ("counter", MODELS | {"error_code"}, None),
    "inference_objective_request_duration_seconds": ("histogram", MODELS, LONG),
    "inference_objective_request_sizes": ("histogram", MODELS, REQUEST_BYTES),
    "inference_objective_response_sizes": ("histogram", MODELS, RESPONSE_BYTES),
    "inference_objective_input_tokens": ("histogram", MODELS, INPUT),
    "inference_objective_output_tokens": ("histogram", MODELS, OUTPUT),
    "inference_objective_prompt_cached_tokens": ("histogram", MODELS, INPUT),
    "inference_objective_running_requests": ("gauge", {"model_name"}, None),
    "inference_objective_normalized_time_per_output_token_seconds": ("histogram", MODELS, NTPOT),
    "inference_objective_request_ttft_seconds": ("histogram", MODELS, TTFT),
    "inference_objective_request_tpot_seconds": ("histogram", MODELS, TPOT),
    "inference_pool_average_kv_cache_utilization": ("gauge", POOL_LABEL, None),
    "inference_pool_average_queue_size": ("gauge", POOL_LABEL, None),
    "inference_pool_average_running_requests": ("gauge", POOL_LABEL, None),
    "inference_pool_ready_pods": ("gauge", POOL_LABEL, None),
    "inference_pool_per_pod_queue_size": ("gauge", {"name", "model_server_pod"}, None),
    "inference_extension_scheduler_e2e_duration_seconds": ("histogram", set(), SCHED),
    "inference_extension_scheduler_attempts_total": (
        "counter", {"status", "target_model_name", "pod_name", "namespace", "port"}, None),
    "inference_extension_plugin_duration_seconds": ("histogram", PLUGIN | {"extension_point"}, SCHED),
    "inference_extension_info": ("gauge", {"commit", "build_ref"}, None),
    "inference_extension_prefix_indexer_size": ("gauge", set(), None),
    "inference_extension_prefix_indexer_hit_ratio": ("histogram", set(), RATIO),
    "inference_extension_prefix_indexer_hit_bytes": ("histogram", set(), HIT_BYTES),
    "llm_d_inference_scheduler_datalayer_poll_errors_total": ("counter", {"source_type"}, None),
    "llm_d_inference_scheduler_datalayer_extract_errors_total": ("counter", {"source_type", "extractor_type"}, None),
}
# What their machinery is missing for: not even zeros.
ABSENT = re.compile(
    r"flow_control|request_predicted|prediction|slo_violation|kvcache_|disagg|pd_decision|"
    r"program_aware|encoder_cache|model_rewrite|inference_request_metric")


class Page:
    def __init__(self, text: str):
        self.families = {}
        for family in text_string_to_metric_families(text):
            name = family.name + ("_total" if family.type == "counter" else "")
            assert name not in self.families, f"{name} comes twice"
            self.families[name] = family

    def check(self, name: str, kind: str, labels: set[str], buckets: list | None) -> None:
        family = self.families[name]
        assert family.type == kind, name
        assert family.samples, f"{name} has no series"
        bounds = set()
        for sample in family.samples:
            own = set(sample.labels) - {"le"}
            assert own == labels, (name, sample)
            if sample.name.endswith("_bucket"):
                bounds.add(float(sample.labels["le"]))
        if buckets is not None:
            assert sorted(bounds) == [*buckets, float("inf")], name

    def sum(self, name: str, sample: str = "", /, **labels: str) -> float:
        return sum(
            s.value
            for s in self.families[name].samples
            if s.name == (sample or name) and all(s.labels.get(k) == v for k, v in labels.items())
        )


def page_of(epp) -> Page:
    response = epp.admin_get("/metrics")
    assert response.status == 200
    return Page(response.body.decode())


def ask(content: str = "hi", **fields) -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}


def stream_with_usage(words: int):
    async def answer(request, connection):
        await start_stream(connection)
        for i in range(words):
            await connection.event(delta(f"{i} "))
        usage = {"prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words,
                 "prompt_tokens_details": {"cached_tokens": 4}}
        await connection.event({"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": usage})
        await connection.chunk(b"data: [DONE]\n\n")
        await connection.send(b"0\r\n\r\n")

    return answer


@pytest.fixture
def stack(fakes, start_epp, start_envoy):
    def start(*flags: str):
        engines = [fakes.add(MODEL), fakes.add(MODEL)]
        epp = start_epp([e.url for e in engines], f"--pool-name={POOL}", *flags)
        epp.wait_healthy(*(e.address for e in engines))
        return engines, epp, start_envoy(epp.address)

    return start


def test_names_labels_and_buckets_are_llmds_in_both_generations(stack):
    engines, epp, envoy = stack("--enable-grpc-stream-metrics")
    for engine in engines:
        engine.answer = stream_with_usage(5)
    tenant = {"x-llm-d-inference-fairness-id": "tenant"}
    for i in range(4):
        assert envoy.post(CHAT, ask(f"x{i}" * 400, stream=True), tenant if i % 2 else None).status == 200
    assert envoy.post(CHAT, b"{").status == 400
    eventually(lambda: page_of(epp).sum("llm_d_epp_extproc_streams_total") == 5, "all streams have ended")
    page = page_of(epp)
    for name, row in (TODAY | OPT_IN).items():
        page.check(f"llm_d_epp_{name}", *row)
    for name, row in OLDER.items():
        page.check(name, *row)
    assert not [name for name in page.families if ABSENT.search(name)]
    prefixes = ("llm_d_", "inference_")
    known = {f"llm_d_epp_{name}" for name in TODAY | OPT_IN | KV_EVENTS} | set(OLDER)
    assert {name for name in page.families if name.startswith(prefixes)} <= known

    # The same figures under both names; tenants are one series of the older.
    for today, older in [
        ("llm_d_epp_request_total", "inference_objective_request_total"),
        ("llm_d_epp_request_error_total", "inference_objective_request_error_total"),
        ("llm_d_epp_scheduler_attempts_total", "inference_extension_scheduler_attempts_total"),
    ]:
        assert page.sum(today) == page.sum(older) > 0, today
    assert page.sum("llm_d_epp_request_total", fairness_id="tenant", model_name=MODEL, target_model_name=MODEL,
                    priority="0") == 2
    assert len(page.families["inference_objective_request_total"].samples) == 1
    counted = "request_duration_seconds"
    assert page.sum(f"llm_d_epp_{counted}", f"llm_d_epp_{counted}_count") == 4
    assert page.sum(f"inference_objective_{counted}", f"inference_objective_{counted}_count") == 4


def test_counting_rules(stack):
    engines, epp, envoy = stack()

    def count(name: str, **labels: str) -> float:
        return page_of(epp).sum(f"llm_d_epp_{name}", f"llm_d_epp_{name}_count", **labels)

    for engine in engines:
        engine.answer = unary(200, json.dumps({
            "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 0,
                                     "prompt_tokens_details": {"cached_tokens": 0}}}).encode())
    assert envoy.post(CHAT, ask()).status == 200
    eventually(lambda: count("request_duration_seconds") == 1, "the request has ended")
    assert count("request_input_tokens") == 1
    assert count("request_cached_tokens") == 1
    assert count("request_output_tokens") == 0
    assert count("request_streaming_tpot_seconds") == 0
    assert count("request_ttft_seconds", streaming="false") == 1
    # Streaming is whoever answers as a stream, whatever was asked for.
    for engine in engines:
        engine.answer = stream_with_usage(3)
    assert envoy.post(CHAT, ask()).status == 200
    eventually(lambda: count("request_ttft_seconds", streaming="true") == 1, "it counts as a stream")
    assert count("request_streaming_tpot_seconds") == 1
    for engine in engines:
        engine.answer = unary(503, b"{}")
    assert envoy.post(CHAT, ask()).status == 503
    errors = "llm_d_epp_request_error_total"
    eventually(lambda: page_of(epp).sum(errors, error_code="ModelServerError") == 1, "the error is counted")
    assert envoy.post(CHAT, b"no json").status == 400
    assert page_of(epp).sum(errors, error_code="BadRequest") == 1
    for engine in engines:
        engine.stop()
    eventually(lambda: not epp.healthy(), "nobody is healthy")
    assert envoy.post(CHAT, ask()).status == 503
    page = page_of(epp)
    assert page.sum(errors, error_code="ServiceUnavailable", model_name=MODEL) == 1
    assert page.sum(errors) == 3
    assert page.sum("llm_d_epp_scheduler_attempts_total", status="failure") == 1
    assert page.sum("llm_d_epp_request_running") == 0


def test_pool_averages_count_fresh_endpoints_only(fakes, start_epp):
    fresh, late = fakes.add(MODEL), fakes.add(MODEL)
    fresh.waiting, fresh.kv_usage = 4, 0.25
    late.waiting, late.kv_usage = 100, 1.0
    epp = start_epp([fresh.url, late.url], f"--pool-name={POOL}", "--metrics-staleness-threshold=500ms")
    epp.wait_healthy(fresh.address, late.address)
    queue = "llm_d_epp_average_queue_size"
    eventually(lambda: page_of(epp).sum(queue, name=POOL) == 52, "both count")

    late.metrics_answer = never
    eventually(lambda: page_of(epp).sum(queue, name=POOL) == 4, "only the fresh one counts")
    page = page_of(epp)
    assert page.sum("llm_d_epp_average_kv_cache_utilization", name=POOL) == 0.25
    assert page.sum("llm_d_epp_std_dev_queue_size", name=POOL) == 0
    assert page.sum("llm_d_epp_ready_endpoints") == page.sum("inference_pool_ready_pods") == 1
    # Each endpoint's own queue stays as it was heard last.
    assert page.sum("llm_d_epp_per_endpoint_queue_size") == 104


def test_engines_are_read_as_the_configuration_describes_them(fakes, start_epp, tmp_path):
    engine = fakes.add(MODEL)

    async def metrics(request, connection):
        text = 'my_requests{state="waiting",rank="0"} 3\nmy_requests{state="waiting",rank="1"} 4\n'
        text += 'my_requests{state="running"} 2\nmy_cache 0.5\nmy_heat{gpu="0"} -1.5\nmy_bad NaN\n'
        await connection.whole(200, text.encode(), content_type="text/plain")

    engine.metrics_answer = metrics
    config = tmp_path / "epp.yaml"
    config.write_text("""
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: queue-scorer}
- type: core-metrics-extractor
  parameters:
    defaultEngine: mine
    engineConfigs:
    - name: mine
      queuedRequestsSpec: my_requests{state=waiting}
      runningRequestsSpec: my_requests{state="running"}
      kvUsageSpec: my_cache
      customMetrics:
      - {attributeKey: Heat, metricSpec: my_heat}
      - {attributeKey: Bad, metricSpec: my_bad}
""")
    epp = start_epp([engine.url], f"--config-file={config}")
    epp.wait_healthy(engine.address)
    (seen,) = epp.endpoints()
    assert (seen["waiting"], seen["running"], seen["kv_usage"]) == (7, 2, 0.5)
    assert seen["attributes"] == {"Bad": None, "Heat": -1.5}
    assert "attribute 'Heat' is read and shown by /debug/endpoints, but no plugin uses it" in epp.process.stderr()


def test_state_of_plugins(stack):
    engines, epp, envoy = stack()
    for engine in engines:
        engine.answer = stream_with_usage(2)
    assert envoy.post(CHAT, ask("confidential " * 200, stream=True)).status == 200
    response = epp.admin_get("/debug/plugins/state")
    assert response.status == 200
    state = response.json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", state["timestamp"])
    for name, plugin in state["plugins"].items():
        assert plugin["name"] == name and plugin["type"]
        assert ("state" in plugin) != ("message" in plugin)
    by_type = {plugin["type"]: plugin for plugin in state["plugins"].values()}
    assert by_type["approx-prefix-cache-producer"]["state"]["prefix_indexer_size"] > 0
    assert "message" in by_type["queue-scorer"]
    assert "confidential" not in response.body.decode()
    with RawConnection(epp.admin) as connection:
        assert connection.request("POST", "/debug/plugins/state").status == 405


def test_nothing_is_logged_for_a_request(stack):
    engines, epp, envoy = stack()
    for engine in engines:
        engine.answer = stream_with_usage(2)
    before = len(epp.process.stderr().splitlines())
    for i in range(20):
        assert envoy.post(CHAT, ask(f"{i}", stream=True)).status == 200
    assert envoy.post(CHAT, b"no json").status == 400
    assert len(epp.process.stderr().splitlines()) == before


def test_grpc_servers_are_counted(stack):
    engines, epp, envoy = stack()
    for engine in engines:
        engine.answer = stream_with_usage(2)
    for i in range(3):
        assert envoy.post(CHAT, ask(f"{i}", stream=True)).status == 200
    page = page_of(epp)
    assert page.sum("penstock_grpc_calls_total", server="ext_proc") == 3
    assert page.sum("penstock_grpc_connections_open", server="ext_proc") >= 1
    assert page.sum("penstock_ext_proc_bad_streams_total") == 0


def test_gateway_shows_the_names_of_today_only(fake, start_gateway):
    gateway = start_gateway([fake.url])
    names = {family.name for family in text_string_to_metric_families(gateway.admin_get("/metrics").body.decode())}
    assert not [name for name in names if name.startswith("inference_")]
