//! How messages become frames and come back; and how, between two services of one process, they do not.
//!
//! tonic's clients and servers read each other's bodies frame by frame. Where both are in one process the reader polls the
//! writer's body by itself, so that a message is written and read within one poll, on one thread. There [`hand_over`] lets it be
//! passed as it is: the frame carries a ticket in its place. Everything around it stays as between processes: headers, deadlines,
//! the order of messages, the end of a stream.

use std::any::Any;
use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::marker::PhantomData;

use bytes::{Buf as _, BufMut as _};
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// What buffers have at first, in bytes: a message reserves what it needs.
const AT_FIRST: usize = 256;
/// A stream's messages that are ready are sent together up to this; tonic's own default.
const TOGETHER: usize = 32 << 10;

/// Stands for a message that is handed over. Its first byte is no tag of a field, so that it is never taken for a message.
type Ticket = [u8; 8];

/// A message on its way from a writer to a reader.
struct Handed {
    ticket: Ticket,
    message: Box<dyn Any + Send>,
}

/// What the writer that is being polled may do.
#[derive(Default)]
enum Desk {
    /// Its reader is somewhere else.
    #[default]
    Closed,
    /// Its reader is here.
    Open,
    /// It has handed over a message.
    Taken(Handed),
}

thread_local! {
    static DESK: Cell<Desk> = const { Cell::new(Desk::Closed) };
    /// What the frame that was read last stands for.
    static ARRIVED: Cell<Option<Handed>> = const { Cell::new(None) };
    /// Begins anywhere, so that a ticket can't be made up.
    static NEXT: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
}

/// Runs `poll`, which polls a body for its next frame, so that the message in it is handed over instead of being encoded. Only for
/// who gives that frame to a reader of this process at once.
pub fn hand_over<R>(poll: impl FnOnce() -> R) -> R {
    /// Also if it panics: what another process reads must be encoded.
    struct Restore(Desk);
    impl Drop for Restore {
        fn drop(&mut self) {
            let handed = match DESK.replace(std::mem::take(&mut self.0)) {
                Desk::Taken(handed) => Some(handed),
                Desk::Closed | Desk::Open => None,
            };
            ARRIVED.set(handed);
        }
    }
    let _restore = Restore(DESK.replace(Desk::Open));
    poll()
}

fn ticket() -> Ticket {
    let next = NEXT.get().wrapping_add(1);
    NEXT.set(next);
    (next >> 8).to_be_bytes()
}

/// The codec of all our services: Protocol Buffers between processes, nothing within one.
#[derive(Debug, Clone)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Writer<T>;
    type Decoder = Reader<U>;

    fn encoder(&mut self) -> Writer<T> {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Reader<U> {
        Reader(PhantomData)
    }
}

/// Writes messages, or hands them over.
#[derive(Debug, Clone)]
pub struct Writer<T>(PhantomData<T>);

impl<T: Message + Send + 'static> Encoder for Writer<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match DESK.take() {
            Desk::Open => {
                let ticket = ticket();
                DESK.set(Desk::Taken(Handed { ticket, message: Box::new(message) }));
                buffer.put_slice(&ticket);
            }
            desk => {
                DESK.set(desk);
                buffer.reserve(message.encoded_len());
                message.encode_raw(buffer);
            }
        }
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        let desk = DESK.take();
        // A message that is handed over has a frame to itself.
        let together = if matches!(desk, Desk::Closed) { TOGETHER } else { 1 };
        DESK.set(desk);
        BufferSettings::new(AT_FIRST, together)
    }
}

/// Reads messages, or takes them as they are.
#[derive(Debug, Clone)]
pub struct Reader<U>(PhantomData<U>);

impl<U: Message + Default + Send + 'static> Decoder for Reader<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if let Some(Handed { ticket, message }) = ARRIVED.take()
            && buffer.chunk() == ticket
        {
            buffer.advance(ticket.len());
            let message = message.downcast::<U>().map_err(|_| Status::internal("another message was handed over"))?;
            return Ok(Some(*message));
        }
        U::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(AT_FIRST, TOGETHER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk_is_open() -> bool {
        let desk = DESK.take();
        let open = matches!(desk, Desk::Open);
        DESK.set(desk);
        open
    }

    #[test]
    fn what_is_polled_for_a_reader_elsewhere_is_encoded_also_after_a_panic() {
        assert!(!desk_is_open());
        hand_over(|| {
            assert!(desk_is_open());
            hand_over(|| assert!(desk_is_open()));
            assert!(desk_is_open(), "one within another");
        });
        assert!(!desk_is_open());
        let panicked = std::panic::catch_unwind(|| hand_over(|| panic!("a defect")));
        assert!(panicked.is_err() && !desk_is_open());
    }

    #[test]
    fn a_ticket_is_never_a_message() {
        for _ in 0..1000 {
            let ticket = ticket();
            assert_eq!(ticket[0], 0, "the tag of no field");
            assert!(crate::common::v1::Amount::decode(ticket.as_slice()).is_err(), "{ticket:?}");
        }
    }
}
