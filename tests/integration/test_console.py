"""The live page as a browser shows it: a real Chromium on the admin port of a real gateway."""

import json

import pytest
from conftest import MODEL
from harness.browser import browser, find_chromium
from harness.kv_events import endpoints
from harness.raw import RawConnection
from harness.wait import eventually

CHAT = "/v1/chat/completions"
CHARTS = ["Time to first token", "Cache hits", "Throughput", "Queues"]

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs chromium")


@pytest.fixture(scope="module")
def chromium():
    with browser() as open_page:
        yield open_page


@pytest.fixture
def open_page(chromium, request):
    """Opens live pages; at the end none may have complained, unless the test is about trouble."""
    pages = []

    def open_page(admin_url, path="/", **looks):
        pages.append(chromium(admin_url, **looks))
        return pages[-1].open(path)

    yield open_page
    for live in pages:
        live.page.context.close()
    if request.node.get_closest_marker("trouble") is None:
        assert [p for live in pages for p in live.problems] == []


@pytest.fixture(scope="module")
def traffic(fleet):
    """The gateway after two short chats, each turn of which repeats what was said before. Gives the request ids."""
    ids = []
    for chat in range(2):
        messages = [{"role": "user", "content": f"Chat number {chat} begins like no other. " * 50}]
        for turn in range(3):
            body = {"model": MODEL, "messages": messages, "max_tokens": 16}
            if turn == 2:
                body |= {"stream": True, "stream_options": {"include_usage": True}}
            response = fleet.post(CHAT, body)
            assert response.status == 200, response
            ids.append(response.headers["x-request-id"])
            messages += [{"role": "assistant", "content": "Said."}, {"role": "user", "content": f"Turn {turn}?"}]
    for request_id in ids:
        fleet.decision(request_id)  # waits until it is on record
    return ids


def test_loads_from_the_admin_port_alone(fleet, traffic, open_page):
    live = open_page(fleet.admin_url)
    live.wait_live()
    live.page.wait_for_timeout(2500)  # two polls more
    assert {url.split("?")[0] for url in live.requests} == {
        f"{fleet.admin_url}/{path}" for path in
        ("", "app.js", "chart.js", "decision.js", "dom.js", "format.js", "icon.svg", "style.css", "api/live")}
    assert sum(url.endswith("/api/live") for url in live.requests) >= 2
    assert live.page.title() == "Penstock"
    assert live.text("#version").startswith("Penstock ")


def test_curves_show_what_happened(fleet, traffic, open_page):
    live = open_page(fleet.admin_url)
    live.wait_live()
    # Curves go back five minutes: what the fixture did is on them, even when it is no more in the last seconds. The
    # second that has not ended is not.
    for key in ("ttft_p50_s", "hit_rate", "output_tokens_per_s"):
        eventually(lambda key=key: any(fleet.admin_get("/api/live").json()["series"][key]), f"a curve of {key}")
    assert sorted(live.chart_values()) == sorted(CHARTS)
    # A point or two of a curve are drawn as dots.
    assert sorted(live.curve_pixels()) == sorted(CHARTS)
    eventually(lambda: min(live.curve_pixels().values()) > 8, "every chart shows a curve")
    values = live.chart_values()
    assert values["Throughput"].endswith("/s") and values["Queues"][0].isdigit()


def test_engines_are_listed_with_their_state(fleet, traffic, open_page):
    live = open_page(fleet.admin_url)
    live.wait_live()
    rows = live.page.locator("#engine-rows tr")
    assert rows.count() == 2
    assert {live.page.locator("#engine-rows .name").nth(i).inner_text() for i in range(2)} == {
        f"{host}:{port}" for host, port in fleet.sim.addresses}
    for i in range(2):
        assert rows.nth(i).locator(".dot").get_attribute("aria-label") == "healthy"
        assert rows.nth(i).locator("td").last.inner_text() == "now"
    assert live.totals()["engines healthy"] == "2 of 2"
    assert MODEL in live.text("#engines-note")
    assert not live.page.locator("#engines-empty").is_visible()


