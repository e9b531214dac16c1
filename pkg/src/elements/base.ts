/** What elements are made of, here and where pages are rendered on a server. */

/** `HTMLElement`, or a stand-in where there is none: servers may import elements. */
export const BaseElement: typeof HTMLElement =
  globalThis.HTMLElement ?? (class {} as unknown as typeof HTMLElement);

/** Defines an element, unless this is a server or another copy of the package has done so. */
export function define(name: string, element: CustomElementConstructor): void {
  if (globalThis.customElements && !customElements.get(name)) customElements.define(name, element);
}

/** A shadow root with its style, which no content security policy takes for inline. */
export function shadowOf(element: HTMLElement, style: string): ShadowRoot {
  const [root, sheet] = [element.attachShadow({ mode: "open" }), new CSSStyleSheet()];
  sheet.replaceSync(style);
  root.adoptedStyleSheets = [sheet];
  return root;
}
