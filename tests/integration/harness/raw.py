"""A plain HTTP/1.1 client on a socket, that can also be rude."""

import json
import socket
from dataclasses import dataclass, field

from .wait import PATIENCE_S


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes = b""
    complete: bool = True  # False: the connection ended inside the body
    chunks: list[bytes] = field(default_factory=list)

    def json(self):
        return json.loads(self.body)

    def error(self) -> dict:
        return self.json()["error"]


class RawConnection:
    """One connection. Errors of the socket are the caller's to see."""

    def __init__(self, address: tuple[str, int], receive_buffer: int = 0):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_some(self, data: bytes) -> bool:
        """Sends, and says whether the server still takes it."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Response:
        self.send(render_request(method, path, body, headers))
        return self.read_response(method)

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self._buffer += data
        return bool(data)

    def read_head(self) -> Response:
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                raise ConnectionError(f"no whole response head, only {self._buffer[:200]!r}")
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return Response(int(lines[0].split()[1]), headers)

    def read_response(self, method: str = "GET") -> Response:
        response = self.read_head()
        if method == "HEAD" or response.status in (204, 304):
            return response
        if response.headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                chunk = self.read_chunk()
                if chunk is None:
                    response.complete = False
                    break
                if not chunk:
                    break
                response.chunks.append(chunk)
            response.body = b"".join(response.chunks)
        elif "content-length" in response.headers:
            length = int(response.headers["content-length"])
            while len(self._buffer) < length and self._more():
                pass
            response.body, self._buffer = self._buffer[:length], self._buffer[length:]
            response.complete = len(response.body) == length
        else:
            while self._more():
                pass
            response.body, self._buffer = self._buffer, b""
        return response

    def read_chunk(self) -> bytes | None:
        """One chunk of a chunked body; b"" at its end, None when the connection ended before."""
        while b"\r\n" not in self._buffer:
            if not self._more():
                return None
        line, _, rest = self._buffer.partition(b"\r\n")
        size = int(line.split(b";")[0], 16)
        while len(rest) < size + 2:
            if not self._more():
                return None
            rest = self._buffer.partition(b"\r\n")[2]
        self._buffer = rest[size + 2 :]
        return rest[:size]

    def at_end(self) -> bool:
        """True when the server has closed the connection; waits for that, or for more data."""
        return not self._buffer and not self._more()


def render_request(
    method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> bytes:
    fields = {"host": "gateway", **(headers or {})}
    if body or method == "POST":
        fields.setdefault("content-type", "application/json")
        fields.setdefault("content-length", str(len(body)))
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
    return head.encode("latin-1") + b"\r\n" + body


def events_of(body: bytes) -> list[dict]:
    """The JSON data of server-sent events, without [DONE]."""
    events = []
    for line in body.split(b"\n"):
        data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
        if data and data != b"[DONE]":
            events.append(json.loads(data))
    return events
