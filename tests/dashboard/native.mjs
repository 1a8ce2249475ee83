// Reads native histograms from the protobuf format without a library, to compare the page with what a scraper sees.
// <https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto>

/** The fields of a message as `[number, value]`; bytes stay bytes. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const kind = key & 7;
    if (kind === 0) yield [key >> 3, varint()];
    else if (kind === 1) yield [key >> 3, bytes.subarray(at, (at += 8))];
    else if (kind === 2) {
      const length = Number(varint());
      yield [key >> 3, bytes.subarray(at, (at += length))];
    } else throw new Error(`wire type ${kind}`);
  }
}

const text = (bytes) => new TextDecoder().decode(bytes);
const zigzag = (value) => Number(value & 1n ? -(value >> 1n) - 1n : value >> 1n);

function* packed(bytes) {
  let value = 0n;
  let shift = 0n;
  for (const byte of bytes) {
    value |= BigInt(byte & 0x7f) << shift;
    shift += 7n;
    if (byte < 0x80) {
      yield value;
      value = shift = 0n;
    }
  }
}

function histogram(bytes) {
  const found = { schema: 0, zeros: 0, spans: [], deltas: [] };
  for (const [field, value] of fields(bytes)) {
    if (field === 5) found.schema = zigzag(value);
    else if (field === 7) found.zeros = Number(value);
    else if (field === 12) {
      const span = { offset: 0, length: 0 };
      for (const [part, number] of fields(value)) {
        if (part === 1) span.offset = zigzag(number);
        else span.length = Number(number);
      }
      found.spans.push(span);
    } else if (field === 13) {
      found.deltas.push(...(value instanceof Uint8Array ? [...packed(value)] : [value]).map(zigzag));
    }
  }
  const buckets = [];
  let index = 0;
  let count = 0;
  let at = 0;
  for (const { offset, length } of found.spans) {
    index += offset;
    for (let i = 0; i < length; i++) buckets.push([index++, (count += found.deltas[at++])]);
  }
  return { schema: found.schema, zeros: found.zeros, buckets };
}

/** The series of a histogram family: `[{labels, schema, zeros, buckets: [[index, count]]}]`. */
export async function scrapeNative(server, family) {
  const answer = await fetch(`${server.url}/metrics`, {
    headers: { accept: "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited" },
  });
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const series = [];
  for (const message of delimited(bytes)) {
    const parts = [...fields(message)];
    if (text(parts.find(([field]) => field === 1)[1]) !== family) continue;
    for (const [field, metric] of parts) {
      if (field !== 4) continue;
      const labels = {};
      let found = null;
      for (const [part, value] of fields(metric)) {
        if (part === 1) {
          const pair = Object.fromEntries([...fields(value)].map(([name, content]) => [name, text(content)]));
          labels[pair[1]] = pair[2];
        } else if (part === 7) found = histogram(value);
      }
      series.push({ labels, ...found });
    }
  }
  return series;
}

function* delimited(bytes) {
  for (let at = 0; at < bytes.length; ) {
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++];
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    yield bytes.subarray(at, (at += length));
  }
}

/** The bounds of the bucket that contains a quantile of several series together. */
export function bounds(series, share) {
  const sum = new Map();
  let total = 0;
  let schema = 8;
  for (const one of series) schema = Math.min(schema, one.schema);
  for (const one of series) {
    for (const [index, count] of one.buckets) {
      const coarse = Math.ceil(index / 2 ** (one.schema - schema));
      sum.set(coarse, (sum.get(coarse) ?? 0) + count);
      total += count;
    }
    if (one.zeros) throw new Error("no zeros are expected");
  }
  let below = 0;
  for (const [index, count] of [...sum].sort(([a], [b]) => a - b)) {
    below += count;
    if (below >= share * total) return [2 ** ((index - 1) / 2 ** schema), 2 ** (index / 2 ** schema)];
  }
  return [0, 0];
}
