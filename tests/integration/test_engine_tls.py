"""TLS to the engines: requests, metrics and model lists, and what is said when it does not come about."""

import json
import socket
from pathlib import Path

import pytest
from conftest import MODEL
from harness.certificate import make_certificate
from harness.raw import events_of
from harness.wait import eventually

CHAT = "/v1/chat/completions"


def ask(**fields) -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, **fields}


@pytest.fixture
def certificate(tmp_path) -> Path:
    """Folder of a certificate for localhost and 127.0.0.1."""
    folder = tmp_path / "engine"
    make_certificate(folder)
    return folder


def why(program, address: tuple[str, int]) -> str:
    """Why the endpoint is no candidate; waits until it has been tried."""
    name = f"{address[0]}:{address[1]}"

    def probe() -> str:
        reason = program.endpoint(name).get("reason") or ""
        return "" if reason == "not reached yet" else reason

    return eventually(probe, f"a reason why {name} is not healthy")


def test_requests_go_over_kept_connections_with_tls(start_sim, start_tls, start_gateway, certificate):
    sim = start_sim(1, "--speed", "20")
    front = start_tls(sim.addresses[0], certificate)
    flags = ["--engine-ca-file", str(certificate / "tls.crt"), "--threads", "1"]
    gateway = start_gateway([front.url], *flags)
    gateway.wait_healthy(front.address)
    before = front.accepted
    body = json.dumps(ask()).encode()
    with gateway.connect() as connection:
        for _ in range(20):
            response = connection.request("POST", CHAT, body)
            assert response.status == 200, response
    assert front.accepted - before == 1, "one connection carries them all"
    response = gateway.post(CHAT, ask(stream=True))
    assert response.status == 200 and len(events_of(response.body)) >= 8, response
    models = gateway.request("GET", "/v1/models").json()
    assert [m["id"] for m in models["data"]] == [MODEL]
    assert gateway.metric("penstock_engine_tls_handshakes_total", result="ok") >= 2
    assert gateway.metric("penstock_engine_tls_handshakes_total", result="failed") == 0
    assert front.names == {None}, "an address is no server name"


def test_engines_with_and_without_tls_are_one_pool(start_sim, start_tls, start_gateway, certificate, tmp_path):
    sim = start_sim(2, "--speed", "20")
    front = start_tls(sim.addresses[0], certificate)
    config = tmp_path / "penstock.yaml"
    config.write_text(
        f"engines: [{{url: '{front.url}'}}, {{url: '{sim.urls[1]}'}}]\n"
        f"engineTls: {{caFile: '{certificate / 'tls.crt'}', serverName: localhost}}\n"
        "scheduling: {policy: round-robin}\n"
    )
    gateway = start_gateway([], "--config", str(config))
    gateway.wait_healthy(front.address, sim.addresses[1])
    served = set()
    for _ in range(8):
        response = gateway.post(CHAT, ask())
        assert response.status == 200, response
        attempts = gateway.decision(response.headers["x-request-id"])["attempts"]
        served.add(attempts[-1]["address"])
    assert len(served) == 2
    assert front.names == {"localhost"}


def test_a_file_turns_tls_on_and_off(start_sim, start_tls, start_gateway, certificate, tmp_path):
    sim = start_sim(1, "--speed", "20")
    front = start_tls(sim.addresses[0], certificate)
    engines = tmp_path / "engines.yaml"
    engines.write_text(f"endpoints: [{{name: a, url: 'http://127.0.0.1:{front.address[1]}'}}]\n")
    flags = ["--endpoints-file", str(engines), "--engine-ca-file", str(certificate / "tls.crt")]
    gateway = start_gateway([], *flags)
    assert "GET /metrics" in why(gateway, front.address)
    engines.write_text(f"endpoints: [{{name: a, url: '{front.url}'}}]\n")
    gateway.wait_healthy(front.address)
    assert gateway.post(CHAT, ask()).status == 200


@pytest.mark.parametrize(
    "address, flags, said",
    [
        ("127.0.0.1", [], "self-signed certificate; give the certificate of its authority as CA file"),
        ("10.1.2.3", ["--engine-ca-file", "CA"], "it is for localhost, 10.1.2.3; reach it by that name"),
        ("127.0.0.1", ["--engine-ca-file", "CA", "--engine-server-name", "a.example"], "hostname mismatch"),
    ],
)
def test_a_certificate_that_is_not_accepted_takes_the_engine_out(
    address, flags, said, fake, start_tls, start_gateway, tmp_path
):
    folder = tmp_path / "engine"
    make_certificate(folder, address=address)
    front = start_tls(fake.address, folder)
    flags = [str(folder / "tls.crt") if flag == "CA" else flag for flag in flags]
    gateway = start_gateway([front.url], *flags)
    reason = why(gateway, front.address)
    assert "GET /metrics: its certificate is not accepted" in reason and said in reason
    assert gateway.metric("penstock_scrapes_total", result="tls") > 0
    assert gateway.metric("penstock_engine_tls_handshakes_total", result="failed") > 0
    response = gateway.post(CHAT, ask(model="fake"))
    assert response.status == 503 and said in response.error()["message"], response


