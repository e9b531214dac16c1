/** Numbers, sizes and times as people read them, in the language of the page. */

const language = () => document.documentElement.lang;

/** "4.1 GB" */
export function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), units.length - 1);
  return `${(bytes / 1000 ** power).toFixed(power < 2 ? 0 : power - 1)} ${units[power]}`;
}

/** "40 sec" */
export function duration(seconds: number): string {
  const [value, unit] =
    seconds < 90 ? [Math.ceil(seconds), "second"] : [Math.ceil(seconds / 60), "minute"];
  return new Intl.NumberFormat(language(), { style: "unit", unit, unitDisplay: "short" }).format(
    value,
  );
}

/** "1,234.5" */
export function number(value: number, digits = 0): string {
  return new Intl.NumberFormat(language(), {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(value);
}

/** "26 Nov 2026, 10:30" */
export function date(value: Date): string {
  return new Intl.DateTimeFormat(language(), { dateStyle: "medium", timeStyle: "short" }).format(
    value,
  );
}
