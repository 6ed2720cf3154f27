//! Moving what a settlement has charged to where its reservation was held last.

use sqlx::PgPool;
use uuid::Uuid;
use weir_database::Error;
use weir_types::{OrganizationId, ReservationId};

use super::settlements::Charge;

/// A settlement that was written with a handle that is not the reservation's last one.
#[derive(Debug, Clone)]
pub struct Move {
    /// Which reservation.
    pub id: ReservationId,
    /// Whose.
    pub organization: OrganizationId,
    /// The handle that the settlement was written with, and the totals that it has added to.
    pub from: (Vec<u8>, Vec<Charge>),
    /// The handle that it should have had, and the totals that it should have added to.
    pub to: (Vec<u8>, Vec<Charge>),
}

// The row says which handle its charge goes by: it is moved once, whoever tries, and not at all if somebody has moved it elsewhere.
const MOVE: &str = "
with moved as (
    update quota.settlements set handle = $4
    where reservation_id = $1 and organization_id = $2 and handle = $3 and not released
    returning amounts
), charges as (
    select c.account, c.limit_id, c.subject, c.period, to_timestamp(max(c.expires_at) / 1000.0) as expires_at,
        sum(c.sign * coalesce((m.amounts ->> c.unit)::numeric, 0)) as difference
    from unnest($5::int[], $6::uuid[], $7::int[], $8::text[], $9::bigint[], $10::text[], $11::bigint[])
        as c (sign, account, limit_id, subject, period, unit, expires_at), moved m
    group by c.account, c.limit_id, c.subject, c.period
)
insert into quota.counters as k (organization_id, limit_id, subject, period, committed, version, expires_at)
select account, limit_id, subject, period, least(difference, 4611686018427387904)::bigint, 1, expires_at
from charges
where difference <> 0
order by account, limit_id, subject, period
on conflict (organization_id, limit_id, subject, period) do update
set committed = least(k.committed::numeric + excluded.committed, 4611686018427387904)::bigint, version = k.version + 1";

/// Takes what a settlement has charged from the totals of one handle and adds it to those of the other, unless it goes by another
/// handle meanwhile.
///
/// # Errors
/// The database's; doing it again is safe.
pub async fn charge(pool: &PgPool, one: &Move) -> Result<(), Error> {
    let charges = || {
        let (from, to) = (one.from.1.iter().map(|charge| (-1, charge)), one.to.1.iter().map(|charge| (1, charge)));
        from.chain(to)
    };
    sqlx::query(MOVE)
        .bind(one.id.as_uuid())
        .bind(one.organization.as_uuid())
        .bind(&one.from.0)
        .bind(&one.to.0)
        .bind(charges().map(|(sign, _)| sign).collect::<Vec<i32>>())
        .bind(charges().map(|(_, charge)| *charge.account.as_uuid()).collect::<Vec<Uuid>>())
        .bind(charges().map(|(_, charge)| i32::try_from(charge.limit).unwrap_or(-1)).collect::<Vec<_>>())
        .bind(charges().map(|(_, charge)| charge.subject.as_str()).collect::<Vec<_>>())
        .bind(charges().map(|(_, charge)| charge.period).collect::<Vec<_>>())
        .bind(charges().map(|(_, charge)| charge.unit.as_str()).collect::<Vec<_>>())
        .bind(charges().map(|(_, charge)| charge.expires_at).collect::<Vec<_>>())
        .execute(pool)
        .await?;
    Ok(())
}
