/** What a Hub answers, and what is made of its refusals. */

/** The Hub that is asked where no other is named. */
export const HUGGING_FACE = "https://huggingface.co";

/** The domains below which it keeps large files. */
const STORAGE_DOMAINS = ["huggingface.co", "hf.co"];

/** A Hub, and as whom it is asked. */
export interface HubAccess {
  /** Its origin, with a path where it is served below one; without a slash at its end. */
  readonly endpoint: string;
  /** An access token. It is sent to the Hub alone, not to where the Hub keeps files. */
  readonly token?: string;
}

/** Why an answer is of no use. */
export interface Refusal {
  readonly why: string;
  /** The same question may be answered a moment later. */
  readonly passes: boolean;
}

/** Returns why a Hub refuses `url`; `undefined` where it does not, or where patience may help. */
export function refusalOf(hub: HubAccess, url: URL, response: Response): Refusal | undefined {
  const { status } = response;
  // A page's own answers, such as those of tests, have no address.
  const answered = response.url === "" ? url : new URL(response.url);
  if (answered.origin !== url.origin) {
    if (hub.endpoint === HUGGING_FACE && !isStorage(answered))
      return refusal(`the Hub sends on to ${answered.origin}, which is not known to be its own`);
    // Addresses of its storage are signed for some minutes; asked again, the Hub signs another.
    if (status === 401 || status === 403)
      return { why: `the Hub's storage answered ${status}`, passes: true };
    return undefined;
  }
  const word = response.headers.get("X-Error-Code") ?? "";
  const token = hub.token === undefined ? "pass an access token of the Hub as token" : undefined;
  switch (status) {
    case 401:
      if (word === "GatedRepo") return refusal(gated(status, token));
      return refusal(
        "the Hub answered 401: the repository is private, gated, or not there; check its name, " +
          `or ${token ?? "whether the token is still good"}`,
      );
    case 403:
      return refusal(gated(status, token));
    case 404:
      return refusal(`the Hub answered 404: there is no such ${NOT_FOUND[word] ?? NOT_FOUND._}`);
    default:
      return undefined;
  }
}

function gated(status: number, token: string | undefined): string {
  return (
    `the Hub answered ${status}: the repository is gated; agree to its terms on its page, and ` +
    (token ?? "let the token read it")
  );
}

/** What is missing, by the word that the Hub has for it. */
const NOT_FOUND: Readonly<Record<string, string>> = {
  RepoNotFound: "repository",
  RevisionNotFound: "revision",
  EntryNotFound: "file",
  _: "repository, revision or file",
};

function refusal(why: string): Refusal {
  return { why, passes: false };
}

function isStorage({ protocol, hostname }: URL): boolean {
  const below = (domain: string) => hostname === domain || hostname.endsWith(`.${domain}`);
  return protocol === "https:" && STORAGE_DOMAINS.some(below);
}
