-- Keys of providers that users and organisations bring themselves. What is secret is sealed: a key's secret under its tenant's data
-- key, the data key under a master key, which lies elsewhere.

-- Numbers the changes of the two tables below. Whoever changes something moves it first and so holds its row until the end: changes
-- become visible in their own order, whichever broker makes them, and all brokers follow by the number.
create table broker.provider_key_clock (
    only_row boolean primary key default true check (only_row),
    revision bigint not null
);
insert into broker.provider_key_clock (revision) values (0);

-- A tenant's data key. When the master key is rotated it is wrapped anew; the secrets stay as they are.
create table broker.data_keys (
    organization_id uuid primary key,
    wrapped bytea not null,
    -- Of the master key that it is wrapped under.
    master_version integer not null check (master_version > 0),
    revision bigint not null,
    created_at timestamptz not null default now()
);
create index data_keys_revision on broker.data_keys (revision);

create table broker.provider_keys (
    organization_id uuid not null,
    key_id uuid not null,
    -- Whose calls it is for; null: the whole organisation's.
    user_id uuid,
    provider text collate "C" not null,
    label text not null,
    last_four text not null,
    -- Empty once it is deleted.
    sealed bytea not null,
    requests_per_minute bigint check (requests_per_minute > 0),
    tokens_per_minute bigint check (tokens_per_minute > 0),
    cost_nano_usd_per_month bigint check (cost_nano_usd_per_month > 0),
    revision bigint not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    used_at timestamptz,
    -- It is gone; the row stays until every broker knows.
    deleted_at timestamptz,
    primary key (organization_id, key_id)
);
create unique index provider_keys_one_per_holder
    on broker.provider_keys (organization_id, coalesce(user_id, '00000000-0000-0000-0000-000000000000'), provider)
    where deleted_at is null;
create index provider_keys_revision on broker.provider_keys (revision);
create index provider_keys_deleted on broker.provider_keys (deleted_at) where deleted_at is not null;

alter table broker.data_keys enable row level security;
alter table broker.provider_keys enable row level security;
create policy tenant on broker.data_keys to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on broker.provider_keys to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select, update on broker.provider_key_clock to weir_broker_tenant;
grant select, insert on broker.data_keys to weir_broker_tenant;
grant select, insert, update on broker.provider_keys to weir_broker_tenant;
