//! The shell that talks to a store: each call waits for its answer, on whatever thread it is made.
//!
//! `object_store` brings signatures, credentials and repetition of requests that failed; its futures run on a thread that
//! belongs to the client. A call whose answer was lost may have had its effect: each says here what it makes of that.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
#[cfg(not(test))]
use object_store::aws::AmazonS3Builder;
use object_store::client::{ClientOptions, HttpClient, HttpConnector, HttpRequestBody, ReqwestConnector};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::signer::{SignedUrlOptions, Signer};
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::answers::{failed, is_final, is_no_bucket};
use super::keys::Place;
use crate::io::error::{IoError, IoResult};
use crate::io::sink::Uploaded;

/// How often a request is repeated whose failure may pass: half a minute of waiting in all, as a store that restarts or
/// asks to slow down needs it.
const RETRIES_MAX: usize = 8;
/// Time after which a request is not repeated any more: a minute, so that a store that is gone is told, not waited for.
const RETRY_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a signature of ours holds: long enough for clocks that differ.
const SIGNATURE_TIME: Duration = Duration::from_secs(300);
/// Objects that are read or completed at the same time: a ledger is many small ones, and an output many parts.
const CALLS_MAX: usize = 16;
/// How often a put whose fate is not known is made again, and what `object_store` does not repeat.
const TRIES_MAX: usize = 3;

/// A connection to the store that has a bucket.
pub(crate) struct Client {
    store: AmazonS3,
    /// For the calls that `object_store` does not have.
    http: HttpClient,
    place: Place,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

/// What became of a put that must not replace anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// The object is there, with these bytes.
    Done,
    /// Another object has the key.
    Taken,
}

/// What became of completing an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Completed {
    Yes,
    /// The store does not know the upload: it was completed or given up before.
    Gone,
}

