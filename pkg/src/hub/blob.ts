/** What Git calls the contents of a file, which a Hub lists of those that are small. */
import { UniviError } from "../error.js";
import { hexDigest } from "../digest.js";

/** Throws `bad-file` where bytes that came from a Hub are not those of their name in Git. */
export async function verifyBlob(bytes: Uint8Array, blob: string, file: string): Promise<void> {
  const header = new TextEncoder().encode(`blob ${bytes.length}\0`);
  const named = new Uint8Array(header.length + bytes.length);
  named.set(header);
  named.set(bytes, header.length);
  const found = await hexDigest("SHA-1", named);
  if (found === blob) return;
  throw new UniviError(
    "bad-file",
    `${file}: Git's SHA-1 is ${found}, the Hub says ${blob}: a proxy changed it, or the Hub is at ` +
      "fault; try again",
  );
}
