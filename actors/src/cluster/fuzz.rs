//! Every message of the engine that another process sends, as a function of bytes: it may be wrong, but must not panic,
//! hang or take memory that it only claims. The fuzz target in `actors/fuzz` runs them, and so do the property tests below,
//! on random bytes and on good ones that were changed. Blocks are not here: Arrow's decoder panics on some damaged streams,
//! which `bytes.rs` turns into errors and tests by itself.

use mobula_transport::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frames::{FromPool, ToPool};
use super::link::from_wire;
use super::messages::{
    Admitted, DriverAnswer, DriverCall, FetchAnswer, FetchCall, HeadCall, NodeAnswer, NodeCall, NodeFacts, OpenPool,
};
use crate::actor::message::{ActorAnswer, ActorCall, AskFrame, DirectoryCall, ReplyFrame, StreamHead};
use crate::job::WireTopology;

/// A message by name, and what reads it.
type Decoder = (&'static str, fn(&[u8]));

/// All of them.
const DECODERS: [Decoder; 18] = [
    ("facts of a node", round::<NodeFacts>),
    ("admission", round::<Admitted>),
    ("node to head", round::<NodeCall>),
    ("answer to a node", round::<NodeAnswer>),
    ("head to node", round::<HeadCall>),
    ("pool", pool),
    ("to a pool", round::<ToPool>),
    ("from a pool", round::<FromPool>),
    ("fetch", round::<FetchCall>),
    ("answer to a fetch", round::<FetchAnswer>),
    ("driver to head", round::<DriverCall>),
    ("answer to a driver", round::<DriverAnswer>),
    ("call of the directory", round::<DirectoryCall>),
    ("head of a stream", round::<StreamHead>),
    ("messages to actors", round::<Vec<AskFrame>>),
    ("replies of actors", round::<Vec<ReplyFrame>>),
    ("call of an actor", actor),
    ("plan", plan),
];

/// The first byte chooses the message that the rest is.
pub fn chosen(data: &[u8]) {
    if let Some((choice, rest)) = data.split_first() {
        let decoder = DECODERS.iter().cycle().nth(usize::from(*choice));
        decoder.expect("the list goes round").1(rest);
    }
}

/// What can be read can be sent on, and is then the same.
fn round<T: Serialize + DeserializeOwned>(data: &[u8]) {
    if let Ok(value) = codec::decode::<T>(data, codec::LIMIT_BYTES_MAX) {
        let bytes = codec::encode(&value, codec::LIMIT_BYTES_MAX).expect("what was read can be sent");
        let again = codec::decode::<T>(&bytes, codec::LIMIT_BYTES_MAX).expect("what was sent can be read");
        assert_eq!(codec::encode(&again, codec::LIMIT_BYTES_MAX).expect("it was before"), bytes);
    }
}

fn actor(data: &[u8]) {
    round::<ActorCall>(data);
    round::<ActorAnswer>(data);
}

/// An order that is opened as far as that needs no node.
fn pool(data: &[u8]) {
    round::<OpenPool>(data);
    if let Ok(open) = codec::decode::<OpenPool>(data, codec::LIMIT_BYTES_MAX) {
        let _ = from_wire(open);
    }
}

/// A plan as the head checks it before anything is started.
fn plan(data: &[u8]) {
    if let Ok(plan) = WireTopology::decode(data) {
        let topology = plan.into_topology();
        if topology.check().is_ok() {
            let _ = topology.to_wire();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::block::{BlockId, BlockName, Incarnation, NodeId, Segments};
    use crate::cluster::frames::{InputFrame, PieceFrame, TaskFrame};
    use crate::job::why::picture::{At, InputAt, InputPicture, LeasePicture, PoolPicture, TaskPicture, WorkerPicture};
    use crate::job::{Cause, Logic, OperatorPlan, Resources, Topology, Why, Workers};
    use crate::units::{Bytes, Rows};

    fn block() -> BlockName {
        BlockName {
            id: BlockId(7),
            home: NodeId(2),
            incarnation: Incarnation(9),
            rows: Rows(10),
            bytes: Bytes(80),
            segments: Segments::default(),
            origins: Default::default(),
        }
    }

    fn picture() -> PoolPicture {
        let task = Some(TaskPicture { seq: 3, attempt: 1, what: "7 rows".to_owned() });
        let (at, since) = (At::Computing { from: Rows(2), rows: Some(5) }, Duration::from_secs(61));
        let worker = WorkerPicture { worker: 1, at, since, task, holds: vec![3, 4], step: Some("score".to_owned()) };
        let input = InputPicture { seq: 4, at: InputAt::Fetch(7), since };
        let lease = LeasePicture { workers: 1, wanted: "gpu 1".to_owned(), since, held_by: "job 2".to_owned() };
        let (workers, inputs) = (vec![worker], vec![input]);
        PoolPicture { workers, lease: Some(lease), others_compute: true, inputs, left_behind: 2 }
    }

    fn why() -> Why {
        let (root, waiting) = (vec!["a".to_owned(), "b".to_owned()], vec![(1, "c".to_owned())]);
        Why { causes: vec![Cause { root, is_cycle: true, waiting, more: 1 }], more: 2 }
    }

    fn bytes(value: &impl Serialize) -> Vec<u8> {
        codec::encode(value, codec::LIMIT_BYTES_MAX).expect("it is small")
    }

    /// Some good bytes for several of them.
    fn good() -> Vec<Vec<u8>> {
        let piece = PieceFrame { block: block(), from: 0, rows: 10 };
        let input = InputFrame::Pieces(vec![piece]);
        let union = OperatorPlan {
            name: "union".into(),
            inputs: Vec::new(),
            logic: Logic::Union,
            workers: Workers { min: 1, max: 4 },
            resources: Resources::cpu(1.0).label("disk", "ssd"),
            ordered: true,
        };
        let plan = Topology { operators: vec![union], ..Topology::default() }.to_wire().expect("it travels");
        let results = vec![block(), block()];
        vec![
            bytes(&ToPool::Task(TaskFrame { seq: 1, attempt: 1, from: Rows(3), until: Rows(9), input })),
            bytes(&FromPool::Emitted { seq: 1, attempt: 1, results, left: Bytes(5), progress: Rows(4), done: true }),
            bytes(&FromPool::Failed {
                seq: 1,
                attempt: 2,
                reached: Some(Rows(7)),
                cause: vec!["a".into(), "b".into()],
            }),
            bytes(&FromPool::Why(picture())),
            bytes(&DriverAnswer::Why { why: why() }),
            bytes(&FetchCall::Block { name: block() }),
            bytes(&HeadCall::Release { blocks: vec![BlockId(1), BlockId(u64::MAX)] }),
            plan.encode().expect("it is small"),
        ]
    }

    static GOOD: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(good);

    proptest! {
        #[test]
        fn no_decoder_is_harmed_by_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            DECODERS.iter().for_each(|(_, decode)| decode(&bytes));
            chosen(&bytes);
        }

        #[test]
        fn no_decoder_is_harmed_by_good_bytes_that_were_changed(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 0..6),
        ) {
            for good in GOOD.iter() {
                let mut bytes = good.clone();
                for (at, byte, how) in &changes {
                    let at = at.index(bytes.len() + 1);
                    match how {
                        0 => bytes.insert(at, *byte),
                        1 => bytes.iter_mut().skip(at).take(1).for_each(|there| *there = *byte),
                        _ => bytes.truncate(at.max(1)),
                    }
                }
                DECODERS.iter().for_each(|(_, decode)| decode(&bytes));
            }
        }
    }
}
