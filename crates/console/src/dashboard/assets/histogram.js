// Distributions with the buckets of the server's native histograms: 32 for each doubling, so that a quantile is within 1.1 %
// of the truth, also after merging. Bucket i contains 2^((i-1)/32) < v <= 2^(i/32).
//
// A histogram is a flat list in ascending order: index, count, index, count, …

const LOWEST = -4100; // below every possible index; represents the bucket of zero
const SLOTS = 8200;
const scratch = new Float64Array(SLOTS);

/** Decodes the server's form: the count of zeros, then the index, relative to the last, and the count of each bucket. */
export function decode(wire) {
  const flat = [];
  if (wire.length > 0 && wire[0] > 0) flat.push(LOWEST, wire[0]);
  for (let at = 1, index = 0; at < wire.length; at += 2) {
    index += wire[at];
    flat.push(index, wire[at + 1]);
  }
  return flat;
}

/** Adds two histograms. */
export function merge(a, b) {
  if (a.length === 0) return b;
  const sum = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    if (j >= b.length || a[i] < b[j]) sum.push(a[i], a[i + 1]), (i += 2);
    else if (i >= a.length || b[j] < a[i]) sum.push(b[j], b[j + 1]), (j += 2);
    else sum.push(a[i], a[i + 1] + b[j + 1]), (i += 2), (j += 2);
  }
  return sum;
}

/** The quantiles of several histograms together; each is null if all are empty. */
export function quantiles(histograms, shares) {
  let low = SLOTS;
  let high = -1;
  let total = 0;
  for (const flat of histograms) {
    for (let at = 0; at < flat.length; at += 2) {
      const slot = Math.min(SLOTS - 1, Math.max(0, flat[at] - LOWEST));
      scratch[slot] += flat[at + 1];
      total += flat[at + 1];
      if (slot < low) low = slot;
      if (slot > high) high = slot;
    }
  }
  const found = shares.map((share) => (total > 0 ? at(share * total, low, high) : null));
  scratch.fill(0, low, high + 1);
  return found;
}

/** The value at a rank. Interpolates exponentially within a bucket. */
function at(rank, low, high) {
  let below = 0;
  for (let slot = low; slot <= high; slot++) {
    const inside = scratch[slot];
    if (inside > 0 && rank <= below + inside) {
      return slot === 0 ? 0 : 2 ** ((slot + LOWEST - 1 + (rank - below) / inside) / 32);
    }
    below += inside;
  }
  return 2 ** ((high + LOWEST) / 32);
}
