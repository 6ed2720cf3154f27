create table alpha.thing (
    organization_id uuid not null,
    id uuid not null default gen_random_uuid(),
    name text not null,
    amount bigint not null default 0,
    constraint thing_pkey primary key (id),
    constraint thing_name_key unique (organization_id, name),
    constraint thing_amount_check check (amount >= 0)
);
alter table alpha.thing enable row level security;
create policy tenant on alpha.thing to weir_alpha_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select, insert, update, delete on alpha.thing to weir_alpha_tenant;
