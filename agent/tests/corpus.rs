//! Runs the fuzz functions over their seeds, the golden requests and a few thousand mutations of them, on stable.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use tidegate::convert::fuzz_convert;
use tidegate::exporters::dead_letter::{Letter, fuzz_letter};
use tidegate::otlp::fuzz_request;
use tidegate::otlp::testing::{Random, mutate_bytes, mutate_fields};
use tidegate::receivers::otlp::fuzz_inflate;
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

#[test]
fn bodies_in_every_encoding_and_their_mutations_inflate_within_their_limits() {
    let mut files: Vec<_> = fs::read_dir(path("fuzz/corpus/decompress"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|file| {
            file.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("seed_")
        })
        .collect();
    files.sort();
    assert!(files.len() > 10);
    let seeds: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    for (index, seed) in seeds.iter().enumerate() {
        fuzz_inflate(seed);
        let other = &seeds[(index + 1) % seeds.len()];
        for mutation in 0..4 * MUTATIONS {
            let random = &mut Random::new(mutation << 8 | index as u64);
            let mut bytes = seed.clone();
            mutate_bytes(random, &mut bytes, other);
            fuzz_inflate(&bytes);
        }
    }
}

/// Mutations are of lines and characters that mean something in YAML: random bytes seldom get past its scanner.
#[test]
fn collector_configurations_and_their_mutations_convert_to_toml() {
    let mut files: Vec<_> = fs::read_dir(path("fuzz/corpus/convert"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|file| {
            let name = file.file_name().unwrap().to_string_lossy();
            name.starts_with("seed_")
        })
        .collect();
    files.sort();
    assert!(files.len() > 10);
    let seeds: Vec<String> = files
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    for (index, seed) in seeds.iter().enumerate() {
        fuzz_convert(seed);
        let other: Vec<&str> = seeds[(index + 1) % seeds.len()].lines().collect();
        for mutation in 0..MUTATIONS {
            let random = &mut Random::new(mutation << 8 | index as u64);
            let mut lines: Vec<String> = seed.lines().map(str::to_owned).collect();
            for _ in 0..=random.below(4) {
                mutate_line(random, &mut lines, &other);
            }
            fuzz_convert(&lines.join("\n"));
            let mut bytes = seed.clone().into_bytes();
            mutate_bytes(random, &mut bytes, other.join("\n").as_bytes());
            fuzz_convert(&String::from_utf8_lossy(&bytes));
        }
    }
}

fn mutate_line(random: &mut Random, lines: &mut Vec<String>, other: &[&str]) {
    const WORDS: [&str; 16] = [
        "",
        "[]",
        "{}",
        "null",
        "-1",
        "0",
        "1e9",
        "${X}",
        "${yaml:x}",
        "$${",
        "&a",
        "*a",
        "'#'",
        "\"\\n\"",
        "|",
        "a: b",
    ];
    if lines.is_empty() {
        lines.push(String::new());
    }
    let at = random.below(lines.len());
    match random.below(6) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[random.below(lines.len())].clone()),
        2 => lines.insert(at, other[random.below(other.len())].to_owned()),
        3 => lines[at].insert_str(0, "  "),
        4 => lines[at] = lines[at].replacen("  ", "", 1),
        _ => {
            let key = lines[at].split(':').next().unwrap_or_default().to_owned();
            lines[at] = format!("{key}: {}", random.one_of(&WORDS));
        }
    }
}
