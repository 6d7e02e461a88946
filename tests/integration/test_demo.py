"""`penstock demo` and `penstock traffic`: what a newcomer sees first."""

import re
import signal
import socket

import pytest
from conftest import MODEL
from harness.gateway import fetch_metrics
from harness.process import Process
from harness.raw import RawConnection, render_request
from harness.wait import eventually

# Engines, users and arrivals ten times as fast, but few of them: sanitizer builds must keep up.
SMALL = ["--engines", "2", "--speed", "10", "--rate", "2", "--chats", "30"]


@pytest.fixture
def start_demo(tmp_path):
    """Starts `penstock demo` on free ports; killed if a test leaves it running."""
    started: list[Process] = []

    def start(*flags: str) -> tuple[Process, tuple[str, int], tuple[str, int]]:
        args = ["demo", "--port", "0", "--admin-port", "0", *flags]
        process = Process(args, tmp_path, f"demo-{len(started)}")
        started.append(process)
        line = process.wait_for_line(r"gateway ready: http://.*admin: http://")[-1]
        gateway, admin = re.findall(r"http://([0-9.]+):(\d+)", line)
        process.wait_for_line("Ctrl-C ends")
        return process, (gateway[0], int(gateway[1])), (admin[0], int(admin[1]))

    yield start
    for process in started:
        if process.popen.returncode is None:
            process.kill()


