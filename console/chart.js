// Small line charts on a canvas: axes with units, gaps where nothing is known, a readout under the pointer or the arrow keys.
// Colours come from the style sheet, so both colour schemes work.

import {ago} from "./format.js";
import {h, setText} from "./dom.js";

const MARGIN = {left: 46, right: 8, top: 8, bottom: 20};

// Round numbers from 0 that reach `max` in at most `steps` steps.
export function ticks(max, steps) {
  const rough = max / steps;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough - 1e-12);
  const values = [];
  for (let i = 0; i * step < max + step * 0.999; ++i) values.push(i * step);
  return values;
}

export class Chart {
  // `spec`: title, curves [{key, label, color}], format(value), axis(value), max (fixed) or least (smallest top of the axis).
  constructor(spec, onHover) {
    this.spec = spec;
    this.onHover = onHover;
    this.hover = null;
    this.data = null;
    this.value = h("span", {class: "chart-value"}, "–");
    this.side = h("span", {class: "chart-side muted"});
    this.canvas = h("canvas", {
      tabindex: "0", role: "img",
      onpointermove: (event) => {
        this.tip.removeAttribute("aria-live");
        this.onHover(this.indexAt(event.offsetX));
      },
      onpointerleave: () => this.onHover(null),
      onblur: () => this.onHover(null),
      onkeydown: (event) => this.onKey(event),
    });
    this.tip = h("div", {class: "tip", hidden: true});
    const legend = spec.curves.map((curve) => h("li", {}, swatch(curve.color), curve.label));
    this.element = h("article", {class: "card chart"},
      h("div", {class: "chart-head"}, h("h2", {}, spec.title), h("ul", {class: "legend"}, ...legend)),
      h("p", {class: "chart-now"}, this.value, " ", this.side),
      h("div", {class: "chart-box"}, this.canvas, this.tip));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // `series`: arrays by key and `second` (0 is the newest, negative before).
  set(series, value, side) {
    this.data = series;
    setText(this.value, value);
    setText(this.side, side);
    this.canvas.setAttribute("aria-label", `${this.spec.title} over the last minutes; now ${value} ${side}`);
    this.draw();
  }

  setHover(index) {
    if (this.hover === index) return;
    this.hover = index;
    this.draw();
  }

  onKey(event) {
    if (!this.data) return;
    const last = this.data.second.length - 1;
    const from = this.hover ?? last;
    const to = {ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last, Escape: null}[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.tip.setAttribute("aria-live", "polite");  // who uses keys may not see it
    this.onHover(to === null ? null : Math.max(0, Math.min(last, to)));
  }

  indexAt(x) {
    if (!this.data) return null;
    const count = this.data.second.length;
    const width = this.canvas.clientWidth - MARGIN.left - MARGIN.right;
    return Math.max(0, Math.min(count - 1, Math.round(((x - MARGIN.left) / width) * (count - 1))));
  }

  top() {
    if (this.spec.max !== undefined) return this.spec.max;
    let top = this.spec.least ?? 1;
    for (const {key} of this.spec.curves) {
      for (const value of this.data[key]) if (value !== null && value > top) top = value;
    }
    return top;
  }

  draw() {
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (!this.data || width < 80 || height < 60) return;
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const style = getComputedStyle(this.canvas);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const seconds = this.data.second;
    const values = ticks(this.top(), 4);
    const top = values[values.length - 1];
    const x = (i) => MARGIN.left + (i / (seconds.length - 1)) * (width - MARGIN.left - MARGIN.right);
    const y = (v) => height - MARGIN.bottom - (v / top) * (height - MARGIN.top - MARGIN.bottom);
    context.font = `11px ${style.fontFamily}`;
    this.drawAxes(context, {values, seconds, x, y, width, height, color});
    [...this.spec.curves].reverse().forEach((curve) => {
      this.drawCurve(context, this.data[curve.key], x, y, color(curve.color), curve.fill === true);
    });
    this.drawHover(context, {seconds, x, y, width, height, color});
  }

  drawAxes(context, {values, seconds, x, y, width, height, color}) {
    context.strokeStyle = color("line");
    context.fillStyle = color("muted");
    context.lineWidth = 1;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const value of values) {
      const at = Math.round(y(value)) + 0.5;
      context.beginPath();
      context.moveTo(MARGIN.left, at);
      context.lineTo(width - MARGIN.right, at);
      context.stroke();
      context.fillText(this.spec.axis(value), MARGIN.left - 6, at);
    }
    context.textBaseline = "alphabetic";
    seconds.forEach((second, i) => {
      if (second % 60 !== 0 || (second !== 0 && -second >= -seconds[0])) return;
      context.textAlign = second === 0 ? "right" : "center";
      context.fillText(second === 0 ? "now" : `${second / 60} min`.replace("-", "−"), x(i), height - 5);
    });
  }

  drawCurve(context, values, x, y, stroke, isFilled) {
    context.strokeStyle = stroke;
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    let start = 0;
    while (start < values.length) {
      if (values[start] === null) {
        ++start;
        continue;
      }
      let end = start;
      while (end + 1 < values.length && values[end + 1] !== null) ++end;
      context.beginPath();
      for (let i = start; i <= end; ++i) context.lineTo(x(i), y(values[i]));
      context.stroke();
      if (isFilled) {
        context.lineTo(x(end), y(0));
        context.lineTo(x(start), y(0));
        context.globalAlpha = 0.12;
        context.fillStyle = stroke;
        context.fill();
        context.globalAlpha = 1;
      }
      if (x(end) - x(start) < 10) {  // a line this short would hardly be seen
        context.fillStyle = stroke;
        for (let i = start; i <= end; ++i) {
          context.beginPath();
          context.arc(x(i), y(values[i]), 2.5, 0, 2 * Math.PI);
          context.fill();
        }
      }
      start = end + 1;
    }
  }

  drawHover(context, {seconds, x, y, width, height, color}) {
    const i = this.hover;
    if (i === null || i >= seconds.length) {
      this.tip.hidden = true;
      return;
    }
    const at = Math.round(x(i)) + 0.5;
    context.strokeStyle = color("muted");
    context.lineWidth = 1;
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(at, MARGIN.top);
    context.lineTo(at, height - MARGIN.bottom);
    context.stroke();
    context.setLineDash([]);
    const lines = this.spec.curves.map((curve) => {
      const value = this.data[curve.key][i];
      if (value !== null) {
        context.fillStyle = color(curve.color);
        context.beginPath();
        context.arc(at, y(value), 3.5, 0, 2 * Math.PI);
        context.fill();
      }
      return h("div", {}, swatch(curve.color), `${curve.label} `, h("b", {}, this.spec.format(value)));
    });
    this.tip.replaceChildren(h("div", {class: "muted"}, ago(-seconds[i])), ...lines);
    this.tip.hidden = false;
    const isRight = at > width / 2;
    this.tip.style.left = isRight ? "auto" : `${at + 10}px`;
    this.tip.style.right = isRight ? `${width - at + 10}px` : "auto";
  }
}

export function swatch(color) {
  return h("span", {class: `swatch ${color}`, "aria-hidden": "true"});
}
