//! The program: its configuration, its log, and whatever was asked for.

fn main() {}
