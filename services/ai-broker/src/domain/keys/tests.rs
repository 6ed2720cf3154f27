use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn pool(keys: usize) -> (KeyPool, Instant) {
    limited(&vec![OwnLimits::default(); keys])
}

fn limited(limits: &[OwnLimits]) -> (KeyPool, Instant) {
    let rests = Rests {
        rate_limited: SECOND,
        refused: 60 * SECOND,
        failed: SECOND,
        failed_most: 30 * SECOND,
        probe: 5 * SECOND,
    };
    let keys = limits.iter().enumerate().map(|(index, limits)| Key::new(&format!("k{index}"), *limits));
    (KeyPool::new(keys.collect(), rests, None), Instant::now())
}

fn pick_for(pool: &KeyPool, model: &str, now: Instant) -> Result<Picked, Exhausted> {
    pool.pick(Wanted { model, tokens: 1, tried: &[], out: &[] }, now)
}

fn pick(pool: &KeyPool, now: Instant) -> Result<usize, Exhausted> {
    pick_for(pool, "m", now).map(|picked| picked.index)
}

/// One call that ends so.
fn call(pool: &KeyPool, outcome: KeyOutcome, now: Instant) -> usize {
    let picked = pick_for(pool, "m", now).expect("a key");
    pool.report(picked, "m", outcome, now);
    picked.index
}

fn put_back(pool: &KeyPool, index: usize, now: Instant) {
    pool.report(Picked { index, probe: true }, "m", KeyOutcome::Unknown, now);
}

