//! When leases end.
//!
//! Ends are rounded up, so that many leases end together and stores count them by a handful of ends instead of each for itself. A
//! lease lasts at least as long as it was asked for, and at most a thirty-second longer.

use super::Millis;

/// A lease has so many grains at least.
const GRAINS: Millis = 32;

/// What the end of a lease of this length is a multiple of: the largest power of two that a thirty-second of it has room for, so that
/// longer leases end together with shorter ones.
#[must_use]
pub const fn grain(lease: Millis) -> Millis {
    match (lease / GRAINS).checked_ilog2() {
        Some(power) => 1 << power,
        None => 1,
    }
}

/// When a lease of this length ends: it counts until just before then.
#[must_use]
pub const fn end(now: Millis, lease: Millis) -> Millis {
    let grain = grain(lease);
    let end = now.saturating_add(lease);
    match end.rem_euclid(grain) {
        0 => end,
        past => end.saturating_add(grain - past),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_lease_lasts_as_long_as_was_asked_for_and_a_thirty_second_longer_at_most(
            now in 0..2_000_000_000_000_i64,
            lease in 0..3_600_000_i64,
        ) {
            let lasts = end(now, lease) - now;
            prop_assert!(lasts >= lease && 32 * (lasts - lease) <= lease, "{lasts}");
        }

        #[test]
        fn leases_of_one_length_have_few_ends(now in 0..2_000_000_000_000_i64, lease in 1_000..3_600_000_i64) {
            let ends: std::collections::BTreeSet<i64> = (0..64).map(|step| end(now + step * lease / 64, lease)).collect();
            prop_assert!(ends.len() <= 65, "{ends:?}");
            prop_assert_eq!(ends.iter().filter(|end| **end % grain(lease) != 0).count(), 0);
        }
    }

    #[test]
    fn a_lease_of_nothing_ends_at_once() {
        assert_eq!(end(1_790_000_000_001, 0), 1_790_000_000_001);
    }
}
