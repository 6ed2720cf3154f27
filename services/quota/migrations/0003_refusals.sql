-- What Reserve refused: a sample of it, for those who must explain it. Deleted after the retention.
create table quota.refusals (
    refusal_id bigint generated always as identity primary key,
    organization_id uuid not null,
    -- Not unique: the same request may be refused again and again.
    reservation_id uuid not null,
    refused_at timestamptz not null,
    -- weir.common.v1.ErrorReason, and what the caller was told.
    reason text not null,
    message text not null,
    -- The subject's scopes beside the organisation, as handles spell them.
    subject bytea[] not null,
    -- By unit.
    amounts jsonb not null,
    -- Every limit that applied, with its values; those that refused are marked.
    limits jsonb not null,
    -- Refusals of the same organisation, in the same process, that were left out since the one before.
    suppressed bigint not null
);
create index refusals_by_organization on quota.refusals (organization_id, refusal_id);
create index refusals_by_reservation on quota.refusals (reservation_id);
create index refusals_by_time on quota.refusals (refused_at);

alter table quota.refusals enable row level security;
create policy tenant on quota.refusals to weir_quota_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select on quota.refusals to weir_quota_tenant;

-- The lease had ended before it was settled. Only the fast store knows it, so it is noted afterwards.
alter table quota.settlements add column late boolean not null default false;
