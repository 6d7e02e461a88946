"""`penstock serve`, `penstock epp` and `penstock sim` as the tests see them."""

import json
import re
import uuid
from pathlib import Path

from .process import Process
from .prometheus import Metrics
from .raw import RawConnection, Response
from .wait import eventually

_URL = re.compile(r"http://([0-9.]+|\[[0-9a-f:]+\]):(\d+)")


def _addresses(lines: list[str]) -> list[tuple[str, int]]:
    return [(host, int(port)) for line in lines for host, port in _URL.findall(line)]


class Sim:
    """Simulated engines in one process of their own."""

    def __init__(self, folder: Path, engines: int = 1, port: int = 0, *flags: str):
        args = ["sim", "--engines", str(engines), "--port", str(port), "--loops", "1", *flags]
        self.process = Process(args, folder, f"sim-{uuid.uuid4().hex[:6]}")
        self.lines = self.process.wait_for_line(r"ready")
        self.addresses = _addresses(self.lines)
        assert len(self.addresses) == engines, self.lines

    @property
    def urls(self) -> list[str]:
        return [f"http://{host}:{port}" for host, port in self.addresses]

    def metrics(self, engine: int = 0) -> Metrics:
        return fetch_metrics(self.addresses[engine])

    def kill(self) -> None:
        self.process.kill()

    def stop(self) -> None:
        self.process.stop()


class Program:
    """What `serve` and `epp` have in common: a process, and an admin port that tells of the fleet."""

    process: Process
    admin: tuple[str, int]

    def admin_get(self, path: str) -> Response:
        with RawConnection(self.admin) as connection:
            return connection.request("GET", path)

    def metrics(self) -> Metrics:
        return fetch_metrics(self.admin)

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics().sum(name, **labels)

    def endpoints(self) -> list[dict]:
        response = self.admin_get("/debug/endpoints")
        assert response.status == 200, response
        body = response.json()
        return body["endpoints"] if isinstance(body, dict) else body

    def endpoint(self, name: str) -> dict:
        for endpoint in self.endpoints():
            if endpoint["name"] == name or endpoint.get("address") == name:
                return endpoint
        raise AssertionError(f"no endpoint {name!r} among {self.endpoints()}")

    def healthy(self) -> set[str]:
        """Addresses of the endpoints that are candidates now."""
        return {e["address"] for e in self.endpoints() if e["health"] == "healthy"}

    def wait_healthy(self, *addresses: tuple[str, int]) -> None:
        wanted = {f"{host}:{port}" for host, port in addresses}
        eventually(lambda: self.healthy() == wanted, f"healthy endpoints are {wanted}")

    def decision(self, request_id: str) -> dict:
        """The record of a request; it is there when the request has ended."""
        path = f"/debug/decisions/{request_id}"
        response = eventually(
            lambda: (r := self.admin_get(path)).status == 200 and r, f"a record of {request_id}"
        )
        return response.json()

    def wait_idle(self) -> None:
        """Every ledger is back to zero: nothing that was claimed stays claimed."""

        def probe():
            return all(
                e["in_flight_requests"] == 0 and e["in_flight_tokens"] == 0 for e in self.endpoints()
            )

        eventually(probe, "all in-flight ledgers are zero")

    def stop(self) -> None:
        self.process.stop()


class Gateway(Program):
    """One gateway, in front of `engines` (URLs, or whole --engine values)."""

    def __init__(self, folder: Path, engines: list[str], *flags: str):
        args = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        for engine in engines:
            args += ["--engine", engine]
        self.process = Process([*args, *flags], folder, f"serve-{uuid.uuid4().hex[:6]}")
        line = self.process.wait_for_line(r"listening on http://.*admin on http://")[-1]
        self.address, self.admin = _addresses([line])

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    @property
    def admin_url(self) -> str:
        return f"http://{self.admin[0]}:{self.admin[1]}"

    def connect(self, **kwargs) -> RawConnection:
        return RawConnection(self.address, **kwargs)

    def request(
        self, method: str, path: str, body=None, headers: dict[str, str] | None = None
    ) -> Response:
        """One request on a connection of its own; a body that is no bytes is sent as JSON."""
        if body is None:
            body = b""
        elif not isinstance(body, bytes):
            body = json.dumps(body).encode()
        with self.connect() as connection:
            return connection.request(method, path, body, headers)

    def post(self, path: str, body, headers: dict[str, str] | None = None) -> Response:
        return self.request("POST", path, body, headers)


class Epp(Program):
    """One `penstock epp`, in front of `engines` (URLs, or whole --engine values), without TLS unless the flags say so."""

    def __init__(self, folder: Path, engines: list[str], *flags: str):
        args = ["epp", "--host=127.0.0.1", "--grpc-port=0", "--grpc-health-port=0", "--metrics-port=0"]
        args += [f"--engine={engine}" for engine in engines]
        if not any(flag.startswith("--secure-serving") for flag in flags):
            args.append("--secure-serving=false")
        if not any(flag.startswith("--drain-timeout") for flag in flags):
            args.append("--drain-timeout=1s")  # Envoy keeps its connections
        self.process = Process([*args, *flags], folder, f"epp-{uuid.uuid4().hex[:6]}")
        line = self.process.wait_for_line(r"ext_proc on .*metrics on port")[-1]
        found = re.search(r"ext_proc on ([^ ]+):(\d+), health on port (\d+), metrics on port (\d+)", line)
        self.address = (found[1], int(found[2]))
        self.health = (found[1], int(found[3]))
        self.admin = (found[1], int(found[4]))


def fetch_metrics(address: tuple[str, int]) -> Metrics:
    with RawConnection(address) as connection:
        response = connection.request("GET", "/metrics")
    assert response.status == 200, response
    return Metrics(response.body.decode())
