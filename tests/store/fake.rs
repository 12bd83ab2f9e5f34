//! A store of our own for tests: as much of S3 as an output needs, over HTTP/1.1, with faults on demand. It checks no
//! signatures. Each bucket is a world of its own, so that tests share one server.
#![allow(dead_code, reason = "two test programs use it, each in part")]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What goes wrong in a bucket. The default is nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Puts over objects that are there, whatever the condition.
    pub(crate) no_conditions: bool,
    /// Knows no uploads in parts.
    pub(crate) no_uploads: bool,
    /// From this request on none has an effect: as if whoever sends them were dead.
    pub(crate) dead_from: Option<usize>,
    /// The first request to complete an upload has no effect, and none after it.
    pub(crate) dead_from_complete: bool,
    /// Of 100 requests so many have their effect, and the connection ends before the answer.
    pub(crate) lost_answers: u64,
    /// Of 100 requests so many are answered 503 and have no effect.
    pub(crate) unavailable: u64,
    /// What the last two follow from.
    pub(crate) seed: u64,
    /// All is refused for want of credentials.
    pub(crate) forbidden: bool,
    /// Called with the number of each request before it is answered.
    pub(crate) on_request: Option<OnRequest>,
}

/// What is called with the number of a request.
#[derive(Clone)]
pub(crate) struct OnRequest(pub(crate) Arc<dyn Fn(usize) + Send + Sync>);

impl std::fmt::Debug for OnRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnRequest")
    }
}

/// What is in a bucket.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    /// By id: the key and the pieces.
    pub(crate) uploads: BTreeMap<String, (String, BTreeMap<usize, Vec<u8>>)>,
    pub(crate) faults: Faults,
    /// How many requests came since faults were set.
    pub(crate) requests: usize,
    next: u64,
}

impl Bucket {
    /// Keys that readers see below a prefix, without it.
    pub(crate) fn visible(&self, prefix: &str) -> Vec<String> {
        let names = self.objects.keys().filter_map(|key| key.strip_prefix(prefix)?.strip_prefix('/'));
        names.filter(|name| !name.starts_with('_')).map(str::to_owned).collect()
    }

    fn dice(&mut self) -> u64 {
        self.faults.seed =
            self.faults.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.faults.seed >> 33) % 100
    }
}

/// The server; it lives as long as the process.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) endpoint: String,
    buckets: Arc<Mutex<BTreeMap<String, Bucket>>>,
}

