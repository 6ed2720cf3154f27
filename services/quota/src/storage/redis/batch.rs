//! Many reservations in one call of the reserve script.

use std::collections::{HashMap, HashSet};

use weir_types::{MAX_AMOUNT, OrganizationId};

use super::Keys;
use super::program::{Program, len};
use super::request::{Request, Touched};
use super::sending::Sending;
use super::sheets::{self, Kept};
use crate::domain::lease;

/// Reservations that go together.
pub(super) struct Batch<'a> {
    pub(super) requests: &'a [Request],
    pub(super) groups: Vec<Group<'a>>,
    plans: Plans<'a>,
    /// Places of requests that can't: they must wait for the answers of these.
    pub(super) rest: Vec<usize>,
}

/// What the script is told of limits, each plan once: tenants have them in common.
#[derive(Default)]
struct Plans<'a> {
    plans: Vec<&'a [i64]>,
    places: HashMap<&'a [i64], usize>,
}

/// Those of one tenant.
pub(super) struct Group<'a> {
    organization: OrganizationId,
    /// Until the first that can't go with the others.
    open: bool,
    check_clock: bool,
    pub(super) subjects: Vec<Subject<'a>>,
    fields: HashMap<&'a [u8], usize>,
    concurrent: Vec<Set<'a>>,
    pub(super) shapes: Vec<Shape>,
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
    field: &'a [u8],
    cap: i64,
    count: i64,
}

/// What requests may have in common beside their amounts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// In milliseconds.
    lease: i64,
    /// What is touched.
    pub(super) cells: Vec<Cell>,
}

/// One request.
pub(super) struct Seat {
    /// Its place among the batch's.
    pub(super) request: usize,
    /// A place among the group's shapes.
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
        let mut batch = Self { requests, groups: Vec::new(), plans: Plans::default(), rest: Vec::new() };
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
                group.take(place, request, &mut batch.plans);
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

    /// What is sent; what is kept goes `ahead` where that is cheaper.
    pub(super) fn sending(&self, ahead: bool) -> Option<Sending> {
        let first = self.groups.first()?.seats.first()?;
        let Request { generation, script, .. } = &self.requests[first.request];
        let mut program = Program::with_capacity(256);
        program.push([i64::try_from(*generation).unwrap_or(i64::MAX), len(self.groups.len())]);
        self.plans.describe(&mut program);
        let mut keys: Vec<Vec<u8>> = Vec::with_capacity(2 * self.groups.len());
        let mut kept: Vec<Kept> = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            let of = Keys::new(&group.organization);
            keys.extend([of.state(), of.leases()]);
            let of_group = group.kept(self.requests, ahead);
            group.describe(&mut program, of_group.goes_ahead());
            kept.push(of_group);
        }
        let ids: Vec<Vec<u8>> = self.groups.iter().map(|group| group.ids(self.requests)).collect();
        let mut args: Vec<&[u8]> = vec![program.bytes()];
        for ((group, ids), kept) in self.groups.iter().zip(&ids).zip(&kept) {
            args.push(ids);
            args.extend(group.subjects.iter().map(|subject| subject.field));
            args.extend(group.concurrent.iter().map(|set| set.field));
            args.extend(kept.args());
        }
        let call = super::command(script, &keys, &args);
        let states = keys.into_iter().step_by(2);
        let ahead = states.zip(kept).filter_map(|(state, kept)| kept.ahead(state)).collect();
        Some(Sending { ahead, call })
    }
}

impl<'a> Plans<'a> {
    fn place(&mut self, plan: &'a [i64]) -> usize {
        *self.places.entry(plan).or_insert_with(|| {
            self.plans.push(plan);
            self.plans.len() - 1
        })
    }

    fn describe(&self, program: &mut Program) {
        program.push_len(self.plans.len());
        for number in self.plans.iter().copied().flatten() {
            program.push([*number]);
        }
    }
}

