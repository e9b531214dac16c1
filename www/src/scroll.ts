/** Where in the conversation one is: whoever is at its end stays there as it grows. */

/** So many pixels from the end are at the end. */
const NEAR_PX = 80;

const page = document.documentElement;
let atEnd = true;

/** Brings the end of the conversation into sight. */
export function toEnd(): void {
  atEnd = true;
  page.scrollTop = page.scrollHeight;
}

/** Stays at the end while `content` grows, until a person moves away from it. */
export function followEnd(content: HTMLElement): void {
  addEventListener("scroll", () => {
    atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < NEAR_PX;
  });
  const stay = () => {
    if (atEnd) toEnd();
  };
  new ResizeObserver(stay).observe(content);
  addEventListener("resize", stay);
}