def test_skipping_verification_takes_any_certificate(start_sim, start_tls, start_gateway, tmp_path):
    folder = tmp_path / "engine"
    make_certificate(folder, name="other.example", address="10.1.2.3")
    sim = start_sim(1, "--speed", "20")
    front = start_tls(sim.addresses[0], folder)
    gateway = start_gateway([front.url], "--engine-skip-verify", "true")
    gateway.wait_healthy(front.address)
    assert gateway.post(CHAT, ask()).status == 200


def test_an_engine_without_tls_behind_https_is_told(start_sim, start_gateway):
    sim = start_sim()
    gateway = start_gateway([sim.urls[0].replace("http://", "https://")])
    assert "does it speak plain HTTP there?" in why(gateway, sim.addresses[0])


def test_an_engine_that_shakes_no_hands_is_told(start_gateway):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = silent.getsockname()
        gateway = start_gateway([f"https://127.0.0.1:{address[1]}"])
        assert "the TLS handshake timed out; does it speak TLS there?" in why(gateway, address)


def test_metrics_without_tls_of_an_engine_with_it(start_sim, start_tls, start_gateway, certificate, tmp_path):
    sim = start_sim(1, "--speed", "20")
    front = start_tls(sim.addresses[0], certificate)
    config = tmp_path / "penstock.yaml"
    config.write_text(
        f"engines: [{{url: '{front.url}', metricsPort: {sim.addresses[0][1]}}}]\n"
        f"engineTls: {{caFile: '{certificate / 'tls.crt'}'}}\n"
        "scrape: {scheme: http}\n"
    )
    gateway = start_gateway([], "--config", str(config))
    gateway.wait_healthy(front.address)
    assert gateway.post(CHAT, ask()).status == 200


def test_an_engine_may_ask_for_a_certificate(start_sim, start_tls, start_gateway, certificate, tmp_path):
    own = tmp_path / "own"
    make_certificate(own, name="gateway")
    sim = start_sim(1, "--speed", "20")
    front = start_tls(sim.addresses[0], certificate, own / "tls.crt")
    config = tmp_path / "penstock.yaml"
    shown = f"certificateFile: '{own / 'tls.crt'}', keyFile: '{own / 'tls.key'}'"
    tls = f"caFile: '{certificate / 'tls.crt'}'"
    config.write_text(f"engines: [{{url: '{front.url}'}}]\nengineTls: {{{tls}, {shown}}}\n")
    gateway = start_gateway([], "--config", str(config))
    gateway.wait_healthy(front.address)
    assert gateway.post(CHAT, ask()).status == 200
    without = start_gateway([front.url], "--engine-ca-file", str(certificate / "tls.crt"))
    assert "GET /metrics" in why(without, front.address)


# --- the endpoint picker, which reads engines' metrics


def source(**parameters: str) -> str:
    settings = ", ".join(f"{key}: {value}" for key, value in parameters.items())
    return (
        "--config-text=apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n"
        "- {type: queue-scorer}\n"
        f"- {{type: metrics-data-source, parameters: {{{settings}}}}}\n"
        f"- {{type: models-data-source, parameters: {{{settings}}}}}\n"
    )


def test_the_picker_reads_metrics_by_the_configurations_scheme(fake, start_tls, start_epp, certificate):
    front = start_tls(fake.address, certificate)
    url = f"http://127.0.0.1:{front.address[1]}"
    epp = start_epp([url], source(scheme="https", caCertPath=f"'{certificate / 'tls.crt'}'"))
    epp.wait_healthy(front.address)
    assert "not verified" not in epp.process.stderr()
    # llm-d's default is to take any certificate.
    epp = start_epp([url], source(scheme="https"))
    epp.wait_healthy(front.address)
    assert "not verified" in epp.process.stderr()
    epp = start_epp([url], source(scheme="https", insecureSkipVerify="false"))
    assert "self-signed certificate" in why(epp, front.address)


def test_the_pickers_older_flags_do_the_same(fake, start_tls, start_epp, certificate):
    front = start_tls(fake.address, certificate)
    url = f"http://127.0.0.1:{front.address[1]}"
    epp = start_epp([url], "--model-server-metrics-scheme=https")
    epp.wait_healthy(front.address)
    strict = ["--model-server-metrics-scheme=https", "--model-server-metrics-https-insecure-skip-verify=false"]
    epp = start_epp([url], *strict)
    assert "self-signed certificate" in why(epp, front.address)
    epp = start_epp([url], *strict, f"--engine-ca-file={certificate / 'tls.crt'}")
    epp.wait_healthy(front.address)
    # An engine that is named with https is verified unless somebody says otherwise.
    epp = start_epp([front.url])
    assert "self-signed certificate" in why(epp, front.address)
