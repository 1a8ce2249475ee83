// Draws a chart, on the page and in the image that it saves.

import { clock, shown } from "./format.js";

/** The possible distances between ticks of a time axis, in seconds. */
const TIME_STEPS = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];

const style = getComputedStyle(document.documentElement);
export const font = (size) => `${size} ${style.fontFamily}`;
export const color = (name) => style.getPropertyValue(`--${name}`).trim();

/** Draws a model into a box of the context. */
export function paint(context, box, model) {
  const { from, to, series, points, axis, stacked, message } = model;
  const x = (time) => box.left + ((time - from) / (to - from)) * box.width;
  const y = (value) => box.top + box.height * (1 - value / axis.top);
  context.font = font("11px");
  context.lineWidth = 1;
  context.textBaseline = "middle";

  paintGaps(context, box, model, x);

  context.textAlign = "right";
  for (const [value, label] of axis.ticks) {
    const line = Math.round(y(value)) + 0.5;
    context.fillStyle = color(value === 0 ? "axis" : "grid");
    context.fillRect(box.left, line - 0.5, box.width, 1);
    context.fillStyle = color("muted");
    context.fillText(label, box.left - 8, line);
  }

  const step = TIME_STEPS.find((seconds) => (seconds / (to - from)) * box.width >= (seconds < 60 ? 72 : 56)) ?? 3600;
  context.textAlign = "center";
  const ahead = shown(0);
  for (let time = Math.ceil(shown(from) / step) * step - ahead; time <= to; time += step) {
    const at = x(time);
    if (at < box.left + 14 || at > box.left + box.width - 12) continue;
    context.fillStyle = color("axis");
    context.fillRect(Math.round(at), box.top + box.height, 1, 4);
    context.fillStyle = color("muted");
    context.fillText(clock(shown(time), step < 60), at, box.top + box.height + 14);
  }

  context.save();
  context.beginPath();
  context.rect(box.left, box.top - 2, box.width, box.height + 4);
  context.clip();
  for (const run of runs(points)) {
    const base = stacked && new Float64Array(points.length);
    for (const one of series) {
      if (one.hidden) continue;
      paintRun(context, one, run, points, base, x, y);
    }
  }
  context.restore();

  if (message) say(context, message, box.left + box.width / 2, box.top + box.height / 2, "card");
}

/** Writes a text around a point, on a plain background: no hatching and no grid behind it. */
function say(context, text, x, y, ground) {
  const width = context.measureText(text).width + 16;
  context.textAlign = "center";
  context.fillStyle = color(ground);
  context.fillRect(x - width / 2, y - 8, width, 16);
  context.fillStyle = color("muted");
  context.fillText(text, x, y);
}

/** Hatches the ranges without data. */
function paintGaps(context, box, { from, to, points }, x) {
  const gaps = [];
  let known = from;
  for (const point of points) {
    if (point.time - point.width > known + 0.5) gaps.push([known, point.time - point.width]);
    known = Math.max(known, point.time);
  }
  if (to - known > 2.5) gaps.push([known, to]);
  for (const [start, end] of gaps) {
    const left = Math.max(box.left, x(start));
    const width = x(end) - left;
    context.save();
    context.beginPath();
    context.rect(left, box.top, width, box.height);
    context.clip();
    context.fillStyle = color("page");
    context.fillRect(left, box.top, width, box.height);
    context.strokeStyle = color("line");
    context.beginPath();
    for (let at = left - box.height; at < left + width; at += 8) {
      context.moveTo(at, box.top + box.height);
      context.lineTo(at + box.height, box.top);
    }
    context.stroke();
    context.restore();
    if (width > 64) say(context, "no data", left + width / 2, box.top + 12, "page");
  }
}

/** Splits the points at gaps. Returns the first and the last index of each run. */
function runs(points) {
  const found = [];
  points.forEach((point, i) => {
    const before = points[i - 1];
    const joined = before && point.time - point.width <= before.time + 0.5;
    if (joined) found.at(-1)[1] = i;
    else found.push([i, i]);
  });
  return found;
}

function paintRun(context, one, [first, last], points, base, x, y) {
  const ink = color(one.color);
  context.strokeStyle = context.fillStyle = ink;
  context.lineWidth = one.dash ? 1.25 : 1.75;
  context.lineJoin = "round";
  context.setLineDash(one.dash ?? []);
  const level = (i) => (one.values[i] ?? 0) + (base ? base[i] : 0);

  if (one.fill) {
    context.beginPath();
    for (let i = first; i <= last; i++) context.lineTo(x(points[i].time), y(level(i)));
    for (let i = last; i >= first; i--) context.lineTo(x(points[i].time), y(base ? base[i] : 0));
    context.globalAlpha = one.fill;
    context.fill();
    context.globalAlpha = 1;
  }
  // In a stack, a series has no line where it is 0: ten classes at 0 would be ten lines.
  const { values } = one;
  const visible = (i) => i >= first && i <= last && values[i] !== null && (!base || values[i - 1] || values[i] || values[i + 1]);
  context.beginPath();
  let open = false;
  for (let i = first; i <= last; i++) {
    if (!visible(i)) {
      open = false;
      continue;
    }
    const [left, top] = [x(points[i].time), y(level(i))];
    if (open) context.lineTo(left, top);
    else context.moveTo(left, top);
    open = true;
    if (!visible(i - 1) && !visible(i + 1)) context.fillRect(left - 1.5, top - 1.5, 3, 3);
  }
  context.stroke();
  context.setLineDash([]);
  if (base) for (let i = first; i <= last; i++) base[i] = level(i);
}
