"""penstock check: exit status, what goes where, and that its penstock.yaml serves."""

import json
import subprocess
from pathlib import Path

from harness.process import find_binary
from harness.wait import PATIENCE_S

DATA = Path(__file__).parents[1] / "data" / "llm-d-configs"


def check(*args: str, text: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [find_binary(), "check", *args], input=text, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_explains_and_exits_with_zero():
    done = check(str(DATA / "written/chart-default.yaml"))
    assert done.returncode == 0, done.stderr
    assert "score    43 %  prefix-cache-scorer, weight 3" in done.stdout
    assert done.stderr == ""


def test_errors_go_to_standard_error_with_status_one():
    done = check(str(DATA / "deploy/pd-epp-config.yaml"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "prefill/decode disaggregation" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_warnings_count_only_under_strict():
    file = str(DATA / "written/perf-random-passthrough.yaml")
    assert check(file).returncode == 0
    wrong = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{type: random-picker}, {type: queue-scorer}]\n"
    assert check("-", text=wrong).returncode == 0
    assert check("--strict", "-", text=wrong).returncode == 1


def test_wrong_flags_are_status_two_and_missing_files_one():
    assert check().returncode == 2
    assert check("--json", "--yaml", "x").returncode == 2
    missing = check("/nowhere/x.yaml")
    assert missing.returncode == 1 and "/nowhere/x.yaml" in missing.stderr
    assert "Examples:" in check("--help").stdout


def test_json_is_for_machines():
    done = check("--json", str(DATA / "written/chart-values-two.yaml"))
    assert done.returncode == 1 and done.stderr == ""
    good, wrong = json.loads(done.stdout)
    assert good["ok"] and good["profiles"][0]["picker"]["type"] == "random-picker"
    assert not wrong["ok"] and "did you mean 'queue-scorer'?" in wrong["errors"][0]


def test_the_converted_configuration_serves(tmp_path, fake, start_gateway):
    converted = check("--yaml", str(DATA / "written/guide-token-aware.yaml"))
    assert converted.returncode == 0, converted.stderr
    file = tmp_path / "penstock.yaml"
    file.write_text(converted.stdout)
    assert check(str(file)).returncode == 0
    gateway = start_gateway([fake.url], "--config", str(file))
    with gateway.connect() as connection:
        assert connection.request("GET", "/v1/models").status == 200
