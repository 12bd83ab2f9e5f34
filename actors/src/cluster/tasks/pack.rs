//! Messages of tasks as frames: as many to a frame as make it worth its headers, and no more than fit.

use serde::{Deserialize, Serialize};

use crate::task::PartyId;
use crate::task::wire::{ArgFrame, FromHead, RefFrame, TaskFrame, ToHead, ValueFrame};

/// A frame is sent when it holds so many bytes. Sixteen times less than a frame may have, so that the last message always
/// fits; more would only add to the time until the first is read.
const FRAME_BYTES: usize = 256 << 10;
/// Messages that are taken out of a line at a time.
pub(crate) const FRAME_MESSAGES: usize = 1024;
/// About what a message takes beside its values.
const MESSAGE_BYTES: usize = 128;

/// The head to a party.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum DownFrame {
    /// Who the party is from now on. The first frame, and not said again.
    Welcome {
        party: PartyId,
    },
    Messages(Vec<FromHead>),
}

/// A party to the head.
pub(crate) type UpFrame = Vec<ToHead>;

/// What has a size.
pub(crate) trait Weigh {
    /// About its bytes on the wire.
    fn weight(&self) -> usize;
}

impl Weigh for ToHead {
    fn weight(&self) -> usize {
        MESSAGE_BYTES
            + match self {
                Self::Submit(frame) => task(frame),
                Self::Put { value: frame, contained, .. }
                | Self::Done { value: frame, contained, .. }
                | Self::Item { value: frame, contained, .. } => value(frame) + ids(contained.len()),
                _ => 0,
            }
    }
}

impl Weigh for FromHead {
    fn weight(&self) -> usize {
        MESSAGE_BYTES
            + match self {
                Self::Ready { value: frame, contained, .. } => value(frame) + ids(contained.len()),
                Self::Run { task: frame, args, .. } => task(frame) + args.iter().map(reference).sum::<usize>(),
                Self::Free { ids: freed } => ids(freed.len()),
                _ => 0,
            }
    }
}

fn ids(ids: usize) -> usize {
    const ID_BYTES: usize = 16;
    ids * ID_BYTES
}

fn value(frame: &ValueFrame) -> usize {
    if let ValueFrame::Inline(blob) = frame { blob.0.len() } else { 0 }
}

fn reference(frame: &RefFrame) -> usize {
    MESSAGE_BYTES + value(&frame.value) + ids(frame.contained.len())
}

fn task(frame: &TaskFrame) -> usize {
    let arg =
        |arg: &ArgFrame| if let ArgFrame::Value(blob) = arg { MESSAGE_BYTES + blob.0.len() } else { MESSAGE_BYTES };
    frame.args.iter().map(arg).sum::<usize>() + ids(frame.contained.len())
}

/// The messages in their order, in portions for a frame each.
pub(crate) fn pack<T: Weigh>(messages: Vec<T>) -> Vec<Vec<T>> {
    let mut frames = Vec::new();
    let (mut frame, mut bytes) = (Vec::with_capacity(messages.len()), 0);
    for message in messages {
        bytes += message.weight();
        frame.push(message);
        if bytes >= FRAME_BYTES {
            frames.push(std::mem::take(&mut frame));
            bytes = 0;
        }
    }
    if !frame.is_empty() {
        frames.push(frame);
    }
    frames
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Weigh for (usize, usize) {
        fn weight(&self) -> usize {
            self.1
        }
    }

    proptest! {
        #[test]
        fn all_messages_go_in_order_and_no_frame_is_much_too_large(weights in prop::collection::vec(0usize..400_000, 0..50)) {
            let messages: Vec<_> = weights.into_iter().enumerate().collect();
            let frames = pack(messages.clone());
            let before = |frame: &Vec<(usize, usize)>| frame.iter().rev().skip(1).map(Weigh::weight).sum::<usize>();
            let fits = frames.iter().all(|frame| !frame.is_empty() && before(frame) < FRAME_BYTES);
            prop_assert!(fits);
            prop_assert_eq!(frames.concat(), messages);
        }
    }
}
