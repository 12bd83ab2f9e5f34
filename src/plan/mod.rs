//! Plans: what was asked ([`logical`]), rewritten by [`rules`], compiled by [`lower`] into the operators that run it
//! ([`physical`]).
//!
//! Nothing here reads data or runs jobs: that is the engine behind `mobula_actors`.

pub(crate) mod columns;
pub(crate) mod exprs;
pub(crate) mod logical;
pub(crate) mod lower;
pub(crate) mod physical;
pub(crate) mod rules;
pub(crate) mod steps;

#[cfg(test)]
mod tests;

use logical::Logical;
use lower::Site;

use crate::error::Result;

/// The plan as asked, as optimized, and as it will run.
///
/// # Errors
/// If a source changed since it was looked at.
pub(crate) fn explain(plan: &logical::PlanRef, site: Site) -> Result<String> {
    let optimized = rules::optimize(plan);
    let physical = physical::print(&lower::lower(&optimized, site)?);
    Ok(format!("logical plan\n{}\noptimized plan\n{}\nphysical plan\n{physical}", block(plan), block(&optimized)))
}

fn block(plan: &Logical) -> String {
    plan.to_string()
}
