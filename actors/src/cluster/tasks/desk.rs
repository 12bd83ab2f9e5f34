//! The head's desk for tasks: the directory behind a lock, and a line to each party.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mobula_transport::{Connection, FrameReceiver, FrameSender};

use super::link::Outgoing;
use super::pack::{DownFrame, FRAME_MESSAGES, UpFrame, Weigh, pack};
use crate::actor::message::StreamHead;
use crate::block::NodeId;
use crate::cluster::ids::NodeName;
use crate::job::Resources;
use crate::runtime::env::SharedEnv;
use crate::runtime::line::{LineReceiver, LineSender, line};
use crate::runtime::load::Load;
use crate::runtime::net::Net;
use crate::task::directory::{Counts, Directory, DirectoryLimits, NodeOffer, OpenTask};
use crate::task::engine::{Engine, WeakEngine};
use crate::task::ids::DRIVERS_FROM;
use crate::task::wire::{FromHead, ToHead};
use crate::task::{ObjectId, PartyId};
use crate::units::Bytes;

/// Small values and arguments that a head takes however little memory it may use: some ten thousand tasks with a few
/// kilobytes each.
const INLINE_MIN: Bytes = Bytes::mib(64);

/// The desk. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Desk {
    inner: Arc<Inner>,
}

struct Inner {
    env: SharedEnv,
    net: Net,
    next_driver: AtomicU64,
    state: Mutex<State>,
}

struct State {
    directory: Directory,
    /// The line to each, and what stands there or is being written.
    parties: BTreeMap<PartyId, (LineSender<FromHead>, Load)>,
    /// Values that drivers have left here and not spoken of yet.
    left: BTreeSet<ObjectId>,
    /// The head's own engine.
    here: Option<WeakEngine>,
}

impl State {
    /// Passes on what the directory has to say, in the order in which it says it.
    fn pass_on(&mut self) {
        for (party, message) in self.directory.take_out() {
            if let Some((line, load)) = self.parties.get(&party) {
                load.add(message.weight());
                line.send(message);
            }
        }
    }
}