impl Client {
    /// A client for a place; credentials and endpoint come from the environment (`AWS_ACCESS_KEY_ID` and so on).
    ///
    /// # Errors
    /// If the environment makes no sense.
    pub(crate) fn new(place: &Place) -> IoResult<Self> {
        let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIME_MAX, ..RetryConfig::default() };
        let store = settings().with_bucket_name(&place.bucket).with_retry(retry).build();
        let failed = |error| failed(place, "use", &place.prefix, &error);
        let store = store.map_err(failed)?;
        let http = ReqwestConnector::default().connect(&ClientOptions::new().with_allow_http(true)).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("object-store")
            .enable_all()
            .build()
            .map_err(|error| IoError::Internal(format!("a thread for the object store: {error}")))?;
        Ok(Self { store, http, place: place.clone(), runtime: Some(runtime) })
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Runs a call on the client's thread and waits for it.
    fn wait<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let gone = || Error::Generic { store: "S3", source: "the thread of the client is gone".into() };
        let (tell, told) = mpsc::sync_channel(1);
        let runtime = self.runtime.as_ref().ok_or_else(gone)?;
        // It reports by the channel.
        drop(runtime.spawn(async move {
            let _ = tell.send(call.await);
        }));
        told.recv().map_err(|_| gone())?
    }

    /// Puts an object where none is. One that is there with the same bytes is taken as this one: an answer may have been
    /// lost.
    ///
    /// # Errors
    /// If the store refuses; then the object may or may not be there.
    pub(crate) fn put_new(&self, key: &str, bytes: &Bytes) -> IoResult<Put> {
        let mut last = None;
        for _ in 0..TRIES_MAX {
            let (store, at, payload) = (self.store.clone(), path(key)?, PutPayload::from(bytes.clone()));
            match self.wait(async move { store.put_opts(&at, payload, PutMode::Create.into()).await }) {
                Ok(_) => return Ok(Put::Done),
                // Whoever is there: perhaps it is what an earlier try put.
                Err(Error::AlreadyExists { .. }) => {
                    let same = self.get(key)?.is_some_and(|found| found == *bytes);
                    return Ok(if same { Put::Done } else { Put::Taken });
                }
                Err(error) if is_final(&error) => return Err(failed(&self.place, "write", key, &error)),
                Err(error) => last = Some(failed(&self.place, "write", key, &error)),
            }
        }
        Err(last.unwrap_or_else(|| IoError::Internal("a put that was never tried".into())))
    }

    /// Puts an object only where none is, and says whether the store did, whatever is there.
    pub(super) fn put_if_absent(&self, key: &str, bytes: &'static [u8]) -> IoResult<Put> {
        let (store, at) = (self.store.clone(), path(key)?);
        match self.wait(async move { store.put_opts(&at, bytes.into(), PutMode::Create.into()).await }) {
            Ok(_) => Ok(Put::Done),
            Err(Error::AlreadyExists { .. }) => Ok(Put::Taken),
            Err(error) => Err(failed(&self.place, "write", key, &error)),
        }
    }

    /// The bytes of an object; `None` if there is none.
    pub(crate) fn get(&self, key: &str) -> IoResult<Option<Bytes>> {
        let (store, at) = (self.store.clone(), path(key)?);
        match self.wait(async move { store.get(&at).await?.bytes().await }) {
            Ok(bytes) => Ok(Some(bytes)),
            // An object may be missing, the bucket may not.
            Err(error @ Error::NotFound { .. }) if !is_no_bucket(&error) => Ok(None),
            Err(error) => Err(failed(&self.place, "read", key, &error)),
        }
    }

    /// Some bytes of an object.
    pub(super) fn range(&self, key: &str, range: std::ops::Range<u64>) -> IoResult<Bytes> {
        let (store, at) = (self.store.clone(), path(key)?);
        let read = self.wait(async move { store.get_range(&at, range).await });
        read.map_err(|error| failed(&self.place, "read", key, &error))
    }

    /// The bytes of many objects, in their order.
    pub(super) fn get_all(&self, keys: &[String]) -> IoResult<Vec<Bytes>> {
        let paths = keys.iter().map(|key| path(key)).collect::<IoResult<Vec<_>>>()?;
        let store = self.store.clone();
        let read = move |at: Path| {
            let store = store.clone();
            async move { store.get(&at).await?.bytes().await }
        };
        let all = futures::stream::iter(paths).map(read).buffered(CALLS_MAX).try_collect();
        let first = keys.first().map_or("", String::as_str);
        self.wait(all).map_err(|error| failed(&self.place, "read", first, &error))
    }

    /// The size of an object; `None` if there is none.
    pub(crate) fn size(&self, key: &str) -> IoResult<Option<u64>> {
        let (store, at) = (self.store.clone(), path(key)?);
        match self.wait(async move { store.head(&at).await }) {
            Ok(found) => Ok(Some(found.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(&self.place, "look at", key, &error)),
        }
    }

    /// The objects right below a prefix with their sizes, and what lies deeper, both as keys.
    pub(super) fn list(&self, prefix: &str) -> IoResult<(Vec<(String, u64)>, Vec<String>)> {
        let (store, at) = (self.store.clone(), path(prefix)?);
        let listed = self.wait(async move { store.list_with_delimiter(Some(&at)).await });
        let listed = listed.map_err(|error| failed(&self.place, "list", prefix, &error))?;
        let objects = listed.objects.into_iter().map(|object| (object.location.to_string(), object.size)).collect();
        Ok((objects, listed.common_prefixes.into_iter().map(|prefix| prefix.to_string()).collect()))
    }

    /// Removes an object.
    pub(super) fn delete(&self, key: &str) -> IoResult<()> {
        let (store, at) = (self.store.clone(), path(key)?);
        let gone = self.wait(async move { store.delete(&at).await });
        gone.map_err(|error| failed(&self.place, "remove", key, &error))
    }

    /// Begins an upload that nobody sees.
    pub(crate) fn begin(&self, key: &str) -> IoResult<String> {
        let (store, at) = (self.store.clone(), path(key)?);
        let begun = self.wait(async move { store.create_multipart(&at).await });
        begun.map_err(|error| failed(&self.place, "begin an upload to", key, &error))
    }

    /// Uploads a piece, numbered from 0, and gives what the store calls it.
    pub(crate) fn put_piece(&self, key: &str, upload: &str, number: usize, bytes: Bytes) -> IoResult<String> {
        let (store, at, id) = (self.store.clone(), path(key)?, upload.to_owned());
        let put = self.wait(async move { store.put_part(&at, &id, number, bytes.into()).await });
        put.map(|piece| piece.content_id).map_err(|error| failed(&self.place, "upload to", key, &error))
    }

    /// Completes uploads, each by its key, in their order: their objects become visible. If one fails no other begins, and
    /// those that have begun are waited for: none takes effect behind the back of the next run.
    pub(super) fn complete_all(&self, uploads: Vec<(String, Uploaded)>) -> IoResult<Vec<Completed>> {
        let first = uploads.first().map(|(key, _)| key.clone()).unwrap_or_default();
        let uploads = uploads.into_iter().map(|(key, upload)| Ok((path(&key)?, upload)));
        let uploads = uploads.collect::<IoResult<Vec<_>>>()?;
        let (store, has_failed) = (self.store.clone(), Arc::new(AtomicBool::new(false)));
        let complete = move |(at, upload): (Path, Uploaded)| {
            let (store, has_failed) = (store.clone(), Arc::clone(&has_failed));
            let pieces = upload.pieces.into_iter().map(|content_id| PartId { content_id });
            async move {
                if has_failed.load(Ordering::Relaxed) {
                    return None;
                }
                let completed = match store.complete_multipart(&at, &upload.id, pieces.collect()).await {
                    Ok(_) => Ok(Completed::Yes),
                    Err(Error::NotFound { .. }) => Ok(Completed::Gone),
                    Err(error) => Err(error),
                };
                has_failed.fetch_or(completed.is_err(), Ordering::Relaxed);
                Some(completed)
            }
        };
        let all = futures::stream::iter(uploads).map(complete).buffered(CALLS_MAX).collect::<Vec<_>>();
        self.wait(async move { all.await.into_iter().flatten().collect() }).map_err(|error| {
            failed(&self.place, "complete the uploads of parts, of which the first is", &first, &error)
        })
    }

    /// Gives an upload up; one that is gone is fine.
    pub(crate) fn abort(&self, key: &str, upload: &str) -> IoResult<()> {
        let (store, at, id) = (self.store.clone(), path(key)?, upload.to_owned());
        match self.wait(async move { store.abort_multipart(&at, &id).await }) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(&self.place, "give up the upload of", key, &error)),
        }
    }

    /// The uploads that are not completed and whose keys begin so, as keys and ids. Some stores list only those of an exact
    /// key, and so none here.
    pub(super) fn uploads(&self, prefix: &str) -> IoResult<Vec<(String, String)>> {
        let mut all = Vec::new();
        let mut after: Option<(String, String)> = None;
        loop {
            let mut query = vec![("prefix".to_owned(), prefix.to_owned()), ("uploads".to_owned(), String::new())];
            if let Some((key, id)) = after.take() {
                query.extend([("key-marker".to_owned(), key), ("upload-id-marker".to_owned(), id)]);
            }
            let mut page = self.page(&query);
            for _ in 1..TRIES_MAX {
                page = page.or_else(|_| self.page(&query));
            }
            let page = page.map_err(|error| failed(&self.place, "list the uploads to", prefix, &error))?;
            all.extend(page.uploads.into_iter().map(|upload| (upload.key, upload.id)));
            match (page.is_truncated, page.next_key, page.next_id) {
                (true, Some(key), id) => after = Some((key, id.unwrap_or_default())),
                _ => return Ok(all),
            }
        }
    }
}

