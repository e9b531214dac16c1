/**
 * Remote calls between the page and its worker.
 *
 * The page calls a {@link Calls | method}; the worker replies with any number of events and then
 * one result or one error. A call can be cancelled at any time. Neither side depends on a worker:
 * any pair of ports does.
 */
import type { Calls, Handle, PastTurn, SentPart } from "./calls.js";
import { codeOf, UniviError, type UniviErrorCode } from "./error.js";
import { Scheduler } from "./scheduler.js";

type Call = { id: number; method: string; params: unknown };
type Request = Call | { id: number; cancel: true };
type Reply =
  | { id: number; event: unknown }
  | { id: number; result: unknown }
  | { id: number; error: Failure };
type Failure = { code: UniviErrorCode; message: string };

/** One end of a channel: a `Worker`, a worker's own scope, or a `MessagePort`. */
export interface Port {
  postMessage(message: unknown, transfer: Transferable[]): void;
  onmessage: ((event: MessageEvent) => void) | null;
}

/** Methods by their names, with what crosses the channel for each. */
export type CallTable<C> = {
  readonly [M in keyof C]: { readonly params: unknown; readonly event: unknown; result: unknown };
};

/** What goes along with a call. */
export interface CallOptions<Event> {
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: Event) => void) | undefined;
  /** Handed over rather than copied. */
  readonly transfer?: Transferable[];
}

/** The page's end of a channel to a worker that serves the methods `C`. */
export class Caller<C extends CallTable<C>> {
  readonly #port: Port;
  readonly #pending = new Map<number, (reply: Reply) => void>();
  #nextId = 0;
  #broken: UniviError | undefined;

  constructor(port: Port) {
    this.#port = port;
    port.onmessage = ({ data }: MessageEvent<Reply>) => this.#pending.get(data.id)?.(data);
  }

