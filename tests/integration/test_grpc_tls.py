"""The gRPC server behind TLS, with clients that are not ours: Google's gRPC, Python's ssl, Envoy."""

import socket
import ssl
import subprocess
import threading

import grpc
import pytest
from harness.certificate import make_certificate
from harness.process import Process, find_binary
from harness.wait import PATIENCE_S, eventually

ECHO = "/test.Echo/Echo"


class Server:
    """tests/servers/grpc_echo.cc with a certificate of its own."""

    def __init__(self, folder, *flags: str, without_tls: bool = False):
        binary = find_binary().parent / "grpc_echo"
        if not binary.exists():
            pytest.skip(f"{binary} is not built: it belongs to the unit tests")
        self.directory = folder / "certificate"
        self.root, _ = make_certificate(self.directory)
        tls = ["--handshake-timeout-ms", "10000"] if without_tls else ["--tls-dir", str(self.directory)]
        self.process = Process([*tls, *flags], folder, "echo", binary)
        line = self.process.wait_for_line(r"listening on \d+")[-1]
        self.address = ("127.0.0.1", int(line.rpartition(" ")[2]))

    def channel(self, root: bytes | None = None) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(root or self.root)
        # Without a pool that is shared, each channel shakes hands.
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel("%s:%d" % self.address, credentials, options)

    def stats(self, channel: grpc.Channel) -> dict[str, int]:
        text = channel.unary_unary("/test.Echo/Stats")(b"", timeout=PATIENCE_S).decode()
        return {name: int(value) for name, value in (line.split() for line in text.splitlines())}

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, PATIENCE_S)


@pytest.fixture
def start(tmp_path):
    started = []

    def start(*flags: str, **options) -> Server:
        started.append(Server(tmp_path, *flags, **options))
        return started[-1]

    yield start
    for server in started:
        server.process.stop()


def echo(channel: grpc.Channel, message: bytes) -> bytes:
    return channel.unary_unary(ECHO)(message, timeout=PATIENCE_S, wait_for_ready=True)


