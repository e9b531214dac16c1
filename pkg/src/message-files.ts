/**
 * Which files of a server's disk chat messages may name. A message often comes from somebody else
 * than the program: none, unless the program allows those of a folder.
 */
import { UniviError } from "./error.js";
import { runtime } from "./runtime.js";

/** Refuses messages that name a file outside of `folder`. */
export function checkMessageFiles(
  messages: readonly { readonly content: unknown }[],
  folder: string | URL | undefined,
): void {
  for (const [index, { content }] of messages.entries()) {
    if (!Array.isArray(content)) continue;
    for (const [number, part] of content.entries()) {
      const address = addressIn(part);
      if (address === undefined || runtime.mayName(address, folder)) continue;
      const place = `messages[${index}].content[${number}]`;
      throw new UniviError(
        "bad-request",
        `${place} names a file of this machine, which chat messages may not; give its bytes, or ` +
          "allow the files of a folder with the option messageFiles of Univi.create",
      );
    }
  }
}

/** What a part names by its address. */
function addressIn(part: unknown): string | URL | undefined {
  const { image_url, image, video } = Object(part) as Record<string, unknown>;
  for (const value of [image_url, Object(image_url).url, image, video])
    if (typeof value === "string" || value instanceof URL) return value;
  return undefined;
}
