"""`penstock lab` as its users run it."""

import concurrent.futures
import http.client
import itertools
import json
import os
import re
import subprocess

import pytest
from conftest import MODEL
from harness.process import ROOT, find_binary
from harness.wait import PATIENCE_S

CHAT = "/v1/chat/completions"

TRACES = ROOT / "tests/data/traces"


def lab(*args: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [str(find_binary()), "lab", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stderr + done.stdout
    return done


def numbers(output: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+) +(\S+)$", output, re.MULTILINE))


def test_replay_repeats_bit_for_bit_and_shows_its_numbers():
    flags = ["replay", "--workload", "b2b-saas", "--max-requests", "300", "--engines", "4", "--policy", "least-cost"]
    first, second = (numbers(lab(*flags).stdout) for _ in range(2))
    other = numbers(lab(*flags, "--seed", "2").stdout)
    assert first == second
    assert first["decisions_digest"] != other["decisions_digest"]
    assert first["requests"] == "300" and first["lost_requests"] == "0"
    assert float(first["ttft_mean_s"]) > 0 and 0 < float(first["hit_share"]) < 1


def test_engines_may_have_a_cpu_tier():
    flags = ["replay", "--workload", "tiered", "--max-requests", "150", "--rate-scale", "0.2", "--engines", "1"]
    without, output = lab(*flags).stdout, lab(*flags, "--cpu-blocks", "500000").stdout
    assert "with 500000 CPU blocks" in output
    assert "tier_hit_tokens" not in without
    assert int(numbers(output)["tier_hit_tokens"]) > 0
    assert float(numbers(output)["hit_share"]) > float(numbers(without)["hit_share"])
    assert float(numbers(output)["ttft_mean_s"]) < float(numbers(without)["ttft_mean_s"])


def test_a_lesser_processor_decides_the_same():
    flags = ["replay", "--workload", "production", "--max-requests", "200", "--engines", "4"]
    # The C library then takes its variants for processors without these, as it does on such a machine.
    lesser = "glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX,-FMA,-FMA4,-BMI2,-ERMS"
    assert numbers(lab(*flags).stdout) == numbers(lab(*flags, GLIBC_TUNABLES=lesser).stdout)


def test_replay_reads_traces(tmp_path):
    mooncake = TRACES / "mooncake_conversation_60.jsonl"
    result = numbers(lab("replay", "--workload", f"mooncake:{mooncake}", "--engines", "2", "--policy", "sticky").stdout)
    assert result["requests"] == "60"
    broken = tmp_path / "broken.jsonl"
    lines = mooncake.read_text().splitlines()
    broken.write_text("\n".join([*lines[:20], '{"timestamp": 1, "input_len', *lines[20:]]) + "\n")
    error = lab("replay", "--workload", f"mooncake:{broken}", "--engines", "2", code=1).stderr
    assert f"{broken}:21:" in error
    kept = lab("replay", "--workload", f"mooncake:{broken}", "--engines", "2", "--skip-bad-lines").stdout
    assert numbers(kept)["requests"] == "60"
    assert "skipped: 1 line" in kept


def test_engines_fail_come_back_and_join():
    output = lab(
        "replay", "--workload", "sharegpt-like", "--max-requests", "400",
        "--pool", "2xh100-qwen3-32b-tp2", "1xh100-qwen3-32b", "--policy", "least-requests",
        "--incident", "5:fail:1", "--incident", "20:start:1", "--incident", "10:join:3",
    ).stdout
    assert "2xh100-qwen3-32b-tp2 + 1xh100-qwen3-32b" in output
    lost = int(numbers(output)["lost_requests"])
    assert 0 < lost < 20, "what had begun on the engine that died, and nothing else"


def test_compare_writes_a_table_json_and_a_page(tmp_path):
    output = lab(
        "compare", "--workload", "interactive-chat", "--until", "200", "--engines", "4", "--seeds", "3",
        "--policies", "random", "least-cost",
        "--json", str(tmp_path / "c.json"), "--html", str(tmp_path / "c.html"),
    ).stdout
    assert re.search(r"cache hits % +\d+\.\d .* \*\d+\.\d", output)
    result = json.loads((tmp_path / "c.json").read_text())
    assert [arm["name"] for arm in result["arms"]] == ["random", "least-cost"]
    hits = [arm["numbers"]["hit_share"]["mean"] for arm in result["arms"]]
    assert hits[1] > hits[0]
    assert len(result["arms"][0]["numbers"]["ttft_mean_s"]["runs"]) == 3
    page = (tmp_path / "c.html").read_text()
    assert page.count("<svg") == 15 and "penstock lab compare" in page


def test_compare_takes_llm_d_s_configurations(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n"
        "plugins:\n- type: queue-scorer\n- type: max-score-picker\n- type: single-profile-handler\n"
        "schedulingProfiles:\n- name: default\n  plugins:\n  - pluginRef: queue-scorer\n"
        "  - pluginRef: max-score-picker\n"
    )
    output = lab(
        "compare", "--workload", "sharegpt-like", "--max-requests", "100", "--seeds", "2",
        "--policies", "sticky", str(mine),
    ).stdout
    assert re.search(r"^policy +sticky +mine$", output, re.MULTILINE)


def test_policies_page_is_written_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Mine\n<!-- numbers -->\nold\n<!-- end of numbers -->\nrest\n")
    lab(
        "policies", "--workloads", "sharegpt-like", "interactive-chat", "--max-requests", "100", "--seeds", "2",
        "--policies", "random", "sticky", "--page", str(page),
    )
    text = page.read_text()
    assert text.startswith("# Mine\n") and text.endswith("\nrest\n") and "old" not in text
    assert "| workload | random | sticky |" in text and "| interactive-chat |" in text


def test_sweep_ranks_every_combination():
    output = lab(
        "sweep", "--workloads", "interactive-chat", "sharegpt-like", "--until", "100", "--engines", "4",
        "--set", "least-cost-scorer.eviction=0,8", "--set", "weight.no-hit-lru-scorer=0,0.2",
        "--seeds", "2", "--by", "ttft_mean_s",
    ).stdout
    rows = re.findall(r"^(eviction=\d weight of no-hit-lru-scorer=\S+) +(\d+\.\d\d) % +\d of 2$", output, re.MULTILINE)
    assert len(rows) == 4
    assert [float(off) for _, off in rows] == sorted(float(off) for _, off in rows)


def test_calibrate_finds_what_an_engine_was_made_of(start_sim, tmp_path):
    sim = start_sim(1, "--profile", "h100-qwen3-32b-tp2")
    profile = tmp_path / "mine.yaml"
    done = lab("calibrate", "--url", sim.urls[0], "--name", "mine", "--max-sequences", "8", "--out", str(profile))
    assert "measuring a prompt of 8192 tokens" in done.stderr
    costs = {name: float(value) for name, value in re.findall(r"^  (\w+): (\S+)$", profile.read_text(), re.MULTILINE)}
    assert costs["blocks"] == 18625
    # Measured on a machine that others use: the unit tests hold the fit to its digits.
    assert 0.5 < costs["floorMs"] / 13.5 < 2
    assert 0.5 < costs["perTokenUs"] / 44 < 2
    replayed = lab("replay", "--workload", "sharegpt-like", "--max-requests", "50", "--profile", str(profile)).stdout
    assert numbers(replayed)["lost_requests"] == "0"


def test_calibrate_fits_a_log_of_requests(tmp_path):
    log, profile = tmp_path / "log.csv", tmp_path / "mine.yaml"
    rows = ["arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s"]
    for i in range(60):  # one at a time: 20 ms a step, 50 us a token of the prompt
        prompt, output = 500 + i * 60, 20 + i % 7 * 10
        ttft = max(0.020, prompt * 50e-6)
        rows.append(f"{i * 10},{prompt},{output},{ttft:.6f},{ttft + (output - 1) * 0.020:.6f}")
    log.write_text("\n".join([*rows, "600,0,20,1,2", "610,500,20,0.0"]) + "\n")
    done = lab("calibrate", "--log", str(log), "--kv-blocks", "20000", "--name", "mine", "--out", str(profile))
    assert "62 rows, 60 of them used; skipped 1 row: without tokens (first at line 62); 1 row: cut off" in done.stderr
    assert "30 requests held out: off by" in done.stderr
    assert "note: perSequenceUs is not determined and left at 0: the log never has two requests at once" in done.stderr
    costs = {name: float(value) for name, value in re.findall(r"^  (\w+): (\S+)$", profile.read_text(), re.MULTILINE)}
    assert 19 < costs["floorMs"] < 20.5 and 47 < costs["perTokenUs"] < 52
    replayed = lab("replay", "--workload", "sharegpt-like", "--max-requests", "50", "--profile", str(profile)).stdout
    assert numbers(replayed)["lost_requests"] == "0"
    log.write_text("arrival_s,prompt_tokens,ttft_s,e2e_s\n0,1,1,1\n")
    error = lab("calibrate", "--log", str(log), "--kv-blocks", "20000", code=1).stderr
    assert f"{log}:2: none of the fields output_toks, output_tokens, completion_tokens" in error


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["replay", "--workload", "ladde"], "did you mean 'ladder'"),
        (["replay", "--policy", "stiky"], "unknown policy 'stiky'"),
        (["replay", "--profile", "h100"], "no profile 'h100'"),
        (["replay", "--pool", "h100-qwen3-32b"], "--pool h100-qwen3-32b: not COUNTxPROFILE"),
        (["replay", "--incident", "5:die:1"], "the kind must be fail, start, leave or join"),
        (["replay", "--incident", "5:fail:9"], "the engine must be a number from 1 to 8"),
        (["compare", "--policies", "random", "/nowhere/x.yaml"], "/nowhere/x.yaml"),
        (["policies", "--page", "/nowhere/page.md"], "/nowhere/page.md"),
        (["sweep", "--set", "least-cost-scorer.eviction"], "--set least-cost-scorer.eviction: not PLUGIN.PARAMETER"),
        (["sweep", "--set", "least-cost.eviction=1"], "no plugin 'least-cost'; it has single-profile-handler, least-cost-scorer"),
        (["sweep", "--set", "least-cost-scorer.evictoin=1"], "did you mean 'eviction'"),
        (["sweep", "--set", "least-cost-scorer.eviction=-1"], "eviction"),
        (["sweep", "--set", "weight.no-hit-lru-scorer=much"], "'much' is no number"),
        (["calibrate", "--url", "http://127.0.0.1:9"], "connection refused"),
        (["calibrate", "--url", "http://192.0.2.1:8000"], "192.0.2.1"),
        (["calibrate", "--log", "/nowhere/log.csv", "--kv-blocks", "9"], "/nowhere/log.csv"),
        (["calibrate", "--log", "log.csv"], "give --kv-blocks"),
        (["kernels", "/nowhere", "--layers", "2"], "/nowhere/dense.csv"),
        (["fidelity", "--run", "here"], "--run here: not PROFILE=FOLDER"),
    ],
)
def test_mistakes_are_named(flags, sentence):
    assert sentence in lab(*flags, code=1).stderr


