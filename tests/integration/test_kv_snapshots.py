"""What a gateway knows of the engines' caches outlives it: in a file, and in another gateway."""

import os
from pathlib import Path

import pytest
from harness.raw import RawConnection
from harness.wait import eventually
from test_exact_caches import (POLICY, ask_engine, becomes, flags_of, holders, known, name, port, publisher,
                               start_engines, tokens)
from harness.kv_events import endpoints

__all__ = ["start_engines"]
DIALS = "{podDiscoveryConfig: {socketPort: 5557}}\n    kvSnapshot: %s"


@pytest.fixture
def start(start_gateway, tmp_path):
    """A gateway that listens to these engines, with these settings of kvSnapshot."""
    counter = iter(range(100))

    def begin(sim, snapshot: str):
        path = tmp_path / f"exact-{next(counter)}.yaml"
        path.write_text(POLICY % (DIALS % snapshot))
        gateway = start_gateway(flags_of(sim), "--scheduling-config", str(path))
        gateway.wait_healthy(*sim.addresses)
        return gateway

    return begin


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "kv.snapshot"


def ask_for(sim, count: int, engine: int = 0) -> list[list[int]]:
    """As many different prompts of two blocks, at the engine."""
    prompts = [tokens(1000 * (i + 1), 2) for i in range(count)]
    for prompt in prompts:
        ask_engine(sim, prompt, engine)
    return prompts


def all_known(gateway, sim, prompts) -> None:
    for prompt in prompts:
        assert holders(gateway, prompt) == {name(sim): 2}


def restored(gateway) -> tuple[int, int]:
    found = known(gateway)["snapshot"]
    return found["restored_publishers"], found["restored_blocks"]


# Of the engine's twenty batches its history has the last three.
def test_a_gateway_that_comes_back_knows_all_at_once(start_engines, start, file):
    sim = start_engines(1, "--kv-events-history", "3")
    first = start(sim, f"{{file: {file}}}")
    becomes(first, name(sim), state="EXACT")
    prompts = ask_for(sim, 20)
    becomes(first, name(sim), state="EXACT", gpu=40, restored=0)
    first.stop()
    assert file.stat().st_mode & 0o777 == 0o600
    assert Path(f"{file}.secret").stat().st_mode & 0o777 == 0o600
    missed = tokens(90_000, 2)
    ask_engine(sim, missed)
    second = start(sim, f"{{file: {file}}}")
    found = becomes(second, name(sim), state="EXACT", gpu=42, restored=40)
    assert found["missed"] == found["gaps"] == found["restarts"] == 0
    all_known(second, sim, [*prompts, missed])
    assert restored(second) == (1, 40)
    assert second.metric("penstock_kv_snapshot_restored_blocks_total") == 40
    assert "40 blocks of 1 engines from" in second.process.stderr()


def test_it_is_written_from_time_to_time(start_engines, start, file):
    sim = start_engines(1, "--kv-events-history", "3")
    first = start(sim, f"{{file: {file}, interval: 1s}}")
    becomes(first, name(sim), state="EXACT")
    prompts = ask_for(sim, 10)
    becomes(first, name(sim), gpu=20)
    eventually(lambda: known(first)["snapshot"]["blocks"] == 20, "one has all")
    written = known(first)["snapshot"]["written"]
    eventually(lambda: known(first)["snapshot"]["written"] > written, "it is written")
    first.process.kill()
    second = start(sim, f"{{file: {file}}}")
    becomes(second, name(sim), state="EXACT", gpu=20, restored=20)
    all_known(second, sim, prompts)
    assert not Path(f"{file}.part").exists()


def test_what_history_cannot_fill_is_said(start_engines, start, file):
    sim = start_engines(1, "--kv-events-history", "3")
    first = start(sim, f"{{file: {file}}}")
    becomes(first, name(sim), state="EXACT")
    prompts = ask_for(sim, 5)
    becomes(first, name(sim), gpu=10)
    first.stop()
    for start_token in range(50_000, 60_000, 1000):
        ask_engine(sim, tokens(start_token, 2))
    second = start(sim, f"{{file: {file}}}")
    found = becomes(second, name(sim), state="DEGRADED", reason="truncated_history")
    assert found["missed"] > 0 and found["doubtful_pages"] > 0 and found["restored"] == 10
    all_known(second, sim, prompts)


