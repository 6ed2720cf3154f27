-- What organisations allow of their answers. Without a row nothing of theirs is kept.
create table broker.cache_policies (
    organization_id uuid primary key,
    enabled boolean not null,
    -- Answers may also be given to, and taken from, other organisations that allow it.
    shared boolean not null,
    -- Less than what routes say.
    max_ttl_ms bigint check (max_ttl_ms > 0),
    updated_at timestamptz not null default now()
);

alter table broker.cache_policies enable row level security;
create policy tenant on broker.cache_policies to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select, insert, update on broker.cache_policies to weir_broker_tenant;