def test_a_click_explains_a_decision(fleet, traffic, open_page):
    live = open_page(fleet.admin_url)
    live.wait_live()
    live.page.locator("#decision-rows tr").nth(len(traffic) - 1).wait_for()
    live.open_decision()  # the newest
    panel = live.page.locator("dialog[open]")
    record = fleet.admin_get(f"/debug/decisions/{traffic[-1]}").json()
    assert traffic[-1] in panel.inner_text()
    assert panel.locator(".story li").all_inner_texts() == record["explanation"]
    names = " ".join(panel.locator("tbody th").all_inner_texts())
    for host, port in fleet.sim.addresses:
        assert f"{host}:{port}" in names
    assert record["endpoint"] in panel.locator(".is-picked th").inner_text()
    link = panel.get_by_text("The same as JSON").get_attribute("href")
    assert fleet.admin_get("/" + link).json()["request_id"] == traffic[-1]
    assert live.page.evaluate("location.hash") == f"#decision={traffic[-1]}"
    live.page.keyboard.press("Escape")
    panel.wait_for(state="detached")
    live.page.wait_for_function("location.hash === ''")


def test_keys_reach_everything(fleet, traffic, open_page):
    live = open_page(fleet.admin_url)
    live.wait_live()
    live.page.locator("#decision-rows tr").first.wait_for()
    live.page.locator(".chart canvas").first.focus()
    live.page.keyboard.press("ArrowLeft")
    assert "median" in live.page.locator(".tip").first.inner_text()
    button = live.page.locator("#decision-rows button").nth(1)
    button.focus()
    named = button.get_attribute("aria-label")
    live.page.keyboard.press("Enter")
    live.page.locator("dialog[open] .story li").first.wait_for()
    assert live.page.evaluate("document.activeElement.getAttribute('aria-label')") == "Close"
    live.page.keyboard.press("Enter")
    live.page.locator("dialog[open]").wait_for(state="detached")
    assert live.page.evaluate("document.activeElement.getAttribute('aria-label')") == named


def test_a_link_opens_its_decision(fleet, traffic, open_page):
    live = open_page(fleet.admin_url, f"/#decision={traffic[0]}")
    live.page.locator("dialog[open] .story li").first.wait_for()
    assert traffic[0] in live.text("dialog")


@pytest.mark.trouble
def test_a_link_to_a_forgotten_decision_says_so(fleet, open_page):
    live = open_page(fleet.admin_url, "/#decision=100%25%3Cb%3Enobody")
    live.page.locator("dialog .is-bad").wait_for()
    assert "No ended request of that id" in live.text("dialog .is-bad")
    assert "100%<b>nobody" in live.text("dialog")  # as text, not as an element
    assert live.page.locator("dialog b").count() == 0


@pytest.mark.trouble
def test_says_when_the_gateway_does_not_answer_and_recovers(fleet, traffic, open_page):
    live = open_page(fleet.admin_url)
    live.wait_live()
    live.page.context.set_offline(True)
    live.page.locator("#connection[data-level=bad]").wait_for()
    assert live.text("#connection").strip().startswith("no answer since ")
    assert live.page.title().startswith("no answer")
    assert live.page.locator("#engine-rows tr").count() == 2  # the last state stays, greyed out
    assert live.page.evaluate("getComputedStyle(document.querySelector('main')).opacity") == "0.5"
    live.page.context.set_offline(False)
    live.wait_live()
    assert live.page.title() == "Penstock"


