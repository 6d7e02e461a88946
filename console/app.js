// The live page: asks /api/live once a second and shows what it says.

import {Chart} from "./chart.js";
import {DecisionPanel} from "./decision.js";
import {Bar, KeyedRows, h, setText} from "./dom.js";
import {ago, bytes, clock, count, percent, plural, seconds} from "./format.js";

const POLL_MS = 1000;
const TIMEOUT_MS = 5000;
const STALE_S = 2;  // engine metrics older than this are shown as such

const byId = (id) => document.getElementById(id);

// --- charts

const tokensAxis = (v) => (v >= 10000 ? `${count(v / 1000)} k` : count(v));
const secondsAxis = (v) => (v === 0 ? "0" : v < 1 ? `${Math.round(v * 1000)} ms` : `${count(v)} s`);

const charts = [
  {
    title: "Time to first token", format: seconds, axis: secondsAxis, least: 0.05,
    curves: [
      {key: "ttft_p50_s", label: "median", color: "c1", fill: true},
      {key: "ttft_p90_s", label: "p90", color: "c2"},
    ],
    now: (last) => [seconds(last("ttft_p50_s")), `p90 ${seconds(last("ttft_p90_s"))}`],
  },
  {
    title: "Cache hits", format: percent, axis: percent, max: 1,
    curves: [{key: "hit_rate", label: "share of input tokens", color: "c3", fill: true}],
    now: (last) => [percent(last("hit_rate")),
      last("hit_rate") === null ? "no answer told its usage lately" : "of input tokens found in KV caches"],
  },
  {
    // Input is often twenty times the output: as a second curve it would flatten the first.
    title: "Throughput", format: (v) => `${count(v)} tokens/s`, axis: tokensAxis, least: 10,
    curves: [{key: "output_tokens_per_s", label: "output tokens", color: "c1", fill: true}],
    now: (last, mean) => [`${count(Math.round(mean("output_tokens_per_s")))}/s`,
      `tokens out, ${count(Math.round(mean("input_tokens_per_s")))}/s in`],
  },
  {
    title: "Queues", format: count, axis: count, least: 4,
    curves: [
      {key: "waiting", label: "all engines", color: "c2", fill: true},
      {key: "max_waiting", label: "longest", color: "c5"},
    ],
    now: (last) => [count(last("waiting")), `waiting, ${count(last("running"))} running`],
  },
].map((spec) => ({spec, chart: new Chart(spec, (index) => charts.forEach((c) => c.chart.setHover(index)))}));

byId("charts").append(...charts.map(({chart}) => chart.element));

function showCharts(series) {
  const last = (key) => series[key][series[key].length - 1];
  const mean = (key) => {
    const recent = series[key].slice(-5).filter((v) => v !== null);
    return recent.length ? recent.reduce((sum, v) => sum + v, 0) / recent.length : 0;
  };
  for (const {spec, chart} of charts) chart.set(series, ...spec.now(last, mean));
  return {last, mean};
}

// --- header

const totals = new Map();

function showTotal(name, value, level = "") {
  if (!totals.has(name)) {
    const dd = h("dd");
    totals.set(name, dd);
    byId("totals").append(h("div", {}, h("dt", {}, name), dd));
  }
  setText(totals.get(name), value);
  totals.get(name).dataset.level = level;
}

function showHeader(live, {mean}) {
  const profiles = live.scheduling.filter((line) => line.startsWith("profile "));
  setText(byId("policy"), `Policy ${live.policy}`);
  byId("policy").title = live.scheduling.join("\n");
  const rules = profiles.map((line) => line.replace(/^profile [^:]*: /, "").replaceAll(", ", " → ").replaceAll(" x ", " × "));
  if (rules.length) setText(byId("policy"), `Policy ${live.policy}: ${rules.join("; ")}`);
  const isWell = live.endpoints_healthy === live.endpoints_total && live.endpoints_total > 0;
  const healthy = live.endpoints_total > 0 ? `${live.endpoints_healthy} of ${live.endpoints_total}` : "none";
  showTotal("engines healthy", healthy, isWell ? "" : "bad");
  setTitle(isWell ? "" : `${healthy} healthy`);
  showTotal("requests/s", count(mean("requests_per_s")));
  const errors = mean("errors_per_s");
  showTotal("errors/s", count(errors), errors > 0 ? "bad" : "");
  showTotal("in flight", count(live.endpoints.reduce((sum, e) => sum + e.in_flight_requests, 0)));
  showTotal("ended", count(live.decisions_total));
  setText(byId("version"), `Penstock ${live.version}`);
}

