//! The objects of the head: taken from drivers when their jobs are submitted, held as long as a job refers to them or the
//! driver that brought them is there, sent to each node that asks.
//!
//! [`Table`] is the thinking; [`Objects`] brings the bytes. What only drivers hold is let go, the oldest first, when a job
//! needs the room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes as Data;
use mobula_transport::Connection;

use super::link::fetch_object;
use crate::job::{JobError, Topology};
use crate::operator::{BoxError, Object, ObjectId, ObjectName};
use crate::runtime::tasks;
use crate::units::Bytes;

/// What a head takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ObjectLimits {
    /// One object: `NodeConfig::object_bytes_max`.
    pub(crate) one: Bytes,
    /// All objects: `NodeConfig::objects_bytes_max`.
    pub(crate) all: Bytes,
}

/// The part of a head's budget that objects may take unless its configuration says otherwise.
pub(crate) const OBJECTS_SHARE: u64 = 4;

/// Why the head does not take an object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it is over the limit of {0} for one object (`mobula node --head --object-max`)")]
    One(Bytes),
    #[error(
        "it is over the limit of {limit} for all objects, of which other jobs hold {held} (`mobula node --head --objects-max`)"
    )]
    All { held: Bytes, limit: Bytes },
    #[error("the head knows it with another size")]
    Size,
}

/// A connection of a driver.
pub(crate) type DriverId = u64;

struct Entry {
    bytes: Bytes,
    /// `None` until it has come.
    data: Option<Data>,
    jobs: usize,
    drivers: BTreeSet<DriverId>,
    /// When a job last asked for it, in asks.
    asked: u64,
    /// Held by who fetches it.
    coming: Arc<tokio::sync::Mutex<()>>,
}

/// Which objects there are and who holds them.
struct Table {
    limits: ObjectLimits,
    entries: BTreeMap<ObjectId, Entry>,
    asks: u64,
}

impl Table {
    /// One more job of `driver` needs an object, which is here or may come: room for it is taken.
    fn hold(&mut self, name: &ObjectName, driver: DriverId) -> Result<(), Refused> {
        if !self.entries.contains_key(&name.id) {
            self.make_room(name)?;
            let entry = Entry {
                bytes: name.bytes,
                data: None,
                jobs: 0,
                drivers: BTreeSet::new(),
                asked: 0,
                coming: Arc::default(),
            };
            self.entries.insert(name.id, entry);
        }
        self.asks += 1;
        let asked = self.asks;
        match self.entries.get_mut(&name.id).filter(|entry| entry.bytes == name.bytes) {
            Some(entry) => {
                entry.jobs += 1;
                entry.asked = asked;
                entry.drivers.insert(driver);
                Ok(())
            }
            None => Err(Refused::Size),
        }
    }

    fn make_room(&mut self, name: &ObjectName) -> Result<(), Refused> {
        let ObjectLimits { one, all } = self.limits;
        if name.bytes > one {
            return Err(Refused::One(one));
        }
        let needed: Bytes = self.entries.values().filter(|entry| entry.jobs > 0).map(|entry| entry.bytes).sum();
        if needed.0.saturating_add(name.bytes.0) > all.0 {
            return Err(Refused::All { held: needed, limit: all });
        }
        while self.held().0.saturating_add(name.bytes.0) > all.0 {
            let idle = self.entries.iter().filter(|(_, entry)| entry.jobs == 0);
            let Some(oldest) = idle.min_by_key(|(_, entry)| entry.asked).map(|(id, _)| *id) else { break };
            self.entries.remove(&oldest);
        }
        Ok(())
    }

    fn held(&self) -> Bytes {
        self.entries.values().map(|entry| entry.bytes).sum()
    }

    /// A job needs it no more.
    fn let_go(&mut self, id: ObjectId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.jobs = entry.jobs.saturating_sub(1);
        }
        self.forget_unwanted();
    }

    fn driver_gone(&mut self, driver: DriverId) {
        for entry in self.entries.values_mut() {
            entry.drivers.remove(&driver);
        }
        self.forget_unwanted();
    }

    /// What never came is of no use to its driver either.
    fn forget_unwanted(&mut self) {
        self.entries.retain(|_, entry| entry.jobs > 0 || (!entry.drivers.is_empty() && entry.data.is_some()));
    }

    fn arrived(&mut self, id: ObjectId, data: Data) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.data = Some(data);
        }
    }

    fn get(&self, id: ObjectId) -> Option<Data> {
        self.entries.get(&id)?.data.clone()
    }
}

