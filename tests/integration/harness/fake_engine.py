"""Engines that misbehave on command: raw sockets, every byte of the answer in the test's hand.

All engines of one test run on one event loop in one thread. A `Behaviour` is a coroutine function that gets the
request and writes the answer; it is cancelled when the gateway closes the connection.
"""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from .wait import PATIENCE_S

MAX_KEPT_REQUESTS = 10_000


@dataclass
class Request:
    method: str
    path: str
    headers: list[tuple[str, str]]
    head: bytes
    body: bytes
    finished: threading.Event = field(default_factory=threading.Event)  # answered to the end
    aborted: threading.Event = field(default_factory=threading.Event)  # the gateway went away
    sent_bytes: int = 0

    def header(self, name: str) -> str | None:
        return next((v for k, v in self.headers if k.lower() == name), None)

    def json(self):
        return json.loads(self.body)


class Connection:
    """The writing side, as behaviours see it."""

    def __init__(self, writer: asyncio.StreamWriter, request: Request):
        self._writer = writer
        self._request = request
        self.keep_alive = True

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
        self._request.sent_bytes += len(data)

    async def head(self, status: int = 200, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Status"]
        lines += [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def event(self, data: dict) -> None:
        await self.chunk(b"data: " + json.dumps(data).encode() + b"\n\n")

    async def whole(self, status: int, body: bytes, **headers: str) -> None:
        headers.setdefault("content_type", "application/json")
        await self.head(status, content_length=str(len(body)), **headers)
        await self.send(body)

    def close(self) -> None:
        self.keep_alive = False

    def reset(self) -> None:
        self.keep_alive = False
        self._writer.transport.abort()


Behaviour = Callable[[Request, Connection], Awaitable[None]]


class FakeEngine:
    """THREADS: made and driven by the test's thread; behaviours run on the fakes' loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, model: str, flavour: str = "vllm"):
        self._loop = loop
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.model = model
        self.flavour = flavour
        self.loras: list[str] = []
        self.answer: Behaviour = chat("hello from a fake engine")
        self.metrics_answer: Behaviour = self._answer_metrics
        self.models_answer: Behaviour = self._answer_models
        self.requests: deque[Request] = deque(maxlen=MAX_KEPT_REQUESTS)  # POSTs, oldest first
        self.scrapes = 0
        self.waiting = 0.0
        self.running = 0.0
        self.kv_usage = 0.0
        self.gpu_blocks = 0  # 0: not told
        self.port = 0
        self.start()

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listens; after stop() on the same port."""
        self._run(self._start())

    def stop(self) -> None:
        """Stops listening and drops all connections."""
        self._run(self._stop())

    def _run(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=1 << 20, backlog=512
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        early: bytes | None = b""
        try:
            while early is not None:
                early = await self._serve_one(reader, writer, early)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the gateway closed its side, which every test here expects now and then
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _serve_one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, early: bytes
    ) -> bytes | None:
        """One request, which begins with `early`. Returns what was read of the next one, None at the end."""
        head = early + await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, _ = lines[0].split(" ")
        headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:]]
        request = Request(method, path, headers, head, b"")
        if request.header("transfer-encoding") == "chunked":
            request.body = await _read_chunks(reader)
        else:
            request.body = await reader.readexactly(int(request.header("content-length") or 0))
        connection = Connection(writer, request)
        work = asyncio.ensure_future(self._route(request)(request, connection))
        watch = asyncio.ensure_future(reader.read(1))  # ends early when the gateway closes
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        is_answered = work.done()
        work.cancel()
        watch.cancel()
        await asyncio.wait({work, watch})
        if not is_answered or work.exception() is not None:
            request.aborted.set()
            return None
        request.finished.set()
        next_byte = b"" if watch.cancelled() else watch.result()
        gone = not watch.cancelled() and not next_byte
        return next_byte if connection.keep_alive and not gone else None

    def _route(self, request: Request) -> Behaviour:
        path = request.path.partition("?")[0]
        if request.method == "GET" and path == "/metrics":
            self.scrapes += 1
            return self.metrics_answer
        if request.method == "GET" and path == "/v1/models":
            return self.models_answer
        if request.method == "GET" and path == "/health":
            return unary(200, b"")
        self.requests.append(request)
        return self.answer

    async def _answer_metrics(self, request: Request, connection: Connection) -> None:
        names = {
            "vllm": ("vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"),
            "sglang": ("sglang:num_queue_reqs", "sglang:num_running_reqs", "sglang:token_usage"),
        }[self.flavour]
        values = (self.waiting, self.running, self.kv_usage)
        text = "".join(
            f"# TYPE {name} gauge\n{name}{{model_name=\"{self.model}\"}} {value}\n"
            for name, value in zip(names, values, strict=True)
        )
        if self.gpu_blocks > 0:
            text += f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{self.gpu_blocks}"}} 1\n'
        await connection.whole(200, text.encode(), content_type="text/plain; version=0.0.4")

    async def _answer_models(self, request: Request, connection: Connection) -> None:
        data = [{"id": self.model, "object": "model", "created": 1, "owned_by": "fake", "root": self.model,
                 "parent": None}]
        data += [{"id": lora, "object": "model", "created": 1, "owned_by": "fake", "root": lora,
                  "parent": self.model} for lora in self.loras]
        await connection.whole(200, json.dumps({"object": "list", "data": data}).encode())


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