// Tabs in the background say what is wrong, too.
function setTitle(trouble) {
  const title = trouble ? `${trouble} – Penstock` : "Penstock";
  if (document.title !== title) document.title = title;
}

function showConnection(level, text, why = "") {
  byId("connection").dataset.level = level;
  byId("connection").title = why;
  setText(byId("connection-text"), text);
  // What is on the page is then the past.
  document.body.classList.toggle("is-stale", level === "bad");
}

// --- engines

const engineRows = new KeyedRows(byId("engine-rows"), (engine) => {
  const row = {
    dot: h("span", {class: "dot", role: "img"}),
    name: h("span", {class: "name"}),
    detail: h("span", {class: "detail muted"}),
    queue: new Bar("c2"), running: new Bar("c1"), kv: new Bar("c5"), hits: new Bar("c3"), flight: new Bar("c4"),
    ttft: h("td", {class: "number", "data-label": "TTFT"}),
    tokens: h("td", {class: "number", "data-label": "Tokens/s"}),
    seen: h("td", {class: "number", "data-label": "Seen"}),
  };
  const cell = (label, bar) => h("td", {"data-label": label}, bar.element);
  row.element = h("tr", {},
    h("th", {scope: "row", class: "who"}, row.dot, h("span", {}, row.name, row.detail)),
    cell("Queue", row.queue), cell("Running", row.running), cell("KV cache", row.kv), cell("Hit rate", row.hits),
    cell("In flight", row.flight), row.ttft, row.tokens, row.seen);
  setText(row.name, engine.name);
  return row;
}, (row, {engine, most}) => {
  const isHealthy = engine.health === "healthy";
  row.element.classList.toggle("is-down", !isHealthy);
  row.dot.dataset.level = isHealthy ? "good" : "bad";
  row.dot.title = engine.health;
  row.dot.setAttribute("aria-label", engine.health);
  const detail = [engine.role, engine.address === engine.name ? null : engine.address].filter(Boolean).join(" · ");
  setText(row.detail, isHealthy ? detail : `${engine.health}: ${engine.reason ?? "no reason given"}`);
  const known = isHealthy && engine.metrics_age_s !== null;
  row.queue.set(known ? engine.waiting / most.waiting : 0, count(known ? engine.waiting : null));
  row.running.set(known ? engine.running / most.running : 0, count(known ? engine.running : null));
  row.kv.set(known ? engine.kv_usage : 0, percent(known ? engine.kv_usage : null), engine.kv_usage > 0.95 ? "bad" : "");
  row.hits.set(engine.hit_rate, percent(engine.hit_rate));
  row.flight.set(engine.in_flight_requests / most.flight, count(engine.in_flight_requests));
  setText(row.ttft, seconds(engine.mean_ttft_s));
  setText(row.tokens, count(Math.round(engine.output_tokens_per_s)));
  const isStale = engine.metrics_age_s === null || engine.metrics_age_s > STALE_S;
  row.seen.classList.toggle("is-bad", isStale);
  setText(row.seen, engine.metrics_age_s === null ? "never" : isStale ? `${seconds(engine.metrics_age_s)} ago` : "now");
});

function showEmpty(table, isEmpty) {
  byId(`${table}-empty`).hidden = !isEmpty;
  byId(`${table}-table`).hidden = isEmpty;
}

