/** Locks on entries, so that two tabs or workers do not write the same one. */

/** Carries out `work` on the entry `name`, unless somebody is busy with it. */
export async function whereIdle(name: string, work: () => Promise<void>): Promise<void> {
  if (!navigator.locks) return work();
  await navigator.locks.request(
    lockName(name),
    { ifAvailable: true },
    async (lock) => lock && work(),
  );
}

/**
 * Waits until no other tab or worker is busy with the entry `name` -> what lets the next one in.
 *
 * Rejects with the reason of an aborted `signal`. A tab that ends lets the next one in, too.
 */
export function lock(name: string, signal?: AbortSignal): Promise<() => void> {
  return new Promise((resolve, reject) => {
    if (!navigator.locks) return resolve(() => {});
    const held = () => new Promise<void>((release) => resolve(release));
    navigator.locks.request(lockName(name), signal ? { signal } : {}, held).catch(reject);
  });
}

/** Carries out `work` as soon as nobody else is busy with the entry `name`. */
export async function locked(name: string, work: () => Promise<void>): Promise<void> {
  const release = await lock(name);
  try {
    await work();
  } finally {
    release();
  }
}

/** Whether somebody is busy with one of these entries. */
export async function anyLocked(names: readonly string[]): Promise<boolean> {
  const { held = [] } = (await globalThis.navigator?.locks?.query()) ?? {};
  const known = new Set(names.map(lockName));
  return held.some(({ name }) => name !== undefined && known.has(name));
}

function lockName(name: string): string {
  return `univi:${name}`;
}
