//! Segments that nobody wrote: what the fuzz target looks at, with a fixed set of inputs.

use super::sim::Random;
use crate::wal::fuzz_segment;

#[test]
fn arbitrary_segments_neither_panic_nor_hang() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let len = random.below(2000) as usize;
        let mut input: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        // Kinds that exist, and few items, make more of the input mean something.
        for at in (1..input.len()).step_by(8) {
            if random.chance(2) {
                input[at..].iter_mut().take(3).for_each(|byte| *byte %= 9);
            }
            if random.chance(3) {
                input[at..].iter_mut().take(8).for_each(|byte| *byte = 0);
            }
        }
        fuzz_segment(&input);
    }
}
