// The highest of some logits, and which it is, as one 64-bit key: the logit's bits, mapped so that unsigned order is numeric order, above
// the complement of its index. The highest key is that of the lowest index among the highest logits, or NOT_FINITE where any is not finite.

// The key of NaN and ±∞; above the keys of all finite numbers.
#define NOT_FINITE 0xffffffffffffffffull

__device__ __forceinline__ uint64 key_of(float logit, int index) {
    // −0 becomes 0, as both are the same number.
    const uint32 bits = __float_as_uint(logit + 0.0f);
    if ((bits & 0x7f800000u) == 0x7f800000u) return NOT_FINITE;
    const uint32 sorted = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    return (uint64)sorted << 32 | (uint32)~index;
}
__device__ __forceinline__ uint64 higher(uint64 a, uint64 b) { return a > b ? a : b; }

