// Formats numbers and times for people. A unit formats single values and makes the ticks of an axis.

/** The text for a missing value. */
export const NONE = "–";

const SPACE = "\u202f"; // a narrow space without a line break
const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** About three significant digits. */
function digits(value) {
  const size = Math.abs(value);
  if (size >= 99.95 || size === 0) return grouped.format(value);
  if (size >= 9.995) return value.toFixed(1);
  if (size >= 0.0995) return value.toFixed(2);
  return String(Number(value.toPrecision(2)));
}

/** A unit with a scale for each order of magnitude: `[factor, suffix]`, the largest first. */
class Unit {
  constructor(name, ...scales) {
    this.name = name;
    this.scales = scales;
  }

  scale(size) {
    return this.scales.find(([factor]) => size >= factor * 0.9995) ?? this.scales.at(-1);
  }

  /** The value as `[number, suffix]`. */
  parts(value) {
    if (value == null || Number.isNaN(value)) return [NONE, ""];
    const [factor, suffix] = value === 0 ? this.scales.at(this.name === "seconds" ? 1 : -1) : this.scale(Math.abs(value));
    const number = value / factor;
    return [Number.isInteger(number) ? grouped.format(number) : digits(number), suffix];
  }

  format = (value) => {
    const [number, suffix] = this.parts(value);
    return suffix ? number + (suffix === "%" ? "" : SPACE) + suffix : number;
  };

  /** The end of an axis from 0 to at least `max`, and its ticks as `[value, label]`. */
  axis(max, count) {
    const [factor, suffix] = this.scale(max);
    const rough = max / factor / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    let step = [1, 2, 5, 10].find((nice) => nice * power >= rough * 0.999) * power;
    if (this.name === "") step = Math.max(1, step);
    const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    // An axis may end at a half step: it wastes less space, and rarely changes while the values move.
    const top = (Math.ceil((max / factor / step) * 2 - 1e-6) / 2) * step;
    // Rounding up may reach the next unit: 1 ms instead of 1,000 µs.
    if (this.scale(top * factor)[0] !== factor) return this.axis(top * factor, count);
    const ticks = [];
    for (let i = 0; step * i <= top * 1.001; i++) {
      const label = step * i >= 1000 ? grouped.format(step * i) : (step * i).toFixed(decimals);
      ticks.push([step * i * factor, i === 0 ? "0" : label + (suffix && SPACE + suffix)]);
    }
    return { top: top * factor, ticks };
  }
}

export const rate = new Unit("per second", [1, "/s"]);
export const count = new Unit("", [1, ""]);
export const seconds = new Unit("seconds", [1, "s"], [1e-3, "ms"], [1e-6, "µs"]);
export const bytes = new Unit("bytes", [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]);
export const ratio = new Unit("ratio", [0.01, "%"]);

/** A duration in its two largest units. */
export function duration(total) {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const largest = units.findIndex(([size]) => total >= size || size === 1);
  let left = Math.max(0, Math.floor(total));
  const parts = units.map(([size, name]) => {
    const number = Math.floor(left / size);
    left -= number * size;
    return number + SPACE + name;
  });
  return parts.slice(largest, largest + 2).join(" ");
}

const two = (number) => String(number).padStart(2, "0");

/** How many seconds the server's clock is ahead of the times of its ticks. */
let ahead = 0;

/** Sets how many seconds the server's clock is ahead. */
export function setClock(seconds) {
  ahead = seconds ?? 0;
}

/** The time of a tick by the server's clock. */
export const shown = (time) => time + ahead;

/** Formats seconds since the epoch as the local time of day. */
export function clock(time, withSeconds = true) {
  const date = new Date(time * 1000);
  const short = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return withSeconds ? `${short}:${two(date.getSeconds())}` : short;
}

/** Formats seconds since the epoch as the local day and time. */
export function moment(time) {
  const date = new Date(time * 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(time)}`;
}
