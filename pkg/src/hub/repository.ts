/** What a repository on a Hub holds. */

/** A file of a repository. */
export interface HubFile {
  /** Its path in the repository. */
  readonly name: string;
  readonly bytes: number;
  /** What Git calls the contents, of a file that is small: 40 hexadecimal digits. */
  readonly blob?: string;
}

/** What a repository holds at one commit. */
export interface HubListing {
  /** Owner and name. */
  readonly repository: string;
  /** The commit: 40 hexadecimal digits. */
  readonly commit: string;
  readonly files: readonly HubFile[];
  /** The licence that the repository states, such as `llama2`. */
  readonly license: string | undefined;
}
