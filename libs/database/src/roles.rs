//! A service's roles and schema.

use std::time::Duration;

use postgres_protocol::password::scram_sha_256;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::time::sleep;

use crate::{Error, role, tenant_role};

/// Databases of one server migrate at the same time, but roles belong to the server: how often a lost race is run again.
const ATTEMPTS: u32 = 20;

/// Creates the service's role (with this password), its tenants' role and its schema, where they are missing.
pub(crate) async fn ensure(connection: &mut PgConnection, service: &str, password: &str) -> Result<(), Error> {
    if !service.starts_with(|c: char| c.is_ascii_lowercase())
        || !service.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    {
        return Err(Error::internal(format!("{service:?} can't name a schema")));
    }
    // The server gets a verifier, not the password: statements end up in logs.
    let verifier = scram_sha_256(password.as_bytes());
    let script = script(service, &verifier);
    for attempt in 1.. {
        match connection.execute(AssertSqlSafe(script.as_str())).await {
            Ok(_) => break,
            Err(error) if attempt < ATTEMPTS && lost_race(&error) => {
                // Leaves the failed transaction that the script has begun.
                connection.execute("rollback").await?;
                sleep(Duration::from_millis(u64::from(10 * attempt))).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// In one transaction, by one simple query.
fn script(service: &str, verifier: &str) -> String {
    let owner = role(service);
    let tenant = tenant_role(service);
    format!(
        "begin;
        do $$ begin
            if not exists (select from pg_roles where rolname = '{owner}') then
                create role {owner} login;
            end if;
            if not exists (select from pg_roles where rolname = '{tenant}') then
                create role {tenant} nologin;
            end if;
        end $$;
        alter role {owner} with login password '{verifier}';
        alter role {owner} set statement_timeout = '60s';
        alter role {owner} set idle_in_transaction_session_timeout = '60s';
        grant {tenant} to {owner};
        do $$ begin
            -- To create the schema for the role and to run its migrations one must be its member. Since Postgres 16 whoever
            -- creates a role may make itself one, but isn't yet.
            if not (select rolsuper from pg_roles where rolname = current_user) then
                grant {owner} to current_user;
            end if;
            if not has_database_privilege('{owner}', current_database(), 'connect') then
                execute format('grant connect on database %I to {owner}', current_database());
            end if;
        end $$;
        create schema if not exists {service} authorization {owner};
        set local role {owner};
        grant usage on schema {service} to {tenant};
        commit"
    )
}

fn lost_race(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    match error.code().as_deref() {
        // The role or the membership came into being after we looked.
        Some("42710" | "23505") => true,
        // "tuple concurrently updated", which has no code of its own.
        Some("XX000") => error.message().contains("concurrently"),
        Some("40001" | "40P01") => true,
        _ => false,
    }
}