def ask(gateway, messages: list[dict]) -> dict | None:
    """The answer's message, or nothing when there is none."""
    try:
        response = gateway.post(CHAT, {"model": MODEL, "messages": messages, "max_tokens": 20})
    except (OSError, http.client.HTTPException):
        return None
    return response.json()["choices"][0]["message"] if response.status == 200 else None


def test_a_recorded_gateway_decides_the_same_again_and_its_traffic_replays(start_sim, start_gateway, tmp_path):
    recording = tmp_path / "live.rec"
    secret = "A sentence that nobody else may read. "
    sims = [start_sim(2, "--speed", "20") for _ in range(2)]
    gateway = start_gateway([url for sim in sims for url in sim.urls], "--record", str(recording))
    gateway.wait_healthy(*(address for sim in sims for address in sim.addresses))
    answers = itertools.count()

    def chat(number: int) -> None:
        messages = [{"role": "user", "content": f"Chat {number}. " + secret * 40}]
        for _ in range(4):
            answer = ask(gateway, messages)
            next(answers)
            if answer is not None:
                messages += [answer, {"role": "user", "content": "And then?"}]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        chats = [pool.submit(chat, number) for number in range(16)]
        chats[2].result(PATIENCE_S)
        sims[1].kill()  # its requests are tried again or broken off
        for running in chats:
            running.result(PATIENCE_S)
    assert gateway.metric("penstock_recording_open") == 1
    gateway.wait_idle()
    gateway.stop()

    verdict = lab("verify", str(recording)).stdout
    assert "all decisions are the same" in verdict and "it ended: stopped" in verdict
    assert f"{next(answers)} requests" in verdict
    assert "input tokens" in lab("verify", str(recording), "--explain", "0").stdout
    assert "no request 100000" in lab("verify", str(recording), "--explain", "100000", code=1).stderr

    replayed = numbers(lab("replay", "--workload", f"recording:{recording}", "--engines", "2").stdout)
    assert 30 < int(replayed["requests"]) <= 64
    assert float(replayed["hit_share"]) > 0.3  # chats say again what they said


def test_a_recording_that_cannot_be_written_is_an_error_at_start(fake, tmp_path):
    done = subprocess.run(
        [str(find_binary()), "serve", "--engine", fake.url, "--record", str(tmp_path / "no" / "such.rec")],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 1
    assert "recording.file" in done.stderr and "such.rec.part: cannot be written" in done.stderr


def test_verify_says_what_is_no_recording():
    error = lab("verify", str(TRACES / "mooncake_conversation_60.jsonl"), code=1).stderr
    assert "mooncake_conversation_60.jsonl:1: is no recording" in error
