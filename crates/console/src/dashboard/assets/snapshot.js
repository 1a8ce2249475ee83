// Tables of what ops endpoints answer. Unlike the rest of the page, they do not come from the ticks: the page requests them
// again and again while it is visible.

import { set } from "./dom.js";
import { clock } from "./format.js";
import { json } from "./stream.js";

/** An answer that takes longer comes from a server that is stuck. */
const PATIENCE_MS = 3000;

export class Snapshot {
  /**
   * `endpoint`: the path that the service lists if it has it. `path()`: the path with parameters, by default the same.
   * `every`: milliseconds between two requests. `empty`: the text if there are no rows. `read(answer)` returns the rows and
   * the hint. `steady`: the section never shrinks, so the sections below it stay where they are. `follows(offers)` is called
   * when it is known what the service has.
   */
  constructor(endpoint, table, { path = () => endpoint, every = 1000, steady = false, empty, read, follows = () => {} }) {
    Object.assign(this, { endpoint, table, path, every, steady, empty, read, follows, at: null });
  }

  /** Requests the rows for as long as the page is open, and holds them while the page is not live. */
  follow(offers, isLive) {
    this.offered = offers(`/${this.endpoint}`);
    this.follows(offers);
    if (!this.offered) {
      this.table.update([], "This service does not show them.");
      return;
    }
    const look = async () => {
      if (!isLive() && this.at) this.#say(`The state of ${clock(this.at)}.`);
      else if (!document.hidden) await this.refresh();
      setTimeout(look, this.every);
    };
    look();
  }

  /** Requests the rows and shows them, or says why there are none. */
  async refresh() {
    if (!this.offered) return;
    const path = this.path();
    try {
      const answer = await json(path, { signal: AbortSignal.timeout(PATIENCE_MS) });
      if (path !== this.path()) return;
      const { rows, hint } = this.read(answer);
      this.at = Date.now() / 1000;
      this.table.update(rows, this.empty);
      this.#say(hint);
    } catch ({ message, status }) {
      const why = status ? message : `No answer to ${this.endpoint}: the server is down, or the workers that could answer are stuck.`;
      this.#say(this.at ? `${why} Below is the state of ${clock(this.at)}.` : why, true);
    }
    const { section } = this.table;
    if (this.steady) section.style.minHeight = `${section.offsetHeight}px`;
  }

  #say(text, alarm = false) {
    set(this.table.hint, text);
    this.table.hint.classList.toggle("alarm", alarm);
  }
}
