-- Calls with an idempotency key. Names and requests are keyed hashes, answers are encrypted; see domain/sealing.rs.
create table broker.idempotent_calls (
    organization_id uuid not null,
    -- Of the principal and the key.
    name bytea not null,
    -- Of what was asked.
    request bytea not null,
    -- 0 claimed: no provider has been asked, 1 a provider may have been asked, 2 ended
    state smallint not null default 0 check (state between 0 and 2),
    -- Of the broker's attempt to carry it out: only who knows it may write what came of it.
    claim uuid not null,
    -- Until it has ended: when its broker is taken for dead.
    leased_until timestamptz not null,
    expires_at timestamptz not null,
    -- What came of it; none if that could not be kept.
    answer bytea,
    primary key (organization_id, name)
);
-- It is encrypted, so there is nothing to compress.
alter table broker.idempotent_calls alter column answer set storage external;
create index idempotent_calls_by_claim on broker.idempotent_calls (claim) where state < 2;
create index idempotent_calls_by_expiry on broker.idempotent_calls (expires_at);

alter table broker.idempotent_calls enable row level security;
create policy tenant on broker.idempotent_calls to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select, insert, update, delete on broker.idempotent_calls to weir_broker_tenant;
