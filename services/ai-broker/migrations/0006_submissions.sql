-- Requests of jobs that stand in a provider's queue (FAL), so that whoever takes a job over waits for them instead of paying for others.
-- They go with their job.
create table broker.job_submissions (
    organization_id uuid not null,
    job_id uuid not null,
    step smallint not null,
    -- What it is charged to, and what quota and usage are told of it.
    reservation_id uuid not null,
    handle bytea not null,
    draft bytea not null,
    provider text not null,
    model text not null,
    -- The key's name with a part of its hash.
    provider_key text not null,
    -- The provider's own id.
    request_id text not null,
    primary key (organization_id, job_id, step),
    foreign key (organization_id, job_id) references broker.jobs (organization_id, job_id) on delete cascade
);

alter table broker.job_submissions enable row level security;
create policy tenant on broker.job_submissions to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select, insert, update, delete on broker.job_submissions to weir_broker_tenant;
