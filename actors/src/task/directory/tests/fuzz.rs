//! Whatever parties say: nothing panics, what is given stays within what there is, and when all have gone nothing is left.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::world::{blob, frame};
use crate::job::Resources;
use crate::task::directory::*;
use crate::task::ids::DRIVERS_FROM;
use crate::task::wire::*;
use crate::units::Bytes;

const PARTIES: [PartyId; 5] = [PartyId(0), PartyId(1), PartyId(2), PartyId(DRIVERS_FROM), PartyId(DRIVERS_FROM + 1)];

fn party(rng: &mut StdRng) -> PartyId {
    PARTIES[rng.random_range(0..PARTIES.len())]
}

fn id(rng: &mut StdRng) -> ObjectId {
    let index = if rng.random_bool(0.8) { 0 } else { rng.random_range(0..4) };
    ObjectId::new(party(rng), rng.random_range(0..12)).item(index)
}

fn value(rng: &mut StdRng) -> ValueFrame {
    match rng.random_range(0..4) {
        0 => ValueFrame::Inline(blob(1)),
        1 => ValueFrame::Inline(Blob(vec![0; rng.random_range(0..INLINE_BYTES_MAX + 10)].into())),
        _ => ValueFrame::Located {
            bytes: Bytes(rng.random()),
            nodes: (0..rng.random_range(0..3)).map(|_| party(rng)).collect(),
        },
    }
}

fn resources(rng: &mut StdRng) -> Resources {
    let amounts = [0.0, 0.3, 1.0, 2.0, 1.5, f64::NAN, f64::INFINITY, -1.0, 1e300];
    let mut amount = |most: usize| amounts[rng.random_range(0..most)];
    let mut resources = Resources { gpus: amount(4), ..Resources::cpu(amount(9)) };
    if rng.random_bool(0.1) {
        resources.memory = Bytes(rng.random());
        resources.extras.insert("key".into(), amounts[rng.random_range(0..amounts.len())]);
    }
    if rng.random_bool(0.1) { resources.label("zone", "a") } else { resources }
}

fn message(rng: &mut StdRng, attempts: &[(ObjectId, u32)]) -> ToHead {
    let refs = |rng: &mut StdRng| -> Vec<ObjectId> { (0..rng.random_range(0..3)).map(|_| id(rng)).collect() };
    // Most are of attempts that are on their way, else few would come further than the first check.
    let (task, attempt) = if attempts.is_empty() || rng.random_bool(0.2) {
        (id(rng), rng.random_range(0..4))
    } else {
        attempts[rng.random_range(0..attempts.len())]
    };
    // Values that refer to each other in a ring are never freed, so what comes from attempts refers to nothing.
    let contained = Vec::new();
    match rng.random_range(0..16) {
        0..3 => {
            let mut task = frame(id(rng), "f", 1, &refs(rng), refs(rng), resources(rng));
            task.stream = rng.random_bool(0.3);
            task.attempts = rng.random_range(0..4);
            task.parent = rng.random_bool(0.5).then(|| id(rng));
            ToHead::Submit(task)
        }
        3 => ToHead::Put { id: id(rng), value: value(rng), contained: refs(rng) },
        4 => ToHead::Want { id: id(rng) },
        5 => ToHead::Release { id: id(rng), grants: [0, 1, 2, u64::MAX][rng.random_range(0..4)] },
        6 => ToHead::Cancel { task: id(rng) },
        7 => ToHead::Taken { task, index: rng.random() },
        8 => ToHead::Done { task, attempt, value: value(rng), contained },
        9 => {
            let error = match rng.random_range(0..4) {
                0 => AttemptError::Failed(Vec::new()),
                1 => AttemptError::WorkerLost(String::new()),
                2 => AttemptError::Argument { argument: id(rng), reason: String::new() },
                _ => AttemptError::Never(TaskError::Value(String::new())),
            };
            ToHead::Failed { task, attempt, error }
        }
        10 | 11 => {
            let index = [0, 1, 2, 3, u32::MAX][rng.random_range(0..5)];
            ToHead::Item { task, attempt, index, value: value(rng), contained }
        }
        12 | 13 => ToHead::Waits { task, attempt, waits: rng.random() },
        14 => ToHead::Copied { id: id(rng) },
        _ => ToHead::NotThere { id: id(rng), node: party(rng) },
    }
}

fn join(directory: &mut Directory, party: PartyId) {
    let resources = Resources { gpus: 1.0, memory: Bytes(100), ..Resources::cpu(2.0) };
    let offer = NodeOffer { name: NodeName::new(&format!("n{}", party.0)).expect("a name"), resources };
    directory.join(party, (party.is_node() && party != PartyId(0)).then_some(offer));
}

fn talk(seed: u64) {
    let rng = &mut StdRng::seed_from_u64(seed);
    let limits =
        DirectoryLimits { args: 2, contained: 2, values: 40, inline: Bytes::kib(256), items: 2, ..Default::default() };
    let mut directory = Directory::new(limits);
    let mut attempts: Vec<(PartyId, (ObjectId, u32))> = Vec::new();
    for _ in 0..600 {
        let from = party(rng);
        match rng.random_range(0..60) {
            0 => directory.gone(from),
            1 => directory.drain_node(from),
            2..6 => join(&mut directory, from),
            _ => {
                let own: Vec<_> = attempts.iter().filter(|(party, _)| *party == from).map(|(_, a)| *a).collect();
                directory.on(from, message(rng, &own));
            }
        }
        directory.check_sums();
        if rng.random_bool(0.5) {
            for (party, message) in directory.take_out() {
                if let FromHead::Run { task, attempt, .. } = message {
                    attempts.push((party, (task.id, attempt)));
                }
            }
            directory.check_sums();
        }
    }
    PARTIES.into_iter().for_each(|party| directory.gone(party));
    assert_eq!(directory.take_out().count(), 0, "nobody is there");
    directory.assert_empty();
}

proptest! {
    #[test]
    fn nothing_that_parties_say_panics_or_stays(seed in any::<u64>()) {
        talk(seed);
    }
}
