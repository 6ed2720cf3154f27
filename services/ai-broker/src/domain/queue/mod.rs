//! Calls that wait for what a provider can't take now: who goes next.
//!
//! Nothing here holds capacity. A call that has the turn tries to reserve: it goes on to the provider, or back to its place until
//! the provider has room again.
//!
//! Width. All who have the turn ask at once, in no order. So after a refusal one is let forward, and with each that finds room one
//! more, as TCP does after a loss (slow start, RFC 5681): who goes first is first when room is scarce.
//!
//! Order. Classes come by their plan's priority plus what their oldest call has waited, so a lower class can't starve. Inside a
//! class tenants share by cost: start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queueing", SIGCOMM 1996). The calls of
//! one tenant and class stay first in, first out.

mod line;
mod order;

pub(crate) use line::{Line, Rules, Standing};
pub(crate) use order::{Call, Millis, Ticket};
