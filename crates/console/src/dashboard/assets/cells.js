// Columns and cells that several tables share.

import { make } from "./dom.js";

/** A column of numbers in a unit. */
export const number = (key, label, { format }, more) => ({ key, label, format, ...more });

/** A text as code. */
export const code = (text) => make("code", { textContent: text, title: text });

/** A column of texts as code. */
export const codes = (key, label, none, more) => ({
  key,
  label,
  text: true,
  node: () => code(""),
  refresh(cell, row) {
    const text = row[key] ?? none;
    if (cell.textContent !== text) cell.textContent = cell.title = text;
  },
  ...more,
});

/** An endpoint, with its method and its pattern in different styles. */
export function endpoint(tag, name, more) {
  const cell = make(tag, { className: "endpoint", ...more }, make("b"), " ", make("span"));
  nameEndpoint(cell, name);
  return cell;
}

/** Changes the endpoint of such a cell. */
export function nameEndpoint(cell, name) {
  if (cell.title === name) return;
  const [, method, pattern] = /^(\S+) (.*)$/s.exec(name) ?? [null, "", name];
  cell.title = name;
  cell.firstChild.textContent = method;
  cell.lastChild.textContent = pattern;
}

/** A column of endpoints. */
export const endpoints = (more) => ({
  key: "name",
  label: "Endpoint",
  text: true,
  node: (row) => endpoint("span", row.name),
  refresh: (cell, row) => nameEndpoint(cell, row.name),
  ...more,
});
