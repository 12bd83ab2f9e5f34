//! Values are dropped one after another, however deep they hold each other.

use std::cell::RefCell;
use std::sync::Arc;

use crate::task::call::Submitted;
use crate::task::value::Value;

thread_local! {
    /// What this thread drops next, while it drops values that hold references.
    static DROPPING: RefCell<Option<Vec<Dropped>>> = const { RefCell::new(None) };
}

/// What may hold references, whose drop comes back here.
type Dropped = (Vec<Value>, Vec<Arc<Submitted>>);

/// Drops values one after another: one inside another inside another, as deep as a program makes them, would be as deep a
/// recursion.
pub(super) fn drop_in_turn(garbage: Vec<Value>, left: Vec<Arc<Submitted>>) {
    if garbage.is_empty() && left.is_empty() {
        return;
    }
    let mut next = Some((garbage, left));
    let begin = |dropping: &RefCell<Option<Vec<Dropped>>>| match &mut *dropping.borrow_mut() {
        Some(later) => {
            later.extend(next.take());
            None
        }
        none => {
            *none = Some(Vec::new());
            Some(Turn)
        }
    };
    // A thread that ends drops what it has left at once.
    let turn = DROPPING.try_with(begin);
    while let Some(dropped) = next.take() {
        drop(dropped);
        if let Ok(Some(_)) = &turn {
            next = DROPPING.with(|dropping| dropping.borrow_mut().as_mut().and_then(Vec::pop));
        }
    }
}

/// While it lives, this thread drops what [`DROPPING`] says.
struct Turn;

impl Drop for Turn {
    fn drop(&mut self) {
        // Nothing is left there, unless the drop of a value panicked.
        let left = DROPPING.try_with(|dropping| dropping.borrow_mut().take());
        drop(left);
    }
}
