// Elements from data. Text goes in as text, never as markup: names of models, engines and requests come from outside.

// h("td", {class: "number", "data-label": "TTFT"}, "12 ms", child, ...)
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A share (0..1) as a bar with its words beside it.
export class Bar {
  constructor(kind) {
    this.fill = h("span", {class: `bar-fill ${kind}`});
    this.text = h("span", {class: "bar-text"});
    this.element = h("span", {class: "bar"}, h("span", {class: "bar-track"}, this.fill), this.text);
  }
  set(share, text, level = "") {
    this.fill.style.setProperty("--share", `${Math.max(0, Math.min(1, share ?? 0)) * 100}%`);
    this.fill.dataset.level = level;
    setText(this.text, text);
  }
}

// Rows that keep their place in the document while their data changes, so that focus and hover survive.
export class KeyedRows {
  constructor(body, make, update) {
    this.body = body;
    this.make = make;
    this.update = update;
    this.rows = new Map();
  }
  set(items, keyOf) {
    const next = new Map();
    for (const item of items) {
      const key = keyOf(item);
      const row = this.rows.get(key) ?? this.make(item);
      this.update(row, item);
      next.set(key, row);
    }
    const order = [...next.values()].map((row) => row.element);
    const isSame = order.length === this.body.children.length && order.every((e, i) => this.body.children[i] === e);
    if (!isSame) {
      const focused = document.activeElement;
      this.body.replaceChildren(...order);
      if (focused !== document.activeElement && this.body.contains(focused)) focused.focus({preventScroll: true});
    }
    this.rows = next;
  }
}
