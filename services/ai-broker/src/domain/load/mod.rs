//! How much there is to do, against how much can be done: levels, and who goes first at them.

mod ladder;
mod shares;

pub(crate) use ladder::{Figures, Ladder, Threshold};
pub(crate) use shares::{Group, Shares};
