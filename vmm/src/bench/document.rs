//! The document of benchmarks, `refault.bench/1`.

use serde::Serialize;

use crate::doctor::host::Host;

/// Schema of the document.
pub const SCHEMA: &str = "refault.bench/1";

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Where.
    pub host: &'static Host,
    /// What.
    pub results: Vec<Figure>,
}

impl Document {
    /// A document of this host.
    pub fn new(results: Vec<Figure>) -> Self {
        Self { schema: SCHEMA, host: Host::here(), results }
    }
}

/// One figure: the distribution of its samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// What: parts separated by slashes, from the benchmark's name on.
    pub name: String,
    /// Of what the figures are a number.
    pub unit: &'static str,
    /// Samples.
    pub n: usize,
    /// The least of them.
    pub min: u64,
    /// Quantiles by nearest rank: with few samples the upper ones are the greatest.
    pub p50: u64,
    /// 90 of 100 are not above it.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1000.
    pub p999: u64,
    /// The greatest.
    pub max: u64,
    /// The `p50` that this one is to be compared with, where there is one.
    pub baseline: Option<u64>,
}

impl Figure {
    /// The figure of these samples; none without samples.
    pub fn of(
        name: String,
        unit: &'static str,
        mut samples: Vec<u64>,
        baseline: Option<u64>,
    ) -> Option<Self> {
        samples.sort_unstable();
        let n = samples.len();
        let quantile = |per_mille: usize| {
            let rank = n.saturating_mul(per_mille).div_ceil(1000).max(1);
            samples.get(rank - 1).copied()
        };
        Some(Self {
            name,
            unit,
            n,
            min: *samples.first()?,
            p50: quantile(500)?,
            p90: quantile(900)?,
            p99: quantile(990)?,
            p999: quantile(999)?,
            max: *samples.last()?,
            baseline,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_nearest_rank() {
        let figure = Figure::of("x".into(), "instructions", (1..=1000).rev().collect(), Some(7)).unwrap();
        let Figure { n, min, p50, p90, p99, p999, max, baseline, .. } = figure;
        assert_eq!((n, min, p50, p90, p99, p999, max), (1000, 1, 500, 900, 990, 999, 1000));
        assert_eq!(baseline, Some(7));
        let one = Figure::of("x".into(), "messages", vec![5], None).unwrap();
        assert_eq!((one.min, one.p50, one.p999, one.max), (5, 5, 5, 5));
        assert_eq!(Figure::of("x".into(), "messages", Vec::new(), None), None);
    }
}
