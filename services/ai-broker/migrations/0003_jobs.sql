-- Jobs. What they are is in `spec` and never changes; the rest is how they stand.
--
-- Collation "C": names are compared byte by byte, which is cheaper and the same on every machine.
create table broker.jobs (
    organization_id uuid not null,
    job_id uuid not null,
    -- 0 delayed until `due_at`, 1 ready, 2 processing, 3 complete, 4 failed, 5 cancelled
    state smallint not null check (state between 0 and 5),
    -- The step that is next or under way, and how often it was tried to no avail.
    current_step smallint not null default 0,
    tries smallint not null default 0,
    -- Grows whenever a broker takes the job: only who knows the number may write what came of it.
    attempt integer not null default 0,
    -- How many brokers were lost while they worked on it.
    losses smallint not null default 0,
    priority integer not null,
    -- The order among those that are ready: milliseconds since 1970, less what priority is worth.
    place bigint not null,
    due_at timestamptz not null,
    expires_at timestamptz not null,
    -- While it is processed: when it is taken for lost.
    leased_until timestamptz,
    cancelled boolean not null default false,
    -- Where it stands in a provider's line.
    position integer,
    eta_ms bigint,
    -- weir.common.v1.ErrorReason of the last try, and what was said.
    reason integer,
    message text,
    http_status integer,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    ended_at timestamptz,
    schedule_id uuid,
    idempotency_key text collate "C",
    -- Tells whether the same key came with the same job.
    body_hash bytea,
    -- JSON; see domain/jobs/spec.rs.
    spec bytea not null,
    primary key (organization_id, job_id)
);
-- `spec` is compressed by nobody: it is read back within milliseconds as a rule.
alter table broker.jobs alter column spec set storage external;
create unique index jobs_idempotency on broker.jobs (organization_id, idempotency_key) where idempotency_key is not null;
create index jobs_delayed on broker.jobs (due_at) where state = 0;
create index jobs_ready on broker.jobs (place, job_id) where state = 1;
create index jobs_processing on broker.jobs (leased_until) where state = 2;
create index jobs_live on broker.jobs (organization_id, job_id) where state < 3;
create index jobs_failed on broker.jobs (organization_id, job_id) where state = 4;
create index jobs_by_end on broker.jobs (ended_at) where ended_at is not null;

-- What each step came to. A step has one result, whoever tries to write a second one.
create table broker.job_results (
    organization_id uuid not null,
    job_id uuid not null,
    step smallint not null,
    attempts smallint not null,
    body bytea not null,
    content_type text not null,
    -- weir.broker.v1.Accounting of a call to a model.
    accounting bytea,
    ended_at timestamptz not null default now(),
    primary key (organization_id, job_id, step)
);
alter table broker.job_results alter column body set storage external;

-- Webhooks that tell that a job has ended; written with its end.
create table broker.webhook_deliveries (
    organization_id uuid not null,
    delivery_id uuid not null,
    job_id uuid not null,
    -- 0 waits until `due_at`, 1 received, 2 given up
    state smallint not null default 0,
    attempts smallint not null default 0,
    due_at timestamptz not null default now(),
    url text not null,
    payload bytea not null,
    -- What came of the last try.
    message text,
    ended_at timestamptz,
    primary key (organization_id, delivery_id)
);
create index webhook_deliveries_due on broker.webhook_deliveries (due_at) where state = 0;
create index webhook_deliveries_by_end on broker.webhook_deliveries (ended_at) where ended_at is not null;

-- Jobs that are created at times.
create table broker.schedules (
    organization_id uuid not null,
    schedule_id uuid not null,
    -- One of both.
    cron text,
    every_ms bigint,
    time_zone text not null,
    next_at timestamptz not null,
    priority integer not null,
    spec bytea not null,
    created_at timestamptz not null default now(),
    primary key (organization_id, schedule_id),
    check ((cron is null) <> (every_ms is null))
);
create index schedules_next on broker.schedules (next_at);

alter table broker.jobs enable row level security;
alter table broker.job_results enable row level security;
alter table broker.webhook_deliveries enable row level security;
alter table broker.schedules enable row level security;
create policy tenant on broker.jobs to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on broker.job_results to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on broker.webhook_deliveries to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on broker.schedules to weir_broker_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select, update on broker.jobs to weir_broker_tenant;
grant select on broker.job_results to weir_broker_tenant;
grant select, insert on broker.webhook_deliveries to weir_broker_tenant;
grant select, insert, delete on broker.schedules to weir_broker_tenant;