impl<'a> Group<'a> {
    fn new(request: &Request) -> Self {
        Self {
            organization: request.organization,
            open: true,
            check_clock: request.check_clock,
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
        let set = |(field, cap): &(Vec<u8>, i64)| {
            self.concurrent.iter().find(|set| set.field == field).is_none_or(|set| set.cap == *cap)
        };
        self.check_clock == request.check_clock
            && request.subjects.iter().all(subject)
            && request.concurrent.iter().all(set)
    }

    fn take(&mut self, place: usize, request: &'a Request, plans: &mut Plans<'a>) {
        let mut cells = Vec::with_capacity(8);
        let mut shares = Vec::with_capacity(8);
        for touched in &request.subjects {
            let place = self.subject(touched, plans);
            for (limit, amount) in &touched.amounts {
                let sum = self.subjects[place].sums[*limit].get_or_insert(0);
                *sum += amount;
                shares.push(*sum);
                cells.push(Cell::Window(place, *limit));
            }
        }
        for (field, cap) in &request.concurrent {
            let place = self.concurrent.iter().position(|set| set.field == field).unwrap_or_else(|| {
                self.concurrent.push(Set { field, cap: *cap, count: 0 });
                self.concurrent.len() - 1
            });
            self.concurrent[place].count += 1;
            shares.push(self.concurrent[place].count);
            cells.push(Cell::Set(place));
        }
        let shape = Shape { lease: request.lease, cells };
        let shape = self.shapes.iter().position(|known| *known == shape).unwrap_or_else(|| {
            self.shapes.push(shape);
            self.shapes.len() - 1
        });
        self.seats.push(Seat { request: place, shape, shares });
    }

    fn subject(&mut self, touched: &'a Touched, plans: &mut Plans<'a>) -> usize {
        if let Some(place) = self.fields.get(touched.field.as_slice()) {
            return *place;
        }
        let plan = plans.place(&touched.plan);
        let sums = vec![None; Touched::limits(&touched.plan)];
        self.fields.insert(&touched.field, self.subjects.len());
        self.subjects.push(Subject { field: &touched.field, plan, limits: &touched.plan, sums });
        self.subjects.len() - 1
    }

    /// The group's part of the program.
    fn describe(&self, program: &mut Program, goes_ahead: bool) {
        for count in [self.seats.len(), self.subjects.len(), self.concurrent.len(), self.shapes.len()] {
            program.push_len(count);
        }
        program.push([i64::from(self.check_clock), i64::from(goes_ahead)]);
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
            program.push([shape.lease, lease::grain(shape.lease)]).push_len(shape.cells.len());
            for cell in &shape.cells {
                program.push_len(match cell {
                    Cell::Window(subject, limit) => first[*subject] + limit,
                    Cell::Set(set) => cells + set,
                });
            }
        }
        if self.shapes.len() > 1 {
            self.seats.iter().for_each(|seat| {
                program.push_len(seat.shape + 1);
            });
        }
    }

    /// The fields of its reservations.
    fn ids(&self, requests: &[Request]) -> Vec<u8> {
        self.seats.iter().flat_map(|seat| requests[seat.request].id).collect()
    }

    /// What is kept of its requests.
    fn kept(&self, requests: &[Request], ahead: bool) -> Kept {
        // Where the base of each shape begins.
        let mut bases = Vec::with_capacity(self.shapes.len());
        let mut end = 0;
        for shape in &self.shapes {
            bases.push(end);
            end += 16 * shape.cells.len();
        }
        let mut records = Vec::with_capacity(512 * self.seats.len());
        for seat in &self.seats {
            sheets::append(&mut records, &requests[seat.request], bases[seat.shape], &seat.shares);
        }
        if self.seats.len() > 1 { Kept::together(records, ahead) } else { Kept::alone(records) }
    }

    /// How many concurrency limits there are.
    pub(super) fn sets(&self) -> usize {
        self.concurrent.len()
    }
}
