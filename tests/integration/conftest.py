"""Fixtures: the real program in front of real, simulated or misbehaving engines.

Everything listens on port 0 of the loopback, and every process is ended by the test that started it.
"""

import pytest
from harness.envoy import Envoy, Options
from harness.fake_engine import FakeEngine, FakeEngines
from harness.gateway import Epp, Gateway, Sim
from harness.picker import FixedPicker
from harness.tls_front import TlsFront

MODEL = "Qwen/Qwen3-32B"


def pytest_configure(config):
    config.addinivalue_line("markers", "real: needs real vLLM servers (tools/peers/vllm)")
    config.addinivalue_line("markers", "trouble: the live page may complain to the browser's console")


def pytest_addoption(parser):
    parser.addoption("--real", action="store_true", help="also run the tests against real vLLM")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--real"):
        return
    skip = pytest.mark.skip(reason="needs --real")
    for item in items:
        if "real" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def fakes():
    """Makes fake engines; all are gone after the test."""
    engines = FakeEngines()
    yield engines
    engines.close()


@pytest.fixture
def fake(fakes) -> FakeEngine:
    return fakes.add()


@pytest.fixture
def start_sim(tmp_path):
    """Starts `penstock sim` with flags; stopped after the test unless the test killed it."""
    started: list[Sim] = []

    def start(engines: int = 1, *flags: str, port: int = 0) -> Sim:
        sim = Sim(tmp_path, engines, port, "--model", MODEL, *flags)
        started.append(sim)
        return sim

    yield start
    _stop_all(started)


@pytest.fixture
def start_tls():
    """Puts TLS in front of an engine's address; see TlsFront."""
    started: list[TlsFront] = []

    def start(engine: tuple[str, int], folder, client_ca=None) -> TlsFront:
        front = TlsFront(engine, folder, client_ca)
        started.append(front)
        return front

    yield start
    for front in started:
        front.close()


@pytest.fixture
def start_gateway(tmp_path):
    """Starts `penstock serve`; after the test all ledgers must be zero and it must end cleanly."""
    started: list[Gateway] = []

    def start(engines: list[str], *flags: str) -> Gateway:
        gateway = Gateway(tmp_path, engines, *flags)
        started.append(gateway)
        return gateway

    yield start
    try:
        for gateway in started:
            if gateway.process.popen.poll() is None:
                gateway.wait_idle()
    finally:
        _stop_all(started)


@pytest.fixture
def start_epp(tmp_path):
    """Starts `penstock epp`; after the test all ledgers must be zero and it must end cleanly."""
    started: list[Epp] = []

    def start(engines: list[str], *flags: str) -> Epp:
        epp = Epp(tmp_path, engines, *flags)
        started.append(epp)
        return epp

    yield start
    try:
        for epp in started:
            if epp.process.popen.poll() is None:
                epp.wait_idle()
    finally:
        _stop_all(started)


@pytest.fixture
def start_envoy(tmp_path):
    """Starts an Envoy that asks the picker at an address; `options` are fields of harness.envoy.Options."""
    started: list[Envoy] = []

    def start(picker: tuple[str, int], engines=None, **options) -> Envoy:
        envoy = Envoy(tmp_path, picker, engines, Options(**options))
        started.append(envoy)
        return envoy

    yield start
    _stop_all(started)


@pytest.fixture
def start_picker():
    """Starts the picker of the tests, which sends everything to one destination."""
    started: list[FixedPicker] = []

    def start(destination: str, certificate: tuple[bytes, bytes] | None = None) -> FixedPicker:
        picker = FixedPicker(destination, certificate)
        started.append(picker)
        return picker

    yield start
    for picker in started:
        picker.stop()


def _stop_all(things) -> None:
    failures = []
    for thing in things:
        if thing.process.popen.returncode is not None:
            continue
        try:
            thing.stop()
        except AssertionError as failure:
            failures.append(str(failure))
    assert not failures, "\n".join(failures)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Two fast simulated engines with two LoRA adapters behind one gateway, for tests that only ask."""
    folder = tmp_path_factory.mktemp("fleet")
    sim = Sim(folder, 2, 0, "--model", MODEL, "--lora", "sql,chat", "--speed", "20")
    gateway = Gateway(folder, sim.urls)
    gateway.sim = sim
    gateway.wait_healthy(*sim.addresses)
    yield gateway
    try:
        gateway.wait_idle()
    finally:
        _stop_all([gateway, sim])
