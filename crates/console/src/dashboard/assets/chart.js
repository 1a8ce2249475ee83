// One chart: its legend, its cursor, its description and the files that it saves. `paint.js` draws it; the page passes the
// data and the effects of gestures.

import { $, make, set } from "./dom.js";
import { NONE, clock, moment, shown } from "./format.js";
import { color, font, paint } from "./paint.js";

const GUTTER = 62; // left of the plot, for the scale: the same for all charts, so that their times are aligned
const RIGHT = 14;
const TOP = 10;
const BOTTOM = 24;

/** Downloads a file. */
function save(name, blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export class Chart {
  /**
   * `spec`: id, title, unit, floor (the least top of the scale), series (label, color, value(point, endpoint), and maybe
   * fill, dash, rare: not in the legend while it is 0, and off: hidden at first), and maybe stacked, ofEndpoint, empty.
   * `page`: the effects of gestures. If its `reset` returns false, Escape is left to others.
   */
  constructor(spec, page) {
    this.spec = spec;
    this.page = page;
    this.hidden = new Set(spec.series.filter((one) => one.off).map((one) => one.label));
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
      const press = () => button.setAttribute("aria-pressed", String(!this.hidden.has(one.label)));
      button.onclick = () => {
        if (!this.hidden.delete(one.label)) this.hidden.add(one.label);
        press();
        this.#draw();
      };
      press();
      const item = make("li", {}, button);
      list.append(item);
      this.legend.push({ item, reading });
    }
  }

  /** Shows points from `from` to `to`. `endpoint` is the selected one, or null. */
  update(points, from, to, endpoint) {
    const { spec } = this;
    this.points = points;
    this.from = from;
    this.to = to;
    this.values = spec.series.map((one) => points.map((point) => one.value(point, endpoint) ?? null));
    this.scope.textContent = endpoint === null ? "" : spec.ofEndpoint ? endpoint : "whole service";
    spec.series.forEach((one, i) => (this.legend[i].item.hidden = one.rare && !this.values[i].some(Boolean)));
    this.#describe();
    this.#draw();
  }

  /** Describes the chart in words, for screen readers. */
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
      ? `${spec.title}${scope}, ${clock(shown(this.from))} to ${clock(shown(this.to))}. ${lines.join(" ")}`
      : `${spec.title}${scope}: no data.`;
    set(this.summary, text);
    this.plot.setAttribute("aria-valuemin", Math.round(this.from));
    this.plot.setAttribute("aria-valuemax", Math.round(this.to));
  }

  #model(height) {
    const { spec, points } = this;
    const series = spec.series.map((one, i) => ({ ...one, values: this.values[i], hidden: this.hidden.has(one.label) }));
    const shown = series.filter((one) => !one.hidden);
    const tops = points.map((_, i) => {
      const values = shown.map((one) => one.values[i] ?? 0);
      return spec.stacked ? values.reduce((sum, value) => sum + value, 0) : Math.max(0, ...values);
    });
    const nothing = points.length > 0 && shown.every((one) => one.values.every((value) => value === null));
    return {
      from: this.from,
      to: this.to,
      points,
      series,
      stacked: spec.stacked,
      axis: spec.unit.axis(Math.max(spec.floor, ...tops.map((top) => top * 1.02)), Math.max(2, Math.round(height / 42))),
      message: nothing ? spec.empty : "",
    };
  }

  #draw() {
    if (!this.points) return;
    const { clientWidth: width, clientHeight: height } = this.plot;
    const density = window.devicePixelRatio;
    // Setting the size also clears the canvas.
    this.canvas.width = Math.round(width * density);
    this.canvas.height = Math.round(height * density);
    const context = this.canvas.getContext("2d");
    context.scale(density, density);
    this.box = { left: GUTTER, top: TOP, width: Math.max(1, width - GUTTER - RIGHT), height: height - TOP - BOTTOM };
    paint(context, this.box, this.#model(this.box.height));
    this.showCursor(this.cursor);
  }

  /** Moves the cursor to a time, or hides it. The legend shows the values at that time, or the latest. */
  showCursor(time) {
    this.cursor = time;
    this.#read();
    const { cursor, time: label } = this.marks;
    const inside = time !== null && time >= this.from && time <= this.to && this.box;
    cursor.hidden = !inside;
    if (!inside) return;
    const at = this.#x(time);
    cursor.style.transform = `translateX(${at}px)`;
    label.textContent = clock(shown(time));
    const half = 28;
    label.style.transform = `translateX(${Math.min(0, this.plot.clientWidth - at - half) - half}px)`;
  }

  #read() {
    if (!this.points) return;
    const at = this.#nearest(this.cursor ?? this.to);
    const near = at >= 0 && (this.cursor === null || this.#covers(at, this.cursor));
    const readings = [];
    this.spec.series.forEach((one, i) => {
      const value = near ? this.values[i][at] : null;
      const text = value === null ? NONE : this.spec.unit.format(value);
      set(this.legend[i].reading, text);
      readings.push(`${one.label} ${text}`);
    });
    const time = at >= 0 ? this.points[at].time : this.to;
    this.plot.setAttribute("aria-valuenow", Math.round(time));
    this.plot.setAttribute("aria-valuetext", `${clock(shown(time))}: ${readings.join(", ")}`);
  }

  #covers(at, time) {
    const { time: end, width } = this.points[at];
    return time <= end + width && time >= end - 2 * width;
  }

  #x(time) {
    return this.box.left + ((time - this.from) / (this.to - this.from)) * this.box.width;
  }

  /** The index of the nearest point to a time; -1 if there are no points. */
  #nearest(time) {
    let best = -1;
    for (let i = 0; i < this.points.length; i++) {
      if (best < 0 || Math.abs(this.points[i].time - time) <= Math.abs(this.points[best].time - time)) best = i;
    }
    return best;
  }

  /** Marks the range between two times, or removes the mark. */
  showSelection(range) {
    const { selection } = this.marks;
    selection.hidden = !range || !this.box;
    if (selection.hidden) return;
    const [left, right] = range.map((time) => this.#x(time)).sort((a, b) => a - b);
    selection.style.transform = `translateX(${left}px)`;
    selection.style.width = `${right - left}px`;
  }

  /** Handles pointer and keys. A selection extends from the `anchor` to the cursor. */
  #gestures() {
    const { plot, page } = this;
    let anchor = null;
    const move = (time) => {
      page.cursor(time);
      if (anchor !== null) page.select([anchor, time]);
    };
    const end = (range) => {
      anchor = null;
      page.select(null);
      if (range) page.zoom(range);
    };
    const leave = () => {
      end();
      page.cursor(null);
    };
    const timeAt = (event) => {
      const share = (event.clientX - plot.getBoundingClientRect().left - this.box.left) / this.box.width;
      const time = this.from + Math.min(1, Math.max(0, share)) * (this.to - this.from);
      const at = this.#nearest(time);
      return at >= 0 && this.#covers(at, time) ? this.points[at].time : time;
    };
    const on = (name, listener) => plot.addEventListener(name, (event) => this.box && listener(event));
    on("pointerdown", (event) => {
      if (event.button !== 0) return;
      anchor = timeAt(event);
      plot.setPointerCapture(event.pointerId);
    });
    on("pointermove", (event) => move(timeAt(event)));
    on("pointerup", (event) => {
      if (anchor === null) return;
      const time = timeAt(event);
      // A shorter movement is a click.
      end(Math.abs(this.#x(time) - this.#x(anchor)) > 6 && [anchor, time]);
    });
    on("pointerleave", () => anchor === null && page.cursor(null));
    on("pointercancel", leave);
    on("blur", leave);
    on("dblclick", () => page.reset());
    on("keydown", (event) => {
      const last = this.points.length - 1;
      if (last < 0) return;
      const at = this.#nearest(this.cursor ?? this.to);
      const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -15, PageUp: 15, Home: -at, End: last - at };
      const { time } = this.points[at];
      if (event.key in steps) move(this.points[Math.min(last, Math.max(0, at + steps[event.key]))].time);
      else if (event.key === "Escape") {
        if (anchor !== null) end();
        else if (page.reset() === false) return;
      } else if (event.key !== "Enter") return;
      else if (anchor !== null) end([anchor, time]);
      else move((anchor = time));
      event.preventDefault();
    });
  }

  #name(kind) {
    return `actix-vitals-${this.spec.id}-${moment(shown(this.to)).replace(" ", "T").replace(/:/g, "")}.${kind}`;
  }

  /** Saves the values as CSV: seconds since the epoch, the time in UTC, and a column for each series. */
  csv() {
    const unit = this.spec.unit.name && ` (${this.spec.unit.name})`;
    const rows = [["epoch (seconds)", "time (UTC)", ...this.spec.series.map((one) => one.label + unit)]];
    this.points.forEach((point, i) => {
      const values = this.values.map((column) => (column[i] === null ? "" : Number(column[i].toPrecision(9))));
      rows.push([shown(point.time), new Date(shown(point.time) * 1000).toISOString(), ...values]);
    });
    save(this.#name("csv"), new Blob([rows.map((row) => row.join(",")).join("\r\n") + "\r\n"], { type: "text/csv" }));
  }

  /** Saves the chart as an image with its title, its range and its legend. */
  png() {
    const [width, height, density] = [1200, 480, 2];
    const canvas = make("canvas", { width: width * density, height: height * density });
    const context = canvas.getContext("2d");
    context.scale(density, density);
    context.fillStyle = color("card");
    context.fillRect(0, 0, width, height);
    const text = (content, left, top, size, ink) => {
      context.font = font(size);
      context.fillStyle = color(ink);
      context.textAlign = "left";
      context.textBaseline = "middle";
      context.fillText(content, left, top, width - left - 24);
      return left + context.measureText(content).width;
    };
    text(this.spec.title, 24, 30, "600 18px", "text");
    const scope = this.scope.textContent && ` · ${this.scope.textContent}`;
    text(`${moment(shown(this.from))} to ${clock(shown(this.to))} · ${this.page.instance()}${scope}`, 24, 54, "12px", "muted");
    let left = 24;
    for (const [i, one] of this.spec.series.entries()) {
      if (this.hidden.has(one.label) || this.legend[i].item.hidden) continue;
      context.fillStyle = color(one.color);
      context.fillRect(left, height - 26, 12, one.dash ? 2 : 6);
      left = text(one.label, left + 18, height - 22, "12px", "text") + 20;
    }
    const box = { left: GUTTER + 12, top: 80, width: width - GUTTER - 36, height: height - 160 };
    paint(context, box, this.#model(box.height));
    canvas.toBlob((blob) => blob && save(this.#name("png"), blob), "image/png");
  }
}
