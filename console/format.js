// Numbers for people. Everything takes null for "not known" and gives an en dash.

const NONE = "–";

function trimmed(value, digits) {
  return value.toFixed(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
}

export function seconds(s) {
  if (s === null || s === undefined) return NONE;
  if (s < 0.01) return `${trimmed(s * 1000, 1)} ms`;
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < 10) return `${s.toFixed(2)} s`;
  if (s < 100) return `${s.toFixed(1)} s`;
  return `${Math.round(s)} s`;
}

export function count(n) {
  if (n === null || n === undefined) return NONE;
  if (n >= 1e6) return `${trimmed(n / 1e6, n >= 1e7 ? 1 : 2)} M`;
  if (n >= 1e4) return `${trimmed(n / 1e3, n >= 1e5 ? 0 : 1)} k`;
  if (n >= 100 || Number.isInteger(n)) return Math.round(n).toLocaleString("en");
  return trimmed(n, n >= 10 ? 1 : 2);
}

export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; n >= 1024 && unit + 1 < units.length; ++unit) n /= 1024;
  return `${trimmed(n, n >= 100 ? 0 : 1)} ${units[unit]}`;
}

export function percent(share) {
  return share === null || share === undefined ? NONE : `${Math.round(share * 100)} %`;
}

export function clock(unixMicros) {
  return new Date(unixMicros / 1000).toLocaleTimeString("en-GB");
}

export function ago(s) {
  if (s <= 0) return "now";
  return s < 60 ? `${s} s ago` : `${Math.floor(s / 60)} min ${s % 60} s ago`;
}

export function plural(n, noun) {
  return `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
}
