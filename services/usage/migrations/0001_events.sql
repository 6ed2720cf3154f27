-- The events, as they stand.
--
-- Collation "C": names are compared byte by byte, which is cheaper and the same on every machine.
create table usage.events (
    organization_id uuid not null,
    event_id uuid not null,
    user_id uuid,
    api_key_id uuid,
    event_time timestamptz not null,
    position bigint not null,
    input_tokens bigint not null,
    cached_input_tokens bigint not null,
    output_tokens bigint not null,
    cost_nano_usd bigint not null,
    latency_ms bigint not null,
    first_byte_ms bigint not null,
    revision integer not null,
    outcome smallint not null,
    estimated boolean not null,
    payload_hash bytea not null,
    source text collate "C" not null,
    provider text collate "C" not null,
    model text collate "C" not null,
    operation text collate "C" not null,
    price_version text collate "C" not null,
    request_id text collate "C" not null,
    -- Null when there are none, as almost always.
    quantities jsonb,
    -- An event is recorded once. The organisation leads, so that the same index lists a tenant's events
    -- by id, newest first: ids are UUIDv7. The user is in it, so that a user's events are found among the
    -- tenant's without a look at the rows; an index by user would cost recording a quarter of its rate.
    constraint events_recorded_once primary key (organization_id, event_id, source) include (user_id)
);

-- The feed, in commit order.
create unique index events_position on usage.events (position);

-- Estimates that were superseded, as they stood. `position` is 0 for one that was superseded in the
-- transaction that it came in: nobody ever saw it in the feed.
create table usage.event_originals (like usage.events including defaults);
alter table usage.event_originals add column superseded_at timestamptz not null default now();
create index event_originals_event on usage.event_originals (organization_id, event_id);

-- The feed's head. Every transaction that writes events moves it first and so holds its row until the end:
-- positions become visible in their own order, whichever replica writes.
create table usage.feed (
    only_row boolean primary key default true check (only_row),
    head bigint not null
);
insert into usage.feed (head) values (0);

alter table usage.events enable row level security;
alter table usage.event_originals enable row level security;
create policy tenant on usage.events to weir_usage_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on usage.event_originals to weir_usage_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select on usage.events, usage.event_originals to weir_usage_tenant;
