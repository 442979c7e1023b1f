//! Numbers that look drawn at random, and are always the same for the same seed and the same thing drawn for.
//!
//! A draw depends on nothing but the seed and what it is for, never on how many were made before: so a run in which the guest's
//! processors interleave differently takes the same share of the same pages.

use super::rule::Share;

/// A number for `what`, every bit of it as good as any other.
pub fn draw(seed: u64, what: &[u64]) -> u64 {
    what.iter().fold(mix(seed), |state, word| mix(state ^ *word))
}

/// The finaliser of SplitMix64, on the next state.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

impl Share {
    /// Whether what drew this number belongs to the share.
    pub fn takes(self, drawn: u64) -> bool {
        ((drawn >> 32) * u64::from(Share::ALL)) >> 32 < u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_about_that_share_and_depends_on_the_seed() {
        let taken = |seed, share: u32| -> Vec<u64> {
            (0..10_000).filter(|page| Share(share).takes(draw(seed, &[0, *page]))).collect()
        };
        let (a, b) = (taken(1, 300_000), taken(2, 300_000));
        assert!((2_800..3_200).contains(&a.len()), "{}", a.len());
        assert!(a != b && a == taken(1, 300_000));
        assert_eq!(taken(3, Share::ALL).len(), 10_000);
        assert!(taken(3, 1).len() <= 2);
    }
}
