/** Times as people read them, in their own language. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const shortDate = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

const DAY_MS = 86_400_000;

export function clockTime(at: number): string {
  return clock.format(at);
}

export function fullTime(at: number): string {
  return full.format(at);
}

/** Days from `at` back to `now`, by the calendar. */
export function daysAgo(at: number, now: number): number {
  return Math.round((startOfDay(now) - startOfDay(at)) / DAY_MS);
}

/** "today", "yesterday", a weekday, or a date. */
export function dayName(at: number, now: number): string {
  const days = daysAgo(at, now);
  if (days === 0 || days === 1) return relative.format(-days, "day");
  return days > 1 && days < 7 ? weekday.format(at) : date.format(at);
}

/** As short as a list needs it: the clock today, else the day. */
export function shortTime(at: number, now: number): string {
  return daysAgo(at, now) === 0 ? clock.format(at) : shortDate.format(at);
}

function startOfDay(at: number): number {
  return new Date(at).setHours(0, 0, 0, 0);
}
