//! What came of a call, as it is kept and repeated.

use bytes::Bytes;
use prost::Message as _;
use weir_proto::broker::v1::stream_invoke_response::Part;
use weir_proto::broker::v1::{Accounting, InvokeResponse, StreamStart};
use weir_proto::common::v1::ErrorReason;
use weir_rpc::Error;

use crate::domain::idempotency::Keyed;

/// An answer, or a refusal that is not to be tried again.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Kept {
    /// Of a stream, all of its chunks.
    #[prost(bytes = "bytes", tag = "1")]
    body: Bytes,
    #[prost(string, tag = "2")]
    content_type: String,
    #[prost(message, optional, tag = "3")]
    accounting: Option<Accounting>,
    /// Why it was refused; 0 if it was not.
    #[prost(enumeration = "ErrorReason", tag = "4")]
    reason: i32,
    #[prost(string, tag = "5")]
    message: String,
}

impl Kept {
    /// A whole answer, with what is said of it at its end.
    pub(crate) fn answer(body: Bytes, content_type: String, accounting: Option<Accounting>) -> Self {
        Self { body, content_type, accounting, ..Self::default() }
    }

    pub(super) fn refused(error: &Error) -> Self {
        Self { reason: error.reason().into(), message: error.message().to_owned(), ..Self::default() }
    }

    /// For the store; none if it is longer than `most`.
    pub(super) fn encoded(&self, most: usize) -> Option<Vec<u8>> {
        (self.body.len() <= most).then(|| self.encode_to_vec())
    }

    /// What was kept for this call; none if it can't be opened.
    pub(super) fn open(keyed: &Keyed, sealed: Vec<u8>) -> Option<Self> {
        Self::decode(Bytes::from(keyed.seal.open(&keyed.name, sealed)?)).ok()
    }

    /// The call was refused when it was made.
    fn check(self) -> Result<Self, Error> {
        match self.reason() {
            ErrorReason::Unspecified => Ok(self),
            reason => Err(Error::new(reason, self.message)),
        }
    }

    fn accounting(&self) -> Accounting {
        Accounting { replayed: true, ..self.accounting.clone().unwrap_or_default() }
    }

    /// The answer once more.
    pub(crate) fn replay(self) -> Result<InvokeResponse, Error> {
        let kept = self.check()?;
        let accounting = Some(kept.accounting());
        Ok(InvokeResponse { body: kept.body, content_type: kept.content_type, accounting })
    }

    /// The answer once more, as the parts of a stream.
    pub(crate) fn replay_stream(self) -> Result<Vec<Part>, Error> {
        let kept = self.check()?;
        let accounting = kept.accounting();
        let start = StreamStart { content_type: kept.content_type, accounting: Some(accounting.clone()) };
        Ok(vec![Part::Start(start), Part::Chunk(kept.body), Part::Accounting(accounting)])
    }
}
