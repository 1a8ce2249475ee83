// The little of the document's interface that several parts of the page share.

export const $ = (id) => document.getElementById(id);

/** A new element with these properties and children. */
export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Changes a text only where it differs: what stays is neither drawn nor read out again. */
export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
