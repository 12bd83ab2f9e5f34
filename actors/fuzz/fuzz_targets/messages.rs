//! Every message of the engine, chosen by the first byte; what they are is in `mobula_actors::cluster::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mobula_actors::cluster::fuzz::chosen(data));
