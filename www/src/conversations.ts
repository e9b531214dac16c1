/** The list of conversations: opened, named, deleted with a way back, and searched. */
import { announce, button, byId, icon, make } from "./dom.js";
import { date } from "./format.js";
import {
  allWords,
  change,
  type Conversation,
  keptConversations,
  onOtherTabs,
  remove,
} from "./history.js";
import { offerUndo } from "./notice.js";
import { CONVERSATIONS, closeSheet } from "./sheet.js";
import { words } from "./words/index.js";

const list = byId("conversation-list", HTMLUListElement);
const search = byId("conversation-search", HTMLInputElement);
const none = byId("conversation-none", HTMLParagraphElement);

/** What the rest of the page does when a conversation is chosen, or goes. */
export interface ListActions {
  readonly open: (conversation: Conversation) => void;
  readonly renamed: (conversation: Conversation) => void;
  readonly deleted: (id: string) => void;
}

/** The list, as it is kept. */
export class ConversationList {
  readonly #actions: ListActions;
  #current: string | undefined;
  /** What is said in each, for the search; read when it is needed. */
  #words: Promise<ReadonlyMap<string, string>> | undefined;

  constructor(actions: ListActions) {
    this.#actions = actions;
    search.addEventListener("input", () => void this.draw());
    onOtherTabs(() => void this.changed());
  }

  /** The conversation that is open. */
  set current(id: string) {
    this.#current = id;
    void this.draw();
  }

  /** What is kept has changed. */
  async changed(): Promise<void> {
    this.#words = undefined;
    await this.draw();
  }

  /** Draws it in the language that is spoken now. */
  async draw(): Promise<void> {
    const wanted = search.value.trim().toLocaleLowerCase();
    const kept = await keptConversations();
    if (wanted !== "") this.#words ??= allWords();
    const said = await this.#words;
    const found = kept.filter(
      ({ id, title }) =>
        title.toLocaleLowerCase().includes(wanted) || (said?.get(id) ?? "").includes(wanted),
    );
    if (list.querySelector("input")) return; // A name is being written.
    list.replaceChildren(...found.map((conversation) => this.#item(conversation)));
    none.hidden = found.length > 0;
    none.textContent = kept.length > 0 ? words.nothingFound : words.noConversations;
  }

  #item(conversation: Conversation): HTMLElement {
    const { id, title, usedAt } = conversation;
    const open = button("conversation-open", "", () => {
      closeSheet(CONVERSATIONS);
      this.#actions.open(conversation);
    });
    open.dataset.id = id;
    open.append(
      make("span", { className: "conversation-title" }, title),
      make("span", { className: "small muted" }, date(usedAt)),
    );
    if (id === this.#current) open.setAttribute("aria-current", "true");
    const tool = (name: string, label: string, act: () => void) => {
      const made = button("button quiet tool", "", act, label);
      made.append(icon(name));
      made.title = label;
      return made;
    };
    const item = make("li", { className: "conversation" });
    const rename = tool("edit", words.renameOne(title), () => this.#rename(item, conversation));
    const remove = tool("delete", words.deleteOne(title), () => void this.#delete(conversation));
    item.append(open, rename, remove);
    return item;
  }

  #rename(item: HTMLElement, { id, title }: Conversation): void {
    const field = make("input", { type: "text", value: title, maxLength: 200 });
    field.setAttribute("aria-label", words.conversationName);
    let over = false;
    const end = async (name: string) => {
      if (over) return;
      over = true;
      field.remove();
      const renamed = name === "" ? undefined : await change(id, { title: name });
      if (renamed) this.#actions.renamed(renamed);
      await this.draw();
    };
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
      event.preventDefault();
      event.stopPropagation();
      void end(event.key === "Enter" ? field.value.trim() : "").then(() =>
        list.querySelector<HTMLElement>(`[data-id="${id}"]`)?.focus(),
      );
    });
    field.addEventListener("blur", () => void end(field.value.trim()));
    item.replaceChildren(field);
    field.select();
    field.focus();
  }

  async #delete({ id, title }: Conversation): Promise<void> {
    const undo = await remove(id);
    this.#actions.deleted(id);
    await this.changed();
    closeSheet(CONVERSATIONS); // The way back stands beside the conversation.
    announce(words.deleted(title));
    offerUndo(words.deleted(title), async () => {
      const restored = await undo();
      await this.changed();
      if (restored) this.#actions.open(restored);
    });
  }
}
