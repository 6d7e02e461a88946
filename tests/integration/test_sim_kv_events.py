"""`penstock sim` publishes KV events as vLLM does."""

import json

import pytest
from harness.gateway import Sim
from harness.kv_events import KvListener, endpoints
from harness.raw import RawConnection

BLOCK = 16
FIELDS = ["type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name",
          "extra_keys"]
REMOVED = ["type", "block_hashes", "medium"]


@pytest.fixture
def start(tmp_path):
    sims = []

    def start(*flags: str, replay: bool = True) -> tuple[Sim, KvListener]:
        ports = ["--kv-events-port", "0"] + (["--kv-replay-port", "0"] if replay else [])
        sim = Sim(tmp_path, 1, 0, "--speed", "50", "--model", "m", "--lora", "sql", *ports, *flags)
        sims.append(sim)
        listener = KvListener(*endpoints(sim.lines)[0])
        sims.append(listener)
        return sim, listener

    yield start
    for thing in sims:
        thing.stop() if isinstance(thing, Sim) else thing.__exit__()


def ask(sim: Sim, tokens: list[int], **more) -> int:
    """The number of cached tokens."""
    body = {"model": "m", "prompt": tokens, "max_tokens": 1, **more}
    with RawConnection(sim.addresses[0]) as connection:
        answer = connection.request("POST", "/v1/completions", json.dumps(body).encode())
    assert answer.status == 200, answer.body
    return json.loads(answer.body)["usage"]["prompt_tokens_details"]["cached_tokens"]


def named(event) -> dict:
    """An event as a map, whichever it was."""
    if isinstance(event, dict):
        return event
    return dict(zip(REMOVED if event[0] == "BlockRemoved" else FIELDS, event, strict=False))


@pytest.mark.parametrize("encoding", ["map", "array"])
def test_tells_what_prompts_leave(start, encoding):
    sim, listener = start("--kv-events-encoding", encoding)
    first = list(range(100, 100 + 3 * BLOCK + 5))
    assert ask(sim, first) == 0
    batches, frames = [], set()
    while not batches:
        batches, frames = listener.history()
    assert frames == ({4} if encoding == "map" else {3}), "with the topic or without, behind the delimiter"
    number, (timestamp, events, rank) = batches[0]
    assert number == 0 and timestamp > 1.7e9 and rank is None
    assert all(isinstance(event, dict if encoding == "map" else list) for event in events)
    (stored,) = map(named, events)
    assert stored["type"] == "BlockStored" and len(stored["block_hashes"]) == 3
    assert stored["parent_block_hash"] is None and stored["token_ids"] == first[: 3 * BLOCK]
    assert stored["block_size"] == BLOCK and stored["medium"] == "GPU" and stored["lora_name"] is None

    second = first[: 3 * BLOCK] + list(range(500, 500 + 2 * BLOCK))
    assert ask(sim, second) == 3 * BLOCK
    more = named(listener.all_history(2)[1])
    assert more["parent_block_hash"] == stored["block_hashes"][-1]
    assert more["token_ids"] == second[3 * BLOCK :] and len(more["block_hashes"]) == 2


def test_adapters_and_salts_stand_in_the_extra_keys(start):
    sim, listener = start()
    tokens = list(range(2 * BLOCK + 1))
    ask(sim, tokens)
    ask(sim, tokens, model="sql")
    ask(sim, tokens, cache_salt="tenant")
    base, adapter, salted = map(named, listener.all_history(3))
    assert "extra_keys" not in base
    assert adapter["lora_name"] == "sql" and adapter["extra_keys"] == [["sql"], ["sql"]]
    assert salted["extra_keys"] == [["tenant"], None]
    hashes = [event["block_hashes"] for event in (base, adapter, salted)]
    assert len({one for three in hashes for one in three}) == 6


def test_tells_what_gives_way_and_goes_to_host_memory(start):
    sim, listener = start("--profile", "h100-qwen3-32b", "--num-gpu-blocks-override", "20", "--cpu-blocks", "500")
    for first in range(0, 5000, 1000):
        ask(sim, list(range(first, first + 15 * BLOCK + 1)))
    events = [named(event) for event in listener.all_history(9)]
    gpu, cpu = set(), set()
    for event in events:
        held = gpu if event.get("medium", "GPU") == "GPU" else cpu
        if event["type"] == "BlockStored":
            if event["medium"] == "CPU":
                assert event["token_ids"] == []
            held.update(event["block_hashes"])
        else:
            held.difference_update(event["block_hashes"])
    assert len(gpu) <= 20 and len(cpu) == 75


def test_clears_with_the_next_step(start):
    sim, listener = start()
    ask(sim, list(range(2 * BLOCK + 1)))
    before = len(listener.all_history(1))
    with RawConnection(sim.addresses[0]) as connection:
        assert connection.request("POST", "/reset_prefix_cache", b"").status == 200
    assert len(listener.all_history(0)) == before, "an engine that idles tells nothing"
    assert ask(sim, list(range(2 * BLOCK + 1))) == 0
    events = [named(event) for event in listener.all_history(before + 2)]
    assert [event["type"] for event in events[before:]] == ["AllBlocksCleared", "BlockStored"]


def test_live_batches_come_in_order_and_some_get_lost(start):
    sim, listener = start("--kv-events-loss", "0.5", "--kv-events-lag-ms", "5", "--kv-events-history", "30")
    numbers = []
    for i in range(60):
        ask(sim, list(range(i * 1000, i * 1000 + BLOCK + 1)))
        while (got := listener.receive(0.02)) is not None:
            topic, number, _ = got
            assert topic == f"kv@127.0.0.1:{sim.addresses[0][1]}@m"
            numbers.append(number)
    assert numbers == sorted(set(numbers))
    assert 5 < len(numbers) < 55
    batches, _ = listener.history()
    assert [number for number, _ in batches] == list(range(30, 60)), "history has them all, and ends"
    assert [number for number, _ in listener.history(57)[0]] == [57, 58, 59]
    assert listener.history(1000) == ([], set())
