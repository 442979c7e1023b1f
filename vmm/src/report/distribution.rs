//! How a quantity is distributed: its quantiles, and its histogram over logarithmic buckets.
//!
//! The one thing to hold in mind: quantiles come from a histogram of three significant digits, so they may be too great by a
//! thousandth, but never outside the least and the greatest sample, which are exact.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Significant decimal digits that quantiles keep.
const DIGITS: u8 = 3;
/// Buckets for each power of ten.
pub const PER_DECADE: u32 = 8;

/// A distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Samples.
    pub n: u64,
    /// The least.
    pub min: u64,
    /// Half of them are not above it.
    pub p50: u64,
    /// 90 of 100.
    pub p90: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1000.
    pub p999: u64,
    /// The greatest.
    pub max: u64,
    /// The histogram: buckets that have samples, rising.
    pub buckets: Vec<Bucket>,
}

/// The samples from one value up to, not including, another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its number: the bucket starts at ten to the power of this, divided by [`PER_DECADE`].
    pub number: u32,
    /// Where it starts.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// Samples in it.
    pub count: u64,
}

/// Collects samples.
#[derive(Debug, Clone)]
pub struct Collector {
    histogram: Histogram<u64>,
    least: u64,
    greatest: u64,
    buckets: BTreeMap<u32, u64>,
}

impl Default for Collector {
    fn default() -> Self {
        // Grows as needed.
        let histogram = Histogram::new(DIGITS).unwrap_or_else(|_| unreachable!("three digits are allowed"));
        Self { histogram, least: u64::MAX, greatest: 0, buckets: BTreeMap::new() }
    }
}

impl Collector {
    /// Takes a sample.
    pub fn add(&mut self, value: u64) {
        // Grows the histogram, which takes everything below 2^63; what is above counts as that. (Saturating recording, in contrast,
        // never grows it.)
        if self.histogram.record(value.min(i64::MAX as u64)).is_err() {
            self.histogram.saturating_record(value);
        }
        self.least = self.least.min(value);
        self.greatest = self.greatest.max(value);
        let count = self.buckets.entry(bucket(value)).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// What was collected; none without samples.
    pub fn finish(&self) -> Option<Distribution> {
        if self.histogram.is_empty() {
            return None;
        }
        let quantile = |quantile| self.histogram.value_at_quantile(quantile).clamp(self.least, self.greatest);
        let buckets = self.buckets.iter().map(|(&number, &count)| Bucket {
            number,
            from: edge(number),
            to: edge(number.saturating_add(1)),
            count,
        });
        Some(Distribution {
            n: self.histogram.len(),
            min: self.least,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: self.greatest,
            buckets: buckets.collect(),
        })
    }
}

impl FromIterator<u64> for Collector {
    fn from_iter<I: IntoIterator<Item = u64>>(values: I) -> Self {
        let mut collector = Self::default();
        values.into_iter().for_each(|value| collector.add(value));
        collector
    }
}

/// Where a bucket starts.
pub fn edge(number: u32) -> f64 {
    10_f64.powf(f64::from(number) / f64::from(PER_DECADE))
}

/// The bucket that a value falls into. Nothing and one are in the first. The power of ten is exact, so 1000 starts a bucket.
fn bucket(value: u64) -> u32 {
    let value = value.max(1);
    let power = value.ilog10();
    let times = value as f64 / 10_f64.powf(f64::from(power));
    let within = (1..PER_DECADE).take_while(|&number| edge(number) <= times).count();
    power.saturating_mul(PER_DECADE).saturating_add(within as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Distribution {
        values.iter().copied().collect::<Collector>().finish().unwrap()
    }

    #[test]
    fn quantiles_of_a_thousand() {
        let d = of(&(1..=1000).rev().collect::<Vec<_>>());
        assert_eq!((d.n, d.min, d.p50, d.p90, d.p99, d.p999, d.max), (1000, 1, 500, 900, 990, 999, 1000));
    }

    #[test]
    fn one_sample_is_all_of_them_and_none_is_none() {
        let d = of(&[123_457]);
        assert_eq!((d.min, d.p50, d.p999, d.max), (123_457, 123_457, 123_457, 123_457));
        assert_eq!(Collector::default().finish(), None);
    }

    #[test]
    fn a_power_of_ten_starts_a_bucket() {
        for power in 0..19_u32 {
            let value = 10_u64.pow(power);
            assert_eq!(bucket(value), power * PER_DECADE, "{value}");
            assert!(bucket(value.saturating_sub(1)) < power * PER_DECADE || power == 0, "{value}");
        }
        assert_eq!((bucket(0), bucket(1)), (0, 0));
        assert_eq!(of(&[0, u64::MAX]).max, u64::MAX);
    }

    proptest! {
        #[test]
        fn every_sample_is_in_one_bucket_and_quantiles_rise(values in prop::collection::vec(any::<u64>(), 1..200)) {
            let d = of(&values);
            prop_assert_eq!(d.buckets.iter().map(|bucket| bucket.count).sum::<u64>(), values.len() as u64);
            let rising = [d.min, d.p50, d.p90, d.p99, d.p999, d.max];
            prop_assert!(rising.is_sorted());
            for value in values {
                let here = |b: &&Bucket| b.from <= value.max(1) as f64 * (1.0 + 1e-9) && value as f64 <= b.to * (1.0 + 1e-9);
                prop_assert!(d.buckets.iter().find(here).is_some());
            }
        }

        #[test]
        fn quantiles_are_right_to_a_thousandth(mut values in prop::collection::vec(1_u64..1_000_000_000, 1..200)) {
            let d = of(&values);
            values.sort_unstable();
            for (got, share) in [(d.p50, 0.5), (d.p90, 0.9), (d.p99, 0.99)] {
                let rank = (values.len() as f64 * share).ceil().max(1.0) as usize;
                let exact = values[rank - 1] as f64;
                prop_assert!((got as f64 - exact).abs() <= exact / 1000.0 + 1.0, "{} for {}", got, exact);
            }
        }
    }
}
