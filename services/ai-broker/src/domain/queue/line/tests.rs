use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;
use uuid::Uuid;
use weir_types::OrganizationId;

use super::*;

const RULES: Rules = Rules { capacity: 100, aging: 3_000, turn: 1_000 };

fn ticket(n: u128) -> Ticket {
    Ticket(Uuid::from_u128(n))
}

fn tenant(n: u128) -> OrganizationId {
    Uuid::from_u128(n).into()
}

fn call(n: u128, of: u128, priority: i32, since: Millis) -> Call {
    Call { ticket: ticket(n), tenant: tenant(of), priority, cost: 1, since, deadline: Millis::MAX }
}

/// Serves everybody one by one, `pace` apart; answers in which order.
fn serve(line: &mut Line, mut now: Millis, pace: Millis) -> Vec<Ticket> {
    let mut served = Vec::new();
    while line.len() > 0 {
        for ticket in line.turns(1, now) {
            line.served(ticket, now);
            served.push(ticket);
        }
        now += pace;
    }
    served
}

fn join(line: &mut Line, call: Call) -> Standing {
    assert!(line.join(call), "the line is full");
    line.standing(call.ticket, call.since).unwrap()
}

/// So many calls of one tenant.
fn join_all(line: &mut Line, count: u128) {
    for n in 0..count {
        join(line, call(n, 1, 0, 0));
    }
}

#[test]
fn one_tenant_is_served_first_in_first_out() {
    let mut line = Line::new(RULES);
    for n in 0..10 {
        assert_eq!(join(&mut line, call(n, 1, 0, 0)).ahead, n as usize);
    }
    assert_eq!(serve(&mut line, 0, 1), (0..10).map(ticket).collect::<Vec<_>>());
}

#[test]
fn a_tenant_with_one_call_does_not_wait_for_all_of_a_tenant_with_many() {
    let mut line = Line::new(RULES);
    join_all(&mut line, 50);
    assert_eq!(join(&mut line, call(99, 2, 0, 0)).ahead, 1);
    assert_eq!(serve(&mut line, 0, 1)[..3], [ticket(0), ticket(99), ticket(1)]);
}

#[test]
fn tenants_share_by_cost_and_not_by_number() {
    let mut line = Line::new(RULES);
    for n in 0..40 {
        join(&mut line, call(n, 1, 0, 0));
        join(&mut line, Call { cost: 3, ..call(100 + n, 2, 0, 0) });
    }
    let first = &serve(&mut line, 0, 1)[..40];
    let cheap = first.iter().filter(|ticket| ticket.0.as_u128() < 100).count();
    assert_eq!((cheap, 40 - cheap), (30, 10));
}

#[test]
fn a_higher_class_goes_first_and_a_lower_one_does_not_starve() {
    let mut line = Line::new(RULES);
    join(&mut line, call(1, 1, 0, 0));
    join(&mut line, call(2, 2, 10, 0));
    assert_eq!(line.turns(1, 0), [ticket(2)]);
    line.served(ticket(2), 0);
    // A premium call comes whenever one was served; ten steps of priority are worth 30 s.
    let mut now = 0;
    let served_at = loop {
        now += 500;
        join(&mut line, call(1_000 + u128::try_from(now).unwrap(), 2, 10, now));
        let turns = line.turns(1, now);
        line.served(turns[0], now);
        if turns[0] == ticket(1) {
            break now;
        }
    };
    assert!((30_000..=30_500).contains(&served_at), "{served_at}");
}

#[test]
fn a_call_that_has_gone_on_to_the_provider_gives_its_turn_away_and_keeps_its_place() {
    let mut line = Line::new(RULES);
    join_all(&mut line, 3);
    assert_eq!(line.turns(1, 0), [ticket(0)]);
    line.admitted(ticket(0), 0);
    assert_eq!(line.turns(1, 0), [ticket(1)]);
    line.admitted(ticket(1), 0);
    line.served(ticket(1), 0);
    assert_eq!(line.turns(1, 2 * RULES.turn), [ticket(2)], "the provider may take its time");
    // After all it has no room.
    line.blocked(ticket(0), 5_000);
    line.blocked(ticket(2), 5_000);
    assert_eq!(line.turns(1, 5_000), [ticket(0)]);
}

#[test]
fn after_a_refusal_one_is_let_forward_and_one_more_with_each_that_finds_room() {
    let mut line = Line::new(RULES);
    join_all(&mut line, 9);
    assert_eq!(line.turns(4, 0), [0, 1, 2, 3].map(ticket));
    line.blocked(ticket(3), 10);
    for n in 0..3 {
        line.blocked(ticket(n), 10);
    }
    assert_eq!(line.turns(4, 10), [ticket(0)]);
    line.admitted(ticket(0), 0);
    assert_eq!(line.turns(4, 10), [1, 2].map(ticket));
    line.served(ticket(0), 10);
    assert_eq!(line.turns(4, 10), [], "its turn was over");
    line.served(ticket(1), 10);
    line.admitted(ticket(2), 0);
    assert_eq!(line.turns(4, 10), [3, 4, 5, 6].map(ticket));
}