impl Client {
    fn page(&self, query: &[(String, String)]) -> Result<Page, Error> {
        let (store, http, query) = (self.store.clone(), self.http.clone(), query.to_vec());
        self.wait(async move { list_uploads(&store, &http, query).await })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Nothing runs on it: each call was waited for.
            runtime.shutdown_background();
        }
    }
}

/// A page of the uploads of a bucket.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(rename = "Upload", default)]
    uploads: Vec<Upload>,
    #[serde(rename = "IsTruncated", default)]
    is_truncated: bool,
    #[serde(rename = "NextKeyMarker")]
    next_key: Option<String>,
    #[serde(rename = "NextUploadIdMarker")]
    next_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Upload {
    #[serde(rename = "Key")]
    key: String,
    #[serde(rename = "UploadId")]
    id: String,
}

/// The call that `object_store` has no method for; it signs the request.
async fn list_uploads(store: &AmazonS3, http: &HttpClient, query: Vec<(String, String)>) -> Result<Page, Error> {
    let generic = |source: Box<dyn std::error::Error + Send + Sync>| Error::Generic { store: "S3", source };
    let options = SignedUrlOptions::default().with_query(query);
    let url = store.signed_url_opts(http::Method::GET, &Path::default(), SIGNATURE_TIME, &options).await?;
    let request = http::Request::get(url.as_str()).body(HttpRequestBody::empty()).map_err(|e| generic(e.into()))?;
    let answer = http.execute(request).await.map_err(|e| generic(e.into()))?;
    let status = answer.status();
    let body = answer.into_body().bytes().await.map_err(|e| generic(e.into()))?;
    let text = String::from_utf8_lossy(&body);
    if !status.is_success() {
        return Err(generic(format!("{status}: {text}").into()));
    }
    quick_xml::de::from_str(&text).map_err(|e| generic(e.into()))
}

fn path(key: &str) -> IoResult<Path> {
    Path::parse(key).map_err(|error| IoError::Internal(format!("{key:?} is no key of an object: {error}")))
}

#[cfg(not(test))]
fn settings() -> AmazonS3Builder {
    AmazonS3Builder::from_env()
}

#[cfg(test)]
use super::testing::settings;

/// A client for the recorder and others that live on their own.
pub(crate) fn connect(place: &Place) -> IoResult<Arc<Client>> {
    Client::new(place).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_uploads_is_read() {
        let text = "<?xml version=\"1.0\"?><ListMultipartUploadsResult><Bucket>b</Bucket><IsTruncated>true</IsTruncated>\
            <NextKeyMarker>k</NextKeyMarker><Upload><Key>a&amp;b</Key><UploadId>1</UploadId></Upload>\
            <Upload><Key>c</Key><UploadId>2</UploadId></Upload></ListMultipartUploadsResult>";
        let page: Page = quick_xml::de::from_str(text).unwrap();
        let uploads: Vec<_> = page.uploads.iter().map(|upload| (upload.key.as_str(), upload.id.as_str())).collect();
        assert_eq!(uploads, [("a&b", "1"), ("c", "2")]);
        assert!(page.is_truncated && page.next_key.as_deref() == Some("k"));
    }
}
