// Requests to the server: the history, and the stream of events, which a worker holds.

/**
 * The URL of a path beside the page. It is absolute because the page's URL may contain credentials: a relative URL would
 * inherit them, and `fetch` rejects such URLs.
 */
export const urlOf = (path) => new URL(path, location.origin + location.pathname);

/** Requests JSON from a path beside the page; an empty answer is `null`. An error has `status` if the server answered with one. */
export async function json(path, options) {
  const [name] = path.split("?");
  const answer = await fetch(urlOf(path), { cache: "no-store", ...options }).catch(() => {
    throw new Error("The server cannot be reached.");
  });
  if (!answer.ok) throw Object.assign(new Error(`The server answers ${name} with ${answer.status}.`), { status: answer.status });
  return answer.status === 204 ? null : answer.json().catch(() => {
    throw new Error(`Something else answers ${name}, such as a login page.`);
  });
}

/** The ticks after `since`, up to `until` if given, merged to `step` seconds. */
export function fetchHistory({ since, until, step }) {
  const query = new URLSearchParams({ since: Math.floor(since), step });
  if (until) query.set("until", Math.ceil(until));
  return json(`dashboard/history?${query}`);
}

/**
 * Follows the stream. Calls the function of `on` with the event's name, and passes the data. `last()` is the last tick that the
 * page has. Tabs with the same `version` share a worker.
 */
export function follow(version, last, on) {
  const url = urlOf("dashboard/worker.js");
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
