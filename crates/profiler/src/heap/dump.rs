//! jemalloc's report of sampled allocations, as text: `heap_v2/524288`, and a section for each call site.

/// A report.
#[derive(Debug, PartialEq)]
pub(super) struct Dump {
    /// The mean number of bytes between two samples.
    pub(super) period: u64,
    pub(super) sites: Vec<Site>,
}

/// The live allocations of one stack that were sampled.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Site {
    /// Where its calls return to, the innermost first.
    pub(super) addresses: Vec<u64>,
    pub(super) count: u64,
    pub(super) bytes: u64,
}

impl Dump {
    /// Parses a report. `None` if it is of another form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let period = lines.next()?.strip_prefix("heap_v2/")?.parse().ok()?;
        let mut sites: Vec<Site> = Vec::new();
        for line in lines {
            if line.starts_with("MAPPED_LIBRARIES") {
                break;
            }
            if let Some(addresses) = line.strip_prefix('@') {
                let addresses = addresses.split_ascii_whitespace();
                sites.push(Site {
                    addresses: addresses.filter_map(address).collect(),
                    ..Site::default()
                });
            } else if let (Some(sums), Some(site)) =
                (line.trim_start().strip_prefix("t*: "), sites.last_mut())
            {
                (site.count, site.bytes) = amounts(sums)?;
            }
        }
        Some(Self { period, sites })
    }
}

fn address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// Parses the live objects and bytes of `13: 6688 [0: 0]`.
fn amounts(text: &str) -> Option<(u64, u64)> {
    let (count, rest) = text.split_once(": ")?;
    let bytes = rest.split(' ').next()?;
    Some((count.parse().ok()?, bytes.parse().ok()?))
}

/// Estimates the objects and bytes of a site from the sampled ones.
///
/// An allocation of n bytes is sampled with the probability 1 - exp(-n / period), so each sampled one stands for the inverse
/// of that. <https://github.com/jemalloc/jemalloc/blob/dev/doc_internal/PROFILING_INTERNALS.md>
#[allow(clippy::cast_possible_truncation, reason = "far below 2^53")]
pub(super) fn scaled(site: &Site, period: u64) -> (i64, i64) {
    if site.count == 0 || period == 0 {
        return (0, 0);
    }
    let mean = site.bytes as f64 / site.count as f64;
    let probability = -(-mean / period as f64).exp_m1();
    let scale = |amount: u64| (amount as f64 / probability).round() as i64;
    (scale(site.count), scale(site.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
heap_v2/524288
  t*: 3: 1049600 [0: 0]
  t0: 3: 1049600 [0: 0]
@ 0x5f86da8 0x5f5a1dc
  t*: 1: 1024 [0: 0]
  t0: 1: 1024 [0: 0]
@ 0x10 0x20 0x30
  t*: 2: 1048576 [0: 0]
  t3: 2: 1048576 [0: 0]
@
  t*: 4: 4096 [0: 0]
  t0: 4: 4096 [0: 0]

MAPPED_LIBRARIES:
@ 0x99
  t*: 9: 9 [0: 0]
";

    #[test]
    fn a_report_is_parsed_to_its_end() {
        let site = |addresses: &[u64], count, bytes| Site {
            addresses: addresses.to_vec(),
            count,
            bytes,
        };
        let dump = Dump::parse(REPORT).unwrap();
        assert_eq!(dump.period, 524_288);
        let sites = [
            site(&[0x05f8_6da8, 0x05f5_a1dc], 1, 1_024),
            site(&[0x10, 0x20, 0x30], 2, 1_048_576),
            site(&[], 4, 4_096),
        ];
        assert_eq!(dump.sites, sites);
    }

    #[test]
    fn another_form_is_no_report() {
        for text in [
            "",
            "heap_v3/524288\n",
            "heap_v2/x\n",
            "heap_v2/1\n@ 0x1\n  t*: x: 1 [0: 0]\n",
        ] {
            assert_eq!(Dump::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_sample_stands_for_the_allocations_between_two_samples() {
        let site = |count, bytes| Site {
            addresses: Vec::new(),
            count,
            bytes,
        };
        // Small objects: about the period for each. Large ones: themselves.
        let (objects, bytes) = scaled(&site(2, 2_048), 524_288);
        assert!((1_000..1_050).contains(&objects), "{objects}");
        assert!((2 * 524_288..2 * 525_312).contains(&bytes), "{bytes}");
        assert_eq!(scaled(&site(1, 100_000_000), 524_288), (1, 100_000_000));
        assert_eq!(scaled(&site(0, 0), 524_288), (0, 0));
    }
}
