/**
 * Markdown of answers, as elements. marked reads it; what it reads becomes elements one by one, of
 * the kinds below and no others, so that whatever a model writes, HTML stays text, nothing is
 * fetched, and no script or style comes of it.
 *
 * @module univi/markdown
 */
import { Lexer, type MarkedToken, type Token, type Tokens } from "marked";

/** A moment of a clip, such as "0:04", "1:02.5" or "1:00:04". */
const MOMENT = /\b(?:(\d{1,2}):)?([0-5]?\d):([0-5]\d(?:\.\d+)?)\b/g;

/** Makes an element of a moment of a clip, as it was written, and in seconds. */
export type DrawMoment = (written: string, seconds: number) => Node;

/**
 * Returns the elements of an answer, to be put into a page: HTML in it stays text, and links lead
 * to http and https alone. Where `moment` is given, it draws times such as "0:04".
 *
 * @example
 * ```js
 * import { markdown } from "univi/markdown";
 *
 * element.replaceChildren(...markdown(await univi.ask([photo, "What is on it?"]).text()));
 * ```
 */
export function markdown(source: string, moment?: DrawMoment): Node[] {
  const drawing = new Drawing(moment);
  return drawing.blocks(Lexer.lex(source, { gfm: true, breaks: true }));
}

class Drawing {
  readonly #moment: DrawMoment | undefined;

  constructor(moment: DrawMoment | undefined) {
    this.#moment = moment;
  }

  blocks(tokens: readonly Token[]): Node[] {
    return tokens.flatMap((token) => this.#block(token as MarkedToken));
  }

  #block(token: MarkedToken): Node[] {
    switch (token.type) {
      case "space":
      case "def":
        return [];
      case "paragraph":
        return [make("p", {}, ...this.#inline(token.tokens))];
      case "heading":
        // Below the headings of the page.
        return [make(token.depth < 3 ? "h4" : "h5", {}, ...this.#inline(token.tokens))];
      case "blockquote":
        return [make("blockquote", {}, ...this.blocks(token.tokens))];
      case "hr":
        return [make("hr")];
      case "code":
        return [make("pre", { tabIndex: 0 }, make("code", {}, token.text))];
      case "list":
        return [this.#list(token)];
      case "table":
        return [this.#table(token)];
      default:
        return this.#inline([token]);
    }
  }

  #list({ ordered, start, items }: Tokens.List): HTMLElement {
    const drawn = items.map(({ tokens, loose, task, checked }) => {
      const box = task ? [checked ? "☑ " : "☐ "] : [];
      const content = loose ? this.blocks(tokens) : this.#inline(tokens);
      return make("li", {}, ...box, ...content);
    });
    return ordered ? make("ol", { start: Number(start) || 1 }, ...drawn) : make("ul", {}, ...drawn);
  }

  #table({ header, rows }: Tokens.Table): HTMLElement {
    const row = (cells: readonly Tokens.TableCell[], kind: "th" | "td") =>
      make("tr", {}, ...cells.map(({ tokens }) => make(kind, {}, ...this.#inline(tokens))));
    const head = make("thead", {}, row(header, "th"));
    return make("table", {}, head, make("tbody", {}, ...rows.map((cells) => row(cells, "td"))));
  }

  #inline(tokens: readonly Token[]): Node[] {
    return tokens.flatMap((one): Node[] => {
      const token = one as MarkedToken;
      switch (token.type) {
        case "text":
          return token.tokens ? this.#inline(token.tokens) : this.#text(token.text);
        case "escape":
          return this.#text(token.text);
        case "strong":
          return [make("strong", {}, ...this.#inline(token.tokens))];
        case "em":
          return [make("em", {}, ...this.#inline(token.tokens))];
        case "del":
          return [make("del", {}, ...this.#inline(token.tokens))];
        case "codespan":
          return [make("code", {}, token.text)];
        case "br":
          return [make("br")];
        case "link":
          return this.#link(token);
        case "paragraph":
        case "list":
        case "code":
        case "blockquote":
        case "heading":
        case "table":
        case "hr":
          return this.#block(token);
        case "checkbox":
          return [];
        default:
          // HTML, pictures, and what else there may be: as it was written.
          return this.#text(token.raw);
      }
    });
  }

  #link({ href, tokens, raw }: Tokens.Link): Node[] {
    const url = URL.canParse(href) ? new URL(href) : undefined;
    if (!url || !/^https?:$/.test(url.protocol)) return this.#text(raw);
    const link = make("a", { href: url.href, target: "_blank" }, ...this.#inline(tokens));
    link.rel = "noopener noreferrer nofollow";
    link.title = url.href;
    return [link];
  }

  #text(text: string): Node[] {
    if (!this.#moment) return [document.createTextNode(text)];
    const nodes: Node[] = [];
    let end = 0;
    for (const { 0: written, 1: hours = "0", 2: minutes, 3: seconds, index } of text.matchAll(
      MOMENT,
    )) {
      const at = 3600 * Number(hours) + 60 * Number(minutes) + Number(seconds);
      nodes.push(document.createTextNode(text.slice(end, index)), this.#moment(written, at));
      end = index + written.length;
    }
    nodes.push(document.createTextNode(text.slice(end)));
    return nodes;
  }
}

/** A new element with properties and children. */
function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