#[test]
fn nobody_has_a_turn_while_the_provider_has_no_room_and_all_keep_their_places() {
    let mut line = Line::new(RULES);
    join_all(&mut line, 3);
    assert_eq!(line.turns(2, 0), [ticket(0), ticket(1)]);
    line.blocked(ticket(1), 4_000);
    line.blocked(ticket(0), 3_000);
    assert_eq!(line.turns(3, 3_999), []);
    assert_eq!(line.wake_at(), Some(4_000));
    assert_eq!(line.turns(3, 4_000), [ticket(0)]);
    line.served(ticket(0), 4_000);
    assert_eq!(line.turns(3, 4_000), [ticket(1), ticket(2)]);
}

#[test]
fn a_turn_that_is_not_used_is_lost_and_the_place_is_kept() {
    let mut line = Line::new(RULES);
    join_all(&mut line, 2);
    assert_eq!(line.turns(1, 0), [ticket(0)]);
    assert_eq!(line.turns(1, 999), [], "one has it");
    assert_eq!(line.turns(2, 999), [ticket(1)]);
    assert_eq!(line.turns(2, 1_000), [ticket(0)]);
    line.served(ticket(0), 1_000);
    assert_eq!(line.len(), 1);
}

#[test]
fn a_full_line_refuses_and_those_who_leave_or_expire_make_room() {
    let mut line = Line::new(Rules { capacity: 2, ..RULES });
    join(&mut line, call(1, 1, 0, 0));
    join(&mut line, Call { deadline: 10, ..call(2, 1, 0, 0) });
    assert!(!line.join(call(3, 1, 0, 0)));
    assert!(line.join(call(1, 1, 0, 0)), "it waits already");
    line.expire(9);
    assert_eq!(line.len(), 2);
    line.expire(10);
    assert_eq!(line.len(), 1);
    line.leave(ticket(1));
    line.leave(ticket(1));
    assert_eq!(line.len(), 0);
    assert!(line.join(call(3, 1, 0, 0)) && line.join(call(4, 1, 0, 0)));
    // Who has gone on to the provider waits no more.
    assert_eq!(line.turns(1, 10), [ticket(3)]);
    assert!(!line.join(call(5, 1, 0, 0)));
    line.admitted(ticket(3), 0);
    assert!(line.join(call(5, 1, 0, 0)));
}

#[test]
fn the_eta_is_the_pace_times_the_position() {
    let mut line = Line::new(RULES);
    join_all(&mut line, 20);
    assert_eq!(line.standing(ticket(19), 0), Some(Standing { ahead: 19, eta: None }));
    for now in (0..10).map(|step| step * 400) {
        let turns = line.turns(1, now);
        line.served(turns[0], now);
    }
    assert_eq!(line.standing(ticket(19), 3_600), Some(Standing { ahead: 9, eta: Some(3_600) }));
}

#[test]
fn the_line_moves_when_there_is_room_and_not_when_a_minute_later_the_picture_is_done() {
    let mut line = Line::new(RULES);
    join_all(&mut line, 10);
    for n in 0..5 {
        let now = Millis::try_from(n).unwrap() * 400;
        assert_eq!(line.turns(1, now), [ticket(n)]);
        line.admitted(ticket(n), now);
    }
    assert_eq!(line.standing(ticket(9), 1_600), Some(Standing { ahead: 4, eta: Some(1_600) }));
    // Who comes now goes in turn with those who wait, and is owed nothing for those who have gone on.
    assert_eq!([10, 11].map(|n| join(&mut line, call(n, 2, 0, 1_600)).ahead), [0, 2]);
    for n in 0..5 {
        line.served(ticket(n), 60_000);
    }
    assert_eq!(line.standing(ticket(9), 60_000), Some(Standing { ahead: 4, eta: Some(1_600) }));
}

#[test]
fn while_nobody_waits_the_pace_stands_still() {
    let mut line = Line::new(RULES);
    join_all(&mut line, 2);
    for (n, now) in [(0, 0), (1, 400)] {
        assert_eq!(line.turns(1, now), [ticket(n)]);
        line.admitted(ticket(n), now);
    }
    join(&mut line, call(2, 1, 0, 90_000));
    join(&mut line, call(3, 1, 0, 90_000));
    assert_eq!(line.turns(1, 90_000), [ticket(2)]);
    line.admitted(ticket(2), 90_000);
    assert_eq!(line.turns(1, 90_000), [ticket(3)]);
    join(&mut line, call(4, 1, 0, 90_000));
    assert_eq!(line.standing(ticket(4), 90_000), Some(Standing { ahead: 1, eta: Some(400) }));
}

