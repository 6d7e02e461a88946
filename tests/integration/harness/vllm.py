"""Two real vLLM servers on the CPU (tools/peers/vllm)."""

import os
import signal
import socket
import subprocess
from pathlib import Path

from harness.gateway import fetch_metrics
from harness.process import ROOT
from harness.wait import eventually

START_S = 420  # two servers, two cores


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def answers(port: int, path: str) -> bool:
    from harness.raw import RawConnection

    try:
        with RawConnection(("127.0.0.1", port)) as connection:
            return connection.request("GET", path).status == 200
    except OSError:
        return False


def install() -> Path:
    """The folder of the model, and of its tokenizer."""
    done = subprocess.run(
        [ROOT / "tools/peers/vllm", "install"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    return Path(done.stdout.strip()).parents[2] / "model"


class Vllm:
    """Two servers; with `events`, each publishes its KV events at events[i] and gives history at replays[i]."""

    def __init__(self, folder: Path, events: bool = False):
        self.ports, self.events, self.replays = (free_ports(6)[i::3] for i in range(3))
        servers = [
            f"{port}:{self.events[i]}:{self.replays[i]}" if events else str(port) for i, port in enumerate(self.ports)
        ]
        self.log = folder / "vllm.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(ROOT / "tools/peers/vllm"), "start", *servers],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )

    def wait(self) -> None:
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"vLLM ended:\n{self.log.read_text(errors='replace')[-4000:]}")
            return all(answers(port, "/health") for port in self.ports)

        eventually(ready, "both vLLM servers are up", START_S)

    def metrics(self) -> list:
        return [fetch_metrics(("127.0.0.1", port)) for port in self.ports]

    def sum(self, name: str, **labels: str) -> float:
        return sum(m.sum(name, **labels) for m in self.metrics())

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            # The group that start_new_session made holds this test's own servers and nothing else.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
