-- Who is calling. Every table that belongs to a tenant has row-level security for the role that tenant requests run
-- as, and that role can't read a single hash: a query that forgets its filter, or is bent by its input, still finds
-- the rows of one organisation only, and no secrets among them.

create table auth.organizations (
    id           uuid primary key,
    display_name text not null check (char_length(display_name) between 1 and 120),
    created_at   timestamptz not null
);
create index organizations_by_age on auth.organizations (created_at, id);

create table auth.users (
    id              uuid primary key,
    organization_id uuid not null references auth.organizations (id),
    email           text not null,
    -- The address in lower case by Unicode's rules, made by the service: lower() depends on the collation.
    email_key       text not null,
    display_name    text not null check (char_length(display_name) <= 120),
    role            text not null check (role in ('member', 'admin')),
    -- PHC string (argon2id); null for who never signs in with a password.
    password_hash   text,
    created_at      timestamptz not null,
    disabled_at     timestamptz,
    constraint users_email_key unique (email_key),
    -- Also the order of lists.
    constraint users_of_organization unique (organization_id, id)
);

create table auth.api_keys (
    id              uuid primary key,
    organization_id uuid not null references auth.organizations (id),
    user_id         uuid,
    display_name    text not null check (char_length(display_name) <= 120),
    scopes          text[] not null check (cardinality(scopes) > 0),
    -- SHA-256 of the key's whole text.
    secret_hash     bytea not null check (octet_length(secret_hash) = 32),
    created_at      timestamptz not null,
    expires_at      timestamptz,
    revoked_at      timestamptz,
    rotated_to      uuid references auth.api_keys (id),
    -- An owner of another organisation is impossible, not just unlikely.
    foreign key (organization_id, user_id) references auth.users (organization_id, id),
    constraint api_keys_of_organization unique (organization_id, id)
);

-- What verifiers must hear of. Rows are deleted once no token is left that they could stop.
create table auth.revocations (
    -- In the order of commits: see storage/revocations.rs.
    sequence        bigint generated always as identity primary key,
    organization_id uuid not null references auth.organizations (id),
    subject_kind    text not null check (subject_kind in ('api_key', 'user')),
    subject_id      uuid not null,
    effective_at    timestamptz not null,
    -- Whether it was written before it holds. What holds at once holds wherever it is read, whatever the clock says there.
    ahead           boolean not null,
    matters_until   timestamptz not null
);

-- Keys that sign principal tokens. Of no tenant.
create table auth.signing_keys (
    -- The `kid`: RFC 7638 thumbprint.
    id           text primary key,
    public_key   bytea not null check (octet_length(public_key) = 32),
    -- Nonce, ciphertext and tag (AES-256-GCM, the id as associated data) of the seed.
    sealed_seed  bytea not null,
    state        text not null check (state in ('next', 'current', 'retired')),
    created_at   timestamptz not null,
    activated_at timestamptz,
    -- Until when a token signed by a retired key could be alive.
    verify_until timestamptz,
    check ((state = 'retired') = (verify_until is not null)),
    check ((state = 'next') = (activated_at is null))
);
create unique index signing_keys_one_current on auth.signing_keys (state) where state = 'current';
create unique index signing_keys_one_next on auth.signing_keys (state) where state = 'next';

-- Who did what, written in the transaction that did it.
create table auth.audit_log (
    id              bigint generated always as identity primary key,
    -- Null where no organisation is concerned, or none is known.
    organization_id uuid,
    at              timestamptz not null,
    actor           text not null,
    action          text not null,
    target          text not null,
    detail          text not null
);
create index audit_log_of_organization on auth.audit_log (organization_id, id);
create index audit_log_by_age on auth.audit_log (at);

grant select on auth.organizations to weir_auth_tenant;
grant select (id, organization_id, email, display_name, role, created_at, disabled_at) on auth.users to weir_auth_tenant;
grant insert on auth.users to weir_auth_tenant;
grant update (disabled_at) on auth.users to weir_auth_tenant;
grant select (id, organization_id, user_id, display_name, scopes, created_at, expires_at, revoked_at, rotated_to)
    on auth.api_keys to weir_auth_tenant;
grant insert on auth.api_keys to weir_auth_tenant;
grant update (expires_at, revoked_at, rotated_to) on auth.api_keys to weir_auth_tenant;
grant insert, select on auth.revocations to weir_auth_tenant;
grant insert, select on auth.audit_log to weir_auth_tenant;

alter table auth.organizations enable row level security;
alter table auth.users enable row level security;
alter table auth.api_keys enable row level security;
alter table auth.revocations enable row level security;
alter table auth.audit_log enable row level security;
alter table auth.signing_keys enable row level security; -- no policy: no tenant sees any

create policy tenant on auth.organizations to weir_auth_tenant
    using (id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on auth.users to weir_auth_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on auth.api_keys to weir_auth_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on auth.revocations to weir_auth_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
create policy tenant on auth.audit_log to weir_auth_tenant
    using (organization_id = nullif(current_setting('weir.organization', true), '')::uuid);
