//! Rows of `usage.events`: written in PostgreSQL's binary COPY format, read back from queries.

use bytes::{BufMut as _, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::{Entry, Event, Outcome, PayloadHash, Recorded};

/// The columns, in the order that [`CopyRows`] writes and [`recorded`] reads.
pub const COLUMNS: &str = "organization_id, event_id, user_id, api_key_id, event_time, position, input_tokens, \
     cached_input_tokens, output_tokens, cost_nano_usd, latency_ms, first_byte_ms, revision, outcome, estimated, \
     payload_hash, source, provider, model, operation, price_version, request_id, quantities, provider_key_id, requests";
const COLUMN_COUNT: i16 = 25;

/// Microseconds from 1970 to PostgreSQL's epoch, the year 2000.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
/// The version byte that precedes the text of a `jsonb`.
const JSONB_VERSION: u8 = 1;
/// More than a row usually takes.
const ROW_BYTES: usize = 512;
const PART_BYTES: usize = 32 << 10;

/// The data of one `COPY usage.events FROM STDIN BINARY`, in parts.
///
/// Written by hand because `tokio_postgres::binary_copy` goes through a trait object for each value and sends a
/// message for every 4 KiB; the format is in the manual, under COPY, "Binary Format".
#[derive(Debug)]
pub struct CopyRows(BytesMut);

impl CopyRows {
    /// The header.
    #[must_use]
    pub fn begin() -> Self {
        let mut bytes = BytesMut::with_capacity(PART_BYTES + ROW_BYTES);
        bytes.put_slice(b"PGCOPY\n\xff\r\n\0");
        bytes.put_i32(0); // flags
        bytes.put_i32(0); // length of the header's extension
        Self(bytes)
    }

    /// Adds `entry` at `position` of the feed.
    pub fn push(&mut self, entry: &Entry, position: i64, revision: i32) {
        let event = &entry.event;
        let out = &mut self.0;
        out.put_i16(COLUMN_COUNT);
        uuid(out, Some(event.organization.as_uuid()));
        uuid(out, Some(event.id.as_uuid()));
        uuid(out, event.user.as_ref().map(weir_types::UserId::as_uuid));
        uuid(out, event.api_key.as_ref().map(weir_types::ApiKeyId::as_uuid));
        bigint(out, event.event_time.timestamp_micros() - POSTGRES_EPOCH);
        bigint(out, position);
        bigint(out, event.input_tokens);
        bigint(out, event.cached_input_tokens);
        bigint(out, event.output_tokens);
        bigint(out, event.cost_nano_usd);
        bigint(out, event.latency_ms);
        bigint(out, event.first_byte_ms);
        out.put_i32(4);
        out.put_i32(revision);
        out.put_i32(2);
        out.put_i16(event.outcome.code());
        out.put_i32(1);
        out.put_u8(u8::from(event.estimated));
        field(out, &entry.hash().0);
        for text in
            [&event.source, &event.provider, &event.model, &event.operation, &event.price_version, &event.request_id]
        {
            field(out, text.as_bytes());
        }
        if event.quantities.is_empty() {
            out.put_i32(-1);
        } else {
            let json = serde_json::json!(event.quantities).to_string();
            out.put_i32(length(json.len() + 1));
            out.put_u8(JSONB_VERSION);
            out.put_slice(json.as_bytes());
        }
        uuid(out, event.provider_key.as_ref().map(weir_types::ProviderKeyId::as_uuid));
        bigint(out, event.requests);
    }

    /// What there is to send, once it is worth it: the server works on it while the next rows are written.
    pub fn part(&mut self) -> Option<Bytes> {
        if self.0.len() < PART_BYTES {
            return None;
        }
        let part = self.0.split().freeze();
        self.0.reserve(PART_BYTES + ROW_BYTES);
        Some(part)
    }

    /// The rest, with the trailer.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        self.0.put_i16(-1);
        self.0.freeze()
    }
}

fn length(bytes: usize) -> i32 {
    // Names are validated to be short; a row that is too long must fail, not wrap around.
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

fn field(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(length(bytes.len()));
    out.put_slice(bytes);
}

fn uuid(out: &mut BytesMut, id: Option<&Uuid>) {
    match id {
        Some(id) => field(out, id.as_bytes()),
        None => out.put_i32(-1),
    }
}

fn bigint(out: &mut BytesMut, number: i64) {
    out.put_i32(8);
    out.put_i64(number);
}

/// An event as the table holds it, read from a row of [`COLUMNS`].
///
/// # Errors
/// When the row is not of that shape.
pub fn recorded(row: &Row) -> Result<Recorded, tokio_postgres::Error> {
    let quantities: Option<tokio_postgres::types::Json<_>> = row.try_get(22)?;
    Ok(Recorded {
        event: Event {
            organization: row.try_get::<_, Uuid>(0)?.into(),
            id: row.try_get::<_, Uuid>(1)?.into(),
            user: row.try_get::<_, Option<Uuid>>(2)?.map(Into::into),
            api_key: row.try_get::<_, Option<Uuid>>(3)?.map(Into::into),
            event_time: row.try_get::<_, DateTime<Utc>>(4)?,
            input_tokens: row.try_get(6)?,
            cached_input_tokens: row.try_get(7)?,
            output_tokens: row.try_get(8)?,
            cost_nano_usd: row.try_get(9)?,
            latency_ms: row.try_get(10)?,
            first_byte_ms: row.try_get(11)?,
            // Only codes of `Outcome` are ever written; one from a newer version reads as what it is to us.
            outcome: Outcome::from_code(row.try_get(13)?).unwrap_or(Outcome::Unknown),
            estimated: row.try_get(14)?,
            source: row.try_get(16)?,
            provider: row.try_get(17)?,
            model: row.try_get(18)?,
            operation: row.try_get(19)?,
            price_version: row.try_get(20)?,
            request_id: row.try_get(21)?,
            quantities: quantities.map(|json| json.0).unwrap_or_default(),
            provider_key: row.try_get::<_, Option<Uuid>>(23)?.map(Into::into),
            requests: row.try_get(24)?,
        },
        revision: row.try_get(12)?,
        hash: PayloadHash(hash(row.try_get(15)?)),
    })
}

/// The feed position of a row of [`COLUMNS`].
///
/// # Errors
/// When the row is not of that shape.
pub fn position(row: &Row) -> Result<i64, tokio_postgres::Error> {
    row.try_get(5)
}

fn hash(bytes: &[u8]) -> [u8; 16] {
    // A hash of another length equals no hash of ours, and neither does this.
    bytes.try_into().unwrap_or([0; 16])
}
