/** What a file is by its first bytes: names and MIME types of files are often missing or wrong. */

/** Formats that are told apart. */
export type MediaFormat = keyof typeof FORMATS;

/** What a format is, and how errors call it. */
interface FormatFacts {
  /** `picture` and `clip` may be decoded here; `sound` and `other` never are. */
  readonly kind: "picture" | "clip" | "sound" | "other";
  readonly name: string;
}

const FORMATS = {
  png: { kind: "picture", name: "PNG picture" },
  jpeg: { kind: "picture", name: "JPEG picture" },
  webp: { kind: "picture", name: "WebP picture" },
  gif: { kind: "picture", name: "GIF picture" },
  bmp: { kind: "picture", name: "BMP picture" },
  avif: { kind: "picture", name: "AVIF picture" },
  heic: { kind: "picture", name: "HEIC picture" },
  svg: { kind: "picture", name: "SVG picture" },
  tiff: { kind: "picture", name: "TIFF picture" },
  jxl: { kind: "picture", name: "JPEG XL picture" },
  jp2: { kind: "picture", name: "JPEG 2000 picture" },
  ico: { kind: "picture", name: "icon" },
  psd: { kind: "picture", name: "Photoshop document" },
  mp4: { kind: "clip", name: "MP4 or QuickTime video" },
  matroska: { kind: "clip", name: "WebM or Matroska video" },
  mpegTs: { kind: "clip", name: "MPEG transport stream" },
  mpegPs: { kind: "clip", name: "MPEG program stream" },
  avi: { kind: "clip", name: "AVI video" },
  ogg: { kind: "clip", name: "Ogg file" },
  flv: { kind: "clip", name: "Flash video" },
  asf: { kind: "clip", name: "Windows Media file" },
  wav: { kind: "sound", name: "WAV sound" },
  mp3: { kind: "sound", name: "MP3 sound" },
  flac: { kind: "sound", name: "FLAC sound" },
  m4a: { kind: "sound", name: "M4A sound" },
  pdf: { kind: "other", name: "PDF document" },
  zip: { kind: "other", name: "ZIP archive" },
  gzip: { kind: "other", name: "gzip file" },
  html: { kind: "other", name: "web page (HTML)" },
  json: { kind: "other", name: "JSON text" },
} as const satisfies Record<string, FormatFacts>;

/** Bytes that {@link mediaFormat} looks at. */
export const HEAD_BYTES = 4096;

/** Formats of a `ftyp` box by its brand; all other brands are videos. */
const BRANDS: readonly (readonly [RegExp, MediaFormat])[] = [
  [/^avi[fos]$/, "avif"],
  [/^(heic|heix|heim|heis|hevc|hevx|mif1|msf1)$/, "heic"],
  [/^M4[AB] $/, "m4a"],
  [/^jp[2xm] $/, "jp2"],
];

/** Returns what a format is, and how errors call it. */
export function formatFacts(format: MediaFormat): FormatFacts {
  return FORMATS[format];
}

/** Returns the format of a file by its first {@link HEAD_BYTES}; `undefined` for an unknown one. */
export function mediaFormat(head: Uint8Array): MediaFormat | undefined {
  const text = (from: number, to: number) => String.fromCharCode(...head.subarray(from, to));
  const starts = (...bytes: readonly number[]) => bytes.every((byte, i) => head[i] === byte);
  if (starts(0x89, 0x50, 0x4e, 0x47)) return "png";
  if (starts(0xff, 0xd8, 0xff)) return "jpeg";
  if (text(0, 4) === "GIF8") return "gif";
  if (text(0, 4) === "RIFF") {
    const form: Record<string, MediaFormat> = { WEBP: "webp", "AVI ": "avi", WAVE: "wav" };
    return form[text(8, 12)];
  }
  if (text(4, 8) === "ftyp") return ofBrands(head, text);
  // QuickTime from before there was `ftyp`, and files that begin with other boxes.
  if (/^(moov|mdat|wide|free|skip|pnot)$/.test(text(4, 8))) return "mp4";
  if (starts(0x1a, 0x45, 0xdf, 0xa3)) return "matroska";
  if (text(4, 12) === "jP  \r\n\x87\n") return "jp2";
  if (starts(0xff, 0x0a) || text(4, 8) === "JXL ") return "jxl";
  if (text(0, 4) === "II*\0" || text(0, 4) === "MM\0*") return "tiff";
  if (text(0, 4) === "8BPS") return "psd";
  if (text(0, 4) === "OggS") return "ogg";
  if (text(0, 3) === "FLV") return "flv";
  if (text(0, 4) === "fLaC") return "flac";
  if (starts(0x30, 0x26, 0xb2, 0x75)) return "asf";
  if (starts(0, 0, 1, 0xba) || starts(0, 0, 1, 0xb3)) return "mpegPs";
  if (text(0, 5) === "%PDF-") return "pdf";
  if (text(0, 4) === "PK\x03\x04") return "zip";
  if (starts(0x1f, 0x8b)) return "gzip";
  if (isTransportStream(head)) return "mpegTs";
  if (text(0, 3) === "ID3" || (head[0] === 0xff && (head[1]! & 0xe6) === 0xe2)) return "mp3";
  // The weaker marks last.
  if (text(0, 2) === "BM" && head.length >= 14 && text(6, 10) === "\0\0\0\0") return "bmp";
  if (starts(0, 0, 1, 0) && head[4]! > 0 && head[5] === 0) return "ico";
  return ofText(head);
}

/** The brand of a `ftyp` box says what it is; a general one leaves it to the compatible brands. */
function ofBrands(
  head: Uint8Array,
  text: (from: number, to: number) => string,
): MediaFormat | undefined {
  const end = Math.min(new DataView(head.buffer, head.byteOffset).getUint32(0), head.length);
  const brands = [text(8, 12)];
  for (let at = 16; at + 4 <= end; at += 4) brands.push(text(at, at + 4));
  const known = (brand: string) => BRANDS.find(([pattern]) => pattern.test(brand))?.[1];
  const major = known(brands[0]!);
  // `mif1` and `msf1` are general: AVIF and HEIC both use them.
  if (major === "heic" && /^m[is]f1$/.test(brands[0]!))
    return (
      brands
        .slice(1)
        .map(known)
        .find((format) => format === "avif") ?? "heic"
    );
  return major ?? "mp4";
}

function isTransportStream(head: Uint8Array): boolean {
  // Packets of 188 bytes, or of 192 with a time before each.
  return [
    [0, 188],
    [4, 192],
  ].some(
    ([first, length]) =>
      head.length > first! + 2 * length! &&
      [0, 1, 2].every((packet) => head[first! + packet * length!] === 0x47),
  );
}

function ofText(head: Uint8Array): MediaFormat | undefined {
  const text = new TextDecoder().decode(head).trimStart().toLowerCase();
  if (text.startsWith("<")) {
    // A prologue, comments and a document type may come first.
    const root = /<(svg|html|head|body)[\s>:]/.exec(text)?.[1];
    if (root === "svg") return "svg";
    if (root !== undefined || text.startsWith("<!doctype html")) return "html";
  }
  return /^[{[]\s*["{[\]}]/.test(text) ? "json" : undefined;
}
