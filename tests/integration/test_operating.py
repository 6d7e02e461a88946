"""What happens around the gateway's process: its files, its ports, its log."""

import fcntl
import json
import os
import subprocess
import threading

import pytest
from harness.fake_engine import chat, hold
from harness.gateway import _addresses, fetch_metrics
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


def test_every_command_explains_itself():
    def help_of(*command: str) -> str:
        done = subprocess.run([find_binary(), *command, "--help"], capture_output=True, text=True, timeout=60, check=True)
        assert not done.stderr
        assert all(c.isprintable() or c == "\n" for c in done.stdout), done.stdout
        return done.stdout

    commands = [line.split()[0] for line in help_of().split("\n\n")[2].splitlines()]
    assert {"serve", "epp", "sim", "docs"} <= set(commands)
    for command in commands:
        text = help_of(command)
        assert f"penstock {command}" in text, text


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


def test_a_reader_of_the_log_that_stands_still_holds_nobody_up(fakes):
    model = "m" * 1000  # each line of the log is a long one
    fake = fakes.add(model)
    fake.answer = chat("ok")
    log, stderr = os.pipe()
    gateway = subprocess.Popen(
        [
            str(find_binary()), "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
            "--engine", fake.url, "--log-level", "debug",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True,
    )
    os.close(stderr)
    try:
        address, admin = _addresses([gateway.stdout.readline()])

        def dropped() -> float:
            return fetch_metrics(admin).sum("penstock_log_lines_dropped_total")

        body = json.dumps(ASK | {"model": model}).encode()
        asked = 0
        with RawConnection(address) as connection:
            while dropped() == 0:
                for _ in range(100):
                    assert connection.request("POST", CHAT, body).status == 200
                asked += 100
                assert asked < 20_000, "the pipe and 2 MiB are full long before"
        # Whoever reads on sees the lines that waited and how many are missing.
        reader = threading.Thread(target=lambda: lines.extend(open(log, "rb")))
        lines: list[bytes] = []
        reader.start()
        eventually(lambda: any(b"log lines dropped" in line for line in list(lines)), "the gap is told")
    finally:
        gateway.terminate()
        assert gateway.wait(30) == 0
    reader.join(30)
    missing = [int(line.rsplit(b"lines=", 1)[1]) for line in lines if b"log lines dropped" in line]
    assert sum(b"request ended" in line for line in lines) + sum(missing) == asked
    assert b"draining" in lines[-1]


def test_a_stalled_reader_of_the_log_does_not_keep_the_gateway_from_ending(fake):
    log, stderr = os.pipe()
    try:
        fcntl.fcntl(stderr, fcntl.F_SETPIPE_SZ, 4096)
        os.write(stderr, b"x" * 4096)
        gateway = subprocess.Popen(
            [str(find_binary()), "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--engine", fake.url],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True,
        )
        assert "listening" in gateway.stdout.readline()
        gateway.terminate()
        assert gateway.wait(30) == 0
    finally:
        os.close(log)
        os.close(stderr)


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
