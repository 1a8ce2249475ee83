//! Packs ticks: each number is a variable-length integer (LEB128). Most numbers take one byte.

use super::tick::{LEVELS, RouteTick, Tick, TickDistribution};

/// Packs a tick.
pub(super) fn pack(tick: &Tick) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    for number in [tick.time, tick.width, tick.span_microseconds] {
        put(&mut out, number);
    }
    for level in tick.levels {
        put_option(&mut out, level);
    }
    put_option(&mut out, tick.cpu_microseconds);
    put_distribution(&mut out, &tick.lag);
    for count in tick.queries {
        put(&mut out, count);
    }
    put_distribution(&mut out, &tick.query);
    put(&mut out, tick.routes.len() as u64);
    for route in &tick.routes {
        put(&mut out, route.route.into());
        for count in route.counts {
            put(&mut out, count);
        }
        put(&mut out, route.microseconds);
        put_distribution(&mut out, &route.latency);
        put_option(&mut out, route.queries);
        put_option(&mut out, route.database_microseconds);
        put_option(&mut out, route.n_plus_one);
        put_option(&mut out, route.loop_microseconds);
    }
    put(&mut out, tick.stalls.len() as u64);
    for (endpoint, stalls) in &tick.stalls {
        put(&mut out, (*endpoint).into());
        put(&mut out, *stalls);
    }
    out
}

/// Unpacks a tick that [`pack`] wrote.
pub(super) fn unpack(bytes: &[u8]) -> Tick {
    let mut bytes = Bytes(bytes.iter());
    Tick {
        time: bytes.take(),
        width: bytes.take(),
        span_microseconds: bytes.take(),
        levels: [(); LEVELS.len()].map(|()| bytes.take_option()),
        cpu_microseconds: bytes.take_option(),
        lag: bytes.take_distribution(),
        queries: bytes.take_each(),
        query: bytes.take_distribution(),
        routes: (0..bytes.take())
            .map(|_| RouteTick {
                route: bytes.take_number(),
                counts: bytes.take_each(),
                microseconds: bytes.take(),
                latency: bytes.take_distribution(),
                queries: bytes.take_option(),
                database_microseconds: bytes.take_option(),
                n_plus_one: bytes.take_option(),
                loop_microseconds: bytes.take_option(),
            })
            .collect(),
        stalls: (0..bytes.take())
            .map(|_| (bytes.take_number(), bytes.take()))
            .collect(),
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// `None` is 0, and `Some(number)` is `number + 1`.
fn put_option(out: &mut Vec<u8>, number: Option<u64>) {
    put(out, number.map_or(0, |number| number.saturating_add(1)));
}

/// Writes the number of buckets and the zeros; then, for each bucket, its distance from the one before and its count.
fn put_distribution(out: &mut Vec<u8>, distribution: &TickDistribution) {
    put(out, distribution.buckets.len() as u64);
    put(out, distribution.zeros);
    let mut last = i32::MIN;
    for (index, count) in &distribution.buckets {
        // The first distance is that from the lowest index. It takes five bytes.
        put(out, index.abs_diff(last).into());
        put(out, *count);
        last = *index;
    }
}

/// Reads packed bytes. Bytes that are missing at the end read as zeros.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn take(&mut self) -> u64 {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.0.next().copied().unwrap_or(0);
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        number
    }

    /// The number of a route or an endpoint.
    fn take_number(&mut self) -> u32 {
        u32::try_from(self.take()).unwrap_or(u32::MAX)
    }

    fn take_option(&mut self) -> Option<u64> {
        self.take().checked_sub(1)
    }

    fn take_each<const N: usize>(&mut self) -> [u64; N] {
        [(); N].map(|()| self.take())
    }

    fn take_distribution(&mut self) -> TickDistribution {
        let populated = self.take();
        let zeros = self.take();
        let mut last = i32::MIN;
        let buckets = (0..populated).map(|_| {
            let distance = u32::try_from(self.take()).unwrap_or(0);
            last = last.wrapping_add_unsigned(distance);
            (last, self.take())
        });
        TickDistribution {
            buckets: buckets.collect(),
            zeros,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distributions() -> impl Strategy<Value = TickDistribution> {
        let buckets = proptest::collection::btree_map(-4096..33_000, 1..u64::MAX, 0..40);
        (any::<u64>(), buckets).prop_map(|(zeros, buckets)| TickDistribution {
            zeros,
            buckets: buckets.into_iter().collect(),
        })
    }

    prop_compose! {
        fn routes()(
            route: u32,
            counts: [u64; 5],
            microseconds: u64,
            latency in distributions(),
            extra: [Option<u32>; 4],
        ) -> RouteTick {
            let [queries, database_microseconds, n_plus_one, loop_microseconds] = extra.map(|value| value.map(u64::from));
            RouteTick { route, counts, microseconds, latency, queries, database_microseconds, n_plus_one, loop_microseconds }
        }
    }

    prop_compose! {
        fn ticks()(
            times: [u64; 3],
            levels: [Option<u32>; 9],
            cpu: Option<u32>,
            lag in distributions(),
            queries: [u64; 5],
            query in distributions(),
            routes in proptest::collection::vec(routes(), 0..5),
            stalls: Vec<(u32, u64)>,
        ) -> Tick {
            let [time, width, span_microseconds] = times;
            Tick {
                time,
                width,
                span_microseconds,
                levels: levels.map(|level| level.map(u64::from)),
                cpu_microseconds: cpu.map(u64::from),
                lag,
                queries,
                query,
                routes,
                stalls,
            }
        }
    }

    proptest! {
        #[test]
        fn a_packed_tick_is_unpacked_unchanged(tick in ticks()) {
            prop_assert_eq!(unpack(&pack(&tick)), tick);
        }
    }
}
