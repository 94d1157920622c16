//! Numbers of eight and four bits.

/// FP8 E4M3 without infinities: four bits of exponent with bias 7, three of fraction, NaN at 0x7F and 0xFF.
pub(in crate::model) fn e4m3(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let value = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => libm::ldexpf(fraction, -9),
        _ => libm::ldexpf(8.0 + fraction, exponent - 10),
    };
    if byte & 0x80 == 0 { value } else { -value }
}

/// FP4 E2M1: a sign, two bits of exponent, one of fraction.
fn e2m1(code: u8) -> f32 {
    const VALUES: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let value = VALUES[usize::from(code & 7)];
    if code & 8 == 0 { value } else { -value }
}

/// The FP4 numbers of packed bytes: the lower four bits of each byte, then its upper four.
pub(super) fn e2m1_pairs(bytes: &[u8]) -> Vec<f32> {
    bytes.iter().flat_map(|byte| [e2m1(byte & 15), e2m1(byte >> 4)]).collect()
}

/// An exponent of eight bits with bias 127, which is a scale of MX formats; 255 is NaN.
pub(super) fn e8m0(byte: u8) -> f32 {
    if byte == u8::MAX { f32::NAN } else { libm::ldexpf(1.0, i32::from(byte) - 127) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors() {
        for (byte, value) in
            [(0x38, 1.0), (0x7e, 448.0), (0x01, 0.001_953_125), (0x08, 0.015_625), (0xc4, -3.0), (0, 0.0)]
        {
            assert_eq!(e4m3(byte), value, "{byte:x}");
        }
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
        assert_eq!([e2m1(0x2f & 15), e2m1(0x2f >> 4)], [-6.0, 1.0]);
        assert_eq!((e8m0(127), e8m0(130), e8m0(0)), (1.0, 8.0, libm::ldexpf(1.0, -127)));
        assert!(e8m0(255).is_nan());
    }
}