/// What a head holds, and what went through it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectStats {
    /// Objects that it holds.
    pub objects: usize,
    /// Their bytes.
    pub bytes: Bytes,
    /// Objects that drivers sent it.
    pub received: u64,
    /// Objects that it sent to nodes.
    pub sent: u64,
}

/// The objects. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Objects {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    table: Table,
    next_driver: DriverId,
    received: u64,
    sent: u64,
}

impl Objects {
    pub(crate) fn new(limits: ObjectLimits) -> Self {
        let table = Table { limits, entries: BTreeMap::new(), asks: 0 };
        Self { inner: Arc::new(Mutex::new(Inner { table, next_driver: 0, received: 0, sent: 0 })) }
    }

    /// A driver has connected, for as long as the returned value is there.
    pub(crate) fn driver(&self) -> DriverHold {
        let mut inner = self.lock();
        inner.next_driver += 1;
        DriverHold { objects: self.clone(), driver: inner.next_driver }
    }

    /// Takes what the operators of a topology name from their driver and holds it for their job. What an operator can do
    /// without is left behind if a limit forbids it; what comes back beside the hold says which and why.
    pub(crate) async fn take(
        &self,
        topology: &mut Topology,
        from: &Connection,
        driver: DriverId,
    ) -> Result<(JobHold, Vec<String>), JobError> {
        let mut hold = JobHold { objects: self.clone(), ids: BTreeSet::new(), left: Vec::new() };
        for spec in topology.operators.iter_mut().flat_map(|plan| plan.logic.chain_mut()) {
            let objects = std::mem::take(&mut spec.objects);
            spec.objects = self.take_all(&mut hold, objects, from, driver).await?;
        }
        let left = std::mem::take(&mut hold.left);
        Ok((hold, left))
    }

    /// Takes objects for a job of this driver that is to come.
    pub(crate) async fn put(&self, objects: Vec<Object>, from: &Connection, driver: DriverId) -> Result<(), JobError> {
        let mut hold = JobHold { objects: self.clone(), ids: BTreeSet::new(), left: Vec::new() };
        self.take_all(&mut hold, objects, from, driver).await?;
        Ok(())
    }

    /// Takes objects over the connection on which their driver serves fetches; gives those that are here now.
    async fn take_all(
        &self,
        hold: &mut JobHold,
        objects: Vec<Object>,
        from: &Connection,
        driver: DriverId,
    ) -> Result<Vec<Object>, JobError> {
        let mut kept = Vec::with_capacity(objects.len());
        for object in objects {
            match self.hold(hold, &object, driver) {
                Ok(()) => {
                    self.bring(object.name(), from).await.map_err(|cause| not_taken(&object, &*cause))?;
                    kept.push(object);
                }
                Err(refused) if object.is_optional() => hold.left.push(text(&object, &refused)),
                Err(refused) => return Err(not_taken(&object, &refused)),
            }
        }
        Ok(kept)
    }

    fn hold(&self, hold: &mut JobHold, object: &Object, driver: DriverId) -> Result<(), Refused> {
        let name = object.name();
        if !hold.ids.contains(&name.id) {
            self.lock().table.hold(&name, driver)?;
            hold.ids.insert(name.id);
        }
        Ok(())
    }

    /// Has the driver send an object that is held and has not come yet; whoever needs it too waits.
    async fn bring(&self, name: ObjectName, from: &Connection) -> Result<(), BoxError> {
        let coming = self.lock().table.entries.get(&name.id).map(|entry| Arc::clone(&entry.coming));
        let coming = coming.ok_or("nobody holds it")?;
        let _turn = coming.lock().await;
        if self.lock().table.get(name.id).is_some() {
            return Ok(());
        }
        let data = fetch_object(from, name).await?;
        let verified = tasks::blocking(move || name.verify(&data).map(|()| data)).await??;
        let mut inner = self.lock();
        inner.received += 1;
        inner.table.arrived(name.id, verified);
        Ok(())
    }

