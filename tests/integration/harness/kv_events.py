"""Listens to KV events with libzmq and msgpack, as vLLM's own example subscriber does."""

import re

import msgpack
import zmq

from .wait import PATIENCE_S, eventually

END = (2**64 - 1).to_bytes(8, "big")


class KvListener:
    """Subscribed to one engine's events; asks its history, too."""

    def __init__(self, events: str, replay: str | None = None):
        self._context = zmq.Context()
        self._live = self._context.socket(zmq.SUB)
        self._live.connect(events)
        self._live.setsockopt(zmq.SUBSCRIBE, b"")
        self._replay = None
        if replay:
            self._replay = self._context.socket(zmq.DEALER)
            self._replay.connect(replay)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._context.destroy(linger=0)

    def receive(self, timeout_s: float = PATIENCE_S) -> tuple[str, int, list] | None:
        """Topic, number and batch; None: nothing came."""
        if not self._live.poll(timeout_s * 1000):
            return None
        topic, number, payload = self._live.recv_multipart()
        assert len(number) == 8
        return topic.decode(), int.from_bytes(number, "big"), msgpack.unpackb(payload)

    def history(self, first: int = 0) -> tuple[list[tuple[int, list]], set[int]]:
        """The batches from that number on, and of how many frames their messages were."""
        self._replay.send_multipart([b"", first.to_bytes(8, "big")])
        batches, frames = [], set()
        while True:
            assert self._replay.poll(PATIENCE_S * 1000), "no answer"
            message = self._replay.recv_multipart()
            number, payload = message[-2:]
            if number == END:
                assert payload == b""
                return batches, frames
            frames.add(len(message))
            batches.append((int.from_bytes(number, "big"), msgpack.unpackb(payload)))

    def all_history(self, at_least: int) -> list:
        """All events so far, once there are so many."""
        def events() -> tuple[list] | None:
            found = [event for _, batch in self.history()[0] for event in batch[1]]
            return (found,) if len(found) >= at_least else None

        return eventually(events, f"{at_least} events")[0]


def endpoints(lines: list[str]) -> list[tuple[str, str | None]]:
    """Where each engine publishes, from what `penstock sim` prints."""
    found = []
    for line in lines:
        match = re.search(r" events (tcp://\S+)(?: replay (tcp://\S+))?", line)
        if match:
            found.append((match[1], match[2]))
    return found
