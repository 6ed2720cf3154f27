-- Which of a tenant's webhook secrets sign. The secrets themselves are derived from the master key and lie nowhere.
create table broker.webhook_secrets (
    organization_id uuid primary key,
    -- Of the secret that signs; each rotation begins the next one.
    version integer not null check (version > 0),
    -- The version before signs as well until then, so that receivers can change over.
    previous_until timestamptz,
    created_at timestamptz not null default now()
);

alter table broker.webhook_secrets enable row level security;
create policy tenant on broker.webhook_secrets to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select, insert, update on broker.webhook_secrets to weir_broker_tenant;
