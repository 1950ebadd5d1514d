/** RFC 1320. Broken as a hash; NTLM is made of it, and OpenSSL 3 does not have it any more. */
export function md4(message: Buffer): Buffer {
  const padded = Buffer.alloc(((message.length + 8) & ~63) + 64);
  message.copy(padded);
  padded[message.length] = 0x80;
  padded.writeBigUInt64LE(BigInt(message.length) * 8n, padded.length - 8);
  const state = Uint32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  for (let at = 0; at < padded.length; at += 64) mix(state, padded.subarray(at, at + 64));
  const digest = Buffer.alloc(16);
  state.forEach((word, index) => digest.writeUInt32LE(word, index * 4));
  return digest;
}

type Mixer = (x: number, y: number, z: number) => number;

/** The three rounds: how they mix, what they add, in which order they take the words, how far they turn. */
const rounds: readonly {
  mixer: Mixer;
  added: number;
  words: readonly number[];
  shifts: readonly number[];
}[] = [
  {
    mixer: (x, y, z) => (x & y) | (~x & z),
    added: 0,
    words: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    shifts: [3, 7, 11, 19],
  },
  {
    mixer: (x, y, z) => (x & y) | (x & z) | (y & z),
    added: 0x5a827999,
    words: [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15],
    shifts: [3, 5, 9, 13],
  },
  {
    mixer: (x, y, z) => x ^ y ^ z,
    added: 0x6ed9eba1,
    words: [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15],
    shifts: [3, 9, 11, 15],
  },
];

function mix(state: Uint32Array, block: Buffer): void {
  let [a, b, c, d] = [...state] as [number, number, number, number];
  for (const { mixer, added, words, shifts } of rounds) {
    words.forEach((word, step) => {
      const sum = (a + mixer(b, c, d) + block.readUInt32LE(word * 4) + added) >>> 0;
      const shift = shifts[step % 4]!;
      [a, b, c, d] = [d, ((sum << shift) | (sum >>> (32 - shift))) >>> 0, b, c];
    });
  }
  [a, b, c, d].forEach((word, index) => (state[index] = state[index]! + word));
}