class FakeEngines:
    """The loop that a test's fake engines share."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.engines: list[FakeEngine] = []

    def add(self, model: str = "fake", flavour: str = "vllm") -> FakeEngine:
        engine = FakeEngine(self.loop, model, flavour)
        self.engines.append(engine)
        return engine

    def close(self) -> None:
        for engine in self.engines:
            engine.stop()

        async def cancel_all():
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel_all(), self.loop).result(PATIENCE_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()


# --- behaviours


def unary(status: int, body: bytes, **headers: str) -> Behaviour:
    async def answer(request: Request, connection: Connection) -> None:
        await connection.whole(status, body, **headers)

    return answer


def completion_json(text: str, cached: int = 0) -> bytes:
    return json.dumps({
        "id": "chatcmpl-fake", "object": "chat.completion", "created": 1, "model": "fake",
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13,
                  "prompt_tokens_details": {"cached_tokens": cached}},
    }).encode()


def delta(text: str) -> dict:
    return {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1, "model": "fake",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}]}


def chat(text: str) -> Behaviour:
    """A well-behaved engine: streams when asked to, answers at once otherwise."""

    async def answer(request: Request, connection: Connection) -> None:
        if not (request.body and request.json().get("stream")):
            return await connection.whole(200, completion_json(text))
        await start_stream(connection)
        for word in text.split():
            await connection.event(delta(word + " "))
        await connection.chunk(b"data: [DONE]\n\n")
        await connection.send(b"0\r\n\r\n")

    return answer


async def start_stream(connection: Connection) -> None:
    await connection.head(200, content_type="text/event-stream", transfer_encoding="chunked")


def hold(first_events: int = 1) -> Behaviour:
    """Streams a little, then waits for ever: only the gateway can end it."""

    async def answer(request: Request, connection: Connection) -> None:
        await start_stream(connection)
        for i in range(first_events):
            await connection.event(delta(f"{i} "))
        await asyncio.Event().wait()

    return answer


async def never(request: Request, connection: Connection) -> None:
    """Takes the request and says nothing."""
    await asyncio.Event().wait()


def raw(data: bytes, then: str = "close") -> Behaviour:
    """Exactly these bytes, then "close", "reset" or "hold" the connection."""

    async def answer(request: Request, connection: Connection) -> None:
        if data:
            await connection.send(data)
        if then == "hold":
            await asyncio.Event().wait()
        connection.reset() if then == "reset" else connection.close()

    return answer


def break_after(events: int, inside: bool = False) -> Behaviour:
    """Streams `events`, then closes: between two events, or inside of one."""

    async def answer(request: Request, connection: Connection) -> None:
        await start_stream(connection)
        for i in range(events):
            await connection.event(delta(f"{i} "))
        if inside:
            await connection.chunk(b'data: {"id":"half')
        connection.close()

    return answer


def flood(total_bytes: int, piece: int = 64 * 1024) -> Behaviour:
    """A stream as fast as the gateway takes it."""

    async def answer(request: Request, connection: Connection) -> None:
        await start_stream(connection)
        line = b"data: " + b"x" * (piece - 8) + b"\n\n"
        for _ in range(total_bytes // piece):
            await connection.chunk(line)
        await connection.send(b"0\r\n\r\n")

    return answer


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One behaviour a request, the last one from then on."""
    left = deque(behaviours)

    async def answer(request: Request, connection: Connection) -> None:
        await (left.popleft() if len(left) > 1 else left[0])(request, connection)

    return answer
