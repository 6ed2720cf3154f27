-- Sums by hour, moved in the same transaction as the events.
create table usage.rollups_hourly (
    organization_id uuid not null,
    hour timestamptz not null,
    -- The nil UUID stands for none: a primary key has no nulls.
    user_id uuid not null,
    api_key_id uuid not null,
    model text collate "C" not null,
    provider text collate "C" not null,
    operation text collate "C" not null,
    requests bigint not null,
    input_tokens bigint not null,
    cached_input_tokens bigint not null,
    output_tokens bigint not null,
    cost_nano_usd bigint not null,
    estimated_requests bigint not null,
    primary key (organization_id, hour, user_id, api_key_id, model, provider, operation),
    constraint rollups_never_negative check (
        least(requests, input_tokens, cached_input_tokens, output_tokens, cost_nano_usd, estimated_requests) >= 0
        and estimated_requests <= requests and cached_input_tokens <= input_tokens
    )
) with (fillfactor = 50); -- The current hour's rows are updated all the time: room for them on their own page.

alter table usage.rollups_hourly enable row level security;
create policy tenant on usage.rollups_hourly to weir_usage_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select on usage.rollups_hourly to weir_usage_tenant;
