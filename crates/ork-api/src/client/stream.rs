//! Answers that come in pieces: NDJSON and server-sent events.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::{Request, header};
use http_body_util::BodyExt as _;

use super::{Body, Client, ClientError, Result, read};
use crate::encode::query;
use crate::problem::Code;
use crate::types::{Event, LogChunk, LogLine, Reset, StreamQuery};

/// The longest line or block of a stream, in bytes.
const MAX_PIECE: usize = 8 << 20;

/// How long the stream waits before it connects again, try by try.
const BACK_OFF: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// How long the stream may be silent: three keep-alive comments.
const SILENCE: Duration = Duration::from_secs(45);

/// The pieces of a body as they come. Dropping a call that waits loses nothing.
struct Pieces {
    body: Body,
    end: &'static [u8],
    buffer: BytesMut,
    searched: usize,
}

impl Pieces {
    fn new(body: Body, end: &'static [u8]) -> Self {
        Self { body, end, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next piece without its end; none at the body's end.
    async fn next(&mut self) -> Result<Option<BytesMut>> {
        loop {
            if let Some(piece) = self.take() {
                return Ok(Some(piece));
            }
            if self.buffer.len() > MAX_PIECE {
                let message = format!("the server sent a piece of over {MAX_PIECE} bytes");
                return Err(ClientError::Unexpected(message));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| {
                ClientError::Unreachable(format!("the stream broke off: {error}"))
            })?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    fn take(&mut self) -> Option<BytesMut> {
        let width = self.end.len();
        let from = self.searched.saturating_sub(width - 1);
        let found = self.buffer[from..].windows(width).position(|window| window == self.end);
        self.searched = if found.is_some() { 0 } else { self.buffer.len() };
        let piece = self.buffer.split_to(from + found?);
        self.buffer.advance(width);
        Some(piece)
    }
}

/// The lines of an attempt as they come.
pub struct LogStream {
    lines: Pieces,
}

impl LogStream {
    pub(super) fn new(body: Body) -> Self {
        Self { lines: Pieces::new(body, b"\n") }
    }

    /// The next line; none when the attempt has ended. Dropping a call that waits loses nothing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<LogLine>> {
        while let Some(line) = self.lines.next().await? {
            if !line.is_empty() {
                return read(&line).map(Some);
            }
        }
        Ok(None)
    }
}

/// Something from the event stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Streamed {
    /// Its place; a stream opened after it goes on with what follows.
    pub id: String,
    /// What it is.
    pub item: StreamedItem,
}

/// What the event stream brings.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamedItem {
    /// Something happened in a run.
    Event(Box<Event>),
    /// Lines were written.
    Log(LogChunk),
    /// The stream could not go on from where it was: read the resources again.
    Reset(Reset),
}

/// The stream of events. It connects again by itself, from where it was.
pub struct EventStream {
    client: Client,
    topics: String,
    last_id: Option<String>,
    blocks: Option<Pieces>,
}

impl EventStream {
    pub(super) async fn open(
        client: Client,
        topics: &[String],
        last_id: Option<&str>,
    ) -> Result<Self> {
        let last_id = last_id.map(str::to_owned);
        let mut stream = Self { client, topics: topics.join(","), last_id, blocks: None };
        stream.connect().await?;
        Ok(stream)
    }

    /// The next thing on the stream. Dropping a call that waits loses nothing.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when the server could not be reached again after some
    /// seconds; a later call tries anew.
    pub async fn next(&mut self) -> Result<Streamed> {
        loop {
            if self.blocks.is_none() {
                self.reconnect().await?;
            }
            match self.block().await {
                Ok(Some(streamed)) => return Ok(streamed),
                Ok(None) | Err(ClientError::Unreachable(_)) => self.blocks = None,
                Err(error) => return Err(error),
            }
        }
    }

    async fn reconnect(&mut self) -> Result<()> {
        let mut result = Ok(());
        for wait in BACK_OFF {
            tokio::time::sleep(wait).await;
            result = self.connect().await;
            match &result {
                Err(ClientError::Unreachable(_)) => {}
                Err(error) if error.code() == Some(Code::Unavailable) => {}
                _ => break,
            }
        }
        result
    }

