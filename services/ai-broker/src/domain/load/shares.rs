//! Who is let in when there is room for few: fair between the tenants of each class, core functions last to be refused.

use std::collections::HashMap;

use weir_types::OrganizationId;

/// The calls of one tenant in one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    /// The plan's priority: one step higher has one share more.
    pub(crate) class: i32,
    pub(crate) tenant: OrganizationId,
}

impl Group {
    /// Its part of the room, against others'.
    fn weight(self) -> u64 {
        1 + u64::from(self.class.max(0).unsigned_abs())
    }
}

/// Calls under way, by group.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    groups: HashMap<Group, usize>,
    /// Of the groups that have calls under way.
    weights: u64,
    total: usize,
}

impl Shares {
    /// How many calls are under way.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Counts a call, if there is room for it: up to three quarters of `most` for all, up to `most` for groups that have less than
    /// their fair share, and a quarter beyond it for core functions of those. Without `most` there is always room.
    pub(crate) fn enter(&mut self, group: Group, most: Option<usize>, core: bool) -> bool {
        let has_room = most.is_none_or(|most| {
            self.total < most - most / 4
                || (self.total < most || core && self.total < most + most / 4) && self.is_under_share(group, most)
        });
        if has_room {
            let calls = self.groups.entry(group).or_default();
            if *calls == 0 {
                self.weights += group.weight();
            }
            *calls += 1;
            self.total += 1;
        }
        has_room
    }

    /// A call has ended.
    pub(crate) fn leave(&mut self, group: Group) {
        let Some(calls) = self.groups.get_mut(&group) else { return };
        *calls -= 1;
        self.total -= 1;
        if *calls == 0 {
            self.groups.remove(&group);
            self.weights -= group.weight();
        }
    }

    /// Whether it has less than its part of the room, in which each group has at least one place.
    fn is_under_share(&self, group: Group, most: usize) -> bool {
        let calls = self.groups.get(&group).copied().unwrap_or(0);
        let weights = self.weights + if calls == 0 { group.weight() } else { 0 };
        let share = most as u128 * u128::from(group.weight()) / u128::from(weights);
        (calls as u128) < share.max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group(class: i32, tenant: u128) -> Group {
        Group { class, tenant: uuid::Uuid::from_u128(tenant).into() }
    }

    fn fill(shares: &mut Shares, group: Group, most: usize, core: bool) -> usize {
        (0..1000).take_while(|_| shares.enter(group, Some(most), core)).count()
    }

    #[test]
    fn one_tenant_leaves_room_for_the_others() {
        let mut shares = Shares::default();
        assert_eq!(fill(&mut shares, group(0, 1), 100, false), 100, "alone, all of it is its share");
        let mut shares = Shares::default();
        assert!(shares.enter(group(0, 2), Some(100), false));
        assert_eq!(
            fill(&mut shares, group(0, 1), 100, false),
            75 - 1,
            "nobody has more than his share of the last quarter"
        );
        assert_eq!(fill(&mut shares, group(0, 2), 100, false), 25, "and the other one finds it free");
    }

    #[test]
    fn a_higher_class_has_more_of_the_room() {
        let mut shares = Shares::default();
        let (free, premium) = (group(0, 1), group(10, 2));
        assert!(shares.enter(free, Some(120), false) && shares.enter(premium, Some(120), false));
        assert_eq!(fill(&mut shares, free, 120, false), 88, "up to three quarters, like everybody");
        assert_eq!(fill(&mut shares, premium, 120, false), 30);
        shares.leave(free);
        assert!(!shares.enter(free, Some(120), false), "over its share of a twelfth");
        assert!(shares.enter(premium, Some(120), false));
    }

    #[test]
    fn core_functions_are_refused_last() {
        let mut shares = Shares::default();
        for _ in 0..10 {
            for tenant in 0..10 {
                assert!(shares.enter(group(0, tenant), Some(100), false));
            }
        }
        let newcomer = group(0, 10);
        assert!(!shares.enter(newcomer, Some(100), false), "all is taken");
        assert!(!shares.enter(group(0, 0), Some(100), true), "who has his share waits, whatever it is for");
        assert_eq!(fill(&mut shares, newcomer, 100, true), 9, "its share of a hundred among eleven");
        let others = (11..50).map(|tenant| fill(&mut shares, group(0, tenant), 100, true)).sum::<usize>();
        assert_eq!((others, shares.total()), (16, 125), "a quarter beyond, and no more");
    }

    proptest! {
        /// Whatever comes and goes: never more than a quarter beyond the most, and what has left is not counted.
        #[test]
        fn the_bound_holds(most in 1_usize..50, steps in prop::collection::vec((0_i32..3, 0_u128..5, any::<bool>(), any::<bool>()), 0..300)) {
            let mut shares = Shares::default();
            let mut inside = Vec::new();
            for (class, tenant, core, enters) in steps {
                if enters {
                    let group = group(class, tenant);
                    if shares.enter(group, Some(most), core) {
                        inside.push(group);
                        let bound = if core { most + most / 4 } else { most };
                        prop_assert!(inside.len() <= bound);
                    }
                } else if let Some(group) = inside.pop() {
                    shares.leave(group);
                }
                prop_assert_eq!(shares.total(), inside.len());
            }
            for group in inside {
                shares.leave(group);
            }
            prop_assert_eq!((shares.total(), shares.weights, shares.groups.len()), (0, 0, 0));
        }
    }
}