#[derive(Debug, Clone)]
enum Step {
    Join { tenant: u128, priority: i32, cost: u32 },
    Turns(usize),
    Serve,
    Block(Millis),
    Admit,
    Leave(usize),
    Wait(Millis),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_u128, 0..3_i32, 1..5_u32).prop_map(|(tenant, priority, cost)| Step::Join { tenant, priority, cost }),
        3 => (1..4_usize).prop_map(Step::Turns),
        3 => Just(Step::Serve),
        1 => (0..500_i64).prop_map(Step::Block),
        2 => Just(Step::Admit),
        1 => (0..50_usize).prop_map(Step::Leave),
        2 => (0..2_000_i64).prop_map(Step::Wait),
    ]
}

/// There is room for a call that has not gone on yet.
fn found_room(line: &Line, which: Ticket, now: Millis, moved: &mut Option<Millis>, clocks: &mut HashMap<i32, u64>) {
    let Waiting { call, place, .. } = &line.calls[&which];
    *moved = Some(now);
    let clock = clocks.entry(call.priority).or_default();
    *clock = place.0.max(*clock);
}

proptest! {
    #[test]
    fn everybody_is_served_once_in_the_order_of_his_tenant_and_positions_only_fall(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let mut line = Line::new(Rules { capacity: 30, ..RULES });
        let (mut now, mut next) = (0, 0_u128);
        let mut waiting: Vec<(Ticket, (u128, i32))> = Vec::new();
        let mut admitted: VecDeque<Ticket> = VecDeque::new();
        let mut turns: VecDeque<Ticket> = VecDeque::new();
        let mut told: HashMap<Ticket, usize> = HashMap::new();
        // When room was last found while somebody waited, and by class the latest start that found room.
        let mut moved: Option<Millis> = None;
        let mut clocks: HashMap<i32, u64> = HashMap::new();
        for step in steps {
            match step {
                Step::Join { tenant, priority, cost } => {
                    next += 1;
                    let joined = line.join(Call { cost, ..call(next, tenant, priority, now) });
                    prop_assert_eq!(joined, waiting.len() - admitted.len() < 30);
                    if joined {
                        waiting.push((ticket(next), (tenant, priority)));
                        let clock = clocks.get(&priority).copied().unwrap_or(0);
                        prop_assert!(line.calls[&ticket(next)].place.0 >= clock, "it would overtake who waited longer");
                    }
                }
                Step::Turns(most) => {
                    for turn in line.turns(most, now) {
                        turns.retain(|other| *other != turn);
                        // First in, first out: whoever came earlier, of the same tenant and class, has the turn or has gone on.
                        let of = waiting.iter().find(|(ticket, _)| *ticket == turn).unwrap().1;
                        for (earlier, _) in waiting.iter().take_while(|(ticket, _)| *ticket != turn).filter(|one| one.1 == of) {
                            prop_assert!(turns.contains(earlier) || admitted.contains(earlier), "{earlier:?} overtaken by {turn:?}");
                        }
                        turns.push_back(turn);
                    }
                }
                Step::Serve => if let Some(turn) = admitted.pop_front().or_else(|| turns.pop_front()) {
                    if !line.calls[&turn].has_gone_on() {
                        found_room(&line, turn, now, &mut moved, &mut clocks);
                    }
                    line.served(turn, now);
                    waiting.retain(|(ticket, _)| *ticket != turn);
                },
                Step::Block(until) => if let Some(turn) = turns.pop_front().or_else(|| admitted.pop_front()) {
                    line.blocked(turn, now + until);
                },
                Step::Admit => if let Some(turn) = turns.pop_front() {
                    found_room(&line, turn, now, &mut moved, &mut clocks);
                    line.admitted(turn, now);
                    admitted.push_back(turn);
                },
                Step::Leave(which) => if !waiting.is_empty() {
                    let (gone, _) = waiting.remove(which % waiting.len());
                    turns.retain(|other| *other != gone);
                    admitted.retain(|other| *other != gone);
                    line.leave(gone);
                },
                Step::Wait(time) => now += time,
            }
            prop_assert_eq!(line.len(), waiting.len());
            moved = moved.filter(|_| waiting.len() > admitted.len());
            clocks.retain(|class, _| waiting.iter().any(|(_, (_, priority))| priority == class));
            prop_assert_eq!(line.pace.last, moved);
            for (ticket, _) in &waiting {
                let standing = line.standing(*ticket, now).unwrap();
                let before = told.insert(*ticket, standing.ahead);
                prop_assert!(before.is_none_or(|before| standing.ahead <= before));
            }
        }
        for turn in admitted {
            line.served(turn, now);
            waiting.retain(|(ticket, _)| *ticket != turn);
        }
        let served = serve(&mut line, now, 100);
        prop_assert_eq!(served.len(), waiting.len());
        prop_assert_eq!(line.wake_at(), None);
        prop_assert!(line.classes.is_empty() && line.aside.is_empty() && line.deadlines.is_empty());
        prop_assert_eq!((line.turns, line.gone_on), (0, 0));
    }
}