def test_another_process_in_the_engines_place_has_nothing_of_it(start_engines, start_sim, start, file):
    sim = start_engines()
    first = start(sim, f"{{file: {file}}}")
    becomes(first, name(sim), state="EXACT")
    prompts = ask_for(sim, 5)
    becomes(first, name(sim), gpu=10)
    first.stop()
    events, replay = endpoints(sim.lines)[0]
    sim.kill()
    again = start_sim(1, "--speed", "50", "--kv-events-port", port(events), "--kv-replay-port", port(replay),
                      port=sim.addresses[0][1])
    ask_engine(again, tokens(70_000, 2))
    second = start(again, f"{{file: {file}}}")
    becomes(second, name(again), state="EXACT", gpu=2, restored=10, restarts=1)
    assert holders(second, prompts[0]) == {}


def test_another_gateway_tells_what_it_knows(start_engines, start, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef\n")
    sim = start_engines(2, "--kv-events-history", "3")
    first = start(sim, f"{{secretFile: {secret}}}")
    for engine in range(2):
        becomes(first, name(sim, engine), state="EXACT")
    prompts = ask_for(sim, 12)
    becomes(first, name(sim), gpu=24)
    siblings = "[http://127.0.0.1:1, http://{}:{}]".format(*first.admin)
    second = start(sim, f"{{secretFile: {secret}, siblings: {siblings}}}")
    becomes(second, name(sim), state="EXACT", gpu=24, restored=24)
    becomes(second, name(sim, 1), state="EXACT", gpu=0)
    all_known(second, sim, prompts)
    found = known(second)["snapshot"]
    assert found["failures"] == {"unreachable": 1} and known(first)["snapshot"]["served"] == 1
    assert second.metric("penstock_kv_snapshot_failures_total", reason="unreachable") == 1
    assert first.metric("penstock_kv_snapshots_total", to="router") == 1


def test_who_has_another_secret_is_told(start_engines, start, file, tmp_path):
    sim = start_engines()
    first = start(sim, f"{{file: {file}}}")
    becomes(first, name(sim), state="EXACT")
    ask_for(sim, 3)
    becomes(first, name(sim), gpu=6)
    first.stop()
    other = tmp_path / "other"
    other.write_text("another secret of the cluster")
    second = start(sim, f"{{file: {file}, secretFile: {other}}}")
    becomes(second, name(sim), state="EXACT", gpu=6, restored=0)
    assert "was made with another secret" in second.process.stderr()
    assert known(second)["snapshot"]["failures"] == {"refused": 1}


@pytest.mark.parametrize("what", ["cut off", "changed", "something else"])
def test_a_broken_file_is_told_and_left(start_engines, start, file, what):
    sim = start_engines()
    first = start(sim, f"{{file: {file}}}")
    becomes(first, name(sim), state="EXACT")
    ask_for(sim, 3)
    becomes(first, name(sim), gpu=6)
    first.stop()
    bytes_ = bytearray(file.read_bytes())
    bytes_[-10] ^= 1
    file.write_bytes({"cut off": bytes_[:-20], "changed": bytes_, "something else": b"{}"}[what])
    second = start(sim, f"{{file: {file}}}")
    becomes(second, name(sim), state="EXACT", gpu=6, restored=0)
    assert "a snapshot of the engines' caches is not used" in second.process.stderr()
    assert known(second)["snapshot"]["failures"] == {"broken": 1}
    assert second.metric("penstock_kv_snapshot_failures_total", reason="broken") == 1


def test_without_settings_there_is_none(start_engines, start):
    gateway = start(start_engines(), "{}")
    assert known(gateway)["snapshot"] is None
    with RawConnection(gateway.admin) as connection:
        response = connection.request("GET", "/debug/kv/snapshot")
    assert response.status == 404 and "kvSnapshot" in response.json()["error"]["message"]


@pytest.mark.parametrize("settings, message", [
    ("{siblings: ['http://10.0.0.7:9090']}", "siblings need secretFile"),
    ("{siblings: ['10.0.0.7'], secretFile: x}", "'10.0.0.7' is no admin port of a router"),
    ("{secretFile: /nowhere/secret}", "/nowhere/secret: cannot be read"),
    ("{file: /nowhere/kv}", "/nowhere/kv.secret: cannot be written"),
])
def test_settings_that_cannot_be_end_the_start(start_engines, start, settings, message):
    with pytest.raises(AssertionError, match=message):
        start(start_engines(), settings)


def test_a_secret_that_is_too_short_ends_the_start(start_engines, start, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("short\n")
    os.chmod(secret, 0o600)
    with pytest.raises(AssertionError, match="has 5 bytes, and a secret needs 16"):
        start(start_engines(), f"{{secretFile: {secret}}}")
