/** Addresses of pictures and clips. */
import { UniviError } from "./error.js";

/** Characters of an address that an error message shows. */
const SHOWN = 200;

/** Endings of addresses that name a clip. */
const CLIP = /\.(mp4|m4v|mov|qt|webm|mkv|avi|ogv|mpe?g|m2ts|mts|wmv|flv|3gp)$/i;
/** Endings of addresses that name a picture. */
const PICTURE = /\.(png|apng|jpe?g|jfif|webp|gif|bmp|avif|heic|heif|svg|tiff?|jxl)$/i;

/**
 * Returns an address for an error message: cut to a line, without what may be secret, which is a
 * user and password, and the signature that a query often is.
 */
export function shortAddress(address: URL | string): string {
  const text = String(address);
  if (/^data:/i.test(text)) {
    const type = /^data:([^;,]*)/i.exec(text)?.[1];
    return `data: URL (${type || "no type"}, ${text.length} characters)`;
  }
  const plain = text.replace(/[?#].*$/s, "").replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/]*@/i, "$1");
  return plain.length <= SHOWN ? plain : `${plain.slice(0, SHOWN)}..`;
}

/** Returns whether the path of an address ends like that of a clip. */
export function namesClip(url: URL): boolean {
  return url.protocol === "data:" ? /^video\//i.test(url.pathname) : CLIP.test(url.pathname);
}

/**
 * Returns whether a text is the address of a picture or clip and nothing else, and of which: a URL,
 * or a path that ends like one.
 */
export function addressKind(text: string): "image" | "video" | undefined {
  const trimmed = text.trim();
  const data = /^data:(image|video)\//i.exec(trimmed)?.[1];
  if (data) return data.toLowerCase() as "image" | "video";
  if (/^blob:[^\s]+$/i.test(trimmed)) return "image";
  if (trimmed.length > 2048 || trimmed.includes("\n")) return undefined;
  // Only what is clearly a path may have spaces in it.
  const path = /^([a-z][a-z0-9+.-]*:\/\/|\.{0,2}[/\\]|~[/\\]|[a-z]:[/\\])/i.test(trimmed);
  if (!path && /\s/.test(trimmed)) return undefined;
  const [end = ""] = trimmed.split(/[?#]/);
  if (CLIP.test(end)) return "video";
  return PICTURE.test(end) ? "image" : undefined;
}

/**
 * Returns the content of a `data:` or `blob:` URL; `undefined` for others. A `data:` URL is decoded
 * here, since a page's policy for connections would apply to a request.
 *
 * @throws UniviError `bad-request` where it can't be read.
 */
export async function localContent(url: URL): Promise<Blob | undefined> {
  if (url.protocol === "data:") return dataContent(url.href);
  if (url.protocol !== "blob:") return undefined;
  try {
    return await (await fetch(url)).blob();
  } catch (cause) {
    throw new UniviError(
      "bad-request",
      `${shortAddress(url)}: can't be read: it was revoked, belongs to another page, or this page's content security policy lacks "connect-src blob:"; pass the Blob itself`,
      { cause },
    );
  }
}

function dataContent(href: string): Blob {
  const comma = href.indexOf(",");
  const [type = "", ...parameters] = href.slice("data:".length, Math.max(comma, 0)).split(";");
  try {
    if (comma < 0) throw new Error("it has no comma");
    const content = percentDecoded(href.slice(comma + 1));
    const isBase64 = parameters.some((parameter) => /^\s*base64\s*$/i.test(parameter));
    const bytes = isBase64 ? fromBase64(new TextDecoder().decode(content)) : content;
    return new Blob([bytes], { type });
  } catch (cause) {
    throw new UniviError(
      "bad-request",
      `${shortAddress(href)}: can't be decoded: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** Decodes base64, in the alphabet for URLs as well. */
function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const plain = text.replaceAll("-", "+").replaceAll("_", "/");
  return Uint8Array.from(atob(plain), (character) => character.charCodeAt(0));
}

/** Decodes the escapes of a part of a URL, which ends at a fragment. */
function percentDecoded(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(text.replace(/#.*$/s, ""));
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    let byte = bytes[at]!;
    if (byte === 0x25) {
      const digits = String.fromCharCode(...bytes.subarray(at + 1, at + 3));
      if (/^[0-9a-f]{2}$/i.test(digits)) {
        byte = Number.parseInt(digits, 16);
        at += 2;
      }
    }
    bytes[length++] = byte; // What was read already may be overwritten.
  }
  return bytes.slice(0, length);
}
