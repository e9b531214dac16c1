/** The page's own elements, typed, and what is said to those who do not see it. */

/** The element of the page with this id, which must be of this kind. */
export function byId<T extends HTMLElement>(id: string, kind: new () => T): T {
  const element = document.getElementById(id);
  if (element instanceof kind) return element;
  throw new Error(`the page lacks a ${kind.name} #${id}`);
}

/** A new element with properties and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/**
 * A button that does something; `label` is what it is called where its text alone does not say it.
 */
export function button(
  className: string,
  text: string,
  act: () => void,
  label?: string,
): HTMLButtonElement {
  const element = make("button", { type: "button", className }, text);
  if (label !== undefined) element.setAttribute("aria-label", label);
  element.addEventListener("click", act);
  return element;
}

/** A picture of the page's own, by the name of its symbol. */
export function icon(name: string, className = "icon"): SVGSVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", className);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", name === "mark" ? "#mark" : `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Tells screen readers. */
export function announce(text: string): void {
  byId("announce", HTMLParagraphElement).textContent = text;
}

/** Hands a file to the person. */
export function save(name: string, content: Blob): void {
  const url = URL.createObjectURL(content);
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
