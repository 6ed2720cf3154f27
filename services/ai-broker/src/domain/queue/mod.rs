//! Calls that wait for what a provider can't take now: who goes next.
//!
//! Nothing here holds capacity. A call that has the turn tries to reserve; what refuses it says how it goes on: served, back to its
//! place until the provider has room again, or aside for as long as its own tenant's limit refuses.
//!
//! Order. Classes come by their plan's priority plus what their oldest call has waited, so a lower class can't starve. Inside a
//! class tenants share by cost: start-time fair queueing (Goyal, Vin, Cheng: "Start-time Fair Queueing", SIGCOMM 1996). The calls of
//! one tenant and class stay first in, first out.

mod line;
mod order;

pub(crate) use line::{Line, Rules, Standing};
pub(crate) use order::{Call, Millis, Ticket};
