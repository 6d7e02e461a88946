// The panel that explains one decision: sentences, a time line, and for each try the candidates ranked by score.
// The address bar keeps which one is open (#decision=ID), so that a link to it can be sent to somebody.

import {swatch} from "./chart.js";
import {h, setText} from "./dom.js";
import {clock, count, percent, plural, seconds} from "./format.js";

const PLUGIN_COLORS = ["c1", "c2", "c3", "c4", "c5", "c6"];
const MAX_ROWS = 50;
const TIMEOUT_MS = 5000;
const HASH = "#decision=";

export class DecisionPanel {
  constructor(dialog) {
    this.dialog = dialog;
    this.id = null;  // whose answer is wanted
    this.idText = h("p", {class: "muted mono"});
    this.content = h("div", {class: "panel-content"});
    dialog.append(h("div", {class: "panel-body"},
      h("div", {class: "card-head"}, h("h2", {id: "panel-title"}, "Why this engine"),
        h("button", {type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close()}, "×")),
      this.idText, this.content));
    dialog.addEventListener("close", () => {
      this.id = null;
      if (location.hash.startsWith(HASH)) history.replaceState(null, "", location.pathname + location.search);
    });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    addEventListener("hashchange", () => this.followHash());
    this.followHash();
  }

  isOpen() {
    return this.dialog.open;
  }

  open(id) {
    location.hash = HASH + encodeURIComponent(id);
  }

  followHash() {
    if (!location.hash.startsWith(HASH)) {
      if (this.dialog.open) this.dialog.close();
      return;
    }
    let id = location.hash.slice(HASH.length);
    try {
      id = decodeURIComponent(id);
    } catch {
      // Somebody typed a lone percent sign: the server will say that there is no such request.
    }
    this.load(id);
  }

  async load(id) {
    this.id = id;
    setText(this.idText, id);
    this.content.replaceChildren(h("p", {class: "muted"}, "Loading."));
    if (!this.dialog.open) this.dialog.showModal();
    const content = await explain(id);
    // Meanwhile the panel may have been closed, or another decision chosen.
    if (this.id === id) this.content.replaceChildren(...content);
  }
}

