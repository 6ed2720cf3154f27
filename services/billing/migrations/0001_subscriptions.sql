-- Which organisation is on which plan, and which prices were ever published.

-- Numbers every change of anybody's entitlements. Its only row is locked until the change commits, so that the numbers are
-- in the order of the commits and a reader that has seen a number has seen all before it.
create table billing.entitlement_clock (
    only_row boolean primary key default true check (only_row),
    version bigint not null
);
insert into billing.entitlement_clock (version) values (0);

-- The catalogues of plans that were in force, one after the other.
create table billing.catalogues (
    generation bigint primary key,
    -- What decides entitlements, as text, to tell whether a replica brings another one.
    content text not null,
    start_time timestamptz not null
);

create table billing.subscriptions (
    organization_id uuid primary key,
    plan text not null,
    start_time timestamptz not null,
    overrides jsonb not null,
    version bigint not null,
    update_time timestamptz not null
);
create index subscriptions_version on billing.subscriptions (version);

-- The prices of each version of each price book that was ever loaded. They never change.
create table billing.published_prices (
    version text not null,
    provider text not null,
    model text not null,
    input_per_million bigint not null,
    cached_input_per_million bigint not null,
    output_per_million bigint not null,
    primary key (version, provider, model)
);

alter table billing.subscriptions enable row level security;
create policy own_rows on billing.subscriptions to weir_billing_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select on billing.subscriptions to weir_billing_tenant;
