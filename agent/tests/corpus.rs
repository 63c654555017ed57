//! Runs the fuzz functions over their seeds, the golden requests and a few thousand mutations of them, on stable.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use tidegate::exporters::dead_letter::{Letter, fuzz_letter};
use tidegate::otlp::fuzz_request;
use tidegate::otlp::testing::{Random, mutate_bytes, mutate_fields};
use tidegate::signal::Signal;

/// Per seed and kind of mutation; a run takes a few seconds without optimisation.
const MUTATIONS: u64 = 25;

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The committed seeds of a signal's fuzz target, in the same order everywhere.
fn seeds(signal: Signal) -> Vec<Vec<u8>> {
    let folder = path(&format!("fuzz/corpus/otlp_{signal}"));
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|file| {
            file.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("seed_"))
        })
        .collect();
    files.sort();
    assert!(files.len() > 10, "{} has its seeds", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn golden_requests_hold() {
    for signal in Signal::ALL {
        let golden = fs::read(path(&format!("tests/golden/{signal}.pb"))).unwrap();
        fuzz_request(signal, &golden);
    }
}

#[test]
fn seeds_and_their_mutations_hold() {
    for signal in Signal::ALL {
        let seeds = seeds(signal);
        for (index, seed) in seeds.iter().enumerate() {
            fuzz_request(signal, seed);
            let other = &seeds[(index + 1) % seeds.len()];
            for mutation in 0..MUTATIONS {
                let random = &mut Random::new(mutation << 8 | index as u64);
                fuzz_request(signal, &mutate_fields(random, signal, seed));
                let mut bytes = seed.clone();
                mutate_bytes(random, &mut bytes, other);
                fuzz_request(signal, &bytes);
            }
        }
    }
}

#[test]
fn dead_letters_and_their_mutations_hold() {
    let seeds = Signal::ALL.map(|signal| path(&format!("fuzz/corpus/dead_letter/seed_{signal}")));
    for (index, seed) in seeds.iter().enumerate() {
        assert_eq!(Letter::open(seed).unwrap().header.items, 1);
        let bytes = fs::read(seed).unwrap();
        fuzz_letter(&bytes);
        let other = fs::read(&seeds[(index + 1) % seeds.len()]).unwrap();
        for mutation in 0..20 * MUTATIONS {
            let random = &mut Random::new(mutation << 8 | index as u64);
            let mut bytes = bytes.clone();
            mutate_bytes(random, &mut bytes, &other);
            fuzz_letter(&bytes);
        }
    }
}
