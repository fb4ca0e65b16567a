/** How long to wait before the next attempt: exponential, bounded, with full jitter so that clients of a lost server come back spread out. */

const FIRST_MS = 500;
const LONGEST_MS = 30_000;
/** Even the luckiest draw leaves a failing server this much air. */
const SHORTEST_MS = 100;

/** Milliseconds before attempt number `attempt` (from 0); `random` gives numbers from 0 up to 1. */
export function backoff(attempt: number, random: () => number): number {
  const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
  return Math.max(SHORTEST_MS, Math.round(random() * ceiling));
}
