use crate::wire::macros::numbers;

numbers! {
    /// How a policy compares what the TPM holds with an operand: `A` is the TPM's, `B` the operand. Part 2 §6.8.
    #[doc(alias = "TPM_EO")]
    Comparison: u16 {
        EQ = 0x0000, NEQ = 0x0001, SIGNED_GT = 0x0002, UNSIGNED_GT = 0x0003, SIGNED_LT = 0x0004,
        UNSIGNED_LT = 0x0005, SIGNED_GE = 0x0006, UNSIGNED_GE = 0x0007, SIGNED_LE = 0x0008,
        UNSIGNED_LE = 0x0009, BITSET = 0x000a, BITCLEAR = 0x000b,
    }
}

numbers! {
    /// Localities: bits for 0 to 4; a value of 32 or more is one extended locality and no set of bits. Part 2 §8.5.
    #[doc(alias = "TPMA_LOCALITY")]
    bits Locality: u8 {
        ZERO = 1 << 0, ONE = 1 << 1, TWO = 1 << 2, THREE = 1 << 3, FOUR = 1 << 4,
    }
}
