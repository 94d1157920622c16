//! One arithmetic for every machine: sixteen lanes, fused multiply-adds, a fixed order of summation.
//!
//! A kernel is written once over `[f32; 16]` and compiled for AVX-512, AVX2 and the plain target. Every variant does
//! the same correctly rounded operations in the same order, so results are the same bits on any x86-64, with any number of
//! threads, in any batch: golden files rest on this. Only the speed differs (without FMA instructions `mul_add` is slow,
//! and still right).

use std::sync::OnceLock;

use half::{bf16, f16};

use crate::EngineError;
use crate::fault::Fault;

/// What restricts an instruction set, and how it names each.
const VARIABLE: &str = "EVALSUITE_SIMD";
const NAMES: [(&str, InstructionSet); 3] =
    [("portable", InstructionSet::Portable), ("avx2", InstructionSet::Avx2), ("avx512", InstructionSet::Avx512)];

/// Lanes of a vector; partial sums are kept per lane and folded in a fixed tree at the end.
pub(crate) const LANES: usize = 16;

/// A computation that [`vectorize`] compiles once for each instruction set. `run` must be `#[inline(always)]`, so that it
/// takes on the features of the function it is inlined into.
pub(crate) trait Kernel {
    /// Does the work with sums held in `L`.
    fn run<L: Lanes>(self);
}

/// Instruction sets, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// Whatever the target guarantees.
    Portable,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 F, VL, BW and DQ.
    Avx512,
}

impl InstructionSet {
    /// The best that this machine has, or what `EVALSUITE_SIMD` (portable, avx2, avx512) restricts it to.
    pub fn detected() -> Self {
        static DETECTED: OnceLock<InstructionSet> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            let asked = std::env::var(VARIABLE).ok().and_then(|name| Self::parse(&name));
            Self::available().min(asked.unwrap_or(Self::Avx512))
        })
    }

    /// Refuses an `EVALSUITE_SIMD` that names none, which [`InstructionSet::detected`] would not heed.
    pub(crate) fn check_environment() -> Result<(), EngineError> {
        let Some(value) = std::env::var_os(VARIABLE) else { return Ok(()) };
        let value = value.to_string_lossy();
        if value.is_empty() || Self::parse(&value).is_some() {
            return Ok(());
        }
        Err(Fault::unknown(VARIABLE, &value, &NAMES.map(|(name, _)| name)).into())
    }

    fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, set)| *set)
    }

    #[cfg(target_arch = "x86_64")]
    fn available() -> Self {
        let avx2 =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq");
        match (avx2, avx512) {
            (true, true) => Self::Avx512,
            (true, false) => Self::Avx2,
            (false, _) => Self::Portable,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn available() -> Self {
        Self::Portable
    }

    /// The name shown in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
        }
    }
}

/// Runs a kernel compiled for the best instruction set at hand.
pub(crate) fn vectorize(kernel: impl Kernel) {
    vectorize_for(InstructionSet::detected(), kernel);
}