#[test]
fn keys_take_turns() {
    let (pool, now) = pool(3);
    let picks: Vec<_> = (0..6).map(|_| call(&pool, KeyOutcome::Fine, now)).collect();
    assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn the_key_with_fewest_calls_under_way_is_next() {
    let (pool, now) = pool(2);
    assert_eq!([(); 4].map(|()| pick(&pool, now)), [Ok(0), Ok(1), Ok(0), Ok(1)]);
    put_back(&pool, 1, now);
    assert_eq!(pick(&pool, now), Ok(1));
}

#[test]
fn the_key_with_the_most_room_is_next() {
    let of = |requests, tokens, concurrency| OwnLimits {
        requests_per_minute: requests,
        tokens_per_minute: tokens,
        concurrency,
    };
    let (pool, now) = limited(&[of(Some(10), None, None), of(Some(100), None, None)]);
    let picks: Vec<_> = (0..55).map(|_| call(&pool, KeyOutcome::Fine, now)).collect();
    let first = picks.iter().filter(|index| **index == 0).count();
    assert!((4..=6).contains(&first), "a tenth of the room, a tenth of the calls: {first}");
    let later = now + 130 * SECOND;
    assert!(
        (0..4).map(|_| call(&pool, KeyOutcome::Fine, later)).any(|index| index == 0),
        "a minute later it is there again"
    );

    let (pool, now) = limited(&[of(None, Some(10), Some(9)), of(None, None, None)]);
    let all = (0..20).map(|_| call(&pool, KeyOutcome::Fine, now)).filter(|index| *index == 0).count();
    assert!(all < 6, "{all}");
}

#[test]
fn what_the_provider_says_is_left_counts_until_it_is_out_of_date() {
    let (pool, now) = pool(2);
    pool.left(0, 50, now + SECOND);
    assert!((0..4).all(|_| call(&pool, KeyOutcome::Fine, now) == 1));
    let picks: Vec<_> = (0..4).map(|_| call(&pool, KeyOutcome::Fine, now + SECOND)).collect();
    assert!(picks.contains(&0), "{picks:?}");
    pool.full(1, now + 9 * SECOND);
    assert!((0..4).all(|_| call(&pool, KeyOutcome::Fine, now + 2 * SECOND) == 0), "quota has no room for the other");
}

#[test]
fn a_rate_limited_key_costs_one_call_per_rest() {
    let (pool, now) = pool(1);
    call(&pool, KeyOutcome::RateLimited(Some(2 * SECOND)), now);
    assert_eq!(pick(&pool, now), Err(Exhausted { retry_after: 2 * SECOND, rate_limited: true, probing: false }));
    let rested = now + 2 * SECOND;
    let picked = pick_for(&pool, "m", rested).expect("one call tries it");
    assert!(picked.probe);
    assert_eq!(pick(&pool, rested).map_err(|exhausted| exhausted.probing), Err(true), "and no other meanwhile");
    pool.report(picked, "m", KeyOutcome::Fine, rested);
    assert_eq!((pick(&pool, rested), pick(&pool, rested)), (Ok(0), Ok(0)));
}

#[test]
fn a_call_that_began_before_the_rest_does_not_end_it() {
    let (pool, now) = pool(1);
    let before = pick_for(&pool, "m", now).expect("a key");
    call(&pool, KeyOutcome::RateLimited(Some(2 * SECOND)), now);
    pool.report(before, "m", KeyOutcome::Fine, now);
    assert!(pick(&pool, now).is_err());
}

#[test]
fn a_key_rests_with_the_model_that_it_is_limited_for() {
    for outcome in [KeyOutcome::RateLimited(None), KeyOutcome::Denied] {
        let (pool, now) = pool(1);
        call(&pool, outcome, now);
        assert!(pick(&pool, now).is_err());
        assert!(pick_for(&pool, "other", now).is_ok(), "{outcome:?}");
    }
}

#[test]
fn a_refused_key_leaves_the_work_to_the_others_whatever_the_model() {
    let (pool, now) = pool(2);
    assert_eq!(call(&pool, KeyOutcome::Refused, now), 0);
    assert!((0..4).all(|_| pick(&pool, now) == Ok(1)));
    assert!((0..4).all(|_| pick_for(&pool, "other", now).map(|picked| picked.index) == Ok(1)));
    assert_eq!(pool.up(now), 1);
}

#[test]
fn one_refusal_does_not_take_the_last_key_away() {
    let (pool, now) = pool(2);
    call(&pool, KeyOutcome::Refused, now);
    call(&pool, KeyOutcome::Refused, now);
    assert_eq!(pick(&pool, now).map_err(|exhausted| exhausted.retry_after), Err(SECOND), "it is asked again soon");
    call(&pool, KeyOutcome::Refused, now + SECOND);
    assert_eq!(pick(&pool, now + SECOND).map_err(|exhausted| exhausted.retry_after), Err(59 * SECOND));
}

#[test]
fn a_retry_goes_to_another_key_while_there_is_one() {
    let (pool, now) = pool(2);
    let pick = |tried: &[usize], out: &[usize]| {
        pool.pick(Wanted { model: "m", tokens: 1, tried, out }, now).map(|picked| picked.index)
    };
    assert_eq!(pick(&[0], &[]), Ok(1));
    put_back(&pool, 1, now);
    assert_eq!(pick(&[0, 1], &[]), Ok(0));
    assert_eq!(pick(&[], &[0]), Ok(1), "a key that turned the call away is not asked again");
    assert!(pick(&[], &[0, 1]).is_err());
}

#[test]
fn failures_rest_a_key_only_in_a_row_and_longer_each_time() {
    let (pool, now) = pool(1);
    let fail = |at| call(&pool, KeyOutcome::Failed, at);
    fail(now);
    fail(now);
    call(&pool, KeyOutcome::Fine, now);
    fail(now);
    fail(now);
    assert!(pick(&pool, now).is_ok());
    put_back(&pool, 0, now);
    fail(now);
    assert_eq!(pick(&pool, now).map_err(|e| e.retry_after), Err(SECOND));
    fail(now + SECOND);
    assert_eq!(pick(&pool, now + SECOND).map_err(|e| e.retry_after), Err(2 * SECOND));
}

#[test]
fn a_probe_that_fails_rests_the_key_for_its_own_time() {
    let (pool, now) = pool(1);
    let wait = |at| pick(&pool, at).map_err(|exhausted| exhausted.retry_after);
    call(&pool, KeyOutcome::RateLimited(Some(SECOND)), now);
    for outcome in [KeyOutcome::RateLimited(Some(SECOND)), KeyOutcome::RateLimited(None), KeyOutcome::Failed] {
        let at = now + SECOND;
        let picked = pick_for(&pool, "m", at).expect("it is tried");
        assert_eq!(wait(at), Err(5 * SECOND), "one call alone tries it");
        pool.report(picked, "m", outcome, at - SECOND);
        assert_eq!(wait(at - SECOND), Err(SECOND), "{outcome:?}");
    }
}

#[test]
fn a_rest_is_not_cut_short_by_a_call_that_began_before_it() {
    let (pool, now) = pool(2);
    let both = [(); 4].map(|()| pick_for(&pool, "m", now).expect("a key"));
    pool.report(both[0], "m", KeyOutcome::RateLimited(Some(30 * SECOND)), now);
    pool.report(both[2], "m", KeyOutcome::RateLimited(Some(SECOND)), now);
    put_back(&pool, 1, now);
    assert!((0..4).all(|_| pick(&pool, now + 29 * SECOND) == Ok(1)));
}

#[test]
fn a_probe_that_never_reached_the_provider_leaves_the_key_to_the_next_call() {
    let (pool, now) = pool(1);
    call(&pool, KeyOutcome::RateLimited(Some(SECOND)), now);
    assert_eq!(pick(&pool, now + SECOND), Ok(0));
    put_back(&pool, 0, now);
    assert_eq!(pick(&pool, now + SECOND), Ok(0));
    assert!(pick(&pool, now + SECOND).is_err());
}

#[test]
fn what_others_have_found_out_counts_as_if_it_had_happened_here() {
    let (pool, now) = pool(1);
    pool.hear("k0", "m", Some((now + SECOND, Kind::RateLimited)));
    pool.hear("gone", "m", None);
    assert_eq!(pick(&pool, now).map_err(|exhausted| exhausted.rate_limited), Err(true));
    let tried = pick_for(&pool, "m", now + SECOND).expect("it has rested");
    assert!(tried.probe);
    pool.defer(tried, "m", now + 2 * SECOND);
    assert!(pick(&pool, now + SECOND).is_err(), "another broker tries it");
    pool.hear("k0", "m", None);
    assert_eq!(pick_for(&pool, "m", now + SECOND).map(|picked| picked.probe), Ok(false), "and found it well");
}

#[test]
fn what_the_others_have_not_heard_yet_goes_before_what_they_say() {
    let (pool, now) = pool(1);
    call(&pool, KeyOutcome::RateLimited(Some(9 * SECOND)), now);
    pool.hear("k0", "m", None);
    assert!(pick(&pool, now).is_err());
    pool.said("k0", "m");
    pool.hear("k0", "m", None);
    assert!(pick(&pool, now).is_ok());
}

#[test]
fn a_pool_that_replaces_another_knows_what_that_one_knew() {
    let (before, now) = pool(2);
    call(&before, KeyOutcome::RateLimited(Some(SECOND)), now);
    let under_way = pick_for(&before, "m", now).expect("the other key");
    let keys = ["k1", "k0", "new"].map(|id| Key::new(id, OwnLimits::default()));
    let after = KeyPool::new(keys.to_vec(), before.rests, Some(&before));
    assert_eq!(pick(&after, now), Ok(2), "the first has a call under way, the second rests");
    before.report(under_way, "m", KeyOutcome::Refused, now);
    put_back(&after, 2, now);
    assert!((0..3).all(|_| pick(&after, now) == Ok(2)), "calls of the old pool are heard in the new one");
}
