// The way to the server and back: the history call, and the stream of events with its reconnects.

const REOPEN_MS = 1000;

/** Without an event for this long, a connection is taken to be dead: the server sends at least one each second. */
const SILENCE_MS = 8000;

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

export class Stream {
  /** `on`: a function for each kind of event, and `up()` and `down()`. */
  constructor(on) {
    this.on = on;
    this.last = 0;
    this.heard = performance.now();
    setInterval(() => !document.hidden && this.#check(SILENCE_MS), 2000);
    // A tab that slept may hold a connection that died meanwhile.
    document.addEventListener("visibilitychange", () => !document.hidden && this.#check(3000));
    window.addEventListener("pageshow", (event) => event.persisted && this.open());
    window.addEventListener("pagehide", () => this.source?.close());
  }

  /** Connects, and asks for what came after the last tick heard of. */
  open() {
    clearTimeout(this.timer);
    this.source?.close();
    this.heard = performance.now();
    const url = new URL("stream", import.meta.url);
    if (this.last > 0) url.searchParams.set("since", this.last);
    const source = new EventSource(url);
    this.source = source;
    source.onopen = () => this.on.up();
    source.onerror = () => {
      if (source !== this.source) return;
      this.on.down();
      // Where the browser gives up (an answer that is no stream), the page does not.
      if (source.readyState === EventSource.CLOSED) this.timer = setTimeout(() => this.open(), REOPEN_MS);
    };
    for (const kind of ["hello", "routes", "tick", "details", "reset"]) {
      source.addEventListener(kind, (event) => {
        this.heard = performance.now();
        if (event.lastEventId) this.last = Number(event.lastEventId);
        this.on[kind](JSON.parse(event.data));
      });
    }
  }

  #check(silence) {
    if (this.source && performance.now() - this.heard > silence) {
      this.on.down();
      this.open();
    }
  }
}