/// Runs a kernel compiled for `set`, which must be no better than what the machine has.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "a function compiled for an instruction set may only be called where the set exists")]
pub(crate) fn vectorize_for(set: InstructionSet, kernel: impl Kernel) {
    match set.min(InstructionSet::available()) {
        // SAFETY: `available` has just found every feature that `avx512` enables.
        InstructionSet::Avx512 => unsafe { avx512(kernel) },
        // SAFETY: `available` has just found every feature that `avx2` enables.
        InstructionSet::Avx2 => unsafe { avx2(kernel) },
        InstructionSet::Portable => kernel.run::<[f32; LANES]>(),
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn vectorize_for(_: InstructionSet, kernel: impl Kernel) {
    kernel.run::<[f32; LANES]>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c")]
fn avx512(kernel: impl Kernel) {
    kernel.run::<std::arch::x86_64::__m512>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2(kernel: impl Kernel) {
    kernel.run::<[std::arch::x86_64::__m256; 2]>();
}

/// Sixteen partial sums in registers.
pub(crate) trait Lanes: Copy {
    /// Whether there are registers for a tile of 4 × 4 sums; else 2 × 2.
    const WIDE: bool;

    /// Sixteen zeros.
    fn zero() -> Self;

    /// `self` + a · b, lane by lane, rounded once.
    fn add_product(self, a: &[f32; LANES], b: &[f32; LANES]) -> Self;

    /// The same with numbers that are at hand.
    fn add_product_of(self, a: &[f32; LANES], b: Self) -> Self;

    /// Each times `factor`, rounded.
    fn times(self, factor: f32) -> Self;

    /// Each less `x`, rounded.
    fn minus(self, x: f32) -> Self;

    /// Values of binary16.
    fn of_f16(from: &[f16; LANES]) -> Self;

    /// Values of bfloat16.
    fn of_bf16(from: &[bf16; LANES]) -> Self;

    /// Integers.
    fn of_i8(from: &[i8; LANES]) -> Self;

    /// The low four bits of each byte, and the high ones.
    fn of_nibbles(from: &[u8; LANES]) -> (Self, Self);

    /// Their sum: halves onto halves, always in this order (l + 8, then l + 4, l + 2, l + 1).
    fn fold(self) -> f32;
}

impl Lanes for [f32; LANES] {
    const WIDE: bool = false;

    #[inline(always)]
    fn zero() -> Self {
        [0.0; LANES]
    }

    #[inline(always)]
    fn add_product(mut self, a: &[f32; LANES], b: &[f32; LANES]) -> Self {
        for lane in 0..LANES {
            self[lane] = a[lane].mul_add(b[lane], self[lane]);
        }
        self
    }

    #[inline(always)]
    fn add_product_of(self, a: &[f32; LANES], b: Self) -> Self {
        self.add_product(a, &b)
    }

    #[inline(always)]
    fn times(mut self, factor: f32) -> Self {
        for lane in &mut self {
            *lane *= factor;
        }
        self
    }

    #[inline(always)]
    fn minus(mut self, x: f32) -> Self {
        for lane in &mut self {
            *lane -= x;
        }
        self
    }

    #[inline(always)]
    fn of_f16(from: &[f16; LANES]) -> Self {
        from.map(f16::to_f32)
    }

    #[inline(always)]
    fn of_bf16(from: &[bf16; LANES]) -> Self {
        from.map(bf16::to_f32)
    }

    #[inline(always)]
    fn of_i8(from: &[i8; LANES]) -> Self {
        from.map(f32::from)
    }

    #[inline(always)]
    fn of_nibbles(from: &[u8; LANES]) -> (Self, Self) {
        (from.map(|byte| f32::from(byte & 15)), from.map(|byte| f32::from(byte >> 4)))
    }

    #[inline(always)]
    fn fold(mut self) -> f32 {
        for width in [8, 4, 2, 1] {
            for lane in 0..width {
                self[lane] += self[lane + width];
            }
        }
        self[0]
    }
}

/// Only inlined into functions that enable the instructions: see `avx512` and `avx2` above.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions; every pointer comes from a reference to sixteen numbers")]
#[expect(clippy::cast_ptr_alignment, reason = "loads that ask for no alignment")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256, __m256i, __m512, _mm_add_ps, _mm_add_ss, _mm_and_si128, _mm_cvtss_f32, _mm_loadl_epi64,
        _mm_loadu_si128, _mm_movehl_ps, _mm_set1_epi8, _mm_shuffle_ps, _mm_srli_epi16, _mm_srli_si128, _mm256_add_ps,
        _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32,
        _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_loadu_si256, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_sub_ps,
        _mm512_castps512_ps256, _mm512_castsi512_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32,
        _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_sub_ps,
    };

    use half::{bf16, f16};

    use super::{LANES, Lanes};

    impl Lanes for __m512 {
        const WIDE: bool = true;

        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: reached only from `avx512`.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        fn add_product(self, a: &[f32; LANES], b: &[f32; LANES]) -> Self {
            // SAFETY: reached only from `avx512`; both arrays hold sixteen floats.
            unsafe { _mm512_fmadd_ps(_mm512_loadu_ps(a.as_ptr()), _mm512_loadu_ps(b.as_ptr()), self) }
        }

        #[inline(always)]
        fn add_product_of(self, a: &[f32; LANES], b: Self) -> Self {
            // SAFETY: reached only from `avx512`; the array holds sixteen floats.
            unsafe { _mm512_fmadd_ps(_mm512_loadu_ps(a.as_ptr()), b, self) }
        }

        #[inline(always)]
        fn times(self, factor: f32) -> Self {
            // SAFETY: reached only from `avx512`.
            unsafe { _mm512_mul_ps(self, _mm512_set1_ps(factor)) }
        }

        #[inline(always)]
        fn minus(self, x: f32) -> Self {
            // SAFETY: reached only from `avx512`.
            unsafe { _mm512_sub_ps(self, _mm512_set1_ps(x)) }
        }

        #[inline(always)]
        fn of_f16(from: &[f16; LANES]) -> Self {
            // SAFETY: reached only from `avx512`; the array is 32 bytes.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast::<__m256i>())) }
        }

        #[inline(always)]
        fn of_bf16(from: &[bf16; LANES]) -> Self {
            // SAFETY: reached only from `avx512`; the array is 32 bytes.
            unsafe {
                let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast::<__m256i>()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
            }
        }

        #[inline(always)]
        fn of_i8(from: &[i8; LANES]) -> Self {
            // SAFETY: reached only from `avx512`; the array is 16 bytes.
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast::<__m128i>()))) }
        }

        #[inline(always)]
        fn of_nibbles(from: &[u8; LANES]) -> (Self, Self) {
            // SAFETY: reached only from `avx512`, whose features include what `nibbles` needs.
            unsafe {
                let (low, high) = nibbles(from);
                (_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(low)), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(high)))
            }
        }

        #[inline(always)]
        fn fold(self) -> f32 {
            // SAFETY: reached only from `avx512`.
            unsafe { fold8(_mm256_add_ps(_mm512_castps512_ps256(self), _mm512_extractf32x8_ps::<1>(self))) }
        }
    }

    impl Lanes for [__m256; 2] {
        const WIDE: bool = false;

        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: reached only from `avx2`.
            unsafe { [_mm256_setzero_ps(); 2] }
        }

        #[inline(always)]
        fn add_product(self, a: &[f32; LANES], b: &[f32; LANES]) -> Self {
            let half = |lanes: &[f32; LANES], start: usize| lanes[start..].as_ptr();
            // SAFETY: reached only from `avx2`; eight floats follow each half's start.
            unsafe {
                [
                    _mm256_fmadd_ps(_mm256_loadu_ps(half(a, 0)), _mm256_loadu_ps(half(b, 0)), self[0]),
                    _mm256_fmadd_ps(_mm256_loadu_ps(half(a, 8)), _mm256_loadu_ps(half(b, 8)), self[1]),
                ]
            }
        }

        #[inline(always)]
        fn add_product_of(self, a: &[f32; LANES], b: Self) -> Self {
            // SAFETY: reached only from `avx2`; eight floats follow each half's start.
            unsafe {
                [
                    _mm256_fmadd_ps(_mm256_loadu_ps(a.as_ptr()), b[0], self[0]),
                    _mm256_fmadd_ps(_mm256_loadu_ps(a[8..].as_ptr()), b[1], self[1]),
                ]
            }
        }

        #[inline(always)]
        fn times(self, factor: f32) -> Self {
            // SAFETY: reached only from `avx2`.
            unsafe {
                let factor = _mm256_set1_ps(factor);
                [_mm256_mul_ps(self[0], factor), _mm256_mul_ps(self[1], factor)]
            }
        }

        #[inline(always)]
        fn minus(self, x: f32) -> Self {
            // SAFETY: reached only from `avx2`.
            unsafe {
                let x = _mm256_set1_ps(x);
                [_mm256_sub_ps(self[0], x), _mm256_sub_ps(self[1], x)]
            }
        }

        #[inline(always)]
        fn of_f16(from: &[f16; LANES]) -> Self {
            // SAFETY: reached only from `avx2`, which enables F16C; each half is 16 bytes.
            unsafe {
                let half = |start: usize| _mm_loadu_si128(from[start..].as_ptr().cast::<__m128i>());
                [_mm256_cvtph_ps(half(0)), _mm256_cvtph_ps(half(8))]
            }
        }

        #[inline(always)]
        fn of_bf16(from: &[bf16; LANES]) -> Self {
            // SAFETY: reached only from `avx2`; each half is 16 bytes.
            unsafe {
                let half = |start: usize| _mm_loadu_si128(from[start..].as_ptr().cast::<__m128i>());
                [
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half(0)))),
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(half(8)))),
                ]
            }
        }

        #[inline(always)]
        fn of_i8(from: &[i8; LANES]) -> Self {
            // SAFETY: reached only from `avx2`; each half is 8 bytes.
            unsafe {
                let half = |start: usize| _mm_loadl_epi64(from[start..].as_ptr().cast::<__m128i>());
                [_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(half(0))), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(half(8)))]
            }
        }

        #[inline(always)]
        fn of_nibbles(from: &[u8; LANES]) -> (Self, Self) {
            // SAFETY: reached only from `avx2`, whose features include what `nibbles` needs.
            unsafe {
                let (low, high) = nibbles(from);
                (widen_bytes(low), widen_bytes(high))
            }
        }

        #[inline(always)]
        fn fold(self) -> f32 {
            // SAFETY: reached only from `avx2`.
            unsafe { fold8(_mm256_add_ps(self[0], self[1])) }
        }
    }

    /// The low four bits of each byte, and the high ones. To be reached from `avx512` and `avx2` only.
    #[inline(always)]
    unsafe fn nibbles(from: &[u8; LANES]) -> (__m128i, __m128i) {
        // SAFETY: every x86-64 has SSE2; the array is 16 bytes.
        unsafe {
            let (bytes, mask) = (_mm_loadu_si128(from.as_ptr().cast::<__m128i>()), _mm_set1_epi8(15));
            (_mm_and_si128(bytes, mask), _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask))
        }
    }

    /// To be reached from `avx2` only.
    #[inline(always)]
    unsafe fn widen_bytes(bytes: __m128i) -> [__m256; 2] {
        // SAFETY: the caller has AVX2.
        unsafe {
            [
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes))),
            ]
        }
    }

    /// The last three steps of a fold. To be reached from `avx512` and `avx2` only.
    #[inline(always)]
    unsafe fn fold8(lanes: __m256) -> f32 {
        // SAFETY: the callers have AVX.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

/// Σ a·b over two slices of one length.
#[inline(always)]
pub(crate) fn dot<L: Lanes>(a: &[f32], b: &[f32]) -> f32 {
    let [[sum]] = dots::<L, 1, 1>([a], [b]);
    sum
}

/// Σ a, in the same order.
#[inline(always)]
pub(crate) fn sum<L: Lanes>(a: &[f32]) -> f32 {
    const ONES: [f32; LANES] = [1.0; LANES];
    let (chunks, rest) = a.as_chunks();
    let mut sum = L::zero();
    for chunk in chunks {
        sum = sum.add_product(chunk, &ONES);
    }
    if !rest.is_empty() {
        sum = sum.add_product(&padded(rest, 0.0), &ONES);
    }
    sum.fold()
}

/// Σₖ x[i][k] · w[j][k] for every pair (i, j): the inner kernel of every matrix product. All slices have one length.
/// Lane l sums the k with k mod 16 = l, in ascending order, whatever M and N are.
#[inline(always)]
pub(crate) fn dots<L: Lanes, const M: usize, const N: usize>(x: [&[f32]; M], w: [&[f32]; N]) -> [[f32; N]; M] {
    // Loops, not `map`: a closure handed to the library is compiled without the caller's instruction set.
    let length = x[0].len();
    let whole = length - length % LANES;
    let mut x_chunks: [&[[f32; LANES]]; M] = [&[]; M];
    let mut w_chunks: [&[[f32; LANES]]; N] = [&[]; N];
    for i in 0..M {
        x_chunks[i] = &x[i].as_chunks().0[..whole / LANES];
    }
    for j in 0..N {
        w_chunks[j] = &w[j].as_chunks().0[..whole / LANES];
    }
    let mut sums = [[L::zero(); N]; M];
    for chunk in 0..whole / LANES {
        for i in 0..M {
            for j in 0..N {
                sums[i][j] = sums[i][j].add_product(&x_chunks[i][chunk], &w_chunks[j][chunk]);
            }
        }
    }
    if whole < length {
        for i in 0..M {
            for j in 0..N {
                sums[i][j] = sums[i][j].add_product(&padded(&x[i][whole..], 0.0), &padded(&w[j][whole..], 0.0));
            }
        }
    }
    let mut results = [[0.0; N]; M];
    for i in 0..M {
        for j in 0..N {
            results[i][j] = sums[i][j].fold();
        }
    }
    results
}

/// A rest of fewer than sixteen, filled with what counts as zero (adding 0 · 0 leaves a sum as it is).
#[inline(always)]
pub(super) fn padded<N: Copy>(rest: &[N], zero: N) -> [N; LANES] {
    let mut lanes = [zero; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// e^x in binary32, within 1 unit in the last place of the true value on [−87, 88]; 0 below, infinity above.
/// Cody–Waite reduction and the Taylor polynomial of degree 7 on [−ln2/2, ln2/2], fused throughout.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves an integer in the low bits of the mantissa
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.3, 88.7);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p = 1.0 / 5040.0;
    for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = r.mul_add(p, coefficient);
    }
    // n lies in [−126, 128]: two factors, since 2¹²⁸ itself is no finite number.
    let half = (n as i32) >> 1;
    let power = |exponent: i32| f32::from_bits(((exponent + 127) as u32) << 23);
    let value = p * power(half) * power(n as i32 - half);
    if x < -87.3 {
        0.0
    } else if x > 88.7 {
        f32::INFINITY
    } else {
        value
    }
}