impl Fake {
    /// Starts it on a free port.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let fake = Self { endpoint, buckets: Arc::default() };
        let serves = fake.clone();
        thread(move || {
            for stream in listener.incoming().flatten() {
                let serves = serves.clone();
                // Whoever sends nonsense is not answered.
                thread(move || drop(serves.connection(&stream)));
            }
        });
        fake
    }

    /// Makes a bucket, or changes what goes wrong in it.
    pub(crate) fn faults(&self, bucket: &str, faults: Faults) {
        let mut buckets = self.lock();
        let bucket = buckets.entry(bucket.to_owned()).or_default();
        (bucket.faults, bucket.requests) = (faults, 0);
    }

    /// Looks into a bucket.
    pub(crate) fn with<T>(&self, bucket: &str, look: impl FnOnce(&mut Bucket) -> T) -> T {
        look(self.lock().get_mut(bucket).expect("a bucket that was made"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut input = BufReader::new(stream);
        while let Some(request) = Request::read(&mut input)? {
            let Some(answer) = self.answer(&request) else { break };
            answer.write(&mut &*stream, request.method == "HEAD")?;
        }
        Ok(())
    }

    /// `None` if the connection is to end.
    fn answer(&self, request: &Request) -> Option<Answer> {
        let mut buckets = self.lock();
        let Some(bucket) = buckets.get_mut(&request.bucket) else { return Some(Answer::error(404, "NoSuchBucket")) };
        let number = bucket.requests;
        bucket.requests += 1;
        if let Some(OnRequest(call)) = &bucket.faults.on_request {
            call(number);
        }
        if bucket.faults.dead_from_complete && request.method == "POST" && request.asks("uploadId").is_some() {
            bucket.faults.dead_from = Some(number);
        }
        if bucket.faults.forbidden || bucket.faults.dead_from.is_some_and(|from| number >= from) {
            return Some(Answer::error(403, "AccessDenied"));
        }
        if bucket.dice() < bucket.faults.unavailable {
            return Some(Answer::error(503, "SlowDown"));
        }
        let answer = request.run(bucket);
        (bucket.dice() >= bucket.faults.lost_answers).then_some(answer)
    }
}

#[allow(clippy::disallowed_methods, reason = "a server of the tests")]
fn thread(run: impl FnOnce() + Send + 'static) {
    std::thread::spawn(run);
}

struct Request {
    method: String,
    bucket: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn read(input: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        };
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
        Ok(Some(Self { method, bucket: bucket.to_owned(), key: decoded(key), query, headers, body }))
    }

    fn asks(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    fn run(&self, bucket: &mut Bucket) -> Answer {
        let upload = self.asks("uploadId").map(str::to_owned);
        match (self.method.as_str(), upload) {
            ("POST", None) if self.asks("uploads").is_some() => self.begin(bucket),
            ("PUT", Some(id)) => self.piece(bucket, &id),
            ("POST", Some(id)) => self.complete(bucket, &id),
            ("DELETE", Some(id)) => match bucket.uploads.remove(&id) {
                Some(_) => Answer::new(204, Vec::new()),
                None => Answer::error(404, "NoSuchUpload"),
            },
            ("PUT", None) => self.put(bucket),
            ("POST", None) if self.asks("delete").is_some() => {
                let body = String::from_utf8_lossy(&self.body).into_owned();
                bucket.objects.retain(|key, _| !body.contains(&format!("<Key>{key}</Key>")));
                Answer::xml("<DeleteResult></DeleteResult>".to_owned())
            }
            ("GET", None) if self.key.is_empty() && self.asks("uploads").is_some() => self.list_uploads(bucket),
            ("GET", None) if self.key.is_empty() => self.list(bucket),
            ("GET" | "HEAD", None) => self.get(bucket),
            _ => Answer::error(405, "MethodNotAllowed"),
        }
    }

    fn begin(&self, bucket: &mut Bucket) -> Answer {
        if bucket.faults.no_uploads {
            return Answer::error(501, "NotImplemented");
        }
        bucket.next += 1;
        let id = format!("upload-{}", bucket.next);
        bucket.uploads.insert(id.clone(), (self.key.clone(), BTreeMap::new()));
        Answer::xml(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
    }

    fn piece(&self, bucket: &mut Bucket, id: &str) -> Answer {
        let number = self.asks("partNumber").and_then(|number| number.parse().ok()).unwrap_or(0);
        let Some((_, pieces)) = bucket.uploads.get_mut(id) else { return Answer::error(404, "NoSuchUpload") };
        pieces.insert(number, self.body.clone());
        Answer::new(200, Vec::new()).header("ETag", tag(&self.body))
    }

    fn complete(&self, bucket: &mut Bucket, id: &str) -> Answer {
        let Some((key, pieces)) = bucket.uploads.get(id) else { return Answer::error(404, "NoSuchUpload") };
        let body = String::from_utf8_lossy(&self.body).into_owned();
        let named = body.matches("<ETag>").count();
        let known = pieces.values().all(|piece| body.contains(tag(piece).trim_matches('"')));
        let small = pieces.values().rev().skip(1).any(|piece| piece.len() < 5 << 20);
        if named != pieces.len() || !known || *key != self.key {
            return Answer::error(400, "InvalidPart");
        } else if small {
            return Answer::error(400, "EntityTooSmall");
        }
        let (key, pieces) = bucket.uploads.remove(id).unwrap_or_default();
        let bytes: Vec<u8> = pieces.into_values().flatten().collect();
        let tag = tag(&bytes);
        bucket.objects.insert(key, bytes);
        Answer::xml(format!("<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>"))
    }

    fn put(&self, bucket: &mut Bucket) -> Answer {
        let conditional = self.headers.get("if-none-match").is_some_and(|value| value == "*");
        if conditional && !bucket.faults.no_conditions && bucket.objects.contains_key(&self.key) {
            return Answer::error(412, "PreconditionFailed");
        }
        bucket.objects.insert(self.key.clone(), self.body.clone());
        Answer::new(200, Vec::new()).header("ETag", tag(&self.body))
    }

    fn get(&self, bucket: &Bucket) -> Answer {
        let Some(bytes) = bucket.objects.get(&self.key) else { return Answer::error(404, "NoSuchKey") };
        let range = self.headers.get("range").and_then(|range| {
            let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
            Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?.min(bytes.len().saturating_sub(1))))
        });
        let answer = match range {
            Some((from, to)) => Answer::new(206, bytes.get(from..=to).unwrap_or_default().to_vec())
                .header("Content-Range", format!("bytes {from}-{to}/{}", bytes.len())),
            None => Answer::new(200, bytes.clone()),
        };
        answer.header("ETag", tag(bytes)).header("Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT")
    }

    fn list(&self, bucket: &Bucket) -> Answer {
        let prefix = self.asks("prefix").unwrap_or_default();
        let mut folders: Vec<String> = Vec::new();
        let mut text = String::from("<ListBucketResult>");
        for (key, bytes) in bucket.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
            match key
                .get(prefix.len()..)
                .and_then(|rest| rest.split_once('/'))
                .filter(|_| self.asks("delimiter").is_some())
            {
                Some((folder, _)) => folders.push(format!("{prefix}{folder}/")),
                None => {
                    let size = bytes.len();
                    text += &format!(
                        "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2000-01-01T00:00:00.000Z</LastModified></Contents>"
                    );
                }
            }
        }
        folders.dedup();
        folders
            .iter()
            .for_each(|folder| text += &format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"));
        Answer::xml(text + "</ListBucketResult>")
    }

    /// Two to a page, so that pages are turned.
    fn list_uploads(&self, bucket: &Bucket) -> Answer {
        let (prefix, after) =
            (self.asks("prefix").unwrap_or_default(), self.asks("upload-id-marker").unwrap_or_default());
        let mut all: Vec<_> = bucket.uploads.iter().filter(|(_, (key, _))| key.starts_with(prefix)).collect();
        all.sort();
        let rest: Vec<_> = all.into_iter().filter(|(id, _)| id.as_str() > after).collect();
        let page = rest.get(..2).unwrap_or(&rest);
        let mut text = format!("<ListMultipartUploadsResult><IsTruncated>{}</IsTruncated>", page.len() < rest.len());
        if let Some((id, (key, _))) = page.last() {
            text += &format!("<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>");
        }
        page.iter().for_each(|(id, (key, _))| {
            text += &format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId></Upload>");
        });
        Answer::xml(text + "</ListMultipartUploadsResult>")
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    fn xml(text: String) -> Self {
        Self::new(200, text.into_bytes())
    }

    fn error(status: u16, code: &str) -> Self {
        Self::new(status, format!("<Error><Code>{code}</Code><Message>of the test</Message></Error>").into_bytes())
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn write(&self, to: &mut impl Write, head_only: bool) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", self.status, self.body.len());
        self.headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        let mut bytes = (text + "\r\n").into_bytes();
        if !head_only {
            bytes.extend(&self.body);
        }
        to.write_all(&bytes)
    }
}

/// A name for bytes.
fn tag(bytes: &[u8]) -> String {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("\"{hash:016x}\"")
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.bytes());
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let code = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                bytes.extend(code);
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
