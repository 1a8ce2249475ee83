// The stream of events, one for all tabs of a browser. A browser opens at most six connections to a server, so a seventh tab
// with its own stream would wait for ever. This script is a shared worker, or a worker of the tab if there are none.
//
// A tab sends the last tick that it has, to receive the ticks after it, and null when it closes or sleeps. All tabs receive
// [kind, data]: the events of the server, and "up" and "down".

const REOPEN_MS = 1000;

/** Without an event for this long, a connection counts as dead: the server sends at least one each second. */
const SILENCE_MS = 6000;

const tabs = new Set();
let source, reopening;
let last = 0;
let heard = 0;

function send(kind, data) {
  for (const tab of tabs) tab.postMessage([kind, data]);
}

function close() {
  clearTimeout(reopening);
  source?.close();
  source = null;
}

/** Connects without the credentials that this script's URL may contain, and requests the ticks after `last`. */
function open() {
  close();
  heard = performance.now();
  const mine = (source = new EventSource(new URL(`stream?since=${last}`, self.location.origin + self.location.pathname)));
  source.onopen = () => send("up");
  source.onerror = () => {
    send("down");
    // The browser gives up if an answer is not a stream. Try again.
    if (mine.readyState === EventSource.CLOSED) reopening = setTimeout(open, REOPEN_MS);
  };
  for (const kind of ["hello", "routes", "tick", "details", "reset"]) {
    source.addEventListener(kind, (event) => {
      heard = performance.now();
      if (event.lastEventId) last = Number(event.lastEventId);
      send(kind, JSON.parse(event.data));
    });
  }
}

function serve(tab) {
  tab.onmessage = ({ data }) => {
    if (data === null) {
      tabs.delete(tab);
      if (tabs.size === 0) close();
      return;
    }
    // Other tabs receive ticks that they have already, and ignore them.
    last = tabs.size > 0 ? Math.min(last, data) : data;
    tabs.add(tab);
    open();
  };
}

setInterval(() => {
  if (!source || performance.now() - heard < SILENCE_MS) return;
  send("down");
  open();
}, 1000);

if (self.SharedWorkerGlobalScope) self.onconnect = ({ ports }) => serve(ports[0]);
else serve(self);
