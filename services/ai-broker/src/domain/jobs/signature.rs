//! Signatures of webhooks (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use weir_config::MasterKey;
use weir_types::OrganizationId;

/// A secret that signs; 32 bytes.
#[derive(Clone)]
pub(crate) struct WebhookSecret([u8; 32]);

impl WebhookSecret {
    /// The tenant's secret of this version. Nobody else can derive it, and it lies nowhere.
    pub(crate) fn derive(master: &MasterKey, organization: OrganizationId, version: i32) -> Self {
        Self(master.derive(&format!("webhooks/{organization}/{version}")))
    }

    /// As receivers configure it.
    pub(crate) fn expose(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.0))
    }

    /// The signature of one message, sent at `timestamp` (seconds since 1970).
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_signed_as_the_specification_says() {
        // Made with Python: base64(hmac.new(bytes(range(32)), b"msg_1.1700000000.{}", sha256).digest()).
        let secret = WebhookSecret(std::array::from_fn(|n| u8::try_from(n).expect("small")));
        assert_eq!(secret.sign("msg_1", 1_700_000_000, b"{}"), "v1,fhksJF5ElKjlPoT/jtefCO5XjQPvhf7Dhf/8R1ad9yU=");
        assert_eq!(secret.expose(), "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        assert!(!format!("{secret:?}").contains("AAEC"));
    }

    #[test]
    fn each_tenant_and_version_has_its_own() {
        let master = MasterKey::from_base64("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("a key");
        let ours = OrganizationId::new_v7();
        let text = |organization, version| WebhookSecret::derive(&master, organization, version).expose();
        assert_eq!(text(ours, 1), text(ours, 1));
        assert_ne!(text(ours, 1), text(ours, 2));
        assert_ne!(text(ours, 1), text(OrganizationId::new_v7(), 1));
    }
}
