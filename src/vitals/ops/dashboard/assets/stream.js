// The way to the server and back: the history call, and the stream of events, which a worker holds.

/** The ticks after `since`, up to `until` if given, merged to `step` seconds. */
export async function history({ since, until, step }) {
  const query = new URLSearchParams({ since: Math.floor(since), step });
  if (until) query.set("until", Math.ceil(until));
  const answer = await fetch(`dashboard/history?${query}`, { cache: "no-store" });
  if (!answer.ok) throw new Error(`history: ${answer.status}`);
  return answer.json();
}

/**
 * Follows the stream: calls the function in `on` that is named as the event, with its data. `last()` is the last tick that
 * is known. Tabs that have `version` in common share a worker.
 */
export function follow(version, last, on) {
  const url = "dashboard/worker.js";
  const worker = window.SharedWorker ? new SharedWorker(url, version).port : new Worker(url);
  worker.onmessage = ({ data: [kind, data] }) => on[kind](data);
  const join = () => worker.postMessage(last());
  const leave = () => worker.postMessage(null);
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", (event) => event.persisted && join());
  document.addEventListener("freeze", leave);
  document.addEventListener("resume", join);
  join();
}