def test_a_dead_engine_is_said_everywhere(fake, start_gateway, open_page):
    gateway = start_gateway([fake.url])
    gateway.wait_healthy(fake.address)
    live = open_page(gateway.admin_url)
    live.wait_live()
    live.page.locator("#decisions-empty").wait_for()  # nothing has been asked yet
    assert not live.page.locator("#decisions-table").is_visible()
    fake.stop()
    eventually(lambda: live.totals()["engines healthy"] == "0 of 1", "no engine is healthy")
    assert live.page.locator("#engine-rows .dot").get_attribute("aria-label") == "failed"
    assert live.text("#engine-rows .detail").startswith("failed: ")
    assert live.page.title() == "0 of 1 healthy – Penstock"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(360, 740), (820, 1180), (1600, 900)])
def test_fits_the_screen_and_can_be_read(fleet, traffic, open_page, width, height, scheme):
    live = open_page(fleet.admin_url, width=width, height=height, scheme=scheme, touch=width < 1000)
    live.wait_live()
    live.page.locator("#decision-rows tr").first.wait_for()
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    assert live.page.evaluate(fits)
    live.open_decision()
    assert live.page.evaluate(fits)
    assert live.page.evaluate("(d => d.scrollWidth <= d.clientWidth)(document.querySelector('dialog'))")
    weak = json.loads(live.page.evaluate(CONTRAST))
    assert weak == []


# All texts against the nearest ground behind them, by WCAG's formula. 4.5 is its level AA.
CONTRAST = """(() => {
  const channels = (color) => (color.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, part, i) => {
    const c = rgb[i] / 255;
    return sum + part * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  }, 0);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const c = channels(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const weak = new Map();
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    if (!hasText || !element.checkVisibility({visibilityProperty: true})) continue;
    const [a, b] = [light(channels(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) weak.set(`${element.tagName}.${element.className}: ${ratio.toFixed(2)}`, element.innerText);
  }
  return JSON.stringify([...weak]);
})()"""


def test_caches_are_shown_when_engines_tell_of_them(start_sim, start_gateway, tmp_path, open_page):
    sim = start_sim(2, "--speed", "50", "--kv-events-port", "0", "--kv-replay-port", "0")
    policy = tmp_path / "exact.yaml"
    policy.write_text("apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- {type: precise-prefix-cache-producer}\n"
                      "- {type: prefix-cache-scorer,"
                      " parameters: {prefixMatchInfoProducerName: precise-prefix-cache-producer}}\n"
                      "schedulingProfiles:\n- {name: default, plugins: [{pluginRef: prefix-cache-scorer}]}\n")
    (events, replay), _ = [[place.rsplit(":", 1)[1] for place in places] for places in endpoints(sim.lines)]
    engines = [f"{sim.urls[0]},kvEventsPort={events},kvReplayPort={replay}", f"{sim.urls[1]},kvEventsPort=1"]
    gateway = start_gateway(engines, "--scheduling-config", str(policy))
    gateway.wait_healthy(*sim.addresses)
    live = open_page(gateway.admin_url)
    live.wait_live()
    rows = live.page.locator("#cache-rows tr")
    first, second = [rows.filter(has_text=f"{host}:{port}") for host, port in sim.addresses]
    first.locator(".badge[data-level=good]").wait_for()
    assert first.locator(".badge").inner_text() == "EXACT"
    assert second.locator(".badge").inner_text() == "CONNECTING"
    assert "nobody answers at tcp://127.0.0.1:1 yet" in second.locator(".detail").inner_text()
    assert "1 of 2 exact" in live.text("#caches-note")
    body = {"model": MODEL, "prompt": list(range(100)), "max_tokens": 1}
    with RawConnection(sim.addresses[0]) as connection:
        assert connection.request("POST", "/v1/completions", json.dumps(body).encode()).status == 200
    eventually(lambda: first.locator(".bar-text").inner_text() == "6", "six blocks are shown")


def test_caches_are_hidden_when_nobody_tells(fleet, open_page):
    live = open_page(fleet.admin_url)
    live.wait_live()
    assert not live.page.locator("#caches").is_visible()
    assert not live.page.locator("#caches-link").is_visible()