def run(folder, *args: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command that ends by itself."""
    process = Process(list(args), folder, f"{args[0]}-once")
    code = process.wait()
    return code, "\n".join(process.stdout()), process.stderr()


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, f"no {pattern!r} in:\n{text}"
    return float(found[1].replace(",", ""))


def cached_share(admin: tuple[str, int]) -> float:
    """What the live page draws last as its cache-hit curve."""
    with RawConnection(admin) as connection:
        live = connection.request("GET", "/api/live").json()
    known = [rate for rate in live["series"]["hit_rate"] if rate is not None]
    return known[-1] if known else 0


def test_demo_serves_traffic_and_ends_with_a_report(start_demo):
    demo, gateway, admin = start_demo(*SMALL)
    eventually(lambda: cached_share(admin) > 0, "the live page shows cache hits")
    with RawConnection(gateway) as connection:
        body = b'{"model":"%s","messages":[{"role":"user","content":"Hello"}]}' % MODEL.encode()
        answer = connection.request("POST", "/v1/chat/completions", body)
    assert answer.status == 200, answer
    assert answer.json()["choices"][0]["message"]["content"]
    demo.stop()
    report = "\n".join(demo.stdout())
    assert number(r"requests +([\d,]+) answered", report) > 0
    assert number(r"answered \([\d.]+ a second\), (\d+) failed", report) == 0, report
    assert number(r"cache hits +([\d.]+) %", report) > 0
    assert re.search(r"time to first token +p50 [\d.]+ m?s +p90", report), report


def test_demo_knows_what_its_engines_hold(start_demo):
    demo, _, admin = start_demo(*SMALL)
    assert f"http://{admin[0]}:{admin[1]}/debug/kv" in "\n".join(demo.stdout())

    def get(path: str) -> dict:
        with RawConnection(admin) as connection:
            answer = connection.request("GET", path)
        assert answer.status == 200, answer
        return answer.json()

    def publishers() -> list[dict]:
        found = get("/debug/kv")
        assert found["unheard"] == [], found
        return found["publishers"] if {one["state"] for one in found["publishers"]} == {"EXACT"} else []

    assert [one["endpoint"] for one in eventually(publishers, "all are exact")] == ["engine-1", "engine-2"]

    def exact_hit() -> bool:
        whys = [one["why"] for one in get("/debug/decisions")["decisions"]]
        return any(re.search(r"exact: holds [1-9]\d* of \d+ prompt blocks", why) for why in whys)

    eventually(exact_hit, "a decision goes by blocks that an engine said it holds")
    caches = get("/api/live")["caches"]
    assert caches["publishers_total"] == 2, caches
    assert publishers(), "and they stay so"
    demo.stop()


def test_demo_does_not_speak_of_caches_that_its_policy_does_not_ask_for(start_demo):
    demo, _, admin = start_demo(*SMALL, "--no-traffic", "--policy", "random")
    text = "\n".join(demo.stdout())
    assert "/debug/kv" not in text and "KV events" not in text
    with RawConnection(admin) as connection:
        assert connection.request("GET", "/debug/kv").status == 404
    demo.stop()


def test_demo_prints_addresses_that_work(start_demo):
    demo, gateway, admin = start_demo(*SMALL, "--no-traffic")
    text = "\n".join(demo.stdout())
    assert f"http://{gateway[0]}:{gateway[1]}/v1/chat/completions" in text
    assert f'base_url="http://{gateway[0]}:{gateway[1]}/v1"' in text
    for path in re.findall(rf"http://{admin[0]}:{admin[1]}(/\S*)", text):
        with RawConnection(admin) as connection:
            assert connection.request("GET", path).status == 200, path
    assert fetch_metrics(admin).sum("llm_d_epp_request_total") == 0
    demo.stop()


@pytest.mark.parametrize("policy", ["random", "least-requests"])
def test_demo_ends_by_itself_after_its_duration(start_demo, policy):
    demo, _, _ = start_demo(*SMALL, "--policy", policy, "--duration", "1s")
    assert demo.wait() == 0
    text = "\n".join(demo.stdout())
    assert f"policy: {policy}" in text
    assert number(r"requests +([\d,]+) answered", text) > 0
    assert re.search(r"scripts/demo( --policy random)?  +the same traffic", text), text


def test_a_second_signal_ends_the_demo_at_once(start_demo):
    # At a tenth of the speed the answer takes minutes.
    demo, gateway, _ = start_demo("--engines", "1", "--speed", "0.1", "--no-traffic")
    body = (
        b'{"model":"%s","stream":true,"ignore_eos":true,"max_tokens":2000,'
        b'"messages":[{"role":"user","content":"Hello"}]}' % MODEL.encode()
    )
    with RawConnection(gateway) as waiting:
        waiting.send(render_request("POST", "/v1/chat/completions", body))
        assert waiting.read_head().status == 200
        demo.terminate()
        eventually(lambda: "a second signal" in demo.stderr(), "it says that it ends")
        demo.terminate()
        assert demo.wait() == 0
        while waiting.read_chunk():
            pass
        assert waiting.at_end()


@pytest.mark.parametrize("flag", ["--port", "--admin-port"])
def test_demo_names_the_port_that_is_taken_and_its_flag(tmp_path, flag):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = "--admin-port" if flag == "--port" else "--port"
        code, out, err = run(tmp_path, "demo", flag, str(port), other, "0")
    assert (code, out) == (1, "")
    assert f"port {port} cannot be used" in err and f" {flag} " in err


def test_two_demos_never_share_a_port(tmp_path, start_demo):
    _, gateway, _ = start_demo(*SMALL, "--no-traffic")
    code, _, err = run(tmp_path, "demo", "--port", str(gateway[1]), "--admin-port", "0")
    assert code == 1
    assert f"port {gateway[1]} cannot be used" in err


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--policy", "stiky"], "did you mean 'sticky'"),
        (["--profile", "h200"], "--profile"),
        (["--port", "7777", "--admin-port", "7777"], "both 7777"),
        (["--policy", "random", "--scheduling-config", "x.yaml"], "excludes"),
        (["--duration", "soon"], "--duration"),
        (["--speed", "0"], "--speed"),
        (["--chats", "0"], "chats"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_demo_refuses_wrong_flags(tmp_path, flags, complaint):
    code, out, err = run(tmp_path, "demo", *flags)
    assert code == 2, err
    assert complaint in out + err


def test_traffic_against_a_gateway_that_runs(tmp_path, start_sim, start_gateway):
    sim = start_sim(2, "--speed", "20")
    gateway = start_gateway(sim.urls)
    gateway.wait_healthy(*sim.addresses)
    code, report, err = run(
        tmp_path, "traffic", "--url", gateway.url, "--requests", "60", "--rate", "50",
        "--think-time", "0.05", "--agents", "4", "--turns", "5",
    )
    assert code == 0, err
    assert f"model {MODEL}" in err
    assert "60 answered" in report and " 0 failed" in report
    assert number(r"cache hits +([\d.]+) %", report) > 0
    assert gateway.metric("llm_d_epp_request_total") == 60


def test_traffic_ends_early_with_its_report(tmp_path, start_sim, start_gateway):
    sim = start_sim(1, "--speed", "20")
    gateway = start_gateway(sim.urls)
    gateway.wait_healthy(*sim.addresses)
    process = Process(
        ["traffic", "--url", gateway.url, "--duration", "0", "--model", MODEL, "--rate", "20",
         "--think-time", "0.05", "--agents", "2"],
        tmp_path, "traffic",
    )
    eventually(lambda: gateway.metric("llm_d_epp_request_total") > 5, "requests arrive")
    process.popen.send_signal(signal.SIGINT)
    assert process.wait() == 0, process.stderr()
    assert number(r"requests +([\d,]+) answered", "\n".join(process.stdout())) > 0


def test_traffic_fails_when_nobody_answers(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    code, _, err = run(tmp_path, "traffic", "--url", url)
    assert code == 1
    assert url in err
    code, report, err = run(
        tmp_path, "traffic", "--url", url, "--model", "m", "--requests", "3", "--rate", "100"
    )
    assert code == 1, err
    assert "3 x connect" in report


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--url", "http://192.0.2.1:8080"], "not on this machine"),
        (["--url", "http://example.com:8080"], "not on this machine"),
        (["--url", "127.0.0.1:8080"], "--url"),
        (["--duration", "soon"], "--duration"),
        (["--rate", "0"], "rate"),
        (["--agents", "0"], "agents"),
        (["--turns", "0"], "--turns"),
    ],
)
def test_traffic_refuses_wrong_flags(tmp_path, flags, complaint):
    code, out, err = run(tmp_path, "traffic", *flags)
    assert code == 2, err
    assert complaint in out + err
