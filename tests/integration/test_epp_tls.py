"""`penstock epp` behind TLS, as the flags ask for it."""

import socket
import ssl
import uuid

import grpc
import pytest
from conftest import MODEL
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness.certificate import make_certificate
from harness.envoy import PICKER_SERVICE, SERVED_BY
from harness.gateway import Epp
from harness.process import Process
from harness.wait import PATIENCE_S, eventually

CHAT = "/v1/chat/completions"


def ask(**fields) -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, **fields}


@pytest.fixture
def start_metrics_tls(tmp_path):
    """Starts a picker whose metrics port speaks TLS, so that nobody may ask it in plain HTTP."""
    started: list[Epp] = []

    def start(engines: list[str], *flags: str) -> Epp:
        started.append(Epp(tmp_path, engines, *flags))
        return started[-1]

    yield start
    for epp in started:
        epp.stop()


def is_serving(address: tuple[str, int], root: bytes) -> bool:
    """Whether a client that trusts `root` alone hears that the picker serves."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    credentials = grpc.ssl_channel_credentials(root)
    with grpc.secure_channel("%s:%d" % address, credentials, options) as channel:
        request = health_pb2.HealthCheckRequest(service=PICKER_SERVICE)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE_S)
        except grpc.RpcError as failure:
            assert failure.code() == grpc.StatusCode.UNAVAILABLE, failure
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def test_envoy_is_served_with_a_certificate_made_at_start(start_sim, start_epp, start_envoy):
    sim = start_sim(2, "--speed", "20")
    epp = start_epp(sim.urls, "--secure-serving", "--health-checking")
    epp.wait_healthy(*sim.addresses)
    envoy = start_envoy(epp.address, picker_tls=True, picker_health=True)
    eventually(envoy.picker_is_healthy, "the picker is healthy")
    for stream in (False, True):
        response = envoy.post(CHAT, ask(stream=stream))
        assert response.status == 200, response
        assert response.headers[SERVED_BY] in {"%s:%d" % address for address in sim.addresses}


def test_certificate_of_a_folder_is_shown_and_reloaded(fake, start_epp, tmp_path):
    folder = tmp_path / "certificate"
    first, _ = make_certificate(folder)
    flags = [f"--cert-path={folder}", "--enable-cert-reload", "--health-checking"]
    epp = start_epp([fake.url], "--secure-serving", *flags)
    assert is_serving(epp.address, first)
    second, _ = make_certificate(folder)
    eventually(lambda: is_serving(epp.address, second), "the new certificate is shown")
    assert not is_serving(epp.address, first)


def test_without_the_flag_a_certificate_stays(fake, start_epp, tmp_path):
    folder = tmp_path / "certificate"
    first, _ = make_certificate(folder)
    epp = start_epp([fake.url], "--secure-serving", f"--cert-path={folder}", "--health-checking")
    make_certificate(folder)
    assert is_serving(epp.address, first)


# --- the metrics port


def fetch(address: tuple[str, int], context: ssl.SSLContext) -> str:
    """/metrics over TLS; raises what ssl raises."""
    with socket.create_connection(address, PATIENCE_S) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answer = b""
            while data := connection.recv(65536):
                answer += data
    assert answer.startswith(b"HTTP/1.1 200 "), answer[:200]
    return answer.decode()


def trusting(root: bytes) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=root.decode())


def test_metrics_over_https_with_a_certificate_that_is_reloaded(fake, start_metrics_tls, tmp_path):
    folder = tmp_path / "metrics"
    first, _ = make_certificate(folder)
    epp = start_metrics_tls([fake.url], f"--metrics-cert-dir={folder}")
    assert "llm_d_epp_info" in fetch(epp.admin, trusting(first))
    assert "lets everybody read" in epp.process.stderr()
    with socket.create_connection(epp.admin, PATIENCE_S) as plain:
        plain.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        assert not plain.recv(65536).startswith(b"HTTP/"), "no plain HTTP is left"
    second, _ = make_certificate(folder)

    def shows_the_second() -> bool:
        try:
            return bool(fetch(epp.admin, trusting(second)))
        except ssl.SSLError:
            return False

    eventually(shows_the_second, "the new certificate is shown")
    with pytest.raises(ssl.SSLError):
        fetch(epp.admin, trusting(first))


def test_metrics_for_those_who_show_a_certificate(fake, start_metrics_tls, tmp_path):
    root, _ = make_certificate(tmp_path / "metrics")
    make_certificate(tmp_path / "reader", name="reader")
    make_certificate(tmp_path / "stranger", name="stranger")
    flags = [f"--metrics-cert-dir={tmp_path / 'metrics'}"]
    flags.append(f"--metrics-client-ca-file={tmp_path / 'reader' / 'tls.crt'}")
    epp = start_metrics_tls([fake.url], *flags)
    reader = trusting(root)
    reader.load_cert_chain(tmp_path / "reader" / "tls.crt", tmp_path / "reader" / "tls.key")
    assert "llm_d_epp_info" in fetch(epp.admin, reader)
    stranger = trusting(root)
    stranger.load_cert_chain(tmp_path / "stranger" / "tls.crt", tmp_path / "stranger" / "tls.key")
    for nobody in (trusting(root), stranger):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            fetch(epp.admin, nobody)


@pytest.mark.parametrize(
    "flag, said",
    [
        ("--tls-min-version=1.3", "VersionTLS13"),
        ("--tls-cipher-suites=TLS_NULL", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        ("--cert-path=/nowhere", "/nowhere/tls.crt"),
        ("--metrics-cert-dir=/nowhere", "/nowhere/tls.crt"),
        ("--metrics-client-ca-file=/nowhere/ca.pem", "give --metrics-cert-dir too"),
        ("--engine-ca-file=/nowhere/ca.pem", "/nowhere/ca.pem"),
        ("--model-server-metrics-scheme=ftp", "neither http nor https"),
    ],
)
def test_wrong_flag_ends_the_start_and_says_why(flag, said, tmp_path):
    args = ["epp", "--host=127.0.0.1", "--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0"]
    args += ["--engine=http://127.0.0.1:1", flag]
    process = Process(args, tmp_path, f"epp-{uuid.uuid4().hex[:6]}")
    assert process.wait() != 0
    assert said in process.stderr()
