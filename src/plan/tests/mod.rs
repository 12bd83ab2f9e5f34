//! Tests of the planner: plans as text, and rules held against an interpreter that knows no rule and no engine.

mod interpreter;
mod snapshots;
mod soundness;
