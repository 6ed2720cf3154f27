-- Soft alerts that have fired. A key is one counter, period and percentage; a cap that was raised since is a new one, because
-- then the percentage is another value.
create table quota.alerts (
    -- In the order in which they were committed: whoever inserts holds the lock of their order.
    alert_id bigint generated always as identity primary key,
    organization_id uuid not null,
    limit_id integer not null references quota.limits,
    -- Whose counter, by the limit's scope; empty for the organisation's own.
    subject text not null,
    percent smallint not null,
    -- The start of the period in milliseconds since 1970; of windows without fixed ones the time of the alert before (0 for the
    -- first), so that of two processes that see the same only one writes it.
    period bigint not null,
    period_end bigint,
    cap bigint not null,
    used bigint not null,
    held bigint not null,
    refused boolean not null,
    fired_at timestamptz not null,
    -- From when on it may be deleted: before, it keeps the same alert from firing again.
    keep_until timestamptz,
    constraint alerts_key unique (organization_id, limit_id, subject, percent, period, cap)
);
create index alerts_by_organization on quota.alerts (organization_id, alert_id);
create index alerts_by_expiry on quota.alerts (keep_until) where keep_until is not null;

alter table quota.alerts enable row level security;
create policy tenant on quota.alerts to weir_quota_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select on quota.alerts to weir_quota_tenant;
