//! A Redis whose clock a test sets, and whose connections it cuts at a step it names.
//!
//! A relay between the engines and a real Redis. Scripts are rewritten so that their `TIME` is what the test says, the command
//! `TIME` likewise; nothing else is changed, so the real scripts run on a real server.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use weir_quota::domain::Millis;
use weir_redis::redis::{Script, pipe};

/// Where the time stands, in milliseconds.
const NOW: &str = "test:now";
/// Hands scripts the test's time; everything else is the server's.
const PRELUDE: &str = "local server = redis
local redis = setmetatable({call = function(name, ...)
  if name ~= 'TIME' then return server.call(name, ...) end
  local now = server.call('GET', 'test:now')
  return {string.sub(now, 1, -4), string.sub(now, -3) .. '000'}
end}, {__index = server})
";

/// At which of the scripts that are run next a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// After so many others.
    pub(crate) at: usize,
    /// Whether the server still gets it; nobody sees its answer.
    pub(crate) received: bool,
}

/// The relay before a server.
pub(crate) struct TimedRedis {
    server: String,
    url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// The hash of a script as the engine knows it, and as the server does.
    hashes: Mutex<HashMap<Vec<u8>, String>>,
    cut: Mutex<Option<Cut>>,
    /// Of whose scripts, by a part of their first key; all if it is empty.
    whose: Mutex<Vec<u8>>,
}

type Command = Vec<Vec<u8>>;

impl TimedRedis {
    /// Before the server at this URL.
    pub(crate) async fn start(server: &str, now: Millis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (scheme, rest) = server.split_once("://").unwrap();
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, target) = host.rsplit_once('@').map_or((String::new(), host), |(user, at)| (format!("{user}@"), at));
        let target = target.to_owned();
        let url = format!("{scheme}://{user}{}/{path}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let relaying = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else { continue };
                let shared = Arc::clone(&relaying);
                tokio::spawn(async move { drop(Relay::new(client, server, shared).run().await) });
            }
        });
        let this = Self { server: server.to_owned(), url, shared, accepting };
        this.set(now).await;
        this
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sets the clock.
    pub(crate) async fn set(&self, now: Millis) {
        let mut pipeline = pipe();
        pipeline.cmd("SET").arg(NOW).arg(now);
        self.send(&pipeline).await;
    }

    /// Loses all data, but not the time.
    pub(crate) async fn lose(&self, now: Millis) {
        let mut pipeline = pipe();
        pipeline.atomic().cmd("FLUSHDB").cmd("SET").arg(NOW).arg(now);
        self.send(&pipeline).await;
    }

    /// Breaks a connection once; none takes an order back that was not carried out.
    pub(crate) fn cut(&self, cut: Option<Cut>) {
        self.cut_of("", cut);
    }

    /// Only at scripts whose first key has this in it.
    pub(crate) fn cut_of(&self, key: &str, cut: Option<Cut>) {
        *self.shared.whose.lock() = key.as_bytes().to_vec();
        *self.shared.cut.lock() = cut;
    }

    /// Whether a cut is still to come.
    pub(crate) fn is_due(&self) -> bool {
        self.shared.cut.lock().is_some()
    }

    async fn send(&self, pipeline: &weir_redis::Pipeline) {
        let client = weir_redis::redis::Client::open(self.server.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        pipeline.query_async::<()>(&mut connection).await.unwrap();
    }
}

impl Drop for TimedRedis {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection.
struct Relay {
    client: (BufReader<OwnedReadHalf>, OwnedWriteHalf),
    server: (BufReader<OwnedReadHalf>, OwnedWriteHalf),
    shared: Arc<Shared>,
    transaction: Transaction,
}

/// What a connection has queued, to be run by one command.
#[derive(Default)]
struct Transaction {
    is_open: bool,
    /// The first key of a script in it.
    script: Option<Vec<u8>>,
}

impl Transaction {
    /// The first key of the script that this command runs.
    fn script(&mut self, command: &Command) -> Option<Vec<u8>> {
        let is = |name: &[u8]| command[0].eq_ignore_ascii_case(name);
        if is(b"EXEC") {
            return std::mem::take(self).script;
        }
        self.is_open |= is(b"MULTI");
        let script = is(b"EVALSHA").then(|| command.get(3).cloned()).flatten();
        if self.is_open {
            self.script = self.script.take().or(script);
            return None;
        }
        script
    }
}

impl Relay {
    fn new(client: TcpStream, server: TcpStream, shared: Arc<Shared>) -> Self {
        let halves = |stream: TcpStream| {
            stream.set_nodelay(true).unwrap();
            let (read, write) = stream.into_split();
            (BufReader::new(read), write)
        };
        Self { client: halves(client), server: halves(server), shared, transaction: Transaction::default() }
    }

