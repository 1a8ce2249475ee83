// Helpers for the document that several modules share.

export const $ = (id) => document.getElementById(id);

/** A new element with these properties and children. */
export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Sets a text if it differs. An unchanged text is not drawn or announced again. */
export function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
