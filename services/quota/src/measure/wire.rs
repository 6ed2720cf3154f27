//! Packed commands over plain connections.

use std::io;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// So many connections take turns; each waits for its answers before it goes on.
const CONNECTIONS: usize = 8;

/// One write, and how many answers it gets.
pub(super) struct Flight {
    pub(super) bytes: Vec<u8>,
    pub(super) answers: usize,
}

pub(super) async fn run(address: &str, flights: Vec<Flight>) -> io::Result<()> {
    let share = flights.len().div_ceil(CONNECTIONS).max(1);
    let runs = flights.chunks(share).map(|flights| async move {
        let mut wire = Wire::connect(address).await?;
        for flight in flights {
            wire.fly(flight).await?;
        }
        Ok(())
    });
    try_join_all(runs).await.map(drop)
}

/// One after the other; how long each takes.
pub(super) async fn times(address: &str, flights: Vec<Flight>) -> io::Result<Vec<Duration>> {
    let mut wire = Wire::connect(address).await?;
    let mut times = Vec::with_capacity(flights.len());
    for flight in &flights {
        let started = Instant::now();
        wire.fly(flight).await?;
        times.push(started.elapsed());
    }
    Ok(times)
}

/// One connection.
struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 1 << 18] })
    }

    async fn fly(&mut self, flight: &Flight) -> io::Result<()> {
        let Self { stream, buffer } = self;
        stream.write_all(&flight.bytes).await?;
        let (mut filled, mut scanned, mut missing) = (0, 0, flight.answers);
        while missing > 0 {
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            while missing > 0
                && let Some(length) = answer(&buffer[scanned..filled])?
            {
                scanned += length;
                missing -= 1;
            }
        }
        Ok(())
    }
}

/// The length of the first answer, if all of it is there.
fn answer(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = memchr(bytes) else { return Ok(None) };
    let line = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    let (kind, text) = line.split_at_checked(1).unwrap_or_default();
    let number = || text.parse::<usize>().unwrap_or(0);
    let rest = end + 2;
    match kind {
        "-" => Err(io::Error::other(line.to_owned())),
        "$" if text == "-1" => Ok(Some(rest)),
        "$" => Ok(Some(rest + number() + 2).filter(|length| *length <= bytes.len())),
        "*" => {
            let mut at = rest;
            for _ in 0..number() {
                match answer(&bytes[at..])? {
                    Some(length) => at += length,
                    None => return Ok(None),
                }
            }
            Ok(Some(at))
        }
        _ => Ok(Some(rest)),
    }
}

/// Where the first line ends.
fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\r\n")
}