    /// One command after the other until an end hangs up or a cut is due.
    async fn run(mut self) -> std::io::Result<()> {
        loop {
            let mut command = read_command(&mut self.client.0).await?;
            let told = self.shared.rewrite(&mut command);
            let cut = self.transaction.script(&command).and_then(|key| self.shared.due(&key));
            if cut.is_some_and(|cut| !cut.received) {
                return Ok(());
            }
            self.server.1.write_all(&encode(&command)).await?;
            let mut reply = Vec::new();
            read_reply(&mut self.server.0, &mut reply).await?;
            if cut.is_some() {
                return Ok(());
            }
            self.client.1.write_all(&told.unwrap_or(reply)).await?;
        }
    }
}

impl Shared {
    /// Answers what the engine must be told instead of the server's answer.
    fn rewrite(&self, command: &mut Command) -> Option<Vec<u8>> {
        let name = command[0].to_ascii_uppercase();
        match name.as_slice() {
            b"TIME" => {
                let script = format!("{PRELUDE}return redis.call('TIME')");
                *command = vec![b"EVAL".to_vec(), script.into_bytes(), b"0".to_vec()];
            }
            b"EVAL" => command[1] = timed(&command[1]).1.into_bytes(),
            b"SCRIPT" if command[1].eq_ignore_ascii_case(b"LOAD") => {
                let (hash, text) = timed(&command[2]);
                let told = format!("$40\r\n{hash}\r\n");
                self.hashes.lock().insert(hash.into_bytes(), Script::new(&text).get_hash().to_owned());
                command[2] = text.into_bytes();
                return Some(told.into_bytes());
            }
            b"EVALSHA" => {
                if let Some(hash) = self.hashes.lock().get(&command[1]) {
                    command[1] = hash.clone().into_bytes();
                }
            }
            _ => {}
        }
        None
    }

    /// When a script is run that has this key.
    fn due(&self, key: &[u8]) -> Option<Cut> {
        let mut next = self.cut.lock();
        let whose = self.whose.lock();
        let is_theirs = whose.is_empty() || key.windows(whose.len()).any(|part| part == *whose);
        let cut = next.as_mut().filter(|_| is_theirs)?;
        if cut.at > 0 {
            cut.at -= 1;
            return None;
        }
        next.take()
    }
}

/// A script's hash, and its text with the test's time.
fn timed(text: &[u8]) -> (String, String) {
    let text = std::str::from_utf8(text).unwrap();
    (Script::new(text).get_hash().to_owned(), format!("{PRELUDE}{text}"))
}

async fn read_command(stream: &mut BufReader<OwnedReadHalf>) -> std::io::Result<Command> {
    let count = number(&line(stream).await?);
    let mut command = Vec::new();
    for _ in 0..count {
        let length = number(&line(stream).await?);
        let mut argument = vec![0; usize::try_from(length).unwrap() + 2];
        stream.read_exact(&mut argument).await?;
        argument.truncate(argument.len() - 2);
        command.push(argument);
    }
    Ok(command)
}

fn encode(command: &Command) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
        bytes.extend(argument);
        bytes.extend(b"\r\n");
    }
    bytes
}

/// Reads one reply of RESP2 or RESP3, however deep.
async fn read_reply(stream: &mut BufReader<OwnedReadHalf>, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    let mut values = 1;
    while values > 0 {
        values -= 1;
        let head = line(stream).await?;
        bytes.extend(&head);
        match head[0] {
            b'$' | b'=' | b'!' if number(&head) >= 0 => {
                let from = bytes.len();
                bytes.resize(from + usize::try_from(number(&head)).unwrap() + 2, 0);
                stream.read_exact(&mut bytes[from..]).await?;
            }
            b'*' | b'~' | b'>' => values += number(&head).max(0),
            b'%' => values += 2 * number(&head),
            _ => {}
        }
    }
    Ok(())
}

async fn line(stream: &mut BufReader<OwnedReadHalf>) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line).await?;
    if line.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(line) }
}

fn number(line: &[u8]) -> i64 {
    std::str::from_utf8(&line[1..]).unwrap().trim().parse().unwrap()
}
