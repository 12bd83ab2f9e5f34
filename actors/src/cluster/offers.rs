//! What a driver offers: the objects of the jobs that it is submitting, which the head fetches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mobula_transport::{Connection, Inbound};

use super::messages::FetchCall;
use super::serve;
use crate::operator::{Object, ObjectName};
use crate::runtime::tasks::spawn;
use crate::task::ObjectId;
use crate::units::Bytes;

/// The objects that the head may fetch now. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Offers {
    objects: Arc<Mutex<Vec<Object>>>,
    values: Arc<Mutex<BTreeMap<ObjectId, bytes::Bytes>>>,
}

impl Offers {
    /// Offers a stored value as long as what comes back is there.
    pub(crate) fn offer_value(&self, id: ObjectId, data: bytes::Bytes) -> OfferedValue {
        self.values().insert(id, data);
        OfferedValue { offers: self.clone(), id }
    }

    fn values(&self) -> MutexGuard<'_, BTreeMap<ObjectId, bytes::Bytes>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers objects as long as the returned value is there.
    pub(crate) fn offer(&self, objects: Vec<Object>) -> Offered {
        self.lock().extend(objects.iter().cloned());
        Offered { offers: self.clone(), objects }
    }

    fn get(&self, name: &ObjectName) -> Result<bytes::Bytes, String> {
        let objects = self.lock();
        let object = objects.iter().find(|object| object.name() == *name);
        let data = object.and_then(Object::data).cloned();
        data.ok_or_else(|| format!("the driver does not offer {name}"))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the head until the connection ends. It runs on the network's thread and must not keep it.
    pub(crate) async fn serve(self, data: Connection) {
        while let Ok(inbound) = data.accept().await {
            match inbound {
                Inbound::Fetch(fetch) => {
                    let found = match fetch.decode::<FetchCall>() {
                        Ok(FetchCall::Value { id, .. }) => {
                            let data = self.values().get(&id).cloned();
                            spawn(serve::answer_value(fetch, data));
                            continue;
                        }
                        Ok(FetchCall::Object { name }) => self.get(&name),
                        Ok(_) => Err("a driver has objects and nothing else".to_owned()),
                        Err(error) => Err(error.to_string()),
                    };
                    spawn(serve::answer_object(fetch, found));
                }
                Inbound::Call(call) => spawn(serve::refuse(call)),
                // Dropped, which ends it.
                Inbound::Stream { .. } => {}
            }
        }
    }
}

/// A value that the head may fetch now.
pub(crate) struct OfferedValue {
    offers: Offers,
    id: ObjectId,
}

impl Drop for OfferedValue {
    fn drop(&mut self) {
        self.offers.values().remove(&self.id);
    }
}

/// The objects of one submission.
pub(crate) struct Offered {
    offers: Offers,
    objects: Vec<Object>,
}

impl Offered {
    /// How much the head may have to fetch.
    pub(crate) fn bytes(&self) -> Bytes {
        self.objects.iter().map(|object| object.name().bytes).sum()
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        let mut all = self.offers.lock();
        for object in &self.objects {
            // One for each offer of it: another submission may be under way.
            if let Some(at) = all.iter().position(|other| other.name() == object.name()) {
                all.swap_remove(at);
            }
        }
    }
}
