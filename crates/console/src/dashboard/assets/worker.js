// The stream of events, one for all tabs of a browser: it opens six connections to a server and no more, so that a seventh
// tab with a stream of its own would wait for ever. This runs as a shared worker; where there are none, as a tab's own.
//
// A tab says the last tick that it has, to get what came after it, and null when it goes or sleeps. What all get is [kind,
// data]: the events of the server, and "up" and "down".

const REOPEN_MS = 1000;

/** Without an event for this long, a connection is taken to be dead: the server sends at least one each second. */
const SILENCE_MS = 6000;

const tabs = new Set();
let source, reopening;
let last = 0;
let heard = 0;

function tell(kind, data) {
  for (const tab of tabs) tab.postMessage([kind, data]);
}

function close() {
  clearTimeout(reopening);
  source?.close();
  source = null;
}

/** Connects without credentials that may be in the address of this script, and asks for what came after the tick `last`. */
function open() {
  close();
  heard = performance.now();
  const mine = (source = new EventSource(new URL(`stream?since=${last}`, self.location.origin + self.location.pathname)));
  source.onopen = () => tell("up");
  source.onerror = () => {
    tell("down");
    // Where the browser gives up (an answer that is no stream), this does not.
    if (mine.readyState === EventSource.CLOSED) reopening = setTimeout(open, REOPEN_MS);
  };
  for (const kind of ["hello", "routes", "tick", "details", "reset"]) {
    source.addEventListener(kind, (event) => {
      heard = performance.now();
      if (event.lastEventId) last = Number(event.lastEventId);
      tell(kind, JSON.parse(event.data));
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
    // What the others have already, they get once more, and leave.
    last = tabs.size > 0 ? Math.min(last, data) : data;
    tabs.add(tab);
    open();
  };
}

setInterval(() => {
  if (!source || performance.now() - heard < SILENCE_MS) return;
  tell("down");
  open();
}, 1000);

if (self.SharedWorkerGlobalScope) self.onconnect = ({ ports }) => serve(ports[0]);
else serve(self);
