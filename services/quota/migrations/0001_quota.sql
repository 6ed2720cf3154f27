-- What tells the counters of one limit from those of another; see CounterKey. The same for all tenants, so it has none.
create table quota.limits (
    id integer generated always as identity primary key,
    name text not null,
    scope text not null,
    unit text not null,
    kind text not null,
    constraint limits_key unique (name, scope, unit, kind)
);

-- The last entitlements that billing gave: what is served while it is down.
create table quota.entitlements (
    organization_id uuid primary key,
    version bigint not null,
    -- weir.billing.v1.Entitlements.
    body bytea not null,
    fetched_at timestamptz not null default now()
);

-- How each reservation ended. Deleted after the retention.
create table quota.settlements (
    reservation_id uuid primary key,
    organization_id uuid not null,
    released boolean not null,
    estimated boolean not null,
    -- By unit.
    amounts jsonb not null,
    -- What an estimate said that the amounts have replaced.
    replaced jsonb,
    -- The statement that wrote it last: tells a settlement from a repetition.
    batch uuid not null,
    -- Which counters it was held in; empty if nobody knew.
    handle bytea not null,
    settled_at timestamptz not null default now()
);
create index settlements_by_organization on quota.settlements (organization_id, reservation_id);
create index settlements_by_time on quota.settlements (settled_at);

-- Committed totals of the counters that must survive the fast store.
create table quota.counters (
    organization_id uuid not null,
    limit_id integer not null references quota.limits,
    -- Whose, by the limit's scope; empty for the organisation's own.
    subject text not null,
    -- The start of the period in milliseconds since 1970; of a rolling window the end of the bucket.
    period bigint not null,
    committed bigint not null,
    -- Grows with every change, so that the fast store can tell which of two values is newer.
    version bigint not null,
    -- When nobody asks for it any more.
    expires_at timestamptz,
    primary key (organization_id, limit_id, subject, period)
) with (fillfactor = 50);
create index counters_by_expiry on quota.counters (expires_at) where expires_at is not null;

-- The generations of the fast store: a new one begins whenever it has lost data.
create table quota.epochs (
    generation bigint generated always as identity primary key,
    -- The server's identity.
    server text not null,
    began_at timestamptz not null default now()
);

alter table quota.entitlements enable row level security;
alter table quota.settlements enable row level security;
alter table quota.counters enable row level security;

create policy tenant on quota.entitlements to weir_quota_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on quota.settlements to weir_quota_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on quota.counters to weir_quota_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);

grant usage on schema quota to weir_quota_tenant;
grant select on quota.limits, quota.settlements, quota.counters to weir_quota_tenant;
grant select, insert, update on quota.entitlements to weir_quota_tenant;
