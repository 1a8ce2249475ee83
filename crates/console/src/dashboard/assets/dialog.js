// The dialog, which shows one request or one statement. What it shows comes from scripts that load when they are needed.

import { $, make, set } from "./dom.js";
import { urlOf } from "./stream.js";

const dialog = $("request");
const [title, note, content] = ["h2", "p", ".scroll"].map((part) => dialog.querySelector(part));

/** Shows a heading, facts and contents. */
export function showDialog(heading, facts, ...parts) {
  set(title, heading);
  set(note, facts.filter(Boolean).join(" · "));
  content.replaceChildren(...parts);
  content.hidden = !content.firstChild;
  content.scrollTop = 0;
  if (!dialog.open) dialog.showModal();
}

/** Whether the next event of its closing is not of the user. That event comes late, when another dialog may be asked for. */
let closing = false;

/** Closes it, also without the user. */
export function closeDialog() {
  if (dialog.open) {
    closing = true;
    dialog.close();
  }
  content.replaceChildren();
}

/** Calls `closed` when the user closes it. */
export function onDialogClosed(closed) {
  $("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    if (!closing) closed();
    closing = false;
  });
}

let later;

/** Loads the script of what the dialog shows: once, or again if it failed. Returns its functions. */
export const detailScript = () =>
  (later ??= new Promise((resolve, reject) => {
    const onload = () => resolve(window.vitals);
    const onerror = () => {
      later = null;
      reject(new Error("dashboard/details.js does not load."));
    };
    document.head.append(make("script", { src: urlOf("dashboard/details.js"), onload, onerror }));
  }));
