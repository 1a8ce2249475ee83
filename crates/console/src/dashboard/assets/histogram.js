// Distributions as the server's native histograms have them: 32 buckets to each doubling, so that a quantile of any
// merged set is within 1.1 % of the truth. Bucket i takes 2^((i-1)/32) < v <= 2^(i/32).
//
// Inside the page a histogram is a flat list: index, count, index, count, … in ascending order.

const LOWEST = -4100; // below every index that can occur; stands for the bucket of zero
const SLOTS = 8200;
const scratch = new Float64Array(SLOTS);

/** From the wire: the count of zeros, then index and count of each bucket, each index relative to the last. */
export function decode(wire) {
  const flat = [];
  if (wire.length > 0 && wire[0] > 0) flat.push(LOWEST, wire[0]);
  for (let at = 1, index = 0; at < wire.length; at += 2) {
    index += wire[at];
    flat.push(index, wire[at + 1]);
  }
  return flat;
}

/** The sum of two. */
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

/** The quantiles of all the histograms taken together; null for each where they are empty. */
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

/** The value at a rank: inside a bucket the observations are taken to lie exponentially. */
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
