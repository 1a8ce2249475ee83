// The way to the server and back: the history call, and the stream of events, which a worker holds.

/**
 * The address of a part of the page. Made by hand, since the page may have been opened with credentials in its address:
 * `fetch` refuses addresses that have them, and a relative one would take them over.
 */
const part = (name) => new URL(`dashboard/${name}`, location.origin + location.pathname);

/** The ticks after `since`, up to `until` if given, merged to `step` seconds. */
export async function history({ since, until, step }) {
  const query = new URLSearchParams({ since: Math.floor(since), step });
  if (until) query.set("until", Math.ceil(until));
  const answer = await fetch(part(`history?${query}`), { cache: "no-store" }).catch(() => {
    throw new Error("The server cannot be reached.");
  });
  if (!answer.ok) throw new Error(`The server answers dashboard/history with ${answer.status}.`);
  return answer.json().catch(() => {
    throw new Error("Something else answers dashboard/history, such as a login page.");
  });
}

/**
 * Follows the stream: calls the function in `on` that is named as the event, with its data. `last()` is the last tick that
 * is known. Tabs that have `version` in common share a worker.
 */
export function follow(version, last, on) {
  const url = part("worker.js");
  const shared = window.SharedWorker && new SharedWorker(url, version);
  const worker = shared?.port ?? new Worker(url);
  (shared ?? worker).onerror = () => on.failed("dashboard/worker.js does not load or fails.");
  worker.onmessage = ({ data: [kind, data] }) => on[kind](data);
  const join = () => worker.postMessage(last());
  const leave = () => worker.postMessage(null);
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", (event) => event.persisted && join());
  document.addEventListener("freeze", leave);
  document.addEventListener("resume", join);
  join();
}