    /// The bytes of an object, for a node.
    pub(crate) fn send(&self, name: &ObjectName) -> Result<Data, String> {
        let mut inner = self.lock();
        let data = inner.table.get(name.id).ok_or_else(|| format!("the head has no {name} (any more)"))?;
        inner.sent += 1;
        Ok(data)
    }

    pub(crate) fn stats(&self) -> ObjectStats {
        let inner = self.lock();
        let Inner { table, received, sent, .. } = &*inner;
        ObjectStats { objects: table.entries.len(), bytes: table.held(), received: *received, sent: *sent }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Time for objects to come. A driver may be far away, at 1 MiB/s; a head or driver that is gone, or silent, is noticed
/// long before.
pub(crate) fn time_for(bytes: Bytes) -> Duration {
    Duration::from_secs(bytes.0 / Bytes::mib(1).0)
}

fn text(object: &Object, why: &dyn std::fmt::Display) -> String {
    format!("{}, {}: {why}", object.label(), object.name())
}

fn not_taken(object: &Object, why: &dyn std::fmt::Display) -> JobError {
    JobError::Object { reason: text(object, why) }
}

/// A job's hold on its objects.
pub(crate) struct JobHold {
    objects: Objects,
    ids: BTreeSet<ObjectId>,
    /// What was left behind, and why.
    left: Vec<String>,
}

impl Drop for JobHold {
    fn drop(&mut self) {
        let mut inner = self.objects.lock();
        self.ids.iter().for_each(|id| inner.table.let_go(*id));
    }
}

/// A driver's hold on what it brought, for its next job.
pub(crate) struct DriverHold {
    objects: Objects,
    pub(crate) driver: DriverId,
}

impl Drop for DriverHold {
    fn drop(&mut self) {
        self.objects.lock().table.driver_gone(self.driver);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::{Authority, Driver, HeadConfig, HeadServer, Limits, NodeId, Role, Sockets};
    use crate::job::{Logic, OperatorPlan, Resources, Workers};
    use crate::node::NodeConfig;
    use crate::operator::OperatorSpec;

    fn table(one: u64, all: u64) -> Table {
        let limits = ObjectLimits { one: Bytes(one), all: Bytes(all) };
        Table { limits, entries: BTreeMap::new(), asks: 0 }
    }

    fn data(seed: u8, bytes: usize) -> (ObjectName, Data) {
        let data = vec![seed; bytes];
        (ObjectName::of(&data), data.into())
    }

    fn bring(table: &mut Table, seed: u8, bytes: usize, driver: DriverId) -> Result<ObjectName, Refused> {
        let (name, data) = data(seed, bytes);
        table.hold(&name, driver)?;
        table.arrived(name.id, data);
        Ok(name)
    }

    #[test]
    fn an_object_stays_while_a_job_or_its_driver_is_there() {
        let mut table = table(100, 100);
        let name = bring(&mut table, 1, 60, 7).expect("room");
        table.hold(&name, 8).expect("here already");
        assert_eq!(table.held(), Bytes(60));
        table.driver_gone(7);
        table.let_go(name.id);
        table.let_go(name.id);
        assert!(table.get(name.id).is_some(), "driver 8 is there");
        table.driver_gone(8);
        assert_eq!((table.get(name.id), table.held()), (None, Bytes(0)));
    }

    #[test]
    fn what_is_over_a_limit_is_refused_naming_it() {
        let mut table = table(100, 150);
        let refused = bring(&mut table, 1, 101, 7).expect_err("too large").to_string();
        assert_eq!(refused, "it is over the limit of 100 B for one object (`mobula node --head --object-max`)");
        bring(&mut table, 1, 100, 7).expect("room");
        let refused = bring(&mut table, 2, 51, 7).expect_err("full").to_string();
        assert!(
            refused.starts_with("it is over the limit of 150 B for all objects, of which other jobs hold 100 B ("),
            "{refused}"
        );
        bring(&mut table, 3, 50, 7).expect("it fits beside");
    }

    #[test]
    fn what_only_drivers_hold_makes_room_the_oldest_first() {
        let mut table = table(100, 100);
        let names = [1, 2, 3].map(|seed| bring(&mut table, seed, 30, 7).expect("room"));
        names.iter().for_each(|name| table.let_go(name.id));
        table.hold(&names[0], 7).expect("used again");
        bring(&mut table, 4, 40, 8).expect("room is made");
        let left = names.map(|name| table.get(name.id).is_some());
        assert_eq!(left, [true, false, true]);
    }

    #[test]
    fn what_never_came_is_forgotten_with_its_job() {
        let mut table = table(100, 100);
        let (name, _) = data(1, 90);
        table.hold(&name, 7).expect("room");
        assert_eq!(table.hold(&ObjectName { bytes: Bytes(91), ..name }, 7), Err(Refused::Size));
        table.let_go(name.id);
        assert_eq!(table.held(), Bytes(0));
        bring(&mut table, 2, 90, 7).expect("room");
    }

    proptest! {
        /// Limits are kept, and nothing that a job needs goes.
        #[test]
        fn whatever_comes_and_goes_limits_are_kept(steps in prop::collection::vec((0..4u8, 0..6u8, 0..3u64), 1..60)) {
            let mut table = table(50, 120);
            let mut needed: Vec<ObjectName> = Vec::new();
            for (what, seed, driver) in steps {
                match what {
                    0 | 1 => needed.extend(bring(&mut table, seed, 10 + 10 * usize::from(seed), driver)),
                    2 if !needed.is_empty() => table.let_go(needed.remove(0).id),
                    _ => table.driver_gone(driver),
                }
                prop_assert!(table.held() <= Bytes(120));
                prop_assert!(needed.iter().all(|name| table.get(name.id).is_some()));
            }
            needed.into_iter().for_each(|name| table.let_go(name.id));
            (0..3).for_each(|driver| table.driver_gone(driver));
            prop_assert_eq!(table.held(), Bytes(0));
        }
    }

    /// What a head with these limits says to a job with this object.
    fn submitted(object: Object) -> JobError {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = Arc::new(Authority::create(dir.path()).expect("an authority"));
        let identity = |role, name| authority.issue(role, NodeId::new(name).expect("a name")).expect("an identity");
        let node = NodeConfig {
            cpus: Some(1),
            memory_budget: Some(Bytes::mib(16)),
            object_bytes_max: Bytes::mib(1),
            ..NodeConfig::default()
        };
        let config = HeadConfig {
            identity: identity(Role::Head, "head"),
            authority: Arc::clone(&authority),
            listen: "127.0.0.1:0".parse().expect("an address"),
            node,
            computes: false,
            limits: Limits::default(),
            sockets: Sockets::default(),
        };
        let head = HeadServer::start(config).expect("a head");
        let driver = Driver::connect(head.address(), identity(Role::Driver, "driver"), Limits::default());
        let operator = OperatorPlan {
            name: "priced".into(),
            inputs: Vec::new(),
            logic: Logic::Map {
                chain: vec![OperatorSpec::named("mine", vec![]).with_object(object)],
                task_bytes: None,
            },
            workers: Workers { min: 0, max: 1 },
            resources: Resources::default(),
            ordered: true,
        };
        let topology = Topology { operators: vec![operator], ..Topology::default() };
        let error = driver.expect("a driver").submit("test", &topology).err().expect("refused");
        assert_eq!(head.objects().objects, 0, "nothing is kept");
        error
    }

    #[test]
    fn a_head_refuses_an_object_that_is_damaged_or_too_large_and_keeps_nothing() {
        let name = ObjectName::of(b"table");
        let error = submitted(Object::forged(name, &b"tabel"[..])).to_string();
        let expected = format!("the head does not take a forged table, {name}: its bytes are damaged: their hash is ");
        assert!(error.starts_with(&expected), "{error}");
        let error = submitted(Object::forged(name, &b"tables"[..])).to_string();
        assert!(error.ends_with("6 B came instead"), "{error}");
        let error = submitted(Object::new("a large table", vec![0; (1 << 20) + 1])).to_string();
        assert!(
            error.starts_with("the head does not take a large table, object ") && error.contains("1.0 MiB"),
            "{error}"
        );
        assert!(error.contains("limit of 1.0 MiB for one object") && error.contains("--object-max"), "{error}");
    }
}
