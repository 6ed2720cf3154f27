use weir_config::{MasterKey, Secret};

use crate::role;

/// The purpose for which a role's password is derived from the deployment's master key.
fn purpose(service: &str) -> String {
    format!("postgres/{}", role(service))
}

pub(crate) fn password(master: &MasterKey, service: &str) -> String {
    master.derive_password(&purpose(service))
}

/// The same server and database as `admin_url`, with the service's role and password.
///
/// A URL that can't be parsed is returned as it is: connecting with it says what is wrong.
pub fn service_url(admin_url: &Secret, master: &MasterKey, service: &str) -> Secret {
    let user = role(service);
    let password = password(master, service);
    let Ok(mut url) = url::Url::parse(admin_url.expose()) else { return admin_url.clone() };
    // A URL without a host (a socket in its query) has no place for credentials but the query.
    if url.set_username(&user).is_err() || url.set_password(Some(&password)).is_err() {
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(name, _)| name != "user" && name != "password")
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        url.query_pairs_mut().clear().extend_pairs(kept).append_pair("user", &user).append_pair("password", &password);
    }
    Secret::from(String::from(url))
}

/// Whether Postgres's URL syntax and the options that both drivers know are kept.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("must begin with postgres://".to_owned());
    }
    crate::copy::parse(text).map(drop)
}
