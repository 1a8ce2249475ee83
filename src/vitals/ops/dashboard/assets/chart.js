// One chart: its picture on a canvas, its legend, its crosshair, its text, and the files it saves as. What is drawn,
// and what a gesture means for the page, is told from outside.

import { $, make, set } from "./dom.js";
import { NONE, clock, moment } from "./format.js";

const GUTTER = 62; // left of the plot, where the scale stands: the same for all, so that times line up
const RIGHT = 14;
const TOP = 10;
const BOTTOM = 24;

/** The distances that ticks of a time axis may have, in seconds. */
const TIME_STEPS = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];

const style = getComputedStyle(document.documentElement);
const color = (name) => style.getPropertyValue(`--${name}`).trim();

/** Draws a model into a box of the context. */
function paint(context, box, model) {
  const { from, to, series, points, axis, stacked, message } = model;
  const x = (time) => box.left + ((time - from) / (to - from)) * box.width;
  const y = (value) => box.top + box.height * (1 - value / axis.top);
  context.font = `11px ${style.fontFamily}`;
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
  for (let time = Math.ceil(from / step) * step; time <= to; time += step) {
    const at = x(time);
    if (at < box.left + 14 || at > box.left + box.width - 12) continue;
    context.fillStyle = color("axis");
    context.fillRect(Math.round(at), box.top + box.height, 1, 4);
    context.fillStyle = color("muted");
    context.fillText(clock(time, step < 60), at, box.top + box.height + 14);
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

  if (message) {
    context.fillStyle = color("muted");
    context.font = `13px ${style.fontFamily}`;
    context.fillText(message, box.left + box.width / 2, box.top + box.height / 2);
  }
}

/** Marks the stretches of which nothing is known. */
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
    context.fillStyle = color("gap");
    context.fillRect(left, box.top, width, box.height);
    context.strokeStyle = color("hatch");
    context.beginPath();
    for (let at = left - box.height; at < left + width; at += 8) {
      context.moveTo(at, box.top + box.height);
      context.lineTo(at + box.height, box.top);
    }
    context.stroke();
    context.restore();
    if (width > 64) {
      context.textAlign = "center";
      context.fillStyle = color("gap");
      context.fillRect(left + width / 2 - 28, box.top + 4, 56, 16);
      context.fillStyle = color("muted");
      context.fillText("no data", left + width / 2, box.top + 12);
    }
  }
}

/** The points in stretches without a gap, each as its first and its last index. */
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
  // In a stack, a line is drawn only where there is something: ten classes at 0 are not ten lines.
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

