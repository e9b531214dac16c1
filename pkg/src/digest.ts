/** Returns the SHA-256 of `data` in hexadecimal digits. */
export function sha256Of(data: Uint8Array<ArrayBuffer>): Promise<string> {
  return hexDigest("SHA-256", data);
}

/** Returns a digest of `data` in hexadecimal digits. */
export async function hexDigest(
  algorithm: "SHA-1" | "SHA-256",
  data: Uint8Array<ArrayBuffer>,
): Promise<string> {
  const bytes = new Uint8Array(await crypto.subtle.digest(algorithm, data));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
