//! What is under way and what is not settled yet.

use weir_proto::broker::v1::GetStatusResponse;

use super::Broker;

impl Broker {
    /// Counts of this broker.
    pub(crate) fn status(&self) -> GetStatusResponse {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let (live, waiting) = (self.reservations.live(), self.settler.waiting());
        GetStatusResponse {
            in_flight: count(live.saturating_sub(waiting)),
            unsettled: count(waiting),
            load_level: self.load.level_name().unwrap_or_default().to_owned(),
        }
    }
}