/** Gives a file to the person who asked for it. */
function save(name, blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export class Chart {
  /**
   * `spec`: id, title, unit, floor (the least top of the scale), series (label, color, value(point, endpoint),
   * and maybe fill, dash, and rare:
   * not in the legend while it is 0), and maybe stacked, ofEndpoint, empty. `page`: what gestures lead to.
   */
  constructor(spec, page) {
    this.spec = spec;
    this.page = page;
    this.hidden = new Set();
    this.cursor = null;
    this.root = $("chart").content.firstElementChild.cloneNode(true);
    const part = (name) => this.root.querySelector(`.${name}`);
    this.root.id = `chart-${spec.id}`;
    this.plot = part("plot");
    this.canvas = part("canvas");
    this.marks = { cursor: part("cursor"), time: part("cursor-time"), selection: part("selection") };
    this.summary = part("summary");
    this.scope = part("scope");
    this.summary.id = `summary-${spec.id}`;
    part("title").textContent = spec.title;
    this.plot.setAttribute("aria-label", `${spec.title}: time cursor`);
    this.plot.setAttribute("aria-describedby", this.summary.id);
    for (const kind of ["csv", "png"]) {
      part(kind).setAttribute("aria-label", `Save ${spec.title} as ${kind.toUpperCase()}`);
      part(kind).addEventListener("click", () => this[kind]());
    }
    this.#legend(part("legend"));
    this.#gestures();
    new ResizeObserver(() => this.#draw()).observe(this.plot);
  }

  #legend(list) {
    this.legend = [];
    for (const one of this.spec.series) {
      const swatch = make("span", { className: one.dash ? "swatch dashed" : "swatch" });
      swatch.style.color = `var(--${one.color})`;
      const reading = make("span", { className: "reading" });
      const button = make("button", { type: "button" }, swatch, make("span", { className: "label", textContent: one.label }), reading);
      button.setAttribute("aria-pressed", "true");
      button.onclick = () => {
        if (!this.hidden.delete(one.label)) this.hidden.add(one.label);
        button.setAttribute("aria-pressed", String(!this.hidden.has(one.label)));
        this.#draw();
      };
      const item = make("li", {}, button);
      list.append(item);
      this.legend.push({ item, reading });
    }
  }

  /** Shows these points, of `from` to `to`; `endpoint` is the one chosen, or null. */
  update(points, from, to, endpoint) {
    const { spec } = this;
    this.points = points;
    this.from = from;
    this.to = to;
    this.values = spec.series.map((one) => points.map((point) => one.value(point, endpoint) ?? null));
    this.scope.textContent = endpoint === null ? "" : spec.ofEndpoint ? endpoint : "whole service";
    this.scope.title = this.scope.textContent;
    spec.series.forEach((one, i) => (this.legend[i].item.hidden = one.rare && !this.values[i].some(Boolean)));
    this.#describe();
    this.#draw();
  }

  /** The chart in words, for those who do not see it. */
  #describe() {
    const { spec, points } = this;
    const lines = spec.series.map((one, i) => {
      const known = this.values[i].filter((value) => value !== null);
      if (known.length === 0) return `${one.label}: no values.`;
      const [least, most] = [Math.min(...known), Math.max(...known)].map((value) => spec.unit.format(value));
      return `${one.label}: latest ${spec.unit.format(known.at(-1))}, lowest ${least}, highest ${most}.`;
    });
    const scope = this.scope.textContent && `, ${this.scope.textContent}`;
    const text = points.length > 0
      ? `${spec.title}${scope}, ${clock(this.from)} to ${clock(this.to)}. ${lines.join(" ")}`
      : `${spec.title}${scope}: no data.`;
    set(this.summary, text);
    this.plot.setAttribute("aria-valuemin", Math.round(this.from));
    this.plot.setAttribute("aria-valuemax", Math.round(this.to));
    this.#read();
  }

  #model(height) {
    const { spec, points } = this;
    const series = spec.series.map((one, i) => ({ ...one, values: this.values[i], hidden: this.hidden.has(one.label) }));
    const shown = series.filter((one) => !one.hidden);
    let most = 0;
    for (let i = 0; i < points.length; i++) {
      let stack = 0;
      for (const one of shown) {
        const value = one.values[i] ?? 0;
        stack = spec.stacked ? stack + value : value;
        if (stack > most) most = stack;
      }
    }
    const nothing = points.length > 0 && shown.every((one) => one.values.every((value) => value === null));
    return {
      from: this.from,
      to: this.to,
      points,
      series,
      stacked: spec.stacked,
      axis: spec.unit.axis(Math.max(most * 1.02, spec.floor), Math.max(2, Math.round(height / 42))),
      message: nothing ? spec.empty : "",
    };
  }

  #draw() {
    if (!this.points) return;
    const { clientWidth: width, clientHeight: height } = this.plot;
    const density = window.devicePixelRatio || 1;
    const [across, down] = [Math.round(width * density), Math.round(height * density)];
    if (this.canvas.width !== across || this.canvas.height !== down) {
      this.canvas.width = across;
      this.canvas.height = down;
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    this.box = { left: GUTTER, top: TOP, width: Math.max(1, width - GUTTER - RIGHT), height: height - TOP - BOTTOM };
    paint(context, this.box, this.#model(this.box.height));
    this.showCursor(this.cursor);
  }

  /** Puts the crosshair at a time, or takes it away; the legend reads the values there, or else the latest. */
  showCursor(time) {
    this.cursor = time;
    this.#read();
    const { cursor, time: label } = this.marks;
    const inside = time !== null && time >= this.from && time <= this.to && this.box;
    cursor.hidden = !inside;
    if (!inside) return;
    const at = this.#x(time);
    cursor.style.transform = `translateX(${at}px)`;
    label.textContent = clock(time);
    const half = 28;
    label.style.transform = `translateX(${Math.min(0, this.plot.clientWidth - at - half) - half}px)`;
  }

  #read() {
    if (!this.points) return;
    const at = this.#nearest(this.cursor ?? this.to);
    const near = at >= 0 && (this.cursor === null || this.#covers(at, this.cursor));
    const said = [];
    this.spec.series.forEach((one, i) => {
      const value = near ? this.values[i][at] : null;
      const text = value === null ? NONE : this.spec.unit.format(value);
      set(this.legend[i].reading, text);
      said.push(`${one.label} ${text}`);
    });
    const time = at >= 0 ? this.points[at].time : this.to;
    this.plot.setAttribute("aria-valuenow", Math.round(time));
    this.plot.setAttribute("aria-valuetext", `${clock(time)}: ${said.join(", ")}`);
  }

  #covers(at, time) {
    const { time: end, width } = this.points[at];
    return time <= end + width && time >= end - 2 * width;
  }

  #x(time) {
    return this.box.left + ((time - this.from) / (this.to - this.from)) * this.box.width;
  }

  /** The index of the point nearest to a time; -1 if there is none. */
  #nearest(time) {
    let best = -1;
    for (let i = 0; i < this.points.length; i++) {
      if (best < 0 || Math.abs(this.points[i].time - time) <= Math.abs(this.points[best].time - time)) best = i;
    }
    return best;
  }

  showSelection(range) {
    const { selection } = this.marks;
    selection.hidden = !range || !this.box;
    if (selection.hidden) return;
    const [left, right] = range.map((time) => this.#x(time)).sort((a, b) => a - b);
    selection.style.transform = `translateX(${left}px)`;
    selection.style.width = `${right - left}px`;
  }

  #gestures() {
    const { plot, page } = this;
    const timeAt = (event) => {
      const share = (event.clientX - plot.getBoundingClientRect().left - this.box.left) / this.box.width;
      return this.from + Math.min(1, Math.max(0, share)) * (this.to - this.from);
    };
    const snapped = (time) => {
      const at = this.#nearest(time);
      return at >= 0 && this.#covers(at, time) ? this.points[at].time : time;
    };
    let start = null;
    plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.box) return;
      start = timeAt(event);
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointermove", (event) => {
      if (!this.box) return;
      page.cursor(snapped(timeAt(event)));
      if (start !== null) page.select([start, timeAt(event)], false);
    });
    plot.addEventListener("pointerup", (event) => {
      if (start === null) return;
      const far = (Math.abs(timeAt(event) - start) / (this.to - this.from)) * this.box.width > 6;
      page.select(far ? [start, timeAt(event)] : null, true);
      start = null;
    });
    const leave = () => {
      if (start !== null) page.select(null, true);
      start = null;
      page.cursor(null);
    };
    plot.addEventListener("pointercancel", leave);
    plot.addEventListener("pointerleave", () => start === null && page.cursor(null));
    plot.addEventListener("dblclick", () => page.reset());

    let anchor = null;
    plot.addEventListener("blur", () => {
      anchor = null;
      leave();
      page.select(null, true);
    });
    plot.addEventListener("keydown", (event) => {
      if (!this.points?.length) return;
      const now = this.#nearest(this.cursor ?? this.to);
      const move = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -15, PageUp: 15 }[event.key];
      const last = this.points.length - 1;
      let next = move && Math.min(last, Math.max(0, now + move));
      if (event.key === "Home") next = 0;
      if (event.key === "End") next = last;
      if (next !== undefined) {
        page.cursor(this.points[next].time);
        if (anchor !== null) page.select([anchor, this.points[next].time], false);
      } else if (event.key === "Enter") {
        const time = this.points[now].time;
        if (anchor === null) page.select([(anchor = time), time], false);
        else {
          page.select(anchor === time ? null : [anchor, time], true);
          anchor = null;
        }
      } else if (event.key === "Escape") {
        if (anchor !== null) page.select(null, true);
        else page.reset();
        anchor = null;
      } else return;
      event.preventDefault();
    });
  }

  #name(kind) {
    return `actix-vitals-${this.spec.id}-${moment(this.to).replace(" ", "T").replace(/:/g, "")}.${kind}`;
  }

  /** Saves what is shown as a table: seconds since the epoch, the time in UTC, and a column for each series. */
  csv() {
    const unit = this.spec.unit.name && ` (${this.spec.unit.name})`;
    const factor = unit === " (percent)" ? 100 : 1;
    const rows = [["epoch (seconds)", "time (UTC)", ...this.spec.series.map((one) => one.label + unit)]];
    this.points.forEach((point, i) => {
      const values = this.values.map((column) => (column[i] === null ? "" : Number((column[i] * factor).toPrecision(9))));
      rows.push([point.time, new Date(point.time * 1000).toISOString(), ...values]);
    });
    save(this.#name("csv"), new Blob([rows.map((row) => row.join(",")).join("\r\n") + "\r\n"], { type: "text/csv" }));
  }

  /** Saves what is shown as a picture with its title, its range and its legend. */
  png() {
    const [width, height, density] = [1200, 480, 2];
    const canvas = make("canvas", { width: width * density, height: height * density });
    const context = canvas.getContext("2d");
    context.scale(density, density);
    context.fillStyle = color("card");
    context.fillRect(0, 0, width, height);
    const text = (content, left, top, font, ink) => {
      context.font = `${font} ${style.fontFamily}`;
      context.fillStyle = color(ink);
      context.textAlign = "left";
      context.textBaseline = "middle";
      context.fillText(content, left, top, width - left - 24);
      return left + context.measureText(content).width;
    };
    text(this.spec.title, 24, 30, "600 18px", "text");
    const scope = this.scope.textContent && ` · ${this.scope.textContent}`;
    text(`${moment(this.from)} to ${clock(this.to)} · ${this.page.instance()}${scope}`, 24, 54, "12px", "muted");
    let left = 24;
    for (const one of this.spec.series) {
      if (this.hidden.has(one.label)) continue;
      context.fillStyle = color(one.color);
      context.fillRect(left, height - 26, 12, one.dash ? 2 : 6);
      left = text(one.label, left + 18, height - 22, "12px", "text") + 20;
    }
    const box = { left: GUTTER + 12, top: 80, width: width - GUTTER - 36, height: height - 160 };
    paint(context, box, this.#model(box.height));
    canvas.toBlob((blob) => blob && save(this.#name("png"), blob), "image/png");
  }
}
