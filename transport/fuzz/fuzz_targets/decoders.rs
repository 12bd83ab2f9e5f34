//! Every decoder of the transport, chosen by the first byte; what they are is in `mobula_transport::fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mobula_transport::fuzz::chosen(data));
