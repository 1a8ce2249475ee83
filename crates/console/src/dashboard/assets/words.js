// How the page calls why a request is kept and why it failed.

/** Why a request is kept. */
const REASONS = {
  slow: "slow",
  slow_for_endpoint: "slow for its endpoint",
  failed: "failed",
  n_plus_one: "N+1",
  stall: "blocked its event loop",
  sampled: "its trace is sampled",
  random: "chosen at random",
};

/** How a request ended that its client did not see to its end. */
export const ENDINGS = { no_head: "the client left before the answer", client_left: "the client left", body_failed: "the body failed" };

/** The reasons in words. */
export const reasons = (list) => list.map((reason) => REASONS[reason] ?? reason).join(", ");

/** A cause in words: the kind, the title of the problem, the types of the error and its sources, and where it panicked. */
export const cause = ({ kind, title, types, database_error, location }) =>
  [ENDINGS[kind] ?? kind, title, types.join(" ← "), database_error && `database: ${database_error}`, location].filter(Boolean).join("; ");