function showEngines(live) {
  const largest = (field) => Math.max(1, ...live.endpoints.map((e) => e[field]));
  const most = {waiting: largest("waiting"), running: largest("running"), flight: largest("in_flight_requests")};
  engineRows.set(live.endpoints.map((engine) => ({engine, most, name: engine.name})), (item) => item.name);
  showEmpty("engines", live.endpoints.length === 0);
  const shown = live.endpoints.length < live.endpoints_total
    ? `the first ${live.endpoints.length} of ${live.endpoints_total}, all in /debug/endpoints`
    : live.models.slice(0, 3).join(", ") + (live.models.length > 3 ? ` and ${live.models.length - 3} more models` : "");
  setText(byId("engines-note"), shown);
}

// --- caches

const STATE_LEVELS = {EXACT: "good", SYNCING: "warn", CONNECTING: "warn", DEGRADED: "warn", STALE: "bad", GONE: "bad"};

const cacheRows = new KeyedRows(byId("cache-rows"), (publisher) => {
  const number = (label) => h("td", {class: "number", "data-label": label});
  const row = {
    detail: h("span", {class: "detail muted"}), state: h("span", {class: "badge"}), gpu: new Bar("c5"),
    cpu: number("CPU"), storage: number("Storage"), orphans: number("Waiting"), lag: number("Lag"), age: number("Last batch"),
    gaps: number("Gaps"), missed: number("Missed"), restarts: number("Restarts"),
  };
  row.element = h("tr", {},
    h("th", {scope: "row", class: "who"}, h("span", {}, h("span", {class: "name"}, publisher.endpoint), row.detail)),
    h("td", {"data-label": "State"}, row.state), h("td", {"data-label": "GPU blocks"}, row.gpu.element),
    row.cpu, row.storage, row.orphans, row.lag, row.age, row.gaps, row.missed, row.restarts);
  row.orphans.title = "Stores that wait for the block before them";
  return row;
}, (row, publisher) => {
  setText(row.state, publisher.state);
  row.state.dataset.level = STATE_LEVELS[publisher.state] ?? "";
  row.state.title = publisher.why;
  setText(row.detail, publisher.state === "EXACT" ? "" : publisher.why);
  const {gpu, cpu, disk, storage} = publisher.blocks;
  row.gpu.set(publisher.gpu_blocks > 0 ? gpu / publisher.gpu_blocks : 0, count(gpu));
  setText(row.cpu, count(cpu));
  setText(row.storage, count(disk + storage));
  setText(row.orphans, count(publisher.orphans));
  // Clocks differ by a little.
  setText(row.lag, seconds(publisher.lag_s === null ? null : Math.max(0, publisher.lag_s)));
  setText(row.age, publisher.last_batch_age_s === null ? "never" : ago(Math.floor(publisher.last_batch_age_s)));
  for (const key of ["gaps", "missed", "restarts"]) setText(row[key], count(publisher[key]));
  row.missed.classList.toggle("is-bad", publisher.missed > 0);
});

function showCaches(caches) {
  byId("caches").hidden = byId("caches-link").hidden = caches === null;
  if (caches === null) return;
  cacheRows.set(caches.publishers, (publisher) => publisher.endpoint);
  showEmpty("caches", caches.publishers.length === 0);
  const parts = [`${count(caches.states.EXACT)} of ${count(caches.publishers_total)} exact`,
    `index ${bytes(caches.index_bytes)} of ${bytes(caches.index_max_bytes)}`];
  if (caches.publishers.length < caches.publishers_total) parts.push(`the first ${caches.publishers.length}, others in /debug/kv`);
  if (caches.unheard > 0) parts.push(`${plural(caches.unheard, "engine")} not listened to, see /debug/kv`);
  setText(byId("caches-note"), parts.join(" · "));
}

// --- decisions

const END_WORDS = {
  complete: "complete", client_gone: "client left", engine_gone: "engine broke off", timeout: "timed out",
  rejected: "refused", running: "running",
};

