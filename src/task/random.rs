//! The draws of Python's `random.Random(seed).sample`, number for number: lm-evaluation-harness picks its few-shot
//! examples by them. The generator is MT19937 (Matsumoto and Nishimura 1998) seeded by its `init_by_array`; how draws
//! become indices is told in `CPython`'s documentation and source of `random`.

const SIZE: usize = 624;
const MIDDLE: usize = 397;

/// Python's `random.Random`.
pub(super) struct PythonRandom {
    state: [u32; SIZE],
    next: usize,
}

impl PythonRandom {
    /// Seeded by an integer below 2^32.
    pub(super) fn new(seed: u32) -> Self {
        let mut state = [0; SIZE];
        state[0] = 19_650_218;
        for i in 1..SIZE {
            state[i] = mixed(state[i - 1]).wrapping_mul(1_812_433_253).wrapping_add(i as u32);
        }
        // `init_by_array` with a key of one word: the word's index, which is added beside it, is always 0.
        let mut i = 1;
        for _ in 0..SIZE {
            state[i] = (state[i] ^ mixed(state[i - 1]).wrapping_mul(1_664_525)).wrapping_add(seed);
            i = advance(&mut state, i);
        }
        for _ in 1..SIZE {
            state[i] = (state[i] ^ mixed(state[i - 1]).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i = advance(&mut state, i);
        }
        state[0] = 1 << 31;
        Self { state, next: SIZE }
    }

    fn word(&mut self) -> u32 {
        if self.next == SIZE {
            for i in 0..SIZE {
                let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % SIZE] & 0x7FFF_FFFF);
                let odd = if joined & 1 == 1 { 0x9908_B0DF } else { 0 };
                self.state[i] = self.state[(i + MIDDLE) % SIZE] ^ (joined >> 1) ^ odd;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9D2C_5680;
        y ^= (y << 15) & 0xEFC6_0000;
        y ^ (y >> 18)
    }

    /// Uniform below `n` (at least 1 and below 2^32): as many high bits as `n` has, until they are below it.
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let draw = (self.word() >> (32 - bits.clamp(1, 32))) as usize;
            if draw < n {
                return draw;
            }
        }
    }

    /// `count` different numbers below `n`, in the order drawn; `None` where there are not so many.
    pub(super) fn sample(&mut self, n: usize, count: usize) -> Option<Vec<usize>> {
        if count > n || u32::try_from(n).is_err() {
            return None;
        }
        if n <= pool_limit(count) {
            let mut pool: Vec<usize> = (0..n).collect();
            return Some((0..count).map(|taken| pool.swap_remove(self.below(n - taken))).collect());
        }
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count {
            let draw = self.below(n);
            if !drawn.contains(&draw) {
                drawn.push(draw);
            }
        }
        Some(drawn)
    }
}

fn mixed(word: u32) -> u32 {
    word ^ (word >> 30)
}

fn advance(state: &mut [u32; SIZE], i: usize) -> usize {
    if i + 1 < SIZE {
        return i + 1;
    }
    state[0] = state[SIZE - 1];
    1
}

/// Up to how many candidates Python draws from a pool rather than rejecting repeats.
fn pool_limit(count: usize) -> usize {
    let mut limit = 21;
    if count > 5 {
        let mut power: usize = 1;
        while power < count.saturating_mul(3) {
            power = power.saturating_mul(4);
        }
        limit += power;
    }
    limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_python() {
        // python3 -c "import random; r = random.Random(1234); print([r.getrandbits(32) for _ in range(3)])"
        let mut random = PythonRandom::new(1234);
        assert_eq!([random.word(), random.word(), random.word()], [4_150_886_329, 3_342_196_574, 1_892_932_127]);
        // … and after 2,000 words, past three renewals of the state.
        for _ in 3..2000 {
            random.word();
        }
        assert_eq!(random.word(), 558_462_902);
    }

    #[test]
    fn samples_are_those_of_python() {
        // r = random.Random(1234); r.sample(range(7473), 5), then r.sample(range(20), 5), r.sample(range(90), 8),
        // r.sample(range(85), 8), r.sample(range(7), 7), r.sample(range(1), 1)
        let mut random = PythonRandom::new(1234);
        assert_eq!(random.sample(7473, 5), Some(vec![6374, 3610, 957, 61, 742]));
        assert_eq!(random.sample(20, 5), Some(vec![18, 1, 2, 3, 11]));
        assert_eq!(random.sample(90, 8), Some(vec![30, 2, 3, 44, 82, 79, 61, 78]));
        assert_eq!(random.sample(85, 8), Some(vec![59, 19, 11, 23, 14, 1, 64, 62]));
        assert_eq!(random.sample(7, 7), Some(vec![1, 0, 4, 3, 5, 2, 6]));
        assert_eq!(random.sample(1, 1), Some(vec![0]));
        assert_eq!(random.sample(4, 5), None);
        assert_eq!(random.sample(4, 0), Some(vec![]));
    }
}
