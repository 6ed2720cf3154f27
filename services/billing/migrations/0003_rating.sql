-- What usage's feed meant for the books, and how far it was read.

-- How far a feed is rated. The row is locked by whoever moves it; the lease keeps the other replicas from reading in vain.
create table billing.rating_cursor (
    feed text primary key,
    position bigint not null,
    holder text,
    lease_end timestamptz
);
insert into billing.rating_cursor (feed, position) values ('usage', 0);

-- Each usage event that was rated, as it now stands.
create table billing.rated_events (
    event_id uuid primary key,
    organization_id uuid not null,
    revision integer not null,
    -- In the feed, of that revision.
    position bigint not null,
    event_time timestamptz not null,
    provider text not null,
    model text not null,
    price_version text not null,
    input_tokens bigint not null,
    cached_input_tokens bigint not null,
    output_tokens bigint not null,
    amount_nano_usd bigint not null check (amount_nano_usd >= 0),
    estimated boolean not null
);
create index rated_events_period on billing.rated_events (organization_id, event_time);

-- Each usage event that can't be priced: never free, never in the way. One row per event, of its last such revision.
create table billing.unrated_events (
    event_id text primary key,
    organization_id uuid,
    revision integer not null,
    position bigint not null,
    event_time timestamptz,
    reason text not null,
    -- The event, if it can be read: it is rated when it has a price.
    usage jsonb,
    create_time timestamptz not null
);
create index unrated_events_position on billing.unrated_events (position);
create index unrated_events_period on billing.unrated_events (organization_id, event_time);

-- Rated events whose own price is not the price book's.
create table billing.price_mismatches (
    event_id uuid primary key,
    organization_id uuid not null,
    revision integer not null,
    claimed_nano_usd bigint not null,
    rated_nano_usd bigint not null
);

alter table billing.rated_events enable row level security;
create policy own_rows on billing.rated_events to weir_billing_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select on billing.rated_events to weir_billing_tenant;

alter table billing.unrated_events enable row level security;
create policy own_rows on billing.unrated_events to weir_billing_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select on billing.unrated_events to weir_billing_tenant;

alter table billing.price_mismatches enable row level security;
create policy own_rows on billing.price_mismatches to weir_billing_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select on billing.price_mismatches to weir_billing_tenant;

-- A statement under row-level security reads how far rating has come.
grant select on billing.rating_cursor to weir_billing_tenant;
