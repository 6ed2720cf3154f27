-- The double-entry ledger: what is posted stays, and the sides of each transaction sum to zero.

create table billing.ledger_accounts (
    name text primary key,
    kind text not null check (kind in ('asset', 'revenue'))
);
insert into billing.ledger_accounts (name, kind) values ('organization-receivable', 'asset'), ('usage-revenue', 'revenue');

create table billing.ledger_transactions (
    transaction_id uuid primary key,
    organization_id uuid not null,
    idempotency_key text not null constraint ledger_idempotency_key unique,
    description text not null,
    create_time timestamptz not null,
    -- For the foreign key below: an entry belongs to the organisation of its transaction.
    unique (transaction_id, organization_id)
);

create table billing.ledger_entries (
    entry_id bigint generated always as identity primary key,
    transaction_id uuid not null,
    organization_id uuid not null,
    account text not null references billing.ledger_accounts,
    amount_nano_usd bigint not null check (amount_nano_usd <> 0),
    foreign key (transaction_id, organization_id) references billing.ledger_transactions (transaction_id, organization_id)
);
create index ledger_entries_transaction on billing.ledger_entries (transaction_id);
create index ledger_entries_organization on billing.ledger_entries (organization_id, entry_id desc);

create function billing.assert_balanced() returns trigger language plpgsql as $$
begin
    if (select sum(amount_nano_usd) from billing.ledger_entries where transaction_id = new.transaction_id) <> 0 then
        raise exception 'ledger transaction % does not sum to zero', new.transaction_id
            using errcode = 'check_violation', constraint = 'ledger_balanced';
    end if;
    return null;
end $$;

-- Deferred: the sides are inserted one after the other, and counted when all are there.
create constraint trigger ledger_balanced after insert on billing.ledger_entries
    deferrable initially deferred for each row execute function billing.assert_balanced();

create function billing.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the ledger is append-only: post a correction instead'
        using errcode = 'check_violation', constraint = 'ledger_append_only';
end $$;

create trigger ledger_append_only before update or delete or truncate on billing.ledger_entries
    for each statement execute function billing.refuse_change();
create trigger ledger_append_only before update or delete or truncate on billing.ledger_transactions
    for each statement execute function billing.refuse_change();

alter table billing.ledger_transactions enable row level security;
create policy own_rows on billing.ledger_transactions to weir_billing_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select on billing.ledger_transactions to weir_billing_tenant;

alter table billing.ledger_entries enable row level security;
create policy own_rows on billing.ledger_entries to weir_billing_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
grant select on billing.ledger_entries to weir_billing_tenant;