    async fn connect(&mut self) -> Result<()> {
        let wanted = StreamQuery { topics: self.topics.clone(), last_event_id: None };
        let mut request = Request::get(format!("/api/v1/events{}", query(&wanted)))
            .header(header::ACCEPT, "text/event-stream");
        if let Some(id) = &self.last_id {
            request = request.header("last-event-id", id);
        }
        let response =
            self.client.call(request.body(super::transport::at_hand(bytes::Bytes::new()))).await?;
        self.blocks = Some(Pieces::new(response.into_body(), b"\n\n"));
        Ok(())
    }

    /// Reads the next block that has data; none at the connection's end, or where it is silent.
    async fn block(&mut self) -> Result<Option<Streamed>> {
        loop {
            let Some(blocks) = &mut self.blocks else { return Ok(None) };
            let Ok(block) = tokio::time::timeout(SILENCE, blocks.next()).await else {
                return Ok(None);
            };
            let Some(block) = block? else { return Ok(None) };
            if let Some(item) = self.parse(&block)? {
                return Ok(Some(Streamed { id: self.last_id.clone().unwrap_or_default(), item }));
            }
        }
    }

    fn parse(&mut self, block: &[u8]) -> Result<Option<StreamedItem>> {
        let (mut kind, mut data) = (&b""[..], None);
        for line in block.split(|byte| *byte == b'\n') {
            match field(line) {
                (b"event", value) => kind = value,
                (b"id", value) => self.last_id = Some(String::from_utf8_lossy(value).into_owned()),
                (b"data", value) => data = Some(value),
                _ => {}
            }
        }
        let Some(data) = data else { return Ok(None) };
        Ok(Some(match kind {
            b"log" => StreamedItem::Log(read(data)?),
            b"reset" => StreamedItem::Reset(read(data)?),
            _ => StreamedItem::Event(Box::new(read(data)?)),
        }))
    }
}

/// A line's field and value; a comment's field is empty.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.iter().position(|byte| *byte == b':') {
        Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
        None => (line, b""),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use bytes::Bytes;
    use http::Response;
    use http_body_util::{Channel, Full};

    use super::*;
    use crate::client::{Transport, TransportError};

    #[tokio::test]
    async fn pieces_may_be_cut_anywhere() {
        let text = "a\n\nbc\n\n\nlast without end";
        for width in 1..text.len() {
            let (mut to, body) = Channel::<Bytes>::new(64);
            for chunk in text.as_bytes().chunks(width) {
                to.send_data(Bytes::copy_from_slice(chunk)).await.unwrap();
            }
            drop(to);
            let body = body.map_err(Into::into).boxed_unsync();
            let mut pieces = Pieces::new(body, b"\n\n");
            assert_eq!(pieces.next().await.unwrap().unwrap(), "a");
            assert_eq!(pieces.next().await.unwrap().unwrap(), "bc");
            assert_eq!(pieces.next().await.unwrap(), None);
        }
    }

    /// Gives each connection the next text, and notes the place it was asked to go on from.
    struct Script(Mutex<(Vec<&'static str>, Vec<Option<String>>)>);

    #[async_trait]
    impl Transport for Script {
        async fn send(
            &self,
            request: Request<Body>,
        ) -> std::result::Result<Response<Body>, TransportError> {
            let mut script = self.0.lock().unwrap();
            let id = request.headers().get("last-event-id");
            script.1.push(id.map(|id| id.to_str().unwrap().to_owned()));
            let text = script.0.remove(0);
            Ok(Response::new(Full::from(text).map_err(|never| match never {}).boxed_unsync()))
        }

        fn may_lose_answers(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn a_broken_stream_goes_on_after_the_last_whole_block() {
        let script = Arc::new(Script(Mutex::new((
            vec![
                ": hello\n\nid: 4.0\nevent: reset\ndata: {\"reason\":\"a\"}\n\nid: 5.0\nevent: re",
                "event: reset\nid: 5.0\ndata: {\"reason\":\"b\"}\n\n",
            ],
            vec![],
        ))));
        let client = Client::new(script.clone(), None);
        let mut stream = client.events(&["project:default".into()], None).await.unwrap();
        for (id, reason) in [("4.0", "a"), ("5.0", "b")] {
            let streamed = stream.next().await.unwrap();
            assert_eq!(streamed.id, id);
            assert_eq!(streamed.item, StreamedItem::Reset(Reset { reason: reason.into() }));
        }
        assert_eq!(script.0.lock().unwrap().1, [None, Some("4.0".to_owned())]);
    }
}
