"""Attributes that a configuration describes (customMetrics), and the plugins that decide by them."""

import subprocess

from conftest import MODEL
from harness.process import find_binary
from harness.wait import PATIENCE_S, eventually

CHAT = "/v1/chat/completions"
CONFIGURATION = """\
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: endpoint-attribute-filter
  parameters:
    attribute: Depth
    onMissing: Fail
    algorithm: {type: threshold, threshold: {operator: LessThan, value: 10}}
- type: endpoint-attribute-scorer
  parameters: {attributeKey: Heat, producer: engines, algorithm: {type: linear_lower_is_better}}
- type: core-metrics-extractor
  name: engines
  parameters:
    engineConfigs:
    - name: vllm
      queuedRequestsSpec: vllm:num_requests_waiting
      customMetrics:
      - {attributeKey: Heat, metricSpec: "board_temperature{sensor=hot}"}
      - {attributeKey: Depth, metricSpec: my_depth}
"""


def ask() -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


def tell(engine, heat: float, depth: float | None) -> None:
    async def answer(_request, connection):
        text = "vllm:num_requests_waiting 0\n"
        text += f'board_temperature{{sensor="hot"}} {heat}\nboard_temperature{{sensor="cold"}} -5\n'
        text += "" if depth is None else f"my_depth {depth}\n"
        await connection.whole(200, text.encode(), content_type="text/plain; version=0.0.4")

    engine.metrics_answer = answer


def test_requests_follow_attributes_and_a_recording_knows_them(fakes, start_epp, start_envoy, tmp_path):
    hot, cool, silent = engines = [fakes.add(MODEL) for _ in range(3)]
    tell(hot, 80, 1)
    tell(cool, 40, 1)
    tell(silent, 10, None)
    config, recording = tmp_path / "epp.yaml", tmp_path / "epp.rec"
    config.write_text(CONFIGURATION)
    epp = start_epp([e.url for e in engines], f"--config-file={config}", f"--record={recording}")
    epp.wait_healthy(*[e.address for e in engines])
    envoy = start_envoy(epp.address)
    for _ in range(3):
        assert envoy.post(CHAT, ask()).status == 200
    assert [len(e.requests) for e in engines] == [0, 3, 0]
    tell(cool, 90, 1)
    eventually(lambda: epp.endpoint(f"127.0.0.1:{cool.port}")["attributes"]["Heat"] == 90, "it is hot now")
    assert envoy.post(CHAT, ask()).status == 200
    assert [len(e.requests) for e in engines] == [1, 3, 0]
    tell(hot, 20, 50)
    eventually(lambda: epp.endpoint(f"127.0.0.1:{hot.port}")["attributes"]["Depth"] == 50, "it is too deep")
    assert envoy.post(CHAT, ask()).status == 200
    assert [len(e.requests) for e in engines] == [1, 4, 0]
    epp.wait_idle()
    epp.stop()
    verify = [find_binary(), "lab", "verify", str(recording)]
    done = subprocess.run(verify, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all decisions are the same" in done.stdout and "5 requests" in done.stdout
