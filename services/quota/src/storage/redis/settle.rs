//! Applying what Postgres has decided, whatever the store knows of it.

use weir_redis::redis::Cmd;
use weir_types::OrganizationId;

use super::program::Program;
use super::{Keys, Scripts, concurrency_field, reservation_field};
use crate::domain::Value;
use crate::storage::store::{Apply, ApplyKind, Ending};

/// What is sent to apply settlements of one tenant, each for itself.
pub(super) fn command(scripts: &Scripts, organization: &OrganizationId, settles: &[Apply]) -> Cmd {
    let mut limits: Vec<Vec<u8>> = Vec::new();
    let mut subjects: Vec<&Value> = Vec::new();
    let mut body = Program::with_capacity(64 * settles.len());
    for settle in settles {
        body.push_len(settle.concurrent.len());
        for (limit, value) in &settle.concurrent {
            body.push_len(place(&mut limits, concurrency_field(*limit, value)) + 1);
        }
        // No generation is 0.
        let written_in = settle.written_in.map_or(0, |generation| i64::try_from(generation).unwrap_or(i64::MAX));
        body.push([ending(settle.ending), written_in, settle.reserved_at.unwrap_or(-1)]);
        body.push_len(settle.counters.len());
        for counter in &settle.counters {
            let place = subjects.iter().position(|known| **known == counter.value).unwrap_or_else(|| {
                subjects.push(&counter.value);
                subjects.len() - 1
            });
            let (kind, total, version) = match counter.kind {
                ApplyKind::Total(total, version) => (1, total, version),
                ApplyKind::Sum => (2, 0, 0),
                ApplyKind::Rolling(length, durable) => (3, length, i64::from(durable)),
            };
            body.push_len(place + 1);
            body.push([i64::from(counter.limit), kind, counter.place, counter.reserved, counter.actual]);
            body.push([counter.before, total, version]);
        }
    }
    let mut program = Program::with_capacity(3);
    program.push_len(subjects.len()).push_len(settles.len()).push_len(limits.len());
    let program = [program.bytes(), body.bytes()].concat();
    let fields: Vec<Vec<u8>> = subjects.iter().map(|value| value.field()).collect();
    let ids: Vec<[u8; 17]> = settles.iter().map(|settle| reservation_field(&settle.id)).collect();
    let mut args: Vec<&[u8]> = vec![&program];
    args.extend(fields.iter().map(Vec::as_slice));
    args.extend(ids.iter().map(<[u8; 17]>::as_slice));
    args.extend(limits.iter().map(Vec::as_slice));
    super::command(&scripts.settle, &[Keys::new(organization).state()], &args)
}

/// Where something is among others; it is put there if it is not.
pub(super) fn place<T: PartialEq>(all: &mut Vec<T>, one: T) -> usize {
    all.iter().position(|known| *known == one).unwrap_or_else(|| {
        all.push(one);
        all.len() - 1
    })
}

/// As the scripts call it.
pub(super) const fn ending(ending: Ending) -> i64 {
    match ending {
        Ending::Released => 0,
        Ending::Estimated => 1,
        Ending::Final => 2,
    }
}
