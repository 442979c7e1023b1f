//! Numbers that follow from a seed: the same seed, the same run, on any machine.

/// splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each pair: which seed, and for whom.
    pub fn new(seed: u32, stream: u32) -> Random {
        let mut random = Random(u64::from(seed) << 32 | u64::from(stream));
        // Neighbouring pairs begin far from each other.
        random.0 = random.number();
        random
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// The next number below a bound; 0 for the bound 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The upper half of the product: of 2^64 numbers each of few has as many as any other, give or take one.
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `least` on, below `end`; often the smallest, an odd one, or one at a boundary of pages.
    pub fn size(&mut self, least: u64, end: u64) -> u64 {
        let span = end.saturating_sub(least);
        let any = least.saturating_add(self.below(span));
        let chosen = match self.below(8) {
            0 => least,
            1 => any & !0xfff,
            2 => (any & !0xfff).saturating_add(1),
            3 => (any & !0xfff).saturating_sub(1),
            _ => any,
        };
        chosen.clamp(least, end.saturating_sub(1).max(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_sequence_and_no_other() {
        let sequence = |seed, stream| {
            let mut random = Random::new(seed, stream);
            [random.number(), random.number(), random.number()]
        };
        assert_eq!(sequence(1, 2), sequence(1, 2));
        assert_ne!(sequence(1, 2), sequence(2, 1));
        assert_ne!(sequence(1, 2), sequence(1, 3));
    }

    #[test]
    fn bounds_hold_and_are_reached() {
        let mut random = Random::new(7, 0);
        let mut seen = [0u32; 5];
        for _ in 0..1000 {
            seen[random.below(5) as usize] += 1;
            assert!((3..70_000).contains(&random.size(3, 70_000)));
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
        assert_eq!((random.below(0), random.size(9, 9), random.size(9, 10)), (0, 9, 9));
    }
}