const decisionRows = new KeyedRows(byId("decision-rows"), (decision) => {
  const open = () => {
    // Somebody who marks text on the row wants to copy it.
    if (getSelection().isCollapsed) panel.open(decision.request_id);
  };
  const cached = new Bar("c3");
  const input = decision.input_tokens ?? decision.estimated_input_tokens;
  const share = decision.cached_tokens === null || !input ? null : decision.cached_tokens / input;
  cached.set(share, percent(share));
  const isGood = decision.end === "complete" && decision.status < 400;
  const level = isGood ? "good" : decision.end === "client_gone" ? "" : "bad";
  const cell = (label, text, name = "number") => h("td", {class: name, "data-label": label}, text);
  const tries = decision.tries > 1 ? ` (try ${decision.tries})` : "";
  return {
    element: h("tr", {onclick: open},
      h("th", {scope: "row"}, h("button", {type: "button", class: "link", "aria-label": `Explain request ${decision.request_id}`},
        clock(decision.unix_micros))),
      cell("Engine", (decision.endpoint ?? "none") + tries, "name"),
      cell("Why", decision.why ?? "", "why muted"),
      cell("Input", count(input)), h("td", {"data-label": "Cached"}, cached.element), cell("Output", count(decision.output_tokens)),
      cell("TTFT", seconds(decision.ttft_s)), cell("Total", seconds(decision.e2e_s)),
      h("td", {"data-label": "End"}, h("span", {class: "badge", "data-level": level},
        isGood ? END_WORDS.complete : `${END_WORDS[decision.end] ?? decision.end}${decision.status ? ` ${decision.status}` : ""}`))),
  };
}, () => {});

let isLooking = false;  // rows stand still while somebody is about to choose one
const decisionBody = byId("decision-rows");
decisionBody.addEventListener("pointerenter", () => { isLooking = true; });
decisionBody.addEventListener("pointerleave", () => { isLooking = false; });

function showDecisions(live) {
  showEmpty("decisions", live.decisions.length === 0);
  // An open panel gives the focus back to the row that it was opened from.
  const isChoosing = isLooking || panel.isOpen() || decisionBody.querySelector(":focus-visible") !== null;
  const standsStill = isChoosing && decisionBody.children.length > 0;
  const note = standsStill ? "Standing still while you look." : "Choose one to see why it went where it went.";
  setText(byId("decisions-note"), live.decisions.length > 0 ? note : "");
  if (!standsStill) decisionRows.set(live.decisions, (decision) => decision.request_id);
}

const panel = new DecisionPanel(byId("panel"));

// --- polling

let answeredAt = null;
let version = null;

async function fetchLive() {
  const response = await fetch("api/live", {signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store"});
  if (!response.ok) throw new Error(`status ${response.status}`);
  return response.json();
}

function show(live) {
  // Another program answers now, and it may have another page.
  if (version !== null && version !== live.version) location.reload();
  version = live.version;
  const means = showCharts(live.series);
  showHeader(live, means);
  showEngines(live);
  showCaches(live.caches);
  showDecisions(live);
  showConnection(live.draining ? "warn" : "good", live.draining ? "draining" : "live");
}

async function poll() {
  if (document.hidden) return;
  let live;
  try {
    live = await fetchLive();
  } catch (error) {
    const since = answeredAt === null ? "no answer yet" : `no answer since ${clock(answeredAt * 1000)}`;
    setTitle("no answer");
    return showConnection("bad", `${since}, trying again`, error.message);
  }
  answeredAt = Date.now();
  try {
    show(live);
  } catch (error) {
    showConnection("bad", "this page cannot show the gateway's answer; load it again", error.message);
    throw error;
  }
}

async function run() {
  for (;;) {
    const begin = performance.now();
    await poll().catch((error) => console.error(error));
    await new Promise((resolve) => setTimeout(resolve, Math.max(100, POLL_MS - (performance.now() - begin))));
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) poll().catch((error) => console.error(error)); });
run();
