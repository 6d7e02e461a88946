"""What happens around the gateway's process: its files, its ports, its log."""

import json
import os
import subprocess

import pytest
from harness.fake_engine import chat, hold
from harness.gateway import _addresses
from harness.process import Process, find_binary, sanitizer_of
from harness.raw import RawConnection, render_request
from harness.wait import eventually

CHAT = "/v1/chat/completions"
ASK = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}


def complaint(folder, *flags: str) -> str:
    """Of a gateway that must not start."""
    args = ["serve", *flags]
    for flag in ("--listen", "--admin"):
        if flag not in flags:
            args += [flag, "127.0.0.1:0"]
    process = Process(args, folder, "refused")
    assert process.wait() == 1, process.stderr()
    assert not process.stdout()
    return process.stderr()


@pytest.mark.parametrize("flag", ["--config", "--scheduling-config", "--endpoints-file"])
def test_a_folder_in_place_of_a_file_is_a_plain_error(tmp_path, flag):
    error = complaint(tmp_path, "--engine", "http://127.0.0.1:1", flag, str(tmp_path))
    assert f"{tmp_path}: is not a file" in error


def test_less_memory_than_two_bodies_need_is_a_plain_error(tmp_path):
    error = complaint(tmp_path, "--engine", "http://127.0.0.1:1", "--max-body", "3GiB")
    assert "limits.maxBufferedBytes" in error and "limits.maxBodyBytes" in error and "--max-buffered" in error


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_a_port_of_another_gateway_is_refused(fake, start_gateway, tmp_path, flag):
    other = start_gateway([fake.url])
    host, port = other.address if flag == "--listen" else other.admin
    error = complaint(tmp_path, "--engine", fake.url, flag, f"{host}:{port}")
    assert f"cannot listen on {host} port {port}: Address already in use" in error


@pytest.mark.skipif(bool(sanitizer_of(find_binary())), reason="the sanitizer's own checks need descriptors")
def test_clients_cannot_take_the_descriptors_that_engines_need(fake, start_gateway, tmp_path, monkeypatch):
    fake.answer = hold()
    script = tmp_path / "limited"
    script.write_text(f'#!/bin/sh\nulimit -Sn 100 && ulimit -Hn 200 && exec "{find_binary()}" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PENSTOCK_BIN", str(script))
    gateway = start_gateway([fake.url], "--threads", "1")
    gateway.wait_healthy(fake.address)
    clients = [gateway.connect() for _ in range(150)]
    for client in clients:
        client.send(render_request("POST", CHAT, json.dumps(ASK | {"stream": True}).encode()))
    statuses = [client.read_head().status for client in clients]
    assert statuses.count(200) == 80, "two of five descriptors are for clients"
    assert statuses.count(503) == 70, "the others are told"
    assert gateway.healthy() == {f"127.0.0.1:{fake.port}"}
    assert gateway.metric("penstock_engine_failures_total") == 0
    for client in clients:
        client.close()
    fake.answer = chat("room again")
    eventually(lambda: gateway.post(CHAT, ASK).status == 200, "new clients are served")


def test_the_log_may_lose_its_reader(fake):
    fake.answer = chat("still here")
    log, stderr = os.pipe()
    gateway = subprocess.Popen(
        [str(find_binary()), "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--engine", fake.url],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True,
    )
    os.close(stderr)
    try:
        address, admin = _addresses([gateway.stdout.readline()])
        os.close(log)
        fake.stop()  # the gateway says so, to nobody

        def health():
            with RawConnection(admin) as connection:
                return connection.request("GET", "/debug/endpoints").json()["endpoints"][0]["health"]

        eventually(lambda: health() == "failed", "the engine is seen as gone")
        fake.start()
        eventually(lambda: health() == "healthy", "the engine is back")
        with RawConnection(address) as connection:
            response = connection.request("POST", CHAT, b'{"model":"fake","messages":[]}')
        assert response.status == 200
    finally:
        gateway.terminate()
        assert gateway.wait(30) == 0
