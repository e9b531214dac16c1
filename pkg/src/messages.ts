/** Messages of a conversation that went before. */
import { UniviError } from "./error.js";
import { isIterable, wrong } from "./options.js";
import { type Part, prepareParts, type PreparedPart } from "./parts.js";

/** A message of a conversation: a question, with its pictures and clips, or an answer. */
export interface ChatMessage {
  readonly role: "user" | "assistant";
  readonly content: string | readonly Part[];
}

/** A question that was answered. */
export interface PreparedTurn {
  readonly parts: readonly PreparedPart[];
  readonly answer: string;
}

/**
 * Copies messages, and pairs questions with answers. Questions in a row count as one.
 *
 * @throws UniviError `bad-request` that says which message is wrong.
 */
export function prepareTurns(messages: unknown): readonly PreparedTurn[] {
  if (!isIterable(messages)) throw wrong("messages", "a list of { role, content }", messages);
  const turns: PreparedTurn[] = [];
  let parts: PreparedPart[] = [];
  for (const [i, message] of [...messages].entries()) {
    const name = `messages[${i}]`;
    const { role, content } = (message ?? {}) as Record<string, unknown>;
    if (role === "user") {
      parts.push(...prepareParts(content));
    } else if (role === "assistant") {
      if (parts.length === 0)
        throw new UniviError(
          "bad-request",
          `${name} is an answer without a question; messages are of user and assistant in turn`,
        );
      turns.push({ parts, answer: answerText(content, name) });
      parts = [];
    } else {
      const remedy = role === "system" ? '; give the instructions as "system" beside messages' : "";
      throw new UniviError(
        "bad-request",
        `${name} has the role ${JSON.stringify(role)}, expected "user" or "assistant"${remedy}`,
      );
    }
  }
  if (parts.length > 0)
    throw new UniviError(
      "bad-request",
      "the last of messages is a question without an answer; put it with ask()",
    );
  return turns;
}

function answerText(content: unknown, name: string): string {
  if (typeof content === "string") return content;
  const parts = prepareParts(content);
  return parts
    .map((part) => {
      if (part.kind === "text") return part.text;
      throw new UniviError("bad-request", `${name} is an answer with a picture; answers are text`);
    })
    .join("");
}
