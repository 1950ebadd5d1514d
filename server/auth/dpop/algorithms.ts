/** What the keys of proofs may be: `algs` of the challenge (RFC 9449 §7.1). */
export const proofAlgorithms = ['ES256', 'EdDSA'] as const;
