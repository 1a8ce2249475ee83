// The way to the server and back: the history call, and the stream of events, which a worker holds.

/** The ticks after `since`, up to `until` if given, merged to `step` seconds. */
export async function history({ since, until, step }) {
  const url = new URL("history", import.meta.url);
  url.searchParams.set("since", Math.floor(since));
  url.searchParams.set("step", step);
  if (until !== undefined) url.searchParams.set("until", Math.ceil(until));
  const answer = await fetch(url, { cache: "no-store" });
  if (!answer.ok) throw new Error(`history: ${answer.status}`);
  return answer.json();
}

/**
 * Follows the stream: calls the function in `on` that is named as the event, with its data. `last()` is the last tick that
 * is known. Tabs that have `version` in common share a worker.
 */
export function follow(version, last, on) {
  const url = new URL("worker.js", import.meta.url);
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
