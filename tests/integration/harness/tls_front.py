"""TLS in front of an engine, by Python's ssl: what is inside goes on to the engine as it is."""

import asyncio
import ssl
import threading
from pathlib import Path


class TlsFront:
    """Listens on a free port of 127.0.0.1 with the certificate in `folder`.

    With `client_ca`, clients must show a certificate of that authority.
    """

    def __init__(self, engine: tuple[str, int], folder: Path, client_ca: Path | None = None):
        self.engine = engine
        self.accepted = 0  # connections whose handshake went well
        self.names: set[str | None] = set()  # that clients asked for (SNI)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self._context.set_alpn_protocols(["http/1.1"])
        self._context.sni_callback = lambda _socket, name, _context: self.names.add(name)
        if client_ca is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(client_ca)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(lambda _loop, _context: None)  # handshakes that fail are the tests' own
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        self.address: tuple[str, int] = self._server.sockets[0].getsockname()

    @property
    def url(self) -> str:
        return f"https://{self.address[0]}:{self.address[1]}"

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            engine_reader, engine_writer = await asyncio.open_connection(*self.engine)
        except OSError:
            writer.close()
            return
        there = asyncio.ensure_future(_pump(reader, engine_writer))
        await _pump(engine_reader, writer)
        there.cancel()

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
    finally:
        writer.close()