async function explain(id) {
  const url = `debug/decisions/${encodeURIComponent(id)}`;
  try {
    const response = await fetch(url, {signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store"});
    const body = await response.json();
    if (!response.ok) return [h("p", {class: "is-bad"}, body.error?.message ?? `status ${response.status}`)];
    return [...render(body), h("p", {}, h("a", {href: url, target: "_blank", rel: "noopener"}, "The same as JSON"))];
  } catch (error) {
    return [h("p", {class: "is-bad"}, `The gateway did not answer: ${error.message}`)];
  }
}

function render(decision) {
  const facts = [
    clock(decision.unix_micros), decision.model || "no model", decision.api.replaceAll("_", " "),
    decision.stream ? "streamed" : "in one piece", `decided in ${count(decision.decision_us)} µs`,
  ];
  return [
    h("p", {class: "facts"}, ...facts.map((fact) => h("span", {class: "badge"}, fact))),
    h("ol", {class: "story"}, ...decision.explanation.map((sentence) => h("li", {}, sentence))),
    renderTimeline(decision),
    ...decision.attempts.map((attempt, i) => renderAttempt(attempt, i, decision.attempts.length)),
  ].filter(Boolean);
}

// Waiting for the first byte, then the answer, to scale.
function renderTimeline(decision) {
  if (decision.ttft_s === null || !decision.e2e_s) return null;
  const first = h("span", {class: "span c2"}, decision.ttft_s / decision.e2e_s > 0.25 ? seconds(decision.ttft_s) : "");
  const rest = h("span", {class: "span c1"}, seconds(decision.e2e_s - decision.ttft_s));
  first.style.flexGrow = String(decision.ttft_s);
  rest.style.flexGrow = String(Math.max(0, decision.e2e_s - decision.ttft_s));
  return h("div", {class: "timeline"}, h("div", {class: "spans", "aria-hidden": "true"}, first, rest),
    h("ul", {class: "legend"}, h("li", {}, swatch("c2"), `first byte after ${seconds(decision.ttft_s)}`),
      h("li", {}, swatch("c1"), `answer until ${seconds(decision.e2e_s)}` +
        (decision.output_tokens ? `, ${plural(decision.output_tokens, "output token")}` : ""))));
}

function renderAttempt(attempt, index, tries) {
  const title = tries === 1 ? "Candidates" : `Try ${index + 1}: ${attempt.endpoint}`;
  const failure = attempt.failure ? h("p", {class: "is-bad"}, `This try failed: ${attempt.failure}`) : null;
  const profiles = attempt.profiles.map((profile) => renderProfile(attempt, profile, attempt.profiles.length > 1));
  const excluded = attempt.excluded.length === 0 ? null
    : h("details", {}, h("summary", {}, `${plural(attempt.excluded.length, "engine")} could not be candidates`),
      h("ul", {}, ...attempt.excluded.slice(0, MAX_ROWS).map(({endpoint, why}) => h("li", {}, h("b", {}, endpoint), ` ${why}`))));
  return h("section", {class: "attempt"}, h("h3", {}, title), failure, ...profiles, excluded);
}

function renderProfile(attempt, profile, isNamed) {
  const colors = new Map(profile.scorers.map(({plugin}, i) => [plugin, PLUGIN_COLORS[i % PLUGIN_COLORS.length]]));
  const scoreOf = (scorer, name) => (Object.hasOwn(scorer.scores, name) ? scorer.scores[name] * scorer.weight : 0);
  const totalOf = (name) => (Object.hasOwn(profile.totals, name) ? profile.totals[name] : null);
  const droppedBy = (name) => profile.filters.find((filter) => filter.dropped.includes(name))?.plugin ?? null;
  const ranked = attempt.candidates.map((candidate) => ({
    ...candidate, total: totalOf(candidate.endpoint), dropped: droppedBy(candidate.endpoint),
  })).sort((a, b) => (a.dropped ? 1 : 0) - (b.dropped ? 1 : 0) || (b.total ?? 0) - (a.total ?? 0) ||
    (b.picked ? 1 : 0) - (a.picked ? 1 : 0));
  const most = Math.max(1e-9, ...ranked.map((candidate) => candidate.total ?? 0));
  const legend = [
    ...profile.filters.map((filter) => h("li", {}, `filter ${filter.plugin}: kept ${filter.kept.length} of ` +
      `${filter.kept.length + filter.dropped.length}`)),
    ...profile.scorers.map(({plugin, weight}) => h("li", {}, swatch(colors.get(plugin)), `${plugin} × ${weight}`)),
  ];
  const stack = (candidate) => {
    const bar = h("span", {class: "stack"});
    for (const scorer of profile.scorers) {
      const score = scoreOf(scorer, candidate.endpoint);
      const part = h("span", {class: `part ${colors.get(scorer.plugin)}`, title: `${scorer.plugin}: ${score.toFixed(3)}`});
      part.style.width = `${(score / most) * 100}%`;
      bar.append(part);
    }
    return bar;
  };
  const columns = [
    ["Cached blocks", (c) => (c.matched_blocks === undefined ? null : `${count(c.matched_blocks)} of ${count(attempt.total_blocks)}${c.match ? ` (${c.match})` : ""}`)],
    ["Queue", (c) => (c.waiting === undefined ? null : count(c.waiting))],
    ["Running", (c) => (c.running === undefined ? null : count(c.running))],
    ["KV use", (c) => (c.kv_usage === undefined ? null : percent(c.kv_usage))],
    ["In flight", (c) => (c.in_flight_requests === undefined ? null : count(c.in_flight_requests))],
    ["Tokens ahead", (c) => (c.in_flight_tokens === undefined ? null : count(c.in_flight_tokens))],
  ].filter(([, read]) => ranked.some((candidate) => read(candidate) !== null));
  const row = (candidate) => h("tr", {class: candidate.picked ? "is-picked" : candidate.dropped ? "is-down" : null},
    h("th", {scope: "row", class: "name"}, candidate.picked ? "➜ " : "", candidate.endpoint),
    h("td", {class: "score", "data-label": "Score"}, candidate.dropped ? h("span", {class: "muted"}, `dropped by ${candidate.dropped}`)
      : profile.scorers.length ? h("span", {class: "scored"}, stack(candidate), h("b", {}, (candidate.total ?? 0).toFixed(2)))
        : h("span", {class: "muted"}, "no scorer")),
    ...columns.map(([label, read]) => h("td", {class: "number", "data-label": label}, read(candidate) ?? "–")));
  return h("div", {class: "profile"}, isNamed ? h("h4", {}, `Profile ${profile.profile}`) : null,
    h("ul", {class: "legend"}, ...legend),
    h("table", {class: "grid"},
      h("thead", {}, h("tr", {}, h("th", {scope: "col"}, "Engine"), h("th", {scope: "col"}, "Score"),
        ...columns.map(([label]) => h("th", {scope: "col", class: "number"}, label)))),
      h("tbody", {}, ...ranked.slice(0, MAX_ROWS).map(row))),
    ranked.length > MAX_ROWS ? h("p", {class: "muted"}, `and ${ranked.length - MAX_ROWS} more`) : null);
}