  /**
   * Calls `method`. An aborted `signal` rejects at once with the signal's reason and cancels the
   * call at the other end, where the next call waits until it has come to rest.
   */
  call<M extends keyof C & string>(
    method: M,
    params: C[M]["params"],
    options: CallOptions<C[M]["event"]> = {},
  ): Promise<C[M]["result"]> {
    const { signal, onEvent, transfer = [] } = options;
    if (this.#broken) return Promise.reject(this.#broken);
    if (signal?.aborted) return Promise.reject(signal.reason);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const done = () => {
        this.#pending.delete(id);
        signal?.removeEventListener("abort", abort);
      };
      const abort = () => {
        done();
        this.#post({ id, cancel: true });
        reject(signal?.reason);
      };
      signal?.addEventListener("abort", abort);
      this.#pending.set(id, (reply) => {
        if ("event" in reply) {
          onEvent?.(reply.event as C[M]["event"]);
          return;
        }
        done();
        if ("result" in reply) resolve(reply.result as C[M]["result"]);
        else reject(new UniviError(reply.error.code, reply.error.message));
      });
      try {
        this.#post({ id, method, params }, transfer);
      } catch (cause) {
        done();
        reject(uncloneable(cause));
      }
    });
  }

  /** A number that was never used here before. */
  protected nextId(): number {
    return this.#nextId++;
  }

  /** Rejects every call under way and every later one: the other end is gone, or about to go. */
  break(reason: UniviError): void {
    if (!this.#broken) for (const id of this.#pending.keys()) this.#post({ id, cancel: true });
    this.#broken ??= reason;
    const { code, message } = this.#broken;
    for (const [id, settle] of [...this.#pending]) settle({ id, error: { code, message } });
  }

  #post(request: Request, transfer: Transferable[] = []): void {
    this.#port.postMessage(request, transfer);
  }
}

/** The page's end of the channel to a model. */
export class Client extends Caller<Calls> {
  /** A number that stands for nothing yet. */
  newHandle(): Handle {
    return this.nextId();
  }

  /** Frees what lives at the other end. Never rejects: a broken client has freed everything. */
  free(handles: readonly Handle[]): Promise<void> {
    if (handles.length === 0) return Promise.resolve();
    return this.call("free", { handles: [...handles] }).catch(() => {});
  }
}

/** What can't cross to the worker came from the user: all else is plain data. */
function uncloneable(cause: unknown): UniviError {
  return new UniviError(
    "bad-request",
    `something that was passed can't be handed to the worker: ${(cause as Error).message}. Pass files and pictures themselves, not proxies of them (Vue: toRaw or shallowRef); a picture of another site must allow this page to read it (crossorigin)`,
    { cause },
  );
}

/** What a handler is given beside the call's parameters. */
export interface Context<Event> {
  readonly signal: AbortSignal;
  emit(event: Event): void;
}

/** One function for each method. */
export type Handlers<C extends CallTable<C>> = {
  [M in keyof C]: (
    params: C[M]["params"],
    context: Context<C[M]["event"]>,
  ) => Promise<C[M]["result"]>;
};

/**
 * Makes the handlers; `fail` rejects every call under way, where what they wait for can't come any
 * more.
 */
export type Host<C extends CallTable<C>> = (fail: (error: UniviError) => void) => Handlers<C>;

/** The worker's end: carries out the calls that come through `port`. */
export function serve<C extends CallTable<C>>(port: Port, host: Host<C>): void {
  const rejections = new Map<number, (error: UniviError) => void>();
  const handlers = host((error) => {
    for (const reject of rejections.values()) reject(error);
  });
  const known = new Map<number, AbortController>();
  const reply = (message: Reply) => port.postMessage(message, []);
  const scheduler = new Scheduler();

  const carryOut = async ({ id, method, params }: Call, signal: AbortSignal) => {
    try {
      signal.throwIfAborted();
      const handler = handlers[method as keyof C] as (
        params: unknown,
        context: Context<unknown>,
      ) => Promise<unknown>;
      const emit = (event: unknown) => reply({ id, event });
      const failed = new Promise<never>((_, reject) => rejections.set(id, reject));
      const result = await Promise.race([handler(params, { signal, emit }), failed]);
      reply({ id, result });
    } catch (error) {
      reply({ id, error: failure(error) });
    } finally {
      known.delete(id);
      rejections.delete(id);
    }
  };

  port.onmessage = ({ data }: MessageEvent<Request>) => {
    if ("cancel" in data) {
      known.get(data.id)?.abort();
      return;
    }
    const controller = new AbortController();
    known.set(data.id, controller);
    const work = () => carryOut(data, controller.signal);
    if (data.method === "dispose") scheduler.runLast(work);
    else scheduler.run(handlesOf(data.params), work);
  };
}

/** Everything in the worker that a call has to do with. */
function handlesOf(params: unknown): Handle[] {
  type Named = {
    readonly [name in "visual" | "tokenMap" | "session" | "from" | "live"]?: Handle;
  } & {
    readonly handles?: readonly Handle[];
    readonly parts?: readonly SentPart[];
    readonly turns?: readonly PastTurn[];
  };
  const {
    visual,
    tokenMap,
    session,
    from,
    live,
    handles = [],
    parts = [],
    turns = [],
  } = params as Named;
  const visuals = [...parts, ...turns.flatMap((turn) => turn.parts)].map((part) =>
    typeof part === "string" ? undefined : part.visual,
  );
  return [visual, tokenMap, session, from, live, ...handles, ...visuals].filter(
    (handle) => handle !== undefined,
  );
}

/**
 * What crosses the channel of an error: classes don't. The page ignores what it has aborted itself.
 */
function failure(error: unknown): Failure {
  const code = codeOf(error);
  if (code) return { code, message: (error as Error).message };
  return {
    code: "internal",
    message: error instanceof Error ? `${error.name}: ${error.message}` : String(error),
  };
}
