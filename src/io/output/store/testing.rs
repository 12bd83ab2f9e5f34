//! The store of this crate's own tests.

use std::sync::LazyLock;

use object_store::aws::AmazonS3Builder;

#[path = "../../../../tests/store/fake.rs"]
mod fake;

pub(crate) use fake::{Bucket, Fake, Faults};

/// One server for all tests, each of which has a bucket of its own.
pub(crate) static FAKE: LazyLock<Fake> = LazyLock::new(Fake::start);

/// What the environment says elsewhere.
pub(super) fn settings() -> AmazonS3Builder {
    let builder = AmazonS3Builder::new().with_access_key_id("id").with_secret_access_key("secret").with_region("r");
    builder.with_endpoint(&FAKE.endpoint).with_allow_http(true)
}
