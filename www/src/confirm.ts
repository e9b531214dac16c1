/** Asks a person before something is fetched. */
import { byId, make } from "./dom.js";

const dialog = byId("confirm", HTMLDialogElement);
const heading = byId("confirm-heading", HTMLHeadingElement);
const facts = byId("confirm-facts", HTMLUListElement);
const yes = byId("confirm-yes", HTMLButtonElement);
const no = byId("confirm-no", HTMLButtonElement);

/** A question, and what to know before answering it. */
export interface Confirmation {
  readonly question: string;
  readonly facts: readonly string[];
  /** What the button that agrees says. */
  readonly agree: string;
}

/** Asks in a modal dialog. Returns false where the person closes it, or `signal` aborts. */
export async function confirmed(asked: Confirmation, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return false;
  heading.textContent = asked.question;
  facts.replaceChildren(...asked.facts.map((fact) => make("li", {}, fact)));
  yes.textContent = asked.agree;
  const close = () => dialog.close();
  signal.addEventListener("abort", close);
  let agreed = false;
  const agree = () => {
    agreed = true;
    close();
  };
  yes.addEventListener("click", agree);
  no.addEventListener("click", close);
  const closed = new Promise((resolve) =>
    dialog.addEventListener("close", resolve, { once: true }),
  );
  dialog.showModal();
  await closed;
  signal.removeEventListener("abort", close);
  yes.removeEventListener("click", agree);
  no.removeEventListener("click", close);
  return agreed && !signal.aborted;
}
