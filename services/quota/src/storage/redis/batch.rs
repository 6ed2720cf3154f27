//! Many reservations in one call of the reserve script.

use std::collections::{HashMap, HashSet};

use weir_redis::redis::Cmd;
use weir_types::{MAX_AMOUNT, OrganizationId};

use super::program::{Program, len};
use super::request::{Request, Touched};
use super::{Keys, record};
use crate::domain::handle::VERSION;

/// Reservations that go together.
pub(super) struct Batch<'a> {
    pub(super) requests: &'a [Request],
    pub(super) groups: Vec<Group<'a>>,
    /// Places of requests that can't: they must wait for the answers of these.
    pub(super) rest: Vec<usize>,
}

/// Those of one tenant.
pub(super) struct Group<'a> {
    organization: OrganizationId,
    /// Until the first that can't go with the others.
    open: bool,
    check_clock: bool,
    plans: Vec<&'a [i64]>,
    pub(super) subjects: Vec<Subject<'a>>,
    fields: HashMap<&'a [u8], usize>,
    concurrent: Vec<Set<'a>>,
    pub(super) shapes: Vec<Vec<Cell>>,
    pub(super) seats: Vec<Seat>,
}

/// A subject, of which at least one window is touched.
pub(super) struct Subject<'a> {
    field: &'a [u8],
    plan: usize,
    pub(super) limits: &'a [i64],
    /// What is asked of each limit by all requests; none if nobody touches it.
    sums: Vec<Option<i64>>,
}

/// A concurrency limit.
struct Set<'a> {
    key: &'a [u8],
    cap: i64,
    count: i64,
}

/// One request.
pub(super) struct Seat {
    /// Its place among the batch's.
    pub(super) request: usize,
    /// What it touches: a place among the group's shapes.
    pub(super) shape: usize,
    /// Of each cell: how much all requests up to this one ask of it.
    pub(super) shares: Vec<i64>,
}

/// A counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// Of a subject's limit.
    Window(usize, usize),
    /// Of a concurrency limit.
    Set(usize),
}

impl<'a> Batch<'a> {
    /// Takes as many of `places` as go together: of one generation, and of each tenant up to the first that has the id of an earlier
    /// one or another plan for its subject. Those of a tenant stay in their order.
    pub(super) fn new(requests: &'a [Request], places: Vec<usize>) -> Self {
        let mut batch = Self { requests, groups: Vec::new(), rest: Vec::new() };
        let Some(generation) = places.first().map(|first| requests[*first].generation) else { return batch };
        let mut groups: HashMap<OrganizationId, usize> = HashMap::new();
        let mut ids: HashSet<&[u8; 17]> = HashSet::new();
        for place in places {
            let request = &requests[place];
            let group = *groups.entry(request.organization).or_insert_with(|| {
                batch.groups.push(Group::new(request));
                batch.groups.len() - 1
            });
            let group = &mut batch.groups[group];
            group.open &= request.generation == generation && !ids.contains(&request.id) && group.takes(request);
            if group.open {
                ids.insert(&request.id);
                group.take(place, request);
            } else {
                batch.rest.push(place);
            }
        }
        batch.groups.retain(|group| !group.seats.is_empty());
        batch
    }

    /// The places of those that go together.
    pub(super) fn places(&self) -> Vec<usize> {
        self.groups.iter().flat_map(|group| group.seats.iter().map(|seat| seat.request)).collect()
    }

    /// What is sent.
    pub(super) fn command(&self) -> Option<Cmd> {
        let first = self.groups.first()?.seats.first()?;
        let Request { generation, script, .. } = &self.requests[first.request];
        let (mut program, mut amounts) = (Program::with_capacity(256), Program::with_capacity(256));
        program.push([i64::try_from(*generation).unwrap_or(i64::MAX), len(self.groups.len())]);
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut kept: Vec<Vec<u8>> = Vec::new();
        for group in &self.groups {
            let of = Keys::new(&group.organization);
            keys.extend([of.state(), of.leases()]);
            keys.extend(group.concurrent.iter().map(|set| set.key.to_vec()));
            group.describe(self.requests, &mut program);
            for seat in &group.seats {
                let request = &self.requests[seat.request];
                for amount in request.amounts() {
                    amounts.push([amount]);
                }
                kept.push(record::sent(VERSION, &request.tail, &request.context, seat.shares.iter().copied()));
            }
        }
        let mut args: Vec<&[u8]> = vec![program.bytes(), amounts.bytes()];
        let mut kept = kept.iter();
        for group in &self.groups {
            args.extend(group.seats.iter().map(|seat| self.requests[seat.request].id.as_slice()));
            args.extend(group.subjects.iter().map(|subject| subject.field));
            args.extend(kept.by_ref().take(group.seats.len()).map(Vec::as_slice));
        }
        Some(super::command(script, &keys, &args))
    }
}

