-- Pictures and sounds in object storage, under `{organization}/{result}.{extension}`. A row is written before its object, so what is
-- stored can be found and deleted.
create table broker.results (
    organization_id uuid not null,
    -- The same for the same part of a job's step, however often it is stored; in the order of the jobs.
    result_id uuid not null,
    extension text not null,
    content_type text not null,
    bytes bigint not null,
    -- Of the content, for `If-None-Match`.
    etag text not null,
    -- Anybody who knows the address may read it; else it must be signed.
    public boolean not null,
    created_at timestamptz not null default now(),
    -- When it is deleted.
    expires_at timestamptz not null,
    primary key (organization_id, result_id)
);
create index results_by_expiry on broker.results (expires_at);

-- Tenants that have said whether their results are stored: without a row they are not.
create table broker.result_settings (
    organization_id uuid primary key,
    enabled boolean not null,
    -- In seconds; null: as long as the deployment keeps them.
    retention bigint check (retention > 0)
);

alter table broker.results enable row level security;
alter table broker.result_settings enable row level security;
create policy tenant on broker.results to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on broker.result_settings to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select, insert, update on broker.results to weir_broker_tenant;
grant select, insert, update on broker.result_settings to weir_broker_tenant;