impl Desk {
    /// A desk whose small values take no more than `inline` of the head's memory.
    pub(crate) fn new(env: SharedEnv, net: Net, inline: Bytes) -> Self {
        let default = DirectoryLimits::default();
        let inline = inline.clamp(INLINE_MIN, default.inline);
        let directory = Directory::new(DirectoryLimits { inline, ..default });
        let state = State { directory, parties: BTreeMap::new(), left: BTreeSet::new(), here: None };
        let next_driver = AtomicU64::new(DRIVERS_FROM);
        Self { inner: Arc::new(Inner { env, net, next_driver, state: Mutex::new(state) }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A party is there; what it is told comes out of the line.
    fn join(&self, party: PartyId, offer: Option<NodeOffer>) -> (LineReceiver<FromHead>, Load) {
        let ((sender, receiver), load) = (line(), Load::default());
        let mut state = self.lock();
        state.parties.insert(party, (sender, load.clone()));
        state.directory.join(party, offer);
        state.pass_on();
        (receiver, load)
    }

    fn gone(&self, party: PartyId) {
        let mut state = self.lock();
        let line = state.parties.remove(&party);
        state.directory.gone(party);
        state.pass_on();
        let left: Vec<_> = state.left.extract_if(.., |id| id.party == party).collect();
        let here = state.here.as_ref().and_then(WeakEngine::get);
        drop(state);
        drop(line);
        if let Some(here) = here {
            here.on_head(FromHead::Free { ids: left });
        }
    }

    /// A party says something.
    fn on(&self, party: PartyId, messages: Vec<ToHead>) {
        let mut state = self.lock();
        state.directory.look(self.inner.env.now());
        for message in messages {
            if let ToHead::Put { id, .. } = &message {
                state.left.remove(id);
            }
            state.directory.on(party, message);
        }
        state.pass_on();
    }

    /// A driver leaves a value with the head's own engine, and speaks of it next.
    pub(crate) fn left(&self, id: ObjectId) {
        self.lock().left.insert(id);
    }

    /// A node takes no more tasks.
    pub(crate) fn drain(&self, node: NodeId) {
        let mut state = self.lock();
        state.directory.drain_node(PartyId(node.0));
        state.pass_on();
    }

    /// Why a task has not ended, for people.
    pub(crate) fn why(&self, task: ObjectId) -> Option<String> {
        self.lock().directory.why(task).map(|why| why.to_string())
    }

    /// Tasks that have not ended, at most `max`.
    pub(crate) fn open_tasks(&self, max: usize) -> Vec<OpenTask> {
        self.lock().directory.open_tasks(max)
    }

    /// How much there is.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().directory.counts()
    }

    /// The head's own node, which keeps the large values of drivers, and computes if it offers something.
    pub(crate) fn here(&self, engine: Engine, mut outgoing: Outgoing, offer: Option<(NodeName, Resources)>) {
        let party = engine.party();
        let (mut down, load) = self.join(party, offer.map(|(name, resources)| NodeOffer { name, resources }));
        let engine_of = engine.weak();
        self.lock().here = Some(engine.weak());
        self.inner.net.spawn(async move {
            loop {
                let messages = down.recv_many(FRAME_MESSAGES).await;
                load.sub(messages.iter().map(Weigh::weight).sum());
                let Some(engine) = engine_of.get().filter(|_| !messages.is_empty()) else { return };
                messages.into_iter().for_each(|message| engine.on_head(message));
            }
        });
        let desk = self.clone();
        self.inner.net.spawn(async move {
            loop {
                let messages = outgoing.next().await;
                if messages.is_empty() {
                    return desk.gone(party);
                }
                desk.on(party, messages);
            }
        });
    }

    /// A node has joined: opens the stream to it.
    pub(crate) async fn node(self, node: NodeId, name: NodeName, resources: Resources, control: Connection) {
        let (tx, rx) = match control.open_stream(&StreamHead::Tasks).await {
            Ok(stream) => stream,
            // Its end ends its life.
            Err(error) => return tracing::debug!(%error, node = node.0, "a node cannot be given tasks"),
        };
        self.serve(PartyId(node.0), Some(NodeOffer { name, resources }), tx, rx).await;
    }

    /// A driver has opened a stream.
    pub(crate) async fn driver(self, tx: FrameSender, rx: FrameReceiver) {
        let party = PartyId(self.inner.next_driver.fetch_add(1, Ordering::Relaxed));
        self.serve(party, None, tx, rx).await;
    }

    async fn serve(self, party: PartyId, offer: Option<NodeOffer>, mut tx: FrameSender, mut rx: FrameReceiver) {
        let (mut down, load) = self.join(party, offer);
        let send = async {
            tx.send(&DownFrame::Welcome { party }).await?;
            loop {
                let messages = down.recv_many(FRAME_MESSAGES).await;
                if messages.is_empty() {
                    return Ok(());
                }
                for frame in pack(messages) {
                    let weight = frame.iter().map(Weigh::weight).sum();
                    tx.send(&DownFrame::Messages(frame)).await?;
                    load.sub(weight);
                }
            }
        };
        let receive = async {
            while let Some(messages) = rx.next::<UpFrame>().await? {
                self.on(party, messages);
                load.until_less().await;
            }
            Ok(())
        };
        let ended: Result<(), mobula_transport::StreamError> = tokio::select! {
            // In order, so that a simulated run is repeated by its seed.
            biased;
            ended = send => ended,
            ended = receive => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(party = party.0, %error, "the task stream of a party ended");
        }
        self.gone(party);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mobula_transport::{About, Authority, Config, Endpoint, Inbound, Lane, Limits, NodeId as Name, Role, codec};

    use super::*;
    use crate::runtime::env::SystemEnv;

    fn endpoint(authority: &Authority, role: Role, name: &str) -> Endpoint {
        let identity = authority.issue(role, Name::new(name).expect("a name")).expect("an identity");
        let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let (about, limits) = (About::default(), Limits::default());
        let config = Config { identity, listen, about, limits, authority: None, socket: None };
        Endpoint::start(config, |_| Ok(Vec::new())).expect("an endpoint")
    }

    #[test]
    fn a_party_that_asks_and_does_not_read_is_not_listened_to_any_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::create(&folder.path().join("cluster")).expect("an authority");
        let net = Net::start().expect("a thread");
        let desk = Desk::new(Arc::new(SystemEnv::default()), net.clone(), INLINE_MIN);
        net.block_on(async move {
            let (head, driver) =
                (endpoint(&authority, Role::Head, "head"), endpoint(&authority, Role::Driver, "driver"));
            let (there, here) = tokio::join!(driver.connect(head.local_addr(), Lane::Control), head.accept());
            let (there, here) = (there.expect("a connection"), here.expect("a connection"));
            let (mut up, _unread) = there.open_stream(&StreamHead::Tasks).await.expect("a stream");
            let Ok(Inbound::Stream { head: opened, tx, rx }) = here.accept().await else { panic!("no stream") };
            assert_eq!(codec::decode::<StreamHead>(&opened, 1024).expect("a head"), StreamHead::Tasks);
            desk.inner.net.spawn(desk.clone().driver(tx, rx));
            let wants = |at: u64| {
                (at..at + 1024).map(|number| ToHead::Want { id: ObjectId { party: PartyId(7), number, index: 0 } })
            };
            // Half a gigabyte of answers. Held up for so long: nobody reads.
            let mut stopped = false;
            for frame in 0..3_000 {
                let frame: UpFrame = wants(frame * 1024).collect();
                let sent = tokio::time::timeout(Duration::from_secs(3), up.send(&frame)).await;
                if sent.is_err() {
                    stopped = true;
                    break;
                }
            }
            assert!(stopped, "all was read, and the answers wait");
        });
    }
}