impl<'a> Group<'a> {
    fn new(request: &Request) -> Self {
        Self {
            organization: request.organization,
            open: true,
            check_clock: request.check_clock,
            plans: Vec::new(),
            subjects: Vec::new(),
            fields: HashMap::new(),
            concurrent: Vec::new(),
            shapes: Vec::new(),
            seats: Vec::new(),
        }
    }

    /// Whether a request can be decided together with these: no plan, no cap and no clock contradicts theirs, and no sum is beyond
    /// what doubles count exactly.
    fn takes(&self, request: &Request) -> bool {
        let subject = |touched: &Touched| {
            let Some(known) = self.fields.get(touched.field.as_slice()).map(|place| &self.subjects[*place]) else {
                return true;
            };
            let fits = |(place, amount): &(usize, i64)| known.sums[*place].unwrap_or(0) <= MAX_AMOUNT - amount;
            known.limits == touched.plan && touched.amounts.iter().all(fits)
        };
        let set = |(key, cap): &(Vec<u8>, i64)| {
            self.concurrent.iter().find(|set| set.key == key).is_none_or(|set| set.cap == *cap)
        };
        self.check_clock == request.check_clock
            && request.subjects.iter().all(subject)
            && request.concurrent.iter().all(set)
    }

    fn take(&mut self, place: usize, request: &'a Request) {
        let mut shape = Vec::with_capacity(8);
        let mut shares = Vec::with_capacity(8);
        for touched in &request.subjects {
            let place = self.subject(touched);
            for (limit, amount) in &touched.amounts {
                let sum = self.subjects[place].sums[*limit].get_or_insert(0);
                *sum += amount;
                shares.push(*sum);
                shape.push(Cell::Window(place, *limit));
            }
        }
        for (key, cap) in &request.concurrent {
            let place = self.concurrent.iter().position(|set| set.key == key).unwrap_or_else(|| {
                self.concurrent.push(Set { key, cap: *cap, count: 0 });
                self.concurrent.len() - 1
            });
            self.concurrent[place].count += 1;
            shares.push(self.concurrent[place].count);
            shape.push(Cell::Set(place));
        }
        let shape = self.shapes.iter().position(|known| *known == shape).unwrap_or_else(|| {
            self.shapes.push(shape);
            self.shapes.len() - 1
        });
        self.seats.push(Seat { request: place, shape, shares });
    }

    fn subject(&mut self, touched: &'a Touched) -> usize {
        if let Some(place) = self.fields.get(touched.field.as_slice()) {
            return *place;
        }
        let plan = self.plans.iter().position(|known| *known == touched.plan).unwrap_or_else(|| {
            self.plans.push(&touched.plan);
            self.plans.len() - 1
        });
        let sums = vec![None; Touched::limits(&touched.plan)];
        self.fields.insert(&touched.field, self.subjects.len());
        self.subjects.push(Subject { field: &touched.field, plan, limits: &touched.plan, sums });
        self.subjects.len() - 1
    }

    /// The group's part of the program.
    fn describe(&self, requests: &[Request], program: &mut Program) {
        let amounts = self.seats.iter().map(|seat| seat.shares.len()).sum();
        for count in
            [self.seats.len(), self.subjects.len(), self.concurrent.len(), self.plans.len(), self.shapes.len(), amounts]
        {
            program.push_len(count);
        }
        program.push([i64::from(self.check_clock)]);
        for number in self.plans.iter().copied().flatten() {
            program.push([*number]);
        }
        // Where the cells of each subject begin: they are counted from one.
        let mut cells = 1;
        let mut first = Vec::with_capacity(self.subjects.len());
        for subject in &self.subjects {
            first.push(cells);
            cells += subject.sums.len();
            program.push_len(subject.plan + 1);
            for sum in &subject.sums {
                program.push([sum.unwrap_or(-1)]);
            }
        }
        for set in &self.concurrent {
            program.push([set.cap, set.count]);
        }
        for shape in &self.shapes {
            program.push_len(shape.len());
            for cell in shape {
                program.push_len(match cell {
                    Cell::Window(subject, limit) => first[*subject] + limit,
                    Cell::Set(set) => cells + set,
                });
            }
        }
        for seat in &self.seats {
            program.push_len(seat.shape + 1).push([requests[seat.request].lease]);
        }
    }

    /// How many concurrency limits there are.
    pub(super) fn sets(&self) -> usize {
        self.concurrent.len()
    }
}
