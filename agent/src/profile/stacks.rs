//! Stacks that were seen, and how often.

use std::collections::HashMap;

/// Return addresses, from the innermost; the first is where it was.
pub type Stack = Box<[usize]>;

/// Distinct stacks that are told apart: a busy agent has a few thousand. Of others only the number is kept.
const STACKS_MAX: usize = 16_384;

/// Figures for each stack, as many as the profile has.
#[derive(Debug)]
pub struct Stacks<const N: usize> {
    seen: HashMap<Stack, [i64; N]>,
    others: [i64; N],
}

impl<const N: usize> Default for Stacks<N> {
    fn default() -> Self {
        Self {
            seen: HashMap::new(),
            others: [0; N],
        }
    }
}

impl<const N: usize> Stacks<N> {
    /// Adds to the figures of `stack`.
    pub fn add(&mut self, stack: &[usize], figures: [i64; N]) {
        if let Some(found) = self.seen.get_mut(stack) {
            return add(found, figures);
        }
        if self.seen.len() >= STACKS_MAX {
            return add(&mut self.others, figures);
        }
        self.seen.insert(stack.into(), figures);
    }

    #[cfg(test)]
    pub(super) fn seen(&self) -> impl Iterator<Item = &Stack> {
        self.seen.keys()
    }

    /// Stacks with their figures, in no order. What belongs to none of them comes last, with an empty stack.
    #[allow(
        clippy::iter_over_hash_type,
        reason = "the samples of a profile have no order"
    )]
    pub fn into_samples(self) -> Vec<(Stack, [i64; N])> {
        let mut samples: Vec<_> = self.seen.into_iter().collect();
        if self.others != [0; N] {
            samples.push((Box::default(), self.others));
        }
        samples
    }
}

fn add<const N: usize>(sum: &mut [i64; N], figures: [i64; N]) {
    for (sum, figure) in sum.iter_mut().zip(figures) {
        *sum = sum.saturating_add(figure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_one_stack_are_added_and_too_many_stacks_are_one() {
        let mut stacks = Stacks::default();
        stacks.add(&[1, 2], [1, 10]);
        stacks.add(&[1, 2], [1, 10]);
        for number in 0..STACKS_MAX + 4 {
            stacks.add(&[number, 7, 7], [1, 0]);
        }
        let samples = stacks.into_samples();
        assert_eq!(samples.len(), STACKS_MAX + 1);
        let of = |stack: &[usize]| samples.iter().find(|(found, _)| **found == *stack);
        assert_eq!(of(&[1, 2]).unwrap().1, [2, 20]);
        assert_eq!(samples.last().unwrap(), &(Box::default(), [5, 0]));
    }
}