def context(alpn: list[str], version=ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.maximum_version = version
    if alpn:
        made.set_alpn_protocols(alpn)
    return made


def test_client_with_the_root_certificate_is_served(start):
    server = start()
    with server.channel() as channel:
        assert echo(channel, b"hello") == b"hello"
        large = bytes(range(256)) * 8000
        call = channel.stream_stream(ECHO)(iter([b"", large, b"x", large]), timeout=PATIENCE_S)
        assert list(call) == [b"", large, b"x", large]
        assert server.stats(channel)["handshakes"] == 1


def test_client_that_does_not_trust_the_server_goes_away(start, tmp_path):
    server = start()
    other, _ = make_certificate(tmp_path / "other")
    with server.channel(other) as stranger, pytest.raises(grpc.RpcError) as failure:
        stranger.unary_unary(ECHO)(b"x", timeout=PATIENCE_S)
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
    with server.channel() as channel:
        eventually(lambda: server.stats(channel)["failed_handshakes"] > 0, "the failure is counted")


def test_client_without_tls_or_with_another_protocol_is_refused(start):
    server = start()
    with grpc.insecure_channel("%s:%d" % server.address) as plain:
        with pytest.raises(grpc.RpcError) as failure:
            plain.unary_unary(ECHO)(b"x", timeout=PATIENCE_S)
        assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
    with server.connect() as raw, pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        context(["http/1.1"]).wrap_socket(raw)
    with server.connect() as raw, context([]).wrap_socket(raw) as silent:
        assert silent.recv(1) == b"", "no protocol is offered"
    with server.connect() as raw, context(["http/1.1", "h2"]).wrap_socket(raw) as good:
        assert good.selected_alpn_protocol() == "h2"
    with server.channel() as channel:
        assert server.stats(channel)["failed_handshakes"] >= 3


def test_least_version_holds(start):
    server = start("--min-version", "VersionTLS13")
    with server.connect() as raw, pytest.raises(ssl.SSLError, match="(?i)protocol.version"):
        context(["h2"], ssl.TLSVersion.TLSv1_2).wrap_socket(raw)
    with server.connect() as raw, context(["h2"]).wrap_socket(raw) as good:
        assert good.version() == "TLSv1.3"


def test_named_suite_is_the_one_of_version_12(start):
    server = start("--suite", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256")
    with server.connect() as raw:
        with context(["h2"], ssl.TLSVersion.TLSv1_2).wrap_socket(raw) as good:
            assert good.cipher()[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"


def test_slow_handshakes_are_cut_off_and_hold_nobody_up(start):
    server = start("--handshake-timeout-ms", "300")
    slow = [server.connect() for _ in range(100)]
    for raw in slow:
        raw.sendall(b"\x16\x03\x01\x02\x00")
    with server.channel() as channel:
        assert echo(channel, b"meanwhile") == b"meanwhile"
        for raw in slow:
            assert raw.recv(1) == b""
            raw.close()
        assert server.stats(channel)["late_handshakes"] == 100
        assert server.stats(channel)["connections_open"] == 1


def test_another_certificate_is_taken_under_live_connections(start):
    server = start()
    go_on = threading.Semaphore(0)

    def messages():
        for i in range(4):
            yield b"%d" % i
            go_on.acquire(timeout=PATIENCE_S)

    with server.channel() as before:
        call = before.stream_stream(ECHO)(messages(), timeout=2 * PATIENCE_S)
        assert next(call) == b"0"
        old = server.root
        for i in range(1, 4):
            new, _ = make_certificate(server.directory)
            eventually(lambda: server.stats(before)["reloads"] >= i, "the new one is taken")
            with server.channel(new) as after:
                assert echo(after, b"new") == b"new"
            with server.channel(old) as stale, pytest.raises(grpc.RpcError):
                stale.unary_unary(ECHO)(b"x", timeout=PATIENCE_S)
            go_on.release()
            assert next(call) == b"%d" % i
        go_on.release()
        assert list(call) == []
        assert call.code() == grpc.StatusCode.OK


def test_many_clients_come_while_certificates_change(start):
    server = start()
    is_over = threading.Event()
    failures = []

    def come_and_go():
        # Whoever does not verify is served by every certificate.
        while not is_over.is_set():
            try:
                with server.connect() as raw, context(["h2"]).wrap_socket(raw) as client:
                    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
                    assert client.recv(3), "the server's settings"
            except (OSError, AssertionError) as failure:
                failures.append(failure)

    clients = [threading.Thread(target=come_and_go) for _ in range(4)]
    with server.channel() as channel:
        assert echo(channel, b"x") == b"x"
        for client in clients:
            client.start()
        for i in range(1, 6):
            make_certificate(server.directory)
            eventually(lambda: server.stats(channel)["reloads"] >= i, "the new one is taken")
        is_over.set()
        for client in clients:
            client.join(PATIENCE_S)
        assert not failures, failures[:3]
        assert server.stats(channel)["failed_handshakes"] == 0
        assert server.stats(channel)["handshakes"] > 5


def test_envoy_asks_for_health_through_tls(start, start_envoy):
    server = start()
    envoy = start_envoy(server.address, picker_tls=True, picker_health=True)
    eventually(envoy.picker_is_healthy, "the picker is healthy")
    assert envoy.stat("cluster.picker.ssl.handshake") > 0


@pytest.mark.parametrize("has_tls", [False, True])
def test_grpcpp(has_tls, start, tmp_path):
    """Google's C++ client: messages, refusals, time limits, cancellation, health."""
    client = find_binary().parent / "grpcpp_client"
    if not client.exists():
        pytest.skip(f"{client} is not built: it belongs to the unit tests without sanitizers")
    server = start() if has_tls else start(without_tls=True)
    args = [str(client), str(server.address[1])]
    if has_tls:
        (tmp_path / "root.pem").write_bytes(server.root)
        args.append(str(tmp_path / "root.pem"))
    done = subprocess.run(args, capture_output=True, text=True, timeout=2 * PATIENCE_S)
    assert done.stdout == "ok\n", done
