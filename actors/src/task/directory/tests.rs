//! Tests of the directory: its rules one by one, and promises about random clusters.

mod fuzz;
mod model;
mod nodes;
mod pace;
mod rules;
mod world;
